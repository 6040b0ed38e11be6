"""Start the studio on this machine:  python launch.py [--port 7860] [--workspace FOLDER] [--database-url URL]"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import components  # noqa: F401  # first of all: it keeps Gradio and the hub client from calling home
from studio.errors import StudioError
from studio.example import load_example
from studio.jobs import Supervisor, claim_workspace
from studio.offline import forbid_outbound_calls
from studio.serving.server import keep_log, listen, serve, url_of
from studio.settings import Settings
from studio.workspace import Workspace


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 2, with one sentence, when the studio cannot start like this."""
    try:
        settings = Settings(**_flags(argv))
        if settings.offline:
            forbid_outbound_calls()
        bound = listen(settings.host, settings.port)
        workspace = Workspace.open(settings=settings)
        lock = claim_workspace(workspace.path, url_of(bound))
        keep_log(workspace.path / "studio.log")
        load_example(workspace.store, workspace.path)
    except (StudioError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    from components.app import build_app  # Gradio takes seconds to import: not before we know that we may start

    app = build_app(workspace)
    supervisor = Supervisor(workspace.store, workspace.path, workspace.settings)
    supervisor.start()
    workspace.prepare()
    print(f"Ladder Studio is at {url_of(bound)} (workspace {workspace.path}). Ctrl+C stops it.", flush=True)
    try:
        serve(app, bound)
    finally:
        supervisor.close()
        asyncio.run(workspace.close())
        lock.release()
    return 0


def _flags(argv: list[str] | None) -> dict[str, Any]:
    """Only what was given: everything else comes from LADDER_* variables and the defaults."""
    parser = argparse.ArgumentParser(prog="launch.py", description="Start Ladder Studio.")
    for name in ("host", "port", "workspace", "database_url"):
        parser.add_argument("--" + name.replace("_", "-"), help=Settings.model_fields[name].description)
    return {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
