"""The dataset card: facts only, a head that the hub reads, and no name that breaks a table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.instructions import add_record, freeze
from studio.instructions.card import (
    CheckRun,
    Facts,
    Masked,
    Origin,
    Purge,
    card,
    facts_now,
    facts_of,
    origins,
)
from studio.instructions.statistics import summary
from studio.store import CheckRun as StoredRun
from studio.store import RecordChange, Store

quick = settings(deadline=None, derandomize=True, max_examples=60)

ENGLISH = "Wash the jacket at thirty degrees and dry it slowly in the shade of a tree."
NOON = 1_767_268_800.0  # 1 January 2026, 12:00 UTC


def _rows(n: int = 40, **more: Any) -> list[dict[str, Any]]:
    row = {"context": "", "response": ENGLISH, "category": "open_qa", "split": "train", "state": "approved"}
    return [row | {"record": k, "instruction": f"How do I wash jacket {k}?"} | more for k in range(1, n + 1)]


def _facts(**more: Any) -> Facts:
    known = {"name": "brackenfold", "version": 3, "digest": "ab" * 32, "author": "ann", "created_at": NOON}
    return Facts(**({**known, "summary": summary(_rows()), "licence": "CC-BY-4.0"} | more))


def _head(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_head_is_what_the_hub_reads() -> None:
    rows = [*_rows(990), *_rows(20, category="classification")]
    assert _head(card(_facts(summary=summary(rows)))) == {
        "pretty_name": "brackenfold",
        "license": "cc-by-4.0",
        "language": ["en"],
        "size_categories": ["1K<n<10K"],
        "task_categories": ["question-answering", "text-classification", "text-generation"],
    }


@pytest.mark.parametrize(
    ("records", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (15_011, "10K<n<100K"), (10**6, "1M<n<10M"), (10**12, "1B<n<10B")],
)
def test_sizes_are_said_as_the_hub_says_them(records: int, size: str) -> None:
    facts = _facts(summary=replace(summary(_rows(2)), records=records))
    assert _head(card(facts))["size_categories"] == [size]


def test_records_under_other_licences_are_named_beside_that_of_the_dataset() -> None:
    rows = [*_rows(2), *_rows(1, licence="MIT"), *_rows(1, licence="House rules 2")]
    head = _head(card(_facts(summary=summary(rows))))
    assert head["license"] == ["cc-by-4.0", "mit", "other"]
    assert head["license_name"] == "House rules 2"
    assert "license" not in _head(card(_facts(licence="")))


def test_a_licence_of_no_record_is_not_claimed() -> None:
    assert _head(card(_facts(summary=summary(_rows(3, licence="MIT")))))["license"] == "mit"


def test_the_card_says_what_was_frozen_when_and_by_whom() -> None:
    text = card(_facts(description="Answers of the shop.\nFirst edition."))
    assert "> Answers of the shop.\n> First edition." in text
    assert f"| SHA-256 | {'ab' * 32} |" in text
    assert "| Frozen | 2026-01-01 by ann |" in text
    assert "| train | 40 | 100.0% |" in text
    assert "of 40 records drawn at random (seed 0)" in text
    assert re.search(r"\| en \| 40 \| 100\.0% \(9\d\.\d% to 100\.0%\) \|", text)


def test_the_card_says_how_the_records_came_in_and_what_was_done_to_them() -> None:
    text = card(
        _facts(
            origins=[
                Origin("hand", "ann", 5),
                Origin("file", "shop.csv", 30),
                Origin("model", "embedded:small", 5, "paraphrase@1"),
            ],
            checks=[CheckRun("Near duplicates", 40, 2, NOON), CheckRun("Secrets", 40, 0, NOON)],
            masked=[Masked("[EMAIL]", 3)],
            purges=[Purge("Asked by a customer", 1, NOON)],
        )
    )
    assert text.index("Imported from shop.csv") < text.index("Written here by ann")
    assert "| Drafted by embedded:small | 5 | paraphrase@1 |" in text
    assert "| Near duplicates | 40 | 2 | 2026-01-01 |" in text
    assert "| \\[EMAIL\\] | 3 |" in text
    assert "| Asked by a customer | 1 | 2026-01-01 |" in text
    assert "- 5 of 40 records (12%) were drafted by a model." in text
    assert "- Flags that nobody settled: Near duplicates (2)." in text


def test_limits_follow_from_the_figures() -> None:
    rows = [*_rows(30), *_rows(8, split="test", state="draft"), *_rows(2, split="validation", state="rejected")]
    text = card(_facts(summary=summary(rows), licence=""))
    for said in (
        "- The validation split has 2 records: a share measured on so few is uncertain.",
        "- The test split has 8 records",
        "- Of dolly-15k's eight categories, 7 are not there: general_qa,",
        "- 8 of 40 records (20%) were not reviewed.",
        "- 2 of 40 records (5%) were rejected in review.",
        "- No licence is stated.",
        "- No check was run",
    ):
        assert said in text, said


def test_what_is_not_known_is_not_said() -> None:
    text = card(_facts(summary=summary([])))
    assert "What was taken out" not in text
    assert "Nothing is recorded about how the records came in." in text
    assert "There are no test records." in text
    assert "Languages" not in text
    assert "language" not in _head(text)


def test_records_say_by_themselves_how_they_came_in(sqlite_store: Store) -> None:
    dataset = sqlite_store.create_dataset("gear", author="ann")
    drafted = {"provenance": {"model": "echo:", "template": "paraphrase@1"}}
    for source, more in (
        ("shop.csv", {}),
        ("shop.csv", {}),
        ("written here", {}),
        ("answer 7 of run:3", {}),
        ("job 12: row 4 of x", {}),
        ("job 13", drafted),
    ):
        add_record(sqlite_store, dataset, _rows(1)[0] | more, author="ann", source=source)
    assert origins(sqlite_store.all_records(dataset.id)) == (
        Origin("file", "shop.csv", 2),
        Origin("hand", "ann", 1),
        Origin("job", "job 12", 1),
        Origin("model", "echo:", 1, "paraphrase@1"),
        Origin("playground", "run:3", 1, "answer of a model, kept by a person"),
    )


_NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("|`*[]<>#\n:-'\"{}&\\"), min_size=1, max_size=30
)


@quick
@given(_NAMES, _NAMES, _NAMES)
def test_no_name_breaks_the_head_or_a_table(name: str, licence: str, source: str) -> None:
    rows = _rows(3, source=source, category=name, licence=licence)
    facts = _facts(
        name=name, licence=licence, summary=summary(rows), description=name, origins=[Origin("file", source, 3)]
    )
    text = card(facts)
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(head)["pretty_name"] == " ".join(name.split())
    for table in re.findall(r"(?:^\|.*\n?)+", body, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


# -- gathered from the store -----------------------------------------------------------------------------------------


def test_the_facts_of_a_snapshot_are_counted_in_its_file_and_told_by_the_store(
    sqlite_store: Store, tmp_path: Path
) -> None:
    store = sqlite_store
    dataset = store.create_dataset("gear", author="ann", licence="MIT", description="Of the shop.")
    for k, source in enumerate(("shop.csv", "shop.csv", "written here", "gone.csv")):
        fields = {"instruction": f"How do I wash jacket {k}?", "response": f"{ENGLISH} Ask [EMAIL 2] or [NOTE]."}
        add_record(store, dataset, fields, author="ann", source=source)
    *_, last = store.records(dataset.id)
    snapshot = freeze(store, tmp_path, dataset, author="ben")
    store.change_records(dataset.id, "Removed", [RecordChange(last.id, {}, is_removed=True)], author="ann")
    store.put_flags(StoredRun(dataset.id, "secrets", "1", {}, 3, 0, 0.1, 0.0, 0.0), [])
    store.purge_records(dataset.id, [99], "Asked to.", [], author="ann")
    facts = facts_of(store, tmp_path, snapshot)
    assert (facts.version, facts.digest, facts.author, facts.licence) == (1, snapshot.digest, "ben", "MIT")
    assert (facts.summary.records, facts.description) == (4, "Of the shop.")
    assert facts.origins == (
        Origin("file", "shop.csv", 2),
        Origin("gone", "records that were removed since", 1),
        Origin("hand", "ann", 1),
    )
    assert facts.masked == (Masked("[EMAIL]", 4),)
    assert [(c.title, c.looked_at, c.flagged) for c in facts.checks] == [("Keys and passwords", 3, 0)]
    assert [p.reason for p in facts.purges] == ["Asked to."]
    text = card(facts)
    assert "Not known: records that were removed since" in text
    assert "Checks that ran later than it was frozen" in text


def test_the_card_of_records_that_are_not_frozen_names_no_version(sqlite_store: Store) -> None:
    dataset = sqlite_store.create_dataset("gear", author="ann")
    add_record(sqlite_store, dataset, _rows(1)[0], author="ann", source="")
    text = card(facts_now(sqlite_store, dataset, sqlite_store.all_records(dataset.id), author="ben", at=NOON))
    assert "| Exported | 2026-01-01 by ben |" in text
    assert "SHA-256" not in text
    assert "| Written here by ann | 1 |" in text
