"""Coverage: what the documents are about, in which languages, and how much is said twice. Counted, not guessed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from studio.prompts.documents.language import language
from studio.prompts.documents.words import count_words, label_words
from studio.stop_words import stop_words
from studio.store import Document, Passage, Store

__all__ = ["Coverage", "DocumentSummary", "coverage"]

_TERMS = 8
_SAMPLE = 500  # characters of a passage that tell its language


@dataclass(frozen=True)
class DocumentSummary:
    """A document's own words: those that set it apart from the other passages, by TF-IDF; none in a single passage.

    `near` counts its passages that say nearly what an earlier one says.
    """

    document: Document
    words: int
    terms: tuple[str, ...]
    near: int


@dataclass(frozen=True)
class Coverage:
    """All documents in use. `languages` is the share of passages by ISO 639-1 code, largest first; '' cannot be told."""

    documents: tuple[DocumentSummary, ...]
    passages: int
    words: int
    languages: Mapping[str, float]
    near: int

    @property
    def sentence(self) -> str:
        """One line for the page."""
        if not self.documents:
            return "There are no documents yet. Add some, and prompts can answer from them."
        shares = ", ".join(f"{code or 'unknown'} {share:.0%}" for code, share in self.languages.items())
        said = (
            f"{_count(len(self.documents), 'document')}, {_count(self.passages, 'passage')}, "
            f"{_count(self.words, 'word')}; languages by passage: {shares}."
        )
        if self.near:
            verb = "says" if self.near == 1 else "say"
            said += f" {_count(self.near, 'passage')} {verb} nearly what an earlier one says."
        return said


def coverage(store: Store) -> Coverage:
    """What there is to answer from; empty, with its sentence, when there is nothing."""
    return _coverage(store, store.documents_token())


@lru_cache(maxsize=2)
def _coverage(store: Store, token: str) -> Coverage:
    documents = store.documents()
    by_document: dict[int, list[Passage]] = {d.id: [] for d in documents}
    for passage in store.live_passages():
        by_document.setdefault(passage.document_id, []).append(passage)
    passages = [p for d in documents for p in by_document[d.id]]
    firsts: dict[int, int] = {}
    for passage in sorted(passages, key=lambda p: p.id):
        firsts.setdefault(passage.near_id or passage.id, passage.id)
    near = {p.id for p in passages if firsts[p.near_id or p.id] != p.id}
    words = {p.id: Counter(label_words(p.text)) for p in passages}
    found_in = Counter(word for counts in words.values() for word in counts)
    return Coverage(
        tuple(_summary(d, by_document[d.id], words, found_in, near) for d in documents),
        len(passages),
        sum(count_words(p.text) for p in passages),
        _languages(documents, by_document, len(passages)),
        len(near),
    )


def _summary(
    document: Document,
    passages: Sequence[Passage],
    words: Mapping[int, Counter[str]],
    found_in: Mapping[str, int],
    near: set[int],
) -> DocumentSummary:
    stop = stop_words(document.language)
    counts: Counter[str] = Counter()
    for passage in passages:
        counts.update(words[passage.id])
    # Spärck Jones (1972), with a damped count: a term in every passage weighs nothing, whatever the language.
    weights = {t: (1 + math.log(n)) * math.log(len(words) / found_in[t]) for t, n in counts.items() if t not in stop}
    best = sorted((t for t in weights if weights[t] > 0), key=lambda t: (-weights[t], t))
    return DocumentSummary(
        document,
        sum(count_words(p.text) for p in passages),
        tuple(best[:_TERMS]),
        sum(p.id in near for p in passages),
    )


def _languages(
    documents: Iterable[Document], by_document: Mapping[int, Sequence[Passage]], total: int
) -> dict[str, float]:
    """A short passage is taken to be in its document's language."""
    counts = Counter(language(p.text[:_SAMPLE]) or d.language for d in documents for p in by_document[d.id])
    return {code: n / total for code, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
