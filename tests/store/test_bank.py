"""Banks of examples: in the order that people gave them, each question once, and a move writes one row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import Conflict, InputError, NotFound
from studio.instructions import group_hash
from studio.store import Bank, Store


def _row(text: str, **more: str) -> dict[str, str]:
    return {"instruction": text, "response": f"Yes, {text}.", "group_hash": group_hash(text, "")} | more


def _fill(store: Store, texts: Sequence[str], bank: str = "House style") -> list[int]:
    return store.add_examples(bank, [_row(text) for text in texts], author="ann", source="data:gear@1")


def _texts(store: Store, bank: str = "House style") -> str:
    return " ".join(example.instruction for example in store.bank_examples(bank))


# -- what comes in -------------------------------------------------------------------------------------------


def test_an_example_comes_back_with_all_that_was_given(store: Store) -> None:
    row = _row("a", context="c", reasoning="r", category="open_qa")
    [key] = store.add_examples("House style", [row], author="ann", source="data:gear@1")
    example = store.bank_example(key)
    assert example.fields == {
        "instruction": "a",
        "context": "c",
        "reasoning": "r",
        "response": "Yes, a.",
        "category": "open_qa",
    }
    assert (example.bank, example.source, example.author) == ("House style", "data:gear@1", "ann")
    assert (example.is_on, example.is_locked) == (True, False)


def test_additions_go_to_the_end_in_their_order(store: Store) -> None:
    _fill(store, "bca")
    _fill(store, "fed")
    assert _texts(store) == "b c a f e d"


def test_an_equal_question_is_in_a_bank_once_and_may_be_in_another(store: Store) -> None:
    first = _fill(store, ["a", "b", "a"])
    again = store.add_examples("House style", [_row("c"), _row("a", response="Other.")], author="bob")
    assert (len(first), len(again)) == (2, 1)
    assert _texts(store) == "a b c"
    assert store.bank_examples("House style")[0].response == "Yes, a."
    assert len(_fill(store, ["a"], bank="Other")) == 1


def test_nothing_new_adds_nothing(store: Store) -> None:
    _fill(store, "ab")
    assert _fill(store, "ba") == []
    assert store.add_examples("House style", [], author="ann") == []


def test_what_no_database_keeps_is_left_out(store: Store) -> None:
    [key] = store.add_examples("b", [_row("a", response="x\x00y \ud800z")], author="ann")
    assert store.bank_example(key).response == "xy ?z"


def test_banks_are_told_with_what_they_hold(store: Store) -> None:
    assert store.banks() == []
    a, b, _ = _fill(store, "abc")
    _fill(store, "a", bank="Edge cases")
    store.lock_examples([a, b], True)
    store.switch_examples([b], False)
    assert store.banks() == [Bank("Edge cases", 1, 1, 0), Bank("House style", 3, 2, 1)]


def test_two_thousand_examples_are_one_verb(store: Store) -> None:
    assert len(_fill(store, [str(n) for n in range(2000)])) == 2000
    assert [e.instruction for e in store.bank_examples("House style")] == [str(n) for n in range(2000)]


# -- edits ---------------------------------------------------------------------------------------------------


def test_an_edit_changes_the_words_and_nothing_else(store: Store) -> None:
    before = store.bank_example(_fill(store, "ab")[0])
    after = store.edit_example(before.id, before.updated_at, _row("z"), author="bob")
    assert (after.instruction, after.group_hash, after.author) == ("z", group_hash("z", ""), "bob")
    assert (after.position, after.source, after.created_at) == (before.position, before.source, before.created_at)
    assert after.updated_at > before.updated_at


def test_the_second_of_two_editors_is_told_and_overwrites_nothing(store: Store) -> None:
    seen = store.bank_example(_fill(store, "a")[0])
    store.edit_example(seen.id, seen.updated_at, _row("by bob"), author="bob")
    with pytest.raises(Conflict, match="bob changed this example while you were editing"):
        store.edit_example(seen.id, seen.updated_at, _row("by ann"), author="ann")
    assert _texts(store) == "by bob"


def test_switching_and_moving_disturb_no_editor(store: Store) -> None:
    seen = store.bank_example(_fill(store, "ab")[0])
    store.lock_examples([seen.id], True)
    store.switch_examples([seen.id], False)
    store.shift_example(seen.id, 1)
    assert store.edit_example(seen.id, seen.updated_at, _row("c"), author="ann").instruction == "c"


def test_an_edit_cannot_ask_what_the_bank_has_already(store: Store) -> None:
    a, b = (store.bank_example(key) for key in _fill(store, "ab"))
    with pytest.raises(Conflict, match=rf"'House style' has an example with this question already \(example {a.id}\)"):
        store.edit_example(b.id, b.updated_at, _row("a"), author="ann")
    assert _texts(store) == "a b"


def test_saving_the_same_words_changes_nothing(store: Store) -> None:
    before = store.bank_example(_fill(store, "a")[0])
    assert store.edit_example(before.id, before.updated_at, _row("a"), author="bob") == before


def test_removing_what_is_gone_changes_nothing(store: Store) -> None:
    a, b, _ = _fill(store, "abc")
    assert store.remove_examples([a, b]) == 2
    assert store.remove_examples([a, b]) == 0
    assert _texts(store) == "c"


@pytest.mark.parametrize("verb", ["switch_examples", "lock_examples"])
def test_marking_one_that_is_gone_is_told_and_marks_none(store: Store, verb: str) -> None:
    a, b = _fill(store, "ab")
    before = store.bank_example(b)
    store.remove_examples([a])
    value = verb == "lock_examples"
    with pytest.raises(NotFound, match=rf"no example {a}\. Reload the page"):
        getattr(store, verb)([a, b], value)
    assert store.bank_example(b) == before


# -- the order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved", "side", "other", "order"),
    [
        (0, "before", 3, "b c a d"),
        (0, "after", 3, "b c d a"),
        (3, "before", 0, "d a b c"),
        (3, "after", 0, "a d b c"),
        (1, "before", 2, "a b c d"),
        (1, "after", 0, "a b c d"),
        (2, "before", 2, "a b c d"),
    ],
)
def test_an_example_moves_beside_another(store: Store, moved: int, side: str, other: int, order: str) -> None:
    keys = _fill(store, "abcd")
    _fill(store, "xy", bank="Other")
    others = {e.id: e.position for e in store.bank_examples("House style") if e.id != keys[moved]}
    store.move_example(keys[moved], side, keys[other])  # type: ignore[arg-type]
    assert _texts(store) == order
    assert {e.id: e.position for e in store.bank_examples("House style") if e.id != keys[moved]} == others


def test_arrows_go_one_place_and_stop_at_the_ends(store: Store) -> None:
    a, _, c = _fill(store, "abc")
    store.shift_example(a, -1)
    store.shift_example(c, 1)
    assert _texts(store) == "a b c"
    store.shift_example(a, 1)
    assert _texts(store) == "b a c"
    store.shift_example(c, -1)
    assert _texts(store) == "b c a"


def test_a_gap_that_is_used_up_opens_again(store: Store) -> None:
    keys = _fill(store, "abcd")
    for turn in range(130):  # each goes between b and the one that went there before
        store.move_example(keys[2 + turn % 2], "after", keys[1])
        assert _texts(store) == ("a b c d" if turn % 2 == 0 else "a b d c")


def test_an_example_moves_within_its_bank_only(store: Store) -> None:
    [a], [b] = _fill(store, "a"), _fill(store, "b", bank="Other")
    with pytest.raises(InputError, match=rf"Example {a} is in bank 'House style' and example {b} in 'Other'"):
        store.move_example(a, "before", b)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    moves=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["before", "after"]), st.integers(0, 4)), max_size=25)
)
def test_moves_do_what_they_do_to_a_list(sqlite_store: Store, moves: list[tuple[int, str, int]]) -> None:
    sqlite_store.remove_bank("House style")
    keys = _fill(sqlite_store, "abcde")
    order = list(keys)
    for moved, side, other in moves:
        sqlite_store.move_example(keys[moved], side, keys[other])  # type: ignore[arg-type]
        if moved != other:
            order.remove(keys[moved])
            order.insert(order.index(keys[other]) + (side == "after"), keys[moved])
    assert [e.id for e in sqlite_store.bank_examples("House style")] == order


# -- banks ---------------------------------------------------------------------------------------------------


def test_a_renamed_bank_keeps_its_examples_and_their_order(store: Store) -> None:
    _fill(store, "ba")
    store.rename_bank("House style", "Voice")
    assert (_texts(store, "Voice"), _texts(store)) == ("b a", "")


def test_a_name_that_is_taken_or_unknown_renames_nothing(store: Store) -> None:
    _fill(store, "a")
    _fill(store, "b", bank="Other")
    with pytest.raises(Conflict, match="A bank 'Other' exists already"):
        store.rename_bank("House style", "Other")
    with pytest.raises(NotFound, match="no bank 'None'. Known banks: House style, Other"):
        store.rename_bank("None", "Some")
    assert [bank.name for bank in store.banks()] == ["House style", "Other"]


def test_a_removed_bank_takes_no_other_with_it(store: Store) -> None:
    _fill(store, "ab")
    _fill(store, "a", bank="Other")
    assert store.remove_bank("House style") == 2
    assert [bank.name for bank in store.banks()] == ["Other"]
