"""The browser for the journeys: found, or installed where this machine's package manager can.

`python tests/browser.py` makes sure that there is one; `LADDER_BROWSER` names another Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["find_browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Path of a Chromium, or None."""
    named = os.environ.get("LADDER_BROWSER")
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


def _install() -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run([*sudo, "apt-get", "update", "-q"], check=True, **quiet)
    subprocess.run(
        [*sudo, "apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"], check=True, **quiet
    )


def main() -> int:
    if find_browser() is None and shutil.which("apt-get"):
        print("Installing Chromium for the browser journeys …")
        try:
            _install()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"Chromium could not be installed ({error}).", file=sys.stderr)
    if find_browser() is None:
        print(
            "No Chromium was found for the browser journeys. Install one (Debian: apt-get install chromium) "
            "or set LADDER_BROWSER to its path.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
