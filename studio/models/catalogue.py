"""Base models to choose from, and what their licences allow. The data are assets/catalog.yaml and licences.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from studio.specs import ModelRef

__all__ = ["CatalogueEntry", "Licence", "catalogue", "licence"]

_ASSETS = Path(__file__).resolve().parents[2] / "assets"


class Licence(BaseModel):
    """What a licence is called and whether a company may build on it. `commercial` is None when nobody knows.

    `attribution` and `share_alike` bind whoever passes on what was made from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    url: str = ""
    commercial: bool | None
    duties: str
    attribution: bool = False
    share_alike: bool = False
    aliases: tuple[str, ...] = ()


class CatalogueEntry(BaseModel):
    """One base model, as the page offers it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: ModelRef
    title: str
    licence: str
    licence_url: str
    parameters: int
    window: int
    note: str


@cache
def catalogue() -> tuple[CatalogueEntry, ...]:
    """The base models that the studio knows by name."""
    return tuple(CatalogueEntry.model_validate(entry) for entry in _read("catalog.yaml"))


def licence(identifier: str) -> Licence:
    """What is known about a licence; one that is not listed is said to be unknown, never assumed to be free."""
    known = _licences().get(_spelled(identifier))
    if known is not None:
        return known
    return Licence(
        id=identifier,
        name=identifier or "No licence named",
        commercial=None,
        duties="Not in the studio's list: read it before you build on this model.",
    )


@cache
def _licences() -> dict[str, Licence]:
    """By every way to write them."""
    found = [Licence(id=name, **fields) for name, fields in _read("licences.yaml").items()]
    return {_spelled(name): one for one in found for name in (one.id, one.name, *one.aliases)}


def _spelled(name: str) -> str:
    """People write "CC BY-SA 4.0" and mean CC-BY-SA-4.0."""
    return "-".join(name.casefold().replace("-", " ").split())


def _read(name: str) -> Any:
    return yaml.safe_load((_ASSETS / name).read_text(encoding="utf-8"))
