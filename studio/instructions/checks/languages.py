"""Language mix: records in another language than most of the dataset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from studio.instructions.checks.base import DatasetCheck, Finding, Flag, answers, live
from studio.store import Record

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

__all__ = ["Languages", "language_of"]

_READ = 240  # letters, as many as it takes to be sure
_LETTER = re.compile(r"[^\W\d_]")
_UNKNOWN = ""
# What is not prose says nothing about a language.
_CODE = re.compile(r"```|[{};]\s*\n|\bdef \w+\(|\bSELECT\b.{1,80}\bFROM\b|</\w+>")


class Languages(DatasetCheck):
    name: ClassVar[str] = "languages"
    title: ClassVar[str] = "Other languages"
    explains: ClassVar[str] = (
        "Records whose answer (or else question) is in a language that few others are in, as recognised from its letters. "
        "Short texts, program code and unsure guesses are not judged."
    )

    main_share: float = Field(
        0.1,
        gt=0,
        le=1,
        title="Main language from",
        description="A language of at least this share of records is meant.",
    )
    shortest: int = Field(60, ge=20, title="Shortest text judged", description="In letters.")
    sure: float = Field(
        0.95, ge=0.5, le=1, title="How sure of a language", description="Of a guess; less sure ones are not flagged."
    )

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        shelf = memory / "languages.npz"
        known, seen = _remembered(shelf, self._key), {}
        for record in live(records):
            before = known.get(record.id)
            is_same = before is not None and before[0] == record.revision
            seen[record.id] = before if is_same and before else (record.revision, *self._judge(record))
        _remember(shelf, self._key, seen)
        counts = Counter(language for _, language, _ in seen.values() if language)
        judged = counts.total()
        for record_id, (_, language, field) in seen.items():
            if language and counts[language] < self.main_share * judged:
                share = {"language": language, "records": counts[language], "judged": judged}
                main = [name for name, n in counts.most_common() if n >= self.main_share * judged]
                note = f"In {language}; most of the dataset is in {', '.join(main)}." if main else f"In {language}."
                yield self._flag(record_id, Finding(field, note, details=share))

    @property
    def _key(self) -> str:
        return f"{self.version}-{self.shortest}-{self.sure}"

    def _judge(self, record: Record) -> tuple[str, str]:
        """The language, '' where there is no telling, and the field it was told from."""
        said = answers(record)
        for field, text in [*said[-1:], ("instruction" if record.turns is None else "", record.instruction)]:
            if len(_LETTER.findall(text[: 4 * _READ])) >= self.shortest and not _CODE.search(text[: 4 * _READ]):
                return language_of(text, self.sure), field
        return _UNKNOWN, ""


def language_of(text: str, sure: float) -> str:
    """The two letters of ISO 639, or '' when the guess is less sure."""
    language, confidence = _identifier().classify(text[:_READ])
    return language if confidence >= sure else _UNKNOWN


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # a third of a second that pages spare

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


_Seen = dict[int, tuple[int, str, str]]  # id -> revision, language, field


def _remembered(shelf: Path, key: str) -> _Seen:
    try:
        with np.load(shelf) as kept:
            if str(kept["key"]) == key:
                columns = (kept[name].tolist() for name in ("ids", "revisions", "languages", "fields"))
                return {i: (revision, language, field) for i, revision, language, field in zip(*columns, strict=True)}
    except (OSError, ValueError, KeyError):  # never written, or by another version
        pass
    return {}


def _remember(shelf: Path, key: str, seen: _Seen) -> None:
    shelf.parent.mkdir(parents=True, exist_ok=True)
    part = shelf.with_suffix(".part.npz")
    rows = list(seen.values())
    np.savez(
        part,
        key=np.array(key),
        ids=np.array(list(seen), np.int64),
        revisions=np.array([row[0] for row in rows], np.int64),
        languages=np.array([row[1] for row in rows], "U8"),
        fields=np.array([row[2] for row in rows], "U16"),
    )
    part.replace(shelf)
