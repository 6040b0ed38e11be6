"""Retrieval: the right passages first, each once, in the same order every time, and cited by number."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import studio.example as example
from studio.prompts.documents import Hit, as_context, cited, import_documents, retrieve
from studio.prompts.documents.words import count_words, terms
from studio.store import Store

DOCUMENTS = Path(example.__file__).resolve().parents[1] / "assets" / "data" / "brackenfold.documents"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The example's documents, for tests that only ask."""
    root = tmp_path_factory.mktemp("shop")
    store = Store.in_folder(root)
    report = import_documents(store, root, sorted(DOCUMENTS.iterdir()), author="ann")
    assert report.refused == ()
    yield store
    store.close()


def _add(store: Store, root: Path, **texts: str) -> dict[str, int]:
    files = []
    for name, text in texts.items():
        files.append(root / f"{name}.txt")
        files[-1].write_text(text)
    report = import_documents(store, root, files, author="ann")
    return {i.document.name: i.document.id for i in report.imported}


@pytest.mark.parametrize(
    ("question", "document", "answer"),
    [
        ("How long do zips take?", "repairs.md", "Zips usually take 10 working days"),
        ("What does a lost peg cost?", "courses-and-rental.md", "A lost\npeg costs 2 euros"),
        ("Can I cook in my tent when it rains?", "stove-safety.txt", "Never cook inside a tent"),
        ("How do I wash a down bag?", "care-guide.html", "Use a machine that the bag fits into"),
        ("how heavy is the curlew 60", "gear.csv", "Name: Curlew 60; Kind: Pack; Weight: 1.7 kg"),
        ("Is the membership fee refunded?", "fold-membership.md", "write within 30 days"),
        ("parcel to Sandholm island", "delivery.txt", "The boat to Sandholm"),
        ("exchange another size", "returns-and-exchanges.md", "One exchange of size is free"),
        ("Wie lange kann ich eine Jacke zurückgeben?", "lieferung-und-rueckgabe.txt", "60 Tage lang"),
        ("WIE LANGE DAUERN REISSVERSCHLÜSSE", "lieferung-und-rueckgabe.txt", "Reißverschlüsse"),
    ],
)
def test_the_passage_that_answers_comes_first(shop: Store, question: str, document: str, answer: str) -> None:
    best = retrieve(shop, question)[0]
    assert best.document == document
    assert answer in best.text


@pytest.mark.parametrize("question", ["the of and a", "is it", "der die das"])
def test_a_question_of_stop_words_finds_something(shop: Store, question: str) -> None:
    assert retrieve(shop, question)


@pytest.mark.parametrize("question", ["", "   ", "?!", "xylophone", "犬", "\x00"])
def test_a_question_that_shares_no_word_finds_nothing(shop: Store, question: str) -> None:
    assert retrieve(shop, question) == []


def test_a_store_without_documents_has_no_hits(store: Store) -> None:
    assert retrieve(store, "zips") == []


def test_documents_without_words_have_no_hits(store: Store, tmp_path: Path) -> None:
    _add(store, tmp_path, a="_ 1")
    assert [hit.document for hit in retrieve(store, "1")] == ["a.txt"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 30), st.integers(0, 2000), st.sampled_from(["tent dry", "euros", "the", "Maren and Pell"]))
def test_a_smaller_budget_gives_the_beginning_of_the_same_list(shop: Store, k: int, words: int, question: str) -> None:
    everything = retrieve(shop, question, 1000)
    some = retrieve(shop, question, k, words=words)
    assert some == everything[: len(some)]
    assert len(some) <= k
    assert sum(count_words(hit.text) for hit in some) <= words
    assert [hit.score for hit in everything] == sorted((hit.score for hit in everything), reverse=True)


def test_equal_scores_come_in_the_order_of_the_documents(store: Store, tmp_path: Path) -> None:
    _add(store, tmp_path, c="red tent", a="red pack", b="red sock")
    assert [hit.document for hit in retrieve(store, "red")] == ["c.txt", "a.txt", "b.txt"]


