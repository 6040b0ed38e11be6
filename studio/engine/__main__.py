"""`python -m studio.engine --folder PATH`: hold local weights and answer on PATH/engine.sock until nobody is left."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import uvicorn

from studio.offline import forbid_outbound_calls
from studio.processes import Lock, keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="private folder for socket, locks and state")
    parser.add_argument("--idle-minutes", type=float, default=15.0, help="leave after this long unused")
    parser.add_argument("--threads", type=int, help="CPU threads; all cores when left out")
    options = parser.parse_args()
    forbid_outbound_calls()
    keep_freed_memory()
    # The first one stays; a second one leaves, and whoever started it uses the first.
    lock = Lock.take(options.folder / "engine.lock", note="engine", wait=1.5)
    if lock is None:
        return
    os.umask(0o077)
    (options.folder / "state.json").unlink(missing_ok=True)
    # After the lock: loading torch takes seconds, which a process that must leave would waste.
    from studio.engine.server import Engine

    socket = options.folder / "engine.sock"
    socket.unlink(missing_ok=True)

    def leave() -> None:
        server.should_exit = True

    engine = Engine(options.folder, options.idle_minutes * 60, options.threads, leave)
    server = uvicorn.Server(
        uvicorn.Config(
            engine.app(), uds=str(socket), log_level="warning", access_log=False, timeout_graceful_shutdown=5
        )
    )
    server.run()
    socket.unlink(missing_ok=True)
    # Not through the interpreter's own ending, which would wait for a work thread in the middle of a long load.
    os._exit(0)


if __name__ == "__main__":
    main()
