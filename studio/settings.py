"""Every switch of the studio in one object. Environment variables `LADDER_*` set it, command-line flags override it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]


def _runtime_root() -> Path:
    # Unix socket paths end at 107 bytes, so neither the workspace nor a deep TMPDIR will do.
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "ladder" if base else Path(tempfile.gettempdir()) / f"ladder-{os.getuid()}"


class Settings(BaseSettings):
    """What the administrator decides; read once at start."""

    model_config = SettingsConfigDict(env_prefix="LADDER_", extra="ignore", frozen=True)

    workspace: Path = Field(default=Path("workspace"), description="Folder that holds everything you make.")
    database_url: str | None = Field(default=None, description="PostgreSQL URL; empty means SQLite in the workspace.")
    cache: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("ladder-studio")),
        description="Per-user folder for converted weights, shared by all workspaces.",
    )
    runtime: Path = Field(default_factory=_runtime_root, description="Private folder for sockets and locks.")
    host: str = Field(default="127.0.0.1", description="Address the studio listens on.")
    port: int = Field(default=7860, ge=0, le=65535, description="Port the studio listens on.")
    hosts: tuple[str, ...] = Field(default=(), description="Further host names the studio answers to.")
    max_upload: str = Field(default="4gb", description="Largest upload the pages take.")
    offline: bool = Field(default=True, description="Any outbound call is an error.")
    engine_idle_minutes: float = Field(15.0, gt=0, description="The engine frees its memory after this long unused.")
    threads: int | None = Field(
        None, ge=1, description="CPU threads for the engine and for runs; empty means all cores."
    )
    price_per_hour: float | None = Field(
        None, ge=0, description="What this machine costs by the hour, so that runs say their price before they start."
    )
    currency: str | None = Field(None, description="Currency of that price; empty means that of assets/prices.yaml.")
