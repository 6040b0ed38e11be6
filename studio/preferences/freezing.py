"""Freezing: prompts to sample answers for, and judgements to learn from, as snapshots that never change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.errors import InputError, NotFound
from studio.instructions import group_hash, split_of
from studio.preferences.pairs import ranking_pairs
from studio.store import RankedItem, Snapshot, Store

__all__ = ["FEWEST_JUDGEMENTS", "freeze_judgements", "freeze_prompts"]

# Below this a reward model learns the noise; what it says of held-out pairs would mean nothing.
FEWEST_JUDGEMENTS = 20


def freeze_prompts(
    store: Store, root: Path, name: str, rows: Iterable[Mapping[str, str]], *, author: str, licence: str = ""
) -> Snapshot:
    """Freeze prompts (instruction, context, category) as `prompts:NAME@next`, each with its group and split."""
    return store.freeze(root, "prompts", name, map(_prompt_row, rows), author=author, licence=licence)


def freeze_judgements(store: Store, root: Path, batch: str, *, author: str) -> Snapshot:
    """Freeze the current judgements of a batch as `prefs:BATCH@next`.

    People's judgements and simulated ones are never mixed: as soon as people have judged enough, theirs alone count.
    Raises InputError when they are too few or all ties. With nothing new it gives the newest snapshot back.
    """
    ranked = _unmixed(store.judgements(batch))
    _check(batch, ranked)
    licence = _licence(store, {item.source for item in ranked})
    return store.freeze(root, "prefs", batch, map(_row, ranked), author=author, licence=licence)


def _unmixed(ranked: Sequence[RankedItem]) -> Sequence[RankedItem]:
    by_people = [item for item in ranked if item.annotator_kind == "human"]
    others = [item for item in ranked if item.annotator_kind != "human"]
    return by_people if len(by_people) >= FEWEST_JUDGEMENTS or not others else others


def _prompt_row(row: Mapping[str, str]) -> dict[str, str]:
    clean = {
        name: str(row.get(name) or "").replace("\x00", "").strip() for name in ("instruction", "context", "category")
    }
    if not clean["instruction"]:
        raise InputError("A prompt without an instruction asks nothing. Write one, or leave the row out.")
    group = group_hash(clean["instruction"], clean["context"])
    return {**clean, "split": split_of(group), "group": group}


def _check(batch: str, ranked: Sequence[RankedItem]) -> None:
    if not ranked:
        raise InputError(f"'{batch}' has 0 judgements. Rank some of its items under Labeling first.")
    if len(ranked) < FEWEST_JUDGEMENTS:
        count = f"{len(ranked)} judgement{'s' if len(ranked) > 1 else ''}"
        raise InputError(
            f"'{batch}' has {count}; a snapshot needs {FEWEST_JUDGEMENTS} or more. "
            f"Rank {FEWEST_JUDGEMENTS - len(ranked)} more under Labeling first."
        )
    if not any(ranking_pairs(item.groups) for item in ranked):
        raise InputError(
            f"All {len(ranked)} judgements of '{batch}' are ties, so nothing says which answer is better. "
            "Rank items whose answers differ, or sample more varied ones."
        )


def _licence(store: Store, sources: Iterable[str]) -> str:
    """The licence that all the prompts came under; '' when one is unknown or they differ."""
    found = set()
    for source in sources:
        try:
            found.add(store.snapshot(source).licence)
        except NotFound:
            found.add("")
    return found.pop() if len(found) == 1 else ""


def _row(item: RankedItem) -> dict[str, Any]:
    models = sorted({answer.model for answer in item.answers})
    return {
        "prompt": item.prompt,
        "answers": [{"id": answer.id, "text": answer.text} for answer in item.answers],
        "groups": item.groups,
        "tie_kind": item.tie_kind,
        "split": item.split,
        "group": item.group,
        "model": ", ".join(models),
        "annotator": item.annotator,
        "annotator_kind": item.annotator_kind,
        "note": item.note,
        "judgement": item.judgement,
        "item": item.item,
        "batch": item.batch,
    }
