"""Importing: a document is in whole or not at all; the same bytes are there once; a job takes what is large."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InputError, StorageError
from studio.example import load_example
from studio.jobs.registry import task_from
from studio.prompts.documents import (
    ImportDocuments,
    coverage,
    import_document,
    import_documents,
    is_quick,
    retrieve,
)
from studio.settings import Settings
from studio.store import Store
from studio.uploads import park, upload_limit
from tests.prompts.desk import DeskRun
from tests.prompts.documents.files import pdf, word

LIMIT = 1 << 20


def _file(folder: Path, name: str, content: bytes | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def _left_behind(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_each_format_goes_from_file_to_question(sqlite_store: Store, root: Path, uploads: Path) -> None:
    uploads.mkdir()
    files = [
        _file(uploads, "a.txt", "The heron pitches in seven minutes."),
        _file(uploads, "b.md", "# Care\n\nWash the otter at thirty degrees."),
        _file(uploads, "c.html", "<h1>Fold</h1><p>Membership costs twenty euros.</p>"),
        _file(uploads, "d.pdf", pdf(["Cover", "A zip takes ten days."])),
        word(uploads / "e.docx"),
        _file(uploads, "f.csv", "Name,Weight\nWren,870 g\nMoss,480 g\n"),
    ]
    report = import_documents(sqlite_store, root, files, author="ann")
    assert [i.sentence for i in report.imported] == [f"{f.name} is in, cut into 1 passage." for f in files]
    asked = ("pitching a heron", "otter degrees", "membership", "zip days", "pegs", "wren")
    assert [retrieve(sqlite_store, q)[0].label for q in asked] == [
        "a.txt, line 1",
        "b.md, Care",
        "c.html, Fold",
        "d.pdf, pages 1–2",
        "e.docx, Handbook > Returns – Repairs",
        "f.csv, rows 1–2",
    ]
    assert retrieve(sqlite_store, "wren")[0].text == "Name: Wren; Weight: 870 g\nName: Moss; Weight: 480 g"


def test_the_file_lies_in_the_workspace_under_its_digest(sqlite_store: Store, root: Path, uploads: Path) -> None:
    file = _file(uploads, "a.txt", "Zips take ten days.")
    document = import_document(sqlite_store, root, file, author="ann", limit=LIMIT).document
    assert (root / document.path).read_bytes() == file.read_bytes()
    assert _left_behind(root) == [f"documents/{document.digest}.txt"]
    assert (document.author, document.format, document.characters) == ("ann", "txt", 19)


def test_the_same_bytes_are_there_once_whatever_their_name(store: Store, root: Path, uploads: Path) -> None:
    first = import_document(store, root, _file(uploads, "a.txt", "Ten days."), author="ann", limit=LIMIT)
    again = import_document(store, root, _file(uploads, "b.md", "Ten days."), author="ben", limit=LIMIT)
    assert (again.state, again.document) == ("known", first.document)
    assert again.sentence == "This file is already there, as 'a.txt'."
    assert _left_behind(root) == [first.document.path]


def test_a_removed_document_comes_back_when_it_is_added_again(store: Store, root: Path, uploads: Path) -> None:
    file = _file(uploads, "a.txt", "Ten days.")
    document = import_document(store, root, file, author="ann", limit=LIMIT).document
    store.remove_document(document.id)
    again = import_document(store, root, file, author="ann", limit=LIMIT)
    assert (again.state, again.document.id, again.document.removed_at) == ("restored", document.id, None)
    assert [d.id for d in store.documents()] == [document.id]


def test_a_second_document_of_a_name_says_so(sqlite_store: Store, root: Path, uploads: Path) -> None:
    import_document(sqlite_store, root, _file(uploads, "a.txt", "Ten days."), author="ann", limit=LIMIT)
    newer = import_document(sqlite_store, root, _file(uploads, "a.txt", "Nine days."), author="ann", limit=LIMIT)
    assert newer.sentence.endswith("Another document has the same name; remove that one if this replaces it.")


def test_pages_without_text_are_counted(sqlite_store: Store, root: Path, uploads: Path) -> None:
    file = _file(uploads, "a.pdf", pdf(["Ten days.", "", ""]))
    imported = import_document(sqlite_store, root, file, author="ann", limit=LIMIT)
    assert imported.note == "2 of its 3 pages hold no text, as page 2: pictures are not read."


BAD = [
    pytest.param("a.txt", b"", "a.txt is empty. Choose a file with text.", id="empty"),
    pytest.param("a.txt", b" \n --- \n", "a.txt holds no words. Choose", id="no words"),
    pytest.param(
        "a.pptx", b"x", "a.pptx cannot be read here. Documents are txt, md, html, pdf, docx, csv", id="ending"
    ),
    pytest.param("noending", b"x", "noending cannot be read here", id="no ending"),
    pytest.param("a.pdf", pdf([""]), "a.pdf has 1 page and no text", id="scan"),
    pytest.param("a.txt", b"x" * (LIMIT + 1), r"a.txt has 1.0 MB, and uploads may have 1.0 MB. Split", id="too large"),
    pytest.param("a.docx", b"PK\x03\x04", "a.docx cannot be read", id="torn"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD)
def test_a_file_that_cannot_be_used_leaves_nothing_behind(
    sqlite_store: Store, root: Path, uploads: Path, name: str, content: bytes, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        import_document(sqlite_store, root, _file(uploads, name, content), author="ann", limit=LIMIT)
    assert (sqlite_store.documents(), _left_behind(root)) == ([], [])


def test_bad_files_are_listed_and_the_others_are_in(sqlite_store: Store, root: Path, uploads: Path) -> None:
    files = [_file(uploads, "a.txt", ""), _file(uploads, "b.txt", "Ten days."), uploads / "gone.txt"]
    report = import_documents(sqlite_store, root, files, author="ann")
    assert [i.document.name for i in report.imported] == ["b.txt"]
    assert [r.name for r in report.refused] == ["a.txt", "gone.txt"]
    assert "gone.txt is no longer there" in report.refused[1].reason


def test_a_disk_that_refuses_leaves_no_row(sqlite_store: Store, root: Path, uploads: Path) -> None:
    _file(root, "documents", "a file where the folder should be")
    with pytest.raises(StorageError, match="a.txt could not be copied to"):
        import_document(sqlite_store, root, _file(uploads, "a.txt", "Ten days."), author="ann", limit=LIMIT)
    assert sqlite_store.documents() == []


def test_a_name_that_cannot_be_shown_is_mended(sqlite_store: Store, root: Path, uploads: Path) -> None:
    file = _file(uploads, "a\n\u202eb\x07 " + "c" * 150 + ".txt", "Ten days.")
    name = import_document(sqlite_store, root, file, author="ann", limit=LIMIT).document.name
    assert (name[:5], name[-5:], len(name)) == ("a b c", "….txt", 105)


@pytest.mark.parametrize(
    ("said", "size"), [("4gb", 4 << 30), ("200 MB", 200 << 20), ("1.5kb", 1536), ("77", 77)], ids=str
)
def test_the_largest_upload_is_what_the_administrator_says(said: str, size: int) -> None:
    assert upload_limit(Settings(max_upload=said)) == size


def test_a_largest_upload_that_is_no_size_is_named() -> None:
    with pytest.raises(InputError, match="LADDER_MAX_UPLOAD is 'lots', which is no size. Write it like 200mb or 4gb."):
        upload_limit(Settings(max_upload="lots"))


def test_few_small_files_are_quick_and_many_or_large_ones_are_not(uploads: Path) -> None:
    small, large = _file(uploads, "a.txt", "x"), _file(uploads, "b.txt", b"x" * (3 << 20))
    assert [is_quick([small]), is_quick([small] * 11), is_quick([large])] == [True, False, False]


# -- the job -------------------------------------------------------------------------------------------------


def _run(store: Store, root: Path, task: ImportDocuments) -> DeskRun:
    return DeskRun(store, root, task, {})


def test_a_job_takes_in_what_was_parked_and_empties_the_inbox(sqlite_store: Store, root: Path, uploads: Path) -> None:
    files = [_file(uploads, "a.txt", "Ten days."), _file(uploads, "b.txt", ""), _file(uploads, "c.md", "Nine days.")]
    task = ImportDocuments(files=park(root, files))
    for file in files:
        file.unlink()  # as a page's uploads vanish
    run = _run(sqlite_store, root, task)
    result = task.do(run)
    assert result["said"] == ["a.txt is in, cut into 1 passage.", "c.md is in, cut into 1 passage."]
    assert result["refused"] == [{"name": "b.txt", "reason": "b.txt is empty. Choose a file with text."}]
    assert run.steps == [(1, 3), (2, 3), (3, 3)]
    assert run.said[:3] == ["Document 1 of 3.", "Reading a.txt.", "Cutting a.txt into passages."]
    assert _left_behind(root) == sorted(d.path for d in sqlite_store.documents())
    assert task_from("documents", task.model_dump()) == task


def test_a_stopped_job_keeps_its_uploads_and_goes_on_later(sqlite_store: Store, root: Path, uploads: Path) -> None:
    task = ImportDocuments(files=park(root, [_file(uploads, f"{n}.txt", f"It takes {n} days.") for n in range(3)]))
    run = _run(sqlite_store, root, task)
    asked = iter([""] * 5 + ["pause"] * 9)  # three questions a document: the second is being read
    run.stop = lambda: next(asked)  # type: ignore[assignment,return-value]
    task.do(run)
    assert [d.name for d in sqlite_store.documents()] == ["0.txt"]
    run.stop = lambda: ""
    said = task.do(run)["said"]
    assert said[0] == "This file is already there, as '0.txt'."
    assert [d.name for d in sqlite_store.documents()] == ["0.txt", "1.txt", "2.txt"]
    assert not any((root / "inbox").iterdir())


def test_a_job_that_can_use_no_file_fails_with_the_reasons(sqlite_store: Store, root: Path, uploads: Path) -> None:
    task = ImportDocuments(files=park(root, [_file(uploads, "a.txt", ""), _file(uploads, "b.xyz", "x")]))
    with pytest.raises(InputError, match=r"a.txt is empty.*b.xyz cannot be read here"):
        task.do(_run(sqlite_store, root, task))
    assert coverage(sqlite_store).sentence == "There are no documents yet. Add some, and prompts can answer from them."


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../secret.txt", "a/../b.txt", "a.txt", "a//b.txt", "a/0/b\x00.txt"]
)
def test_a_job_reads_nothing_but_uploads(name: str) -> None:
    with pytest.raises(InputError, match="does not name an upload"):
        task_from("documents", {"files": [name]})


# -- the example project -------------------------------------------------------------------------------------


def test_the_example_brings_its_documents_and_those_removed_stay_removed(sqlite_store: Store, root: Path) -> None:
    load_example(sqlite_store, root)
    documents = sqlite_store.documents()
    assert len(documents) == 9
    assert {d.format for d in documents} == {"txt", "md", "html", "csv"}
    assert {d.language for d in documents} == {"en", "de"}
    sqlite_store.remove_document(documents[0].id)
    assert not load_example(sqlite_store, root)
    assert len(sqlite_store.documents()) == 8


def test_a_workspace_from_before_there_were_documents_gets_them_at_the_next_start(
    sqlite_store: Store, root: Path
) -> None:
    load_example(sqlite_store, root)
    with sqlite_store._write() as c:
        c.exec_driver_sql("DELETE FROM passages")
        c.exec_driver_sql("DELETE FROM documents")
    assert load_example(sqlite_store, root)
    assert len(sqlite_store.documents()) == 9
