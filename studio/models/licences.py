"""The licence gate: may what comes out of a run be used as intended, and what has to be promised for it?

Base licence x data licences x intended use, from assets/licences.yaml. A licence that nobody named or that is not in the
list never counts as a yes. Plain words for people who plan; no legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from studio.models.catalogue import Licence, licence

__all__ = ["USES", "Gate", "Source", "Use", "gate", "licence_on_card"]

Use = Literal["company", "customers", "research"]

# As people choose it.
USES: Mapping[Use, str] = {
    "company": "inside the company",
    "customers": "offered to customers",
    "research": "research",
}
_DONE: Mapping[Use, str] = {
    "company": "used inside the company",
    "customers": "offered to customers",
    "research": "used for research",
}


@dataclass(frozen=True)
class Source:
    """Something a model is made from: its name for people, and its licence as it was written down ('' where none was)."""

    name: str
    licence: str


@dataclass(frozen=True)
class Gate:
    """`conditions` are what has to be kept, one sentence each; for a "no" or "unknown", what to do about it."""

    verdict: Literal["yes", "no", "unknown"]
    sentence: str
    conditions: tuple[str, ...] = ()


def gate(sources: Sequence[Source], use: Use) -> Gate:
    """Whether a model made from all these may be used so."""
    found = [(source, licence(source.licence)) for source in sources]
    barred = [(s, one) for s, one in found if one.commercial is False and use != "research"]
    if barred:
        why = "; ".join(f"{one.id}, the licence of {s.name}, is not for business" for s, one in barred)
        return Gate(
            "no",
            f"No: {why}, and this is to be {_DONE[use]}.",
            tuple(f"Replace {s.name}, or ask its owner for a licence that allows business." for s, _ in barred),
        )
    unknown = [(s, one) for s, one in found if one.commercial is None]
    if unknown:
        return Gate(
            "unknown",
            f"Unknown: {'; '.join(_unknown(s) for s, _ in unknown)}.",
            tuple(_cure(s) for s, _ in unknown),
        )
    sharing = {one.id for _, one in found if one.share_alike}
    if use == "customers" and not _go_together(sharing):
        return Gate(
            "unknown",
            f"Unknown: {' and '.join(sorted(sharing))} each ask that what is made from it is shared under that licence "
            "and no other.",
            ("Ask somebody who knows licences before you pass the model on, or leave one of them out.",),
        )
    conditions = _conditions(found, use)
    words = f"with {len(conditions)} condition{'s' * (len(conditions) != 1)}" if conditions else "without conditions"
    return Gate("yes", f"Yes, {words}: it may be {_DONE[use]}.", conditions)


def licence_on_card(folder: Path) -> str:
    """The licence that a model's own card names (`license:` at the top of its README.md), or ''."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
        if not text.startswith("---"):
            return ""
        card = yaml.safe_load(text.split("---", 2)[1])
    except (OSError, yaml.YAMLError, IndexError):
        return ""
    return str(card.get("license") or "") if isinstance(card, dict) else ""


def _conditions(found: Sequence[tuple[Source, Licence]], use: Use) -> tuple[str, ...]:
    """In plain words, each once. What is not passed on binds nobody to share it or to name anybody."""
    said: dict[str, None] = {}
    for source, one in found:
        if one.commercial is False:
            said[f"Not for business: so says {one.id}, the licence of {source.name}."] = None
        if one.share_alike:
            said[
                f"{'Pass' if use == 'customers' else 'If you pass the model on, pass'} it on under {one.id}, "
                f"as {source.name} asks."
            ] = None
        if one.attribution:
            said[f"{_when(use)}: {one.duties} ({source.name}, {one.id})"] = None
    return tuple(said)


def _when(use: Use) -> str:
    return "With the model" if use == "customers" else "If you pass the model on"


def _go_together(sharing: set[str]) -> bool:
    """Two share-alike licences bind at once only where they are versions of one."""
    return len({name.rpartition("-")[0] for name in sharing}) <= 1


def _unknown(source: Source) -> str:
    if not source.licence:
        return f"no licence is named for {source.name}"
    return f"'{source.licence}', the licence of {source.name}, is not in the studio's list"


def _cure(source: Source) -> str:
    if not source.licence:
        return f"Find out under which licence {source.name} may be used, and write it down there."
    return f"Read the licence '{source.licence}' of {source.name}, or have it added to the list."
