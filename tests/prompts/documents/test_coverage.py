"""Coverage: counted words, languages and topics; what cannot be told is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.prompts.documents import coverage, import_documents
from studio.prompts.documents.language import language
from studio.store import Store

ENGLISH = "The heron is a tent for two people and it weighs a little more than two kilos when it is dry"
GERMAN = "Das Zelt ist für zwei Leute gemacht, und das Zelt wiegt mehr als zwei Kilo, solange es draußen trocken bleibt"
STOVE = "The ember is a stove that burns from a canister and it boils a litre of water before you have found the tea"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ENGLISH, "en"),
        (GERMAN, "de"),
        ("Le magasin est ouvert du mardi au samedi et nous répondons à toutes les lettres dès que possible.", "fr"),
        ("お店は港の灯台の隣にあります。火曜日から営業しています。返品は六十日以内です。", "ja"),
        ("Zips take ten days.", ""),
        ("Heron 2 Heron 3 Bittern Curlew 45 Wagtail 18 Wren Moss Otter Marten Stoat Shrew Ember 2.1 kg 380 g", ""),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20", ""),
        ("", ""),
    ],
)
def test_a_language_is_named_when_the_text_is_long_enough_to_tell(text: str, code: str) -> None:
    assert language(text) == code


def _add(store: Store, root: Path, **texts: str) -> None:
    files = [root / f"{name}.txt" for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text)
    import_documents(store, root, files, author="ann")


def test_no_documents_are_said_to_be_none(store: Store) -> None:
    found = coverage(store)
    assert (found.documents, found.passages, found.words, found.languages, found.near) == ((), 0, 0, {}, 0)
    assert found.sentence == "There are no documents yet. Add some, and prompts can answer from them."


def test_documents_are_summed_up(store: Store, tmp_path: Path) -> None:
    _add(store, tmp_path, a=ENGLISH, b=GERMAN, c=STOVE, d=STOVE + ".")
    found = coverage(store)
    assert found.languages == {"en": 0.75, "de": 0.25}
    assert [d.near for d in found.documents] == [0, 0, 0, 1]
    assert found.sentence == (
        "4 documents, 4 passages, 87 words; languages by passage: en 75%, de 25%. "
        "1 passage says nearly what an earlier one says."
    )
    topics = {d.document.name: d.terms for d in found.documents}
    assert "heron" in topics["a.txt"]
    assert "zelt" in topics["b.txt"]
    assert {"ember", "stove", "canister"} <= set(topics["c.txt"])
    assert not {"the", "and", "und", "das", "a"} & {term for terms in topics.values() for term in terms}


def test_a_single_passage_has_no_topic_of_its_own(store: Store, tmp_path: Path) -> None:
    _add(store, tmp_path, a=ENGLISH)
    assert [d.terms for d in coverage(store).documents] == [()]


def test_the_summary_follows_the_documents(store: Store, tmp_path: Path) -> None:
    _add(store, tmp_path, a=STOVE, b=STOVE + ".")
    store.remove_document(store.documents()[0].id)
    found = coverage(store)
    assert (found.passages, found.near) == (1, 0)
