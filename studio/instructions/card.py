"""The card of a frozen dataset: what is in it, how it was made, what was checked, and where it falls short.

Everything on it is a fact that was handed in or follows from one by counting; what nobody knows is left out or said to
be unknown. The head is the YAML of the Hugging Face hub (huggingface.co/docs/hub/datasets-cards).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from studio.errors import NotFound
from studio.instructions.checks import check_kinds
from studio.instructions.snapshots import rows_of
from studio.instructions.statistics import Shares, Summary, summary
from studio.store import Dataset, Record, Snapshot, Store

__all__ = ["CheckRun", "Facts", "Masked", "Origin", "Purge", "card", "facts_now", "facts_of", "origins"]

How: TypeAlias = Literal["file", "hand", "model", "playground", "job", "gone"]

# The hub's names of tasks for dolly's kinds of record.
_TASKS: Mapping[str, str] = {
    "open_qa": "question-answering",
    "general_qa": "question-answering",
    "closed_qa": "question-answering",
    "information_extraction": "question-answering",
    "summarization": "summarization",
    "classification": "text-classification",
    "brainstorming": "text-generation",
    "creative_writing": "text-generation",
}

# Licences that the hub knows by these names (its list has more); any other is `other` there, with its name beside it.
_LICENCES = frozenset(
    """apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 odc-by odbl pddl gfdl gpl-3.0 lgpl-3.0
    agpl-3.0 mpl-2.0 bsd bsd-2-clause bsd-3-clause unlicense unknown""".split()
)

_BY_HAND = ("", "hand", "written here")
_MASK = re.compile(r"\[(EMAIL|PHONE|SECRET|NAME|ADDRESS|CARD|IBAN|ID|IP)(?: \d+)?\]")  # as the checks write them
_ANSWER = re.compile(r"(?:corrected )?answer \d+ of (\S+)")  # as the playground names what was kept from it

_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")
_FEW_TO_MEASURE = 100  # a share of so many records is known within about 10 points either way (95 %)
_RARE = 0.05


@dataclass(frozen=True)
class Origin:
    """A way in which records came, and the file, person, model or job that they came by."""

    how: How
    name: str
    records: int
    detail: str = ""  # the prompt template, or the shape of the file


@dataclass(frozen=True)
class CheckRun:
    """A check as it was last run: how many records it looked at, and how many of them are flagged still."""

    title: str
    looked_at: int
    flagged: int
    ended_at: float


@dataclass(frozen=True)
class Masked:
    """What was hidden: '[EMAIL]', and in how many records."""

    what: str
    records: int


@dataclass(frozen=True)
class Purge:
    """Records that were taken out of the history for good."""

    reason: str
    records: int
    at: float


@dataclass(frozen=True)
class Facts:
    """What is known of a snapshot. `summary` counts its rows, or those of the dataset when it was frozen."""

    name: str
    version: int  # 0: the records as they are now, in no snapshot
    digest: str
    author: str
    created_at: float
    summary: Summary
    description: str = ""
    licence: str = ""  # of the dataset; records may have others
    origins: Sequence[Origin] = ()
    checks: Sequence[CheckRun] = ()
    masked: Sequence[Masked] = ()
    purges: Sequence[Purge] = ()


def origins(records: Iterable[Record]) -> tuple[Origin, ...]:
    """How the records of a dataset came in, by what each says of itself; most records first."""
    return _ordered(Counter(_origin(record) for record in records))


def facts_of(store: Store, root: Path, snapshot: Snapshot) -> Facts:
    """All that is known of a snapshot: counted in its file, and gathered from what the store says of its records.

    Where a row came from is what the record of its prompt group says. Raises StorageError for a file that is not what
    was frozen.
    """
    dataset = _dataset(store, snapshot.name)
    came = _came(store, dataset)
    found: Counter[tuple[How, str, str]] = Counter()
    masked: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        for row in rows_of(root, snapshot):
            found[came.get(row.get("group", ""), ("gone", "records that were removed since", ""))] += 1
            masked.update(_masks(row))
            yield row

    counted = summary(rows())
    return Facts(
        name=snapshot.name,
        version=snapshot.version,
        digest=snapshot.digest,
        author=snapshot.author,
        created_at=snapshot.created_at,
        summary=counted,
        description=dataset.description if dataset else "",
        licence=snapshot.licence,
        origins=_ordered(found),
        masked=_masked(masked),
        **_done_to(store, dataset),
    )


def facts_now(store: Store, dataset: Dataset, records: Iterable[Record], *, author: str, at: float) -> Facts:
    """The same of records as they are now; `author` exports them."""
    found: Counter[tuple[How, str, str]] = Counter()
    masked: Counter[str] = Counter()

    def rows() -> Iterator[Record]:
        for record in records:
            found[_origin(record)] += 1
            masked.update(_masks(vars(record)))
            yield record

    counted = summary(rows())
    return Facts(
        name=dataset.name,
        version=0,
        digest="",
        author=author,
        created_at=at,
        summary=counted,
        description=dataset.description,
        licence=dataset.licence,
        origins=_ordered(found),
        masked=_masked(masked),
        **_done_to(store, dataset),
    )


def _dataset(store: Store, name: str) -> Dataset | None:
    try:
        return store.dataset(name)
    except NotFound:
        return None


def _came(store: Store, dataset: Dataset | None) -> dict[str, tuple[How, str, str]]:
    """Prompt group -> how its first record came in."""
    found: dict[str, tuple[How, str, str]] = {}
    for record in store.all_records(dataset.id) if dataset else ():
        found.setdefault(record.group_hash, _origin(record))
    return found


def _done_to(store: Store, dataset: Dataset | None) -> dict[str, Any]:
    """Checks that looked at the dataset, and what was purged from it."""
    if dataset is None:
        return {}
    titles = {name: kind.title for name, kind in check_kinds().items()}
    runs = store.check_runs(dataset.id).values()
    return {
        "checks": [CheckRun(titles.get(r.check, r.check), r.records, r.flagged, r.ended_at) for r in runs],
        "purges": [Purge(p.reason, p.records, p.created_at) for p in store.purges(dataset.id)],
    }


def _ordered(found: Counter[tuple[How, str, str]]) -> tuple[Origin, ...]:
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Origin(how, name, n, detail) for (how, name, detail), n in ordered)


def _masks(row: Mapping[str, Any]) -> set[str]:
    """'[EMAIL]' for '[EMAIL 2]' as well: the kinds of masks that stand in a row."""
    said = [row.get(name) or "" for name in ("instruction", "context", "response")]
    said += [turn["content"] for turn in row.get("turns") or []]
    return {f"[{kind}]" for text in said if "[" in text for kind in _MASK.findall(text)}


def _masked(found: Counter[str]) -> tuple[Masked, ...]:
    return tuple(Masked(what, n) for what, n in sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _origin(record: Record) -> tuple[How, str, str]:
    made = record.provenance or {}
    if made.get("model"):
        return "model", str(made["model"]), str(made.get("template") or "")
    if answer := _ANSWER.match(record.source):
        return "playground", answer[1], "answer of a model, kept by a person"
    if job := re.match(r"job \d+", record.source):
        return "job", job[0], ""
    if record.source in _BY_HAND:
        return "hand", record.author, ""
    return "file", record.source, ""


def card(facts: Facts) -> str:
    """The card in Markdown, head included."""
    parts = [
        _head(facts),
        f"# {_line(facts.name)}",
        facts.description.strip() and _quoted(facts.description),
        _section("What it is", _table(("", ""), _identity(facts))),
        _section("What is in it", *_contents(facts.summary)),
        _section("How it was made", _ways(facts.origins)),
        _section("What was checked", _checks(facts.checks), _later(facts)),
        _section("What was taken out", *_removals(facts)),
        _section("Where it falls short", _bullets(_limits(facts))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# -- the head ------------------------------------------------------------------------------------------------------


def _head(facts: Facts) -> str:
    licences = _licences(facts)
    known = sorted({name for name in map(_hub_name, licences)})
    head: dict[str, Any] = {"pretty_name": _plain(facts.name)}
    if known:
        head["license"] = known[0] if len(known) == 1 else known
    if foreign := sorted(name for name in licences if _hub_name(name) == "other"):
        head["license_name"] = ", ".join(map(_plain, foreign))
    languages = [bar.label for bar in facts.summary.languages.bars if bar.label]
    if languages:
        head["language"] = languages
    head["size_categories"] = [_size(facts.summary.records)]
    head["task_categories"] = _tasks(facts.summary)
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def _licences(facts: Facts) -> set[str]:
    """Licence names of the records; one without its own is under that of the dataset."""
    own = {bar.label for bar in facts.summary.licences.bars if bar.label}
    is_shared = not facts.summary.licences.bars or facts.summary.licences.n("") > 0
    return own | ({facts.licence} if is_shared and facts.licence else set())


def _hub_name(licence: str) -> str:
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return name if name in _LICENCES else "other"


def _size(records: int) -> str:
    """As the hub says it: 'n<1K', '1K<n<10K' and so on."""
    if records < 1000:
        return "n<1K"
    place = min(len(str(records)) - 4, len(_SIZES) - 2)
    return f"{_SIZES[place]}<n<{_SIZES[place + 1]}"


def _tasks(summary: Summary) -> list[str]:
    """`text-generation` always, as every record is a text to be written; others by the categories that are there."""
    found = {_TASKS[bar.label] for bar in summary.categories.bars if bar.label in _TASKS}
    return sorted(found | {"text-generation"})


# -- the body ------------------------------------------------------------------------------------------------------


def _identity(facts: Facts) -> list[tuple[str, str]]:
    frozen = [("Version", str(facts.version)), ("SHA-256", facts.digest)] if facts.version else []
    return [
        ("Name", facts.name),
        *frozen,
        ("Frozen" if facts.version else "Exported", f"{_day(facts.created_at)} by {facts.author}"),
        ("Licence", ", ".join(sorted(_licences(facts))) or "not stated"),
    ]


def _contents(summary: Summary) -> Iterator[str]:
    yield _bullets(_counts(summary))
    for title, shares in (
        ("Split", summary.splits),
        ("Category", summary.categories),
        ("Review", summary.states),
        ("Source", summary.sources),
        ("Licence of the record", summary.licences),
    ):
        if any(bar.label for bar in shares.bars):
            yield _shares(title, shares)
    if summary.languages.n:
        rows = [
            (bar.label or "cannot be told", f"{bar.n:,}", _with_interval(bar.share, bar.interval))
            for bar in summary.languages.bars
        ]
        yield (
            f"Languages, as py3langid judges them, of {summary.languages.n:,} records drawn at random "
            f"(seed {summary.languages.seed}):"
        )
        yield _table(("Language", "Records", "Share (95 % interval)"), rows)


def _counts(summary: Summary) -> Iterator[str]:
    yield f"{_count(summary.records, 'record')}, {summary.conversations:,} of them conversations of several turns"
    yield f"{_count(summary.words, 'word')} and {_count(summary.characters, 'character')} in all text"
    if summary.tokens is not None:
        yield f"{_count(summary.tokens.total, 'token')}"
    about = "about " if summary.vocabulary.error else ""
    if summary.vocabulary.once is not None:
        yield (
            f"{about}{_count(summary.vocabulary.distinct, 'different word')}, "
            f"{summary.vocabulary.once:.0%} of which stand in it once"
        )
    for of in ("instruction", "context", "response"):
        lengths = summary.lengths.get(of)
        if lengths and lengths.n:
            q = lengths.quantiles
            yield (
                f"{of.capitalize()}: half have {q[50]:,} characters or fewer, 95 % {q[95]:,} or fewer, "
                f"the longest {lengths.longest:,} (n={lengths.n:,})"
            )


def _shares(title: str, shares: Shares) -> str:
    rows = [(bar.label or "not stated", f"{bar.n:,}", f"{bar.share:.1%}") for bar in shares.bars]
    if shares.others:
        rows.append(("all others", f"{shares.others:,}", ""))
    return _table((title, "Records", "Share"), rows)


_HOW = {
    "file": "Imported from",
    "hand": "Written here by",
    "model": "Drafted by",
    "playground": "Kept in the playground from",
    "job": "Written by",
    "gone": "Not known:",
}


def _ways(origins: Sequence[Origin]) -> str:
    if not origins:
        return "Nothing is recorded about how the records came in."
    rows = [(f"{_HOW[o.how]} {o.name}", f"{o.records:,}", o.detail) for o in sorted(origins, key=lambda o: -o.records)]
    return _table(("How", "Records", "Detail"), rows)


def _checks(checks: Sequence[CheckRun]) -> str:
    if not checks:
        return "No check was run."
    rows = [(c.title, f"{c.looked_at:,}", f"{c.flagged:,}", _day(c.ended_at)) for c in checks]
    return _table(("Check", "Records looked at", "Flagged", "On"), rows)


def _later(facts: Facts) -> str:
    if not any(check.ended_at > facts.created_at for check in facts.checks):
        return ""
    return "Checks that ran later than it was frozen looked at the records as they were then, which may be others."


def _removals(facts: Facts) -> Iterator[str]:
    if facts.masked:
        yield _table(("Masked", "Records"), [(m.what, f"{m.records:,}") for m in facts.masked])
    if facts.purges:
        yield _table(("Purged for", "Records", "On"), [(p.reason, f"{p.records:,}", _day(p.at)) for p in facts.purges])


def _limits(facts: Facts) -> Iterator[str]:
    """What follows from the counts, with the counts."""
    summary = facts.summary
    for split in ("validation", "test"):
        n = summary.splits.n(split)
        if n == 0:
            yield f"There are no {split} records."
        elif n < _FEW_TO_MEASURE:
            yield f"The {split} split has {_count(n, 'record')}: a share measured on so few is uncertain."
    if summary.coverage.missing and summary.records:
        yield f"Of dolly-15k's eight categories, {len(summary.coverage.missing)} are not there: " + (
            f"{', '.join(summary.coverage.missing)}."
        )
    for state, words in (("draft", "were not reviewed"), ("rejected", "were rejected in review")):
        if n := summary.states.n(state):
            yield f"{_of(n, summary.records)} {words}."
    drafted = sum(o.records for o in facts.origins if o.how == "model")
    if drafted:
        yield f"{_of(drafted, summary.records)} were drafted by a model."
    rare = [b.label for b in summary.languages.bars if b.label and b.share < _RARE]
    if rare:
        yield f"Less than {_RARE:.0%} of the sampled records are in each of: {', '.join(rare)}."
    if not _licences(facts):
        yield "No licence is stated."
    flagged = [c for c in facts.checks if c.flagged]
    if flagged:
        yield "Flags that nobody settled: " + ", ".join(f"{_line(c.title)} ({c.flagged:,})" for c in flagged) + "."
    if not facts.checks:
        yield "No check was run, so nothing is known of duplicates, personal data or leakage between splits."


# -- Markdown ------------------------------------------------------------------------------------------------------


def _section(title: str, *parts: str) -> str:
    body = "\n\n".join(part for part in parts if part)
    return f"## {title}\n\n{body}" if body else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_line(cell) for cell in line) + " |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _line(text: str) -> str:
    """Text that somebody typed, as one line that is no markup: a name cannot break a table or become a link."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", _plain(text))


def _quoted(text: str) -> str:
    """Somebody's own words, as a quotation."""
    return "\n".join(f"> {_line(line)}".rstrip() for line in text.strip().splitlines())


def _with_interval(share: float, interval: Any) -> str:
    return f"{share:.1%} ({interval.low:.1%} to {interval.high:.1%})" if interval else f"{share:.1%}"


def _of(n: int, records: int) -> str:
    return f"{n:,} of {_count(records, 'record')}" + (f" ({n / records:.0%})" if records else "")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
