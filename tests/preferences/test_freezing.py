"""Frozen judgements: the newest of each, the same bytes each time, and no prompt in two splits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, NotFound
from studio.instructions import group_hash, split_of
from studio.preferences import FEWEST_JUDGEMENTS, freeze_judgements, freeze_prompts
from studio.specs import ModelRef
from studio.store import Annotator, Snapshot, Store, read_rows
from tests.preferences.items import BATCH, in_order, judge, new_item, put, put_items

Judge = Callable[..., None]


@pytest.fixture
def ann(sqlite_store: Store) -> Annotator:
    return sqlite_store.annotator("ann")


def _all(store: Store, who: Annotator, count: int = FEWEST_JUDGEMENTS, *, ties: int = 0, turned: bool = False) -> None:
    """Somebody ranks that many items; the first `ties` of them as equally good, from the last to the first if turned."""
    items = store.lease_items(BATCH, who, count, seconds=60)
    for n, item in enumerate(items[::-1] if turned else items):
        judge(store, item, who, [[key for key, _ in item.answers]] if n < ties else None)


def _freeze(store: Store, root: Path) -> Snapshot:
    return freeze_judgements(store, root, BATCH, author="ann")


# -- judgements ----------------------------------------------------------------------------------------------


def test_a_row_says_who_ranked_which_answers_how(store: Store, tmp_path: Path) -> None:
    ann = store.annotator("ann")
    put_items(store, FEWEST_JUDGEMENTS)
    _all(store, ann, ties=1)
    frozen = _freeze(store, tmp_path)
    assert (frozen.ref, frozen.kind, frozen.rows, frozen.author) == ("prefs:gear@1", "prefs", 20, "ann")
    tie, row, *_ = read_rows(tmp_path, frozen)
    prompt = new_item(1).prompt
    assert row == {
        "prompt": [{"role": "user", "content": "How heavy is tent 1?"}],
        "answers": [{"id": 4 + k, "text": f"answer {k} to 1"} for k in range(3)],
        "groups": [[4], [5], [6]],
        "tie_kind": "",
        "split": prompt.split,
        "group": prompt.group_hash,
        "model": "echo:",
        "annotator": "ann",
        "annotator_kind": "human",
        "note": "",
        "judgement": 2,
        "item": 2,
        "batch": "gear",
    }
    assert tie["groups"] == [[1, 2, 3]]


def test_freezing_twice_with_nothing_new_gives_the_same_snapshot_and_the_same_bytes(
    store: Store, tmp_path: Path
) -> None:
    put_items(store, FEWEST_JUDGEMENTS)
    _all(store, store.annotator("ann"))
    first = _freeze(store, tmp_path)
    written = (tmp_path / first.path).read_bytes()
    assert _freeze(store, tmp_path) == first
    assert [p.read_bytes() for p in (tmp_path / "snapshots").iterdir()] == [written]


def test_rows_are_by_item_whoever_judged_first(sqlite_store: Store, ann: Annotator, tmp_path: Path) -> None:
    put_items(sqlite_store, FEWEST_JUDGEMENTS, overlap=2)
    _all(sqlite_store, ann, turned=True)
    _all(sqlite_store, sqlite_store.annotator("ben"))
    rows = read_rows(tmp_path, _freeze(sqlite_store, tmp_path))
    assert [(r["item"], r["annotator"]) for r in rows] == [(n, who) for n in range(1, 21) for who in ("ann", "ben")]


def test_only_the_newest_revision_counts_and_keeps_its_place(
    sqlite_store: Store, ann: Annotator, tmp_path: Path
) -> None:
    put_items(sqlite_store, FEWEST_JUDGEMENTS)
    _all(sqlite_store, ann, turned=True)
    first = read_rows(tmp_path, _freeze(sqlite_store, tmp_path))
    item = sqlite_store.take_back(BATCH, ann, seconds=60)
    judge(sqlite_store, item, ann, in_order(item)[::-1])
    frozen = _freeze(sqlite_store, tmp_path)
    assert frozen.ref == "prefs:gear@2"
    changed, *rest = read_rows(tmp_path, frozen)
    assert rest == first[1:]
    assert (changed["groups"], changed["judgement"]) == (first[0]["groups"][::-1], 21)


def test_no_prompt_group_is_in_two_splits(sqlite_store: Store, ann: Annotator, tmp_path: Path) -> None:
    put_items(sqlite_store, 60, overlap=2)
    for who in (ann, sqlite_store.annotator("ben"), sqlite_store.annotator("rule", "rule", "The first.")):
        _all(sqlite_store, who, 60)
    rows = read_rows(tmp_path, _freeze(sqlite_store, tmp_path))
    groups = {split: {r["group"] for r in rows if r["split"] == split} for split in ("train", "validation", "test")}
    assert all(groups.values())
    assert [one & other for one, other in combinations(groups.values(), 2)] == [set(), set(), set()]
    assert sum(map(len, groups.values())) == 60


def test_simulated_judgements_say_by_which_rule(sqlite_store: Store, tmp_path: Path) -> None:
    put_items(sqlite_store, FEWEST_JUDGEMENTS)
    _all(sqlite_store, sqlite_store.annotator("rule", "rule", "The first is the best."))
    rows = read_rows(tmp_path, _freeze(sqlite_store, tmp_path))
    assert {(r["annotator_kind"], r["note"]) for r in rows} == {("rule", "The first is the best.")}


def test_people_and_rules_are_never_mixed(sqlite_store: Store, ann: Annotator, tmp_path: Path) -> None:
    put_items(sqlite_store, FEWEST_JUDGEMENTS)
    _all(sqlite_store, sqlite_store.annotator("rule", "rule", "The first is the best."))
    assert {r["annotator_kind"] for r in read_rows(tmp_path, _freeze(sqlite_store, tmp_path))} == {"rule"}
    _all(sqlite_store, ann)
    assert {r["annotator_kind"] for r in read_rows(tmp_path, _freeze(sqlite_store, tmp_path))} == {"human"}


def test_answers_of_two_models_name_both(sqlite_store: Store, ann: Annotator, tmp_path: Path) -> None:
    put(sqlite_store, [new_item(0)], model=ModelRef("run:7"))
    put_items(sqlite_store, FEWEST_JUDGEMENTS - 1, first=1)
    _all(sqlite_store, ann)
    rows = read_rows(tmp_path, _freeze(sqlite_store, tmp_path))
    assert {r["model"] for r in rows} == {"run:7", "echo:"}


@pytest.mark.parametrize(
    ("judged", "ties", "sentence"),
    [
        pytest.param(0, 0, r"'gear' has 0 judgements\. Rank some of its items", id="none"),
        pytest.param(1, 0, r"'gear' has 1 judgement; a snapshot needs 20 or more\. Rank 19 more", id="one"),
        pytest.param(19, 0, r"'gear' has 19 judgements; .*Rank 1 more under Labeling", id="one too few"),
        pytest.param(20, 20, r"All 20 judgements of 'gear' are ties.*Rank items whose answers differ", id="all ties"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused_with_the_cure(
    sqlite_store: Store, ann: Annotator, tmp_path: Path, judged: int, ties: int, sentence: str
) -> None:
    put_items(sqlite_store, 25)
    if judged:
        _all(sqlite_store, ann, judged, ties=ties)
    with pytest.raises(InputError, match=sentence):
        _freeze(sqlite_store, tmp_path)
    assert sqlite_store.snapshots() == []


def test_a_batch_nobody_made_is_named(sqlite_store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no batch 'gear'\. Known batches: none yet\."):
        _freeze(sqlite_store, tmp_path)


@pytest.mark.parametrize(
    ("licences", "sources", "found"),
    [
        pytest.param({"gear": "CC-BY-4.0"}, ["prompts:gear@1"], "CC-BY-4.0", id="of the prompts"),
        pytest.param(
            {"gear": "MIT", "boots": "MIT"}, ["prompts:gear@1", "prompts:boots@1"], "MIT", id="the same twice"
        ),
        pytest.param({"gear": "MIT", "boots": "CC0-1.0"}, ["prompts:gear@1", "prompts:boots@1"], "", id="two"),
        pytest.param({"gear": "MIT"}, ["prompts:gear@1", "prompts:gone@1"], "", id="one unknown"),
        pytest.param({}, [""], "", id="none"),
    ],
)
def test_judgements_come_under_the_licence_of_their_prompts(
    sqlite_store: Store, ann: Annotator, tmp_path: Path, licences: dict[str, str], sources: list[str], found: str
) -> None:
    for name, licence in licences.items():
        freeze_prompts(sqlite_store, tmp_path, name, [{"instruction": name}], author="ann", licence=licence)
    put(sqlite_store, [new_item(n, source=sources[n % len(sources)]) for n in range(FEWEST_JUDGEMENTS)])
    _all(sqlite_store, ann)
    assert _freeze(sqlite_store, tmp_path).licence == found


# -- prompts -------------------------------------------------------------------------------------------------


def test_prompts_are_frozen_with_their_group_and_split(store: Store, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": " How heavy? ", "context": "A tent.\x00", "category": "open_qa", "response": "left out"},
        {"instruction": "Why?"},
    ]
    frozen = freeze_prompts(store, tmp_path, "gear", rows, author="ann", licence="MIT")
    assert (frozen.ref, frozen.rows, frozen.licence) == ("prompts:gear@1", 2, "MIT")
    first, second = read_rows(tmp_path, frozen)
    group = group_hash("How heavy?", "A tent.")
    assert first == {
        "instruction": "How heavy?",
        "context": "A tent.",
        "category": "open_qa",
        "split": split_of(group),
        "group": group,
    }
    assert (second["instruction"], second["context"], second["category"]) == ("Why?", "", "")


@pytest.mark.parametrize("rows", [[{"instruction": " "}], [{"instruction": "Why?"}, {"context": "alone"}]])
def test_a_prompt_that_asks_nothing_is_refused(store: Store, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="A prompt without an instruction asks nothing"):
        freeze_prompts(store, tmp_path, "gear", rows, author="ann")
    assert store.snapshots() == []