def test_only_the_chosen_documents_are_looked_through(store: Store, tmp_path: Path) -> None:
    ids = _add(store, tmp_path, a="red tent", b="red pack", c="red sock")
    assert [hit.document for hit in retrieve(store, "red", documents=[ids["b.txt"], 999])] == ["b.txt"]
    assert retrieve(store, "red", documents=[]) == []


def test_a_removed_document_is_not_found_until_it_is_back(store: Store, tmp_path: Path) -> None:
    ids = _add(store, tmp_path, a="red tent", b="red pack")
    assert len(retrieve(store, "red")) == 2
    store.remove_document(ids["a.txt"])
    assert [hit.document for hit in retrieve(store, "red")] == ["b.txt"]
    store.restore_document(ids["a.txt"])
    assert len(retrieve(store, "red")) == 2


def test_a_document_that_was_just_added_is_found(store: Store, tmp_path: Path) -> None:
    assert retrieve(store, "red") == []
    _add(store, tmp_path, a="red tent")
    assert [hit.document for hit in retrieve(store, "red")] == ["a.txt"]


def test_what_is_said_twice_is_shown_once_and_names_the_other(store: Store, tmp_path: Path) -> None:
    text = "Zips usually take ten working days since the sliders are ordered for each make and size that we sell"
    ids = _add(store, tmp_path, a=text, b=text + ".", c="Zips are blue.")
    hits = retrieve(store, "ordered zips")
    assert [(hit.document, hit.also) for hit in hits] == [("a.txt", ("b.txt, line 1",)), ("c.txt", ())]
    assert [hit.document for hit in retrieve(store, "ordered", documents=[ids["b.txt"]])] == ["b.txt"]
    store.remove_document(ids["a.txt"])
    assert [(hit.document, hit.also) for hit in retrieve(store, "ordered")] == [("b.txt", ())]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("犬は東京に住んでいます。", "東京の犬"),
        ("犬は東京に住んでいます。", "犬"),
        ("返品期限为六十天", "返品"),
        ("แมวอยู่ในบ้าน", "ในบ้าน"),
        ("किताब मेज़ पर है", "किताब"),
        ("Der Preis der Jacke", "jacke"),
        ("Café crème", "cafe"),
        ("STRASSE", "Straße"),
        ("İstanbul’da çadır", "istanbul"),
        ("two tents", "tent"),
        ("order BF-48213", "bf-48213"),
    ],
)
def test_words_are_found_in_other_scripts_cases_and_numbers(text: str, question: str) -> None:
    assert set(terms(text)) & set(terms(question))


# -- context and citations -----------------------------------------------------------------------------------


def _hits(count: int) -> list[Hit]:
    return [Hit(n, 1, "a.md", "Care" if n % 2 else "", f"Text {n}.", 1.0) for n in range(1, count + 1)]


def test_the_context_numbers_passages_and_names_their_place() -> None:
    assert as_context(_hits(2)) == "[1] a.md, Care: Text 1.\n\n[2] a.md: Text 2."
    assert as_context([]) == ""


@pytest.mark.parametrize(
    ("answer", "known", "unknown"),
    [
        pytest.param("Ten days [1].", [1], [], id="one"),
        pytest.param("Ten [2][1] days [2].", [1, 2], [], id="several"),
        pytest.param("Ten days [1, 3; 2].", [1, 2, 3], [], id="a list"),
        pytest.param("Ten days [1-3] or [2–3].", [1, 2, 3], [], id="spans"),
        pytest.param("Ten days [4], [0] and [2].", [2], [0, 4], id="numbers that no passage has"),
        pytest.param("Ten days [1-99].", [1], [99], id="a span too wide to mean each"),
        pytest.param("[1](https://a.b) in [2024], x[i] and [].", [], [], id="links, years and code"),
        pytest.param("Ten days.", [], [], id="none"),
    ],
)
def test_an_answer_cites_what_it_names_and_nothing_else(answer: str, known: list[int], unknown: list[int]) -> None:
    citations = cited(answer, _hits(3))
    assert (list(citations.hits), list(citations.unknown)) == (known, unknown)
    assert all(hit.text == f"Text {number}." for number, hit in citations.hits.items())
