"""The FastAPI app around everything; the pages are mounted inside it by components/app.py.

A request passes, from the outside in: safe headers, known host, session, cross-origin, guard, routes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from studio import __version__
from studio.errors import StudioError
from studio.serving.guard import Guard, SafeHeaders
from studio.serving.identity import Identify, owner_only
from studio.serving.labeling import labeling_router
from studio.serving.secret import session_secret

if TYPE_CHECKING:
    from studio.workspace import Workspace

__all__ = ["create_app"]

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LOGO = Path(__file__).parents[2] / "assets" / "logo.svg"


def create_app(workspace: Workspace, identify: Identify = owner_only) -> FastAPI:
    """The outer app of a workspace. `identify` names the user of a connection, or None for a stranger."""
    app = FastAPI(title="Ladder Studio", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(app, workspace)
    app.include_router(labeling_router(workspace, identify))
    # The last one added is the outermost.
    app.add_middleware(Guard, identify=identify)
    # Without a CORS middleware of ours Gradio adds its own, which echoes any origin and allows credentials.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(
        SessionMiddleware,
        secret_key=session_secret(workspace.path),
        session_cookie="ladder_session",
        same_site="lax",
    )
    # Before the guard, which compares Origin with Host: under DNS rebinding both are the attacker's.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, *workspace.settings.hosts])
    app.add_middleware(SafeHeaders)
    return app


def _add_routes(app: FastAPI, workspace: Workspace) -> None:
    @app.get("/healthz")
    def health() -> JSONResponse:
        database = _database_state(workspace)
        body: dict[str, Any] = {
            "status": "ok" if database == "ok" else "failing",
            "version": __version__,
            "database": database,
            "engine": workspace.engine.state(),
        }
        return JSONResponse(body, 200 if database == "ok" else 503)

    @app.get("/favicon.ico")
    def favicon() -> FileResponse:
        return FileResponse(_LOGO, media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})


def _database_state(workspace: Workspace) -> str:
    """'ok' or 'failing'. Anybody may ask for it, so the reason goes to the log only."""
    try:
        workspace.store.change_token()
    except StudioError as error:
        log.error("The database does not answer the health check: %s", error)
        return "failing"
    return "ok"
