"""Documents in the store: the file first, then the row; removed is not gone; tokens tell of every change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from studio.errors import NotFound, StorageError
from studio.store import NewDocument, NewPassage, Store

PASSAGES = (
    NewPassage("page 1", "Ten days."),
    NewPassage("page 2", "Nine\x00 days."),
    NewPassage("", "Ten days", twin=0),
)
DOCUMENT = NewDocument("a.txt", "txt", "d1" * 32, 24, "en", PASSAGES)


def _part(root: Path, text: str = "Ten days.") -> Path:
    (root / "documents").mkdir(exist_ok=True)
    part = root / "documents" / ".upload.part"
    part.write_text(text)
    return part


def test_a_document_is_stored_with_its_file_and_its_passages(store: Store, tmp_path: Path) -> None:
    document = store.add_document(tmp_path, _part(tmp_path), DOCUMENT, author="ann")
    assert (tmp_path / document.path).read_text() == "Ten days."
    assert [p.name for p in (tmp_path / "documents").iterdir()] == [f"{DOCUMENT.digest}.txt"]
    assert (document.name, document.passages, document.language, document.author) == ("a.txt", 3, "en", "ann")
    assert store.document(document.id) == document
    first, second, third = store.passages(document.id)
    assert [(p.position, p.place, p.text) for p in (first, second)] == [
        (0, "page 1", "Ten days."),
        (1, "page 2", "Nine days."),
    ]
    assert (first.near_id, second.near_id, third.near_id) == (None, None, first.id)


def test_a_passage_can_point_to_another_document(store: Store, tmp_path: Path) -> None:
    old = store.add_document(tmp_path, _part(tmp_path), DOCUMENT, author="ann")
    first = store.passages(old.id)[0].id
    copy = replace(DOCUMENT, digest="d2" * 32, passages=(NewPassage("", "Ten days!", near_id=first),))
    new = store.add_document(tmp_path, _part(tmp_path), copy, author="ann")
    assert [p.near_id for p in store.passages(new.id)] == [first]


def test_the_same_bytes_give_the_document_that_is_there(store: Store, tmp_path: Path) -> None:
    first = store.add_document(tmp_path, _part(tmp_path), DOCUMENT, author="ann")
    again = store.add_document(tmp_path, _part(tmp_path), replace(DOCUMENT, name="b.txt"), author="ben")
    assert again == first
    assert [p.name for p in (tmp_path / "documents").iterdir()] == [f"{DOCUMENT.digest}.txt"]
    assert store.documents_of_digest(DOCUMENT.digest) == [first]
    assert store.documents_of_digest("other") == []


@pytest.mark.parametrize("twin", [7, -9], ids=["beyond the end", "before the beginning"])
def test_a_row_that_fails_takes_its_file_along(store: Store, tmp_path: Path, twin: int) -> None:
    broken = replace(DOCUMENT, passages=(NewPassage("", "Ten days.", twin=twin),))
    with pytest.raises(IndexError):
        store.add_document(tmp_path, _part(tmp_path), broken, author="ann")
    assert list((tmp_path / "documents").iterdir()) == []
    assert store.documents() == []


def test_a_file_that_vanished_is_a_sentence_and_no_row(store: Store, tmp_path: Path) -> None:
    part = _part(tmp_path)
    part.unlink()
    with pytest.raises(StorageError, match="a.txt could not be written to .*documents"):
        store.add_document(tmp_path, part, DOCUMENT, author="ann")
    assert store.documents() == []


def test_removing_is_soft_and_can_be_undone(store: Store, tmp_path: Path) -> None:
    document = store.add_document(tmp_path, _part(tmp_path), DOCUMENT, author="ann")
    removed = store.remove_document(document.id)
    assert removed.removed_at is not None
    assert store.remove_document(document.id) == removed  # twice changes nothing
    assert (store.documents(), store.documents(removed=True)) == ([], [removed])
    assert (store.live_passages(), store.live_passages_of([p.id for p in store.passages(document.id)])) == ([], [])
    assert (tmp_path / document.path).exists()
    assert store.restore_document(document.id) == document
    assert len(store.live_passages()) == 3


def test_every_change_has_a_token_of_its_own(store: Store, tmp_path: Path) -> None:
    seen = [store.documents_token()]
    one = store.add_document(tmp_path, _part(tmp_path), DOCUMENT, author="ann")
    seen.append(store.documents_token())
    two = store.add_document(tmp_path, _part(tmp_path), replace(DOCUMENT, digest="d2" * 32), author="ann")
    for change in (
        lambda: store.remove_document(one.id),
        lambda: store.remove_document(two.id),
        lambda: store.restore_document(one.id),
    ):
        seen.append(store.documents_token())
        change()
    seen.append(store.documents_token())
    assert len(set(seen)) == 6
    assert store.documents_token() == seen[-1]


def test_new_passages_are_read_in_batches(store: Store, tmp_path: Path) -> None:
    document = store.add_document(tmp_path, _part(tmp_path), DOCUMENT, author="ann")
    ids = [p.id for p in store.passages(document.id)]
    store.remove_document(document.id)
    assert [p.id for p in store.passages_after(0, limit=2)] == ids[:2]
    assert [p.id for p in store.passages_after(ids[1])] == ids[2:]


def test_documents_are_listed_by_name(store: Store, tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        store.add_document(tmp_path, _part(tmp_path), replace(DOCUMENT, name=name, digest=name), author="ann")
    assert [d.name for d in store.documents()] == ["a.txt", "b.txt"]
    with pytest.raises(NotFound, match=r"There is no document 99. Known documents: a.txt, b.txt."):
        store.document(99)
