"""The example bank: filled from training rows, and never with a question that models are measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.instructions import group_hash
from studio.prompts import bank as module
from studio.prompts.bank import add_example, edit_example, fill_bank, held_out, leaks, pool_of
from studio.store import Store

BANK = "House style"


def _row(text: str, split: str = "train", **more: str) -> dict[str, str]:
    group = more.pop("group", group_hash(text, more.get("context", "")))
    fields = {"instruction": text, "context": "", "response": f"Yes, {text}.", "category": "open_qa"}
    return fields | {"split": split, "group": group} | more


@pytest.fixture
def freeze(sqlite_store: Store, tmp_path: Path) -> Callable[..., str]:
    """Freezes rows and names the snapshot."""

    def freeze(name: str, *rows: dict[str, Any], kind: str = "data") -> str:
        return sqlite_store.freeze(tmp_path, kind, name, rows, author="ann").ref

    return freeze


def _item(text: str, context: str = "") -> dict[str, Any]:
    return {"instruction": text, "context": context, "rules": [{"rule": "max_words", "value": 9}]}


def _texts(store: Store) -> list[str]:
    return [example.instruction for example in store.bank_examples(BANK)]


# -- filling -------------------------------------------------------------------------------------------------


def test_training_rows_come_in_with_their_origin_and_the_others_stay_out(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    ref = freeze("gear", _row("b"), _row("v", "validation"), _row("a"), _row("t", "test"), _row("x", "excluded"))
    filled = fill_bank(sqlite_store, tmp_path, BANK, ref, author="ann")
    assert _texts(sqlite_store) == ["b", "a"]
    assert {(e.source, e.author) for e in sqlite_store.bank_examples(BANK)} == {(ref, "ann")}
    assert (filled.added, filled.other_splits) == (2, 3)
    assert filled.sentence == "Added 2 examples. 3 rows are kept for validation and test."


def test_filling_again_adds_what_is_new(sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]) -> None:
    fill_bank(sqlite_store, tmp_path, BANK, freeze("gear", _row("a"), _row("b")), author="ann")
    filled = fill_bank(sqlite_store, tmp_path, BANK, freeze("gear", _row("A "), _row("c"), _row("b")), author="ann")
    assert _texts(sqlite_store) == ["a", "b", "c"]
    assert (filled.added, filled.present) == (1, 2)


def test_an_evaluation_item_is_left_out_and_named_with_its_row(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    freeze("gear", _item("Which size?"), _item("  which TENT is\nlighter? "), kind="eval")
    ref = freeze("gear", _row("a"), _row("Which tent is lighter?"))
    filled = fill_bank(sqlite_store, tmp_path, BANK, ref, author="ann")
    assert _texts(sqlite_store) == ["a"]
    [refused] = filled.refused
    assert refused.sentence == "Row 2 (“Which tent is lighter?”) is also row 2 of eval:gear@1."
    assert refused.sentence in filled.sentence


def test_a_record_that_was_born_as_a_test_question_stays_out_after_an_edit(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    freeze("gear", _item("old words"), kind="eval")
    ref = freeze("gear", _row("new words", group=group_hash("old words", "")), _row("a"))
    filled = fill_bank(sqlite_store, tmp_path, BANK, ref, author="ann")
    assert (_texts(sqlite_store), len(filled.refused)) == (["a"], 1)


def test_a_bank_takes_its_share_of_every_category_up_to_its_limit(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_BANK", 10)
    rows = [_row(f"{c} {n}", category=c) for c, count in (("open_qa", 20), ("summarization", 4)) for n in range(count)]
    filled = fill_bank(sqlite_store, tmp_path, BANK, freeze("gear", *rows), author="ann")
    assert (filled.added, filled.left_out, filled.present) == (10, 14, 0)
    assert Counter(e.category for e in sqlite_store.bank_examples(BANK)) == {"open_qa": 6, "summarization": 4}
    texts = _texts(sqlite_store)
    assert texts == [row["instruction"] for row in rows if row["instruction"] in texts]  # in the snapshot's order
    for more in (
        lambda: fill_bank(sqlite_store, tmp_path, BANK, freeze("gear", *rows), author="ann"),
        lambda: add_example(sqlite_store, tmp_path, BANK, _row("new"), author="ann"),
    ):
        with pytest.raises(InputError, match=r"Bank 'House style' is full: it holds 10 examples\. Remove some"):
            more()
    assert _texts(sqlite_store) == texts


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        ("data", [_row("v", "validation")], "None of the 1 rows of data:gear@1 is for training"),
        ("eval", [_item("a")], "eval:gear@1 holds no answers to show"),
    ],
    ids=["no training rows", "no answers"],
)
def test_a_snapshot_that_cannot_fill_a_bank_is_told(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str], kind: str, rows: list[dict[str, Any]], said: str
) -> None:
    ref = freeze("gear", *rows, kind=kind)
    with pytest.raises(InputError, match=said):
        fill_bank(sqlite_store, tmp_path, BANK, ref, author="ann")
    with pytest.raises(NotFound, match="no snapshot 'data:none@1'"):
        fill_bank(sqlite_store, tmp_path, BANK, "data:none@1", author="ann")
    assert sqlite_store.banks() == []


# -- by hand -------------------------------------------------------------------------------------------------


def test_an_example_by_hand_is_trimmed_and_goes_to_the_end(sqlite_store: Store, tmp_path: Path) -> None:
    add_example(sqlite_store, tmp_path, f"  {BANK} ", _row("first"), author="ann")
    fields = {"instruction": " Add. \n", "response": "4 ", "reasoning": " 2 and 2 make 4. "}
    made = add_example(sqlite_store, tmp_path, BANK, fields, author="bob")
    assert (made.bank, made.instruction, made.response, made.reasoning) == (BANK, "Add.", "4", "2 and 2 make 4.")
    assert (made.group_hash, made.source, made.author) == (group_hash("Add.", ""), "", "bob")
    assert _texts(sqlite_store) == ["first", "Add."]


@pytest.mark.parametrize(
    ("bank", "fields", "said"),
    [
        (BANK, {"instruction": " ", "response": "x"}, "The instruction is empty"),
        (BANK, {"instruction": "x", "response": ""}, "The response is empty"),
        (" ", _row("x"), "The bank has no name"),
        ("b" * 81, _row("x"), "cannot name a bank"),
        (BANK, _row("Is it WARM? "), r"row 2 of data:gear@1 \(test\), which models are measured on"),
        (BANK, _row("Which size?"), "row 1 of eval:gear@1, which models are measured on"),
        (BANK, _row("here"), "has an example with this question already"),
    ],
    ids=["no question", "no answer", "no name", "long name", "test row", "evaluation item", "there already"],
)
def test_an_example_that_cannot_be_used_changes_nothing(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str], bank: str, fields: dict[str, str], said: str
) -> None:
    freeze("gear", _item("Which size?"), kind="eval")
    freeze("gear", _row("a"), _row("Is it warm?", "test"))
    here = add_example(sqlite_store, tmp_path, BANK, _row("here"), author="ann")
    with pytest.raises(InputError, match=said):
        add_example(sqlite_store, tmp_path, bank, fields, author="ann")
    assert sqlite_store.bank_examples(BANK) == [here]


def test_an_edit_cannot_turn_an_example_into_an_evaluation_item(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    freeze("gear", _item("Which size?", "I am tall."), kind="eval")
    made = add_example(sqlite_store, tmp_path, BANK, _row("Which size?"), author="ann")  # without that context
    with pytest.raises(InputError, match="row 1 of eval:gear@1"):
        edit_example(
            sqlite_store, tmp_path, made.id, made.updated_at, _row("Which size?", context="I am tall."), author="ann"
        )
    assert sqlite_store.bank_examples(BANK) == [made]
    saved = edit_example(sqlite_store, tmp_path, made.id, made.updated_at, _row("Which colour?"), author="bob")
    assert (saved.instruction, saved.author) == ("Which colour?", "bob")
    with pytest.raises(Conflict, match="bob changed this example"):
        edit_example(sqlite_store, tmp_path, made.id, made.updated_at, _row("Which shape?"), author="ann")


# -- at choosing time ----------------------------------------------------------------------------------------


def test_a_set_that_was_frozen_later_is_seen_when_examples_are_chosen(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    a, b = (add_example(sqlite_store, tmp_path, BANK, _row(text), author="ann") for text in "ab")
    assert pool_of(sqlite_store, tmp_path, BANK).examples == (a, b)
    freeze("late", _item("z"), _item("b"), kind="eval")
    pool = pool_of(sqlite_store, tmp_path, BANK)
    assert pool.examples == (a,)
    assert [leak.sentence for leak in pool.leaks] == [
        "“b” is row 2 of eval:late@1, so no prompt may show it. Remove it."
    ]
    assert leaks([a, b], held_out(sqlite_store, tmp_path)) == list(pool.leaks)
    assert leaks([a], held_out(sqlite_store, tmp_path)) == []


def test_earlier_versions_of_a_set_are_held_out_too(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    freeze("gear", _item("old"), kind="eval")
    freeze("gear", _item("new"), kind="eval")
    freeze("ask", _row("prompt", "validation"), _row("free"), kind="prompts")
    held = held_out(sqlite_store, tmp_path)
    groups = {group_hash(text, ""): text for text in ("old", "new", "prompt", "free")}
    assert {groups[g]: p.words for g, p in held.among(groups).items()} == {
        "old": "row 1 of eval:gear@1",
        "new": "row 1 of eval:gear@2",
        "prompt": "row 1 of prompts:ask@1 (validation)",
    }


def test_a_set_that_cannot_be_read_is_told_and_the_others_still_count(
    sqlite_store: Store, tmp_path: Path, freeze: Callable[..., str]
) -> None:
    example = add_example(sqlite_store, tmp_path, BANK, _row("a"), author="ann")
    freeze("gone", _item("z"), kind="eval")
    freeze("here", _item("a"), kind="eval")
    (tmp_path / "snapshots" / "eval-gone@1.jsonl").unlink()
    pool = pool_of(sqlite_store, tmp_path, BANK)
    assert [leak.example for leak in pool.leaks] == [example]
    assert len(pool.unread) == 1
    assert pool.unread[0].startswith("eval:gone@1 was not looked into: ")
