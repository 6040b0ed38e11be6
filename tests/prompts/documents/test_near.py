"""Near duplicates: passages that say nearly the same point to the earliest, in one document and across two."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.prompts.documents.near import ALIKE, marked, similarity
from studio.prompts.documents.passages import Piece
from studio.store import NewDocument, Store

WORDS = [f"word{n}" for n in range(60)]
TEXT = " ".join(WORDS)
NEARLY = " ".join([*WORDS[:57], "other", "ending", "here"])
FAR = " ".join(reversed(WORDS))


def _near(store: Store, *texts: str) -> list[tuple[int | None, int | None]]:
    return [(p.near_id, p.twin) for p in marked(store, [Piece("", text) for text in texts])]


def _add(store: Store, tmp_path: Path, name: str, *texts: str) -> list[int]:
    (tmp_path / "documents").mkdir(exist_ok=True)
    file = tmp_path / "documents" / ".part"
    file.write_text(name)
    passages = marked(store, [Piece("", text) for text in texts])
    document = store.add_document(tmp_path, file, NewDocument(name, "txt", name, 1, "en", passages), author="ann")
    return [p.id for p in store.passages(document.id)]


def test_similarity_is_the_shared_part_of_three_word_runs() -> None:
    assert similarity("a b c d", "a b c e") == 1 / 3
    assert similarity("A b, c!", "a b c") == 1
    assert similarity("a b", "a b c") == 0
    assert 0.8 < similarity(TEXT, NEARLY) < 1


def test_a_passage_points_to_the_one_it_repeats(store: Store, tmp_path: Path) -> None:
    first, *_ = _add(store, tmp_path, "a", TEXT, FAR)
    assert _near(store, NEARLY, "something else entirely", TEXT.upper()) == [(first, None), (None, None), (first, None)]


def test_passages_of_one_document_point_to_the_earliest_of_them(store: Store, tmp_path: Path) -> None:
    assert _near(store, TEXT, FAR, NEARLY, TEXT) == [(None, None), (None, None), (None, 0), (None, 0)]
    ids = _add(store, tmp_path, "a", TEXT, FAR, NEARLY, TEXT)
    stored = store.live_passages()
    assert [p.near_id for p in stored] == [None, None, ids[0], ids[0]]


def test_all_of_a_group_point_to_its_first_though_it_was_removed(store: Store, tmp_path: Path) -> None:
    (first,) = _add(store, tmp_path, "a", TEXT)
    _add(store, tmp_path, "b", NEARLY)
    store.remove_document(store.documents()[0].id)
    assert _near(store, NEARLY) == [(first, None)]


def test_what_only_a_removed_document_says_is_no_repetition(store: Store, tmp_path: Path) -> None:
    _add(store, tmp_path, "a", TEXT)
    store.remove_document(store.documents()[0].id)
    assert _near(store, TEXT) == [(None, None)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 59), min_size=0, max_size=25, unique=True))
def test_pairs_are_found_exactly_when_they_are_alike(sqlite_store: Store, changed: list[int]) -> None:
    other = " ".join(f"new{n}" if n in changed else word for n, word in enumerate(WORDS))
    is_found = _near(sqlite_store, TEXT, other)[1] == (None, 0)
    assert is_found == (similarity(TEXT, other) >= ALIKE)
