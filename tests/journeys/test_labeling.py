"""An annotator's day at the desk, in a real browser: everything by keyboard, and nothing lost when the network is.

Items are put straight into the workspace, so that no test waits for a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from studio.example import SNAPSHOT
from studio.processes import wait_until
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import NewItem, Prompt, RankedItem, Store
from tests.desk_keys import decide
from tests.fixtures_journeys import Studio
from tests.fixtures_pages import call

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

SAVING = "**/api/v1/judgements"
SLOW = 20_000  # ms, for what a busy machine may take its time with


def put_items(studio: Studio, batch: str, texts: list[list[str]]) -> Store:
    """One item per list of answers, each under a prompt of its own."""
    store = Store.in_folder(studio.workspace)
    items = [
        NewItem(
            Prompt.of([user(f"Question {n} of {batch}?")], group=f"{batch}-{n}", split="train", source=str(SNAPSHOT)),
            tuple(Completion(text=t, finish="stop", prompt_tokens=1, output_tokens=1) for t in answers),
        )
        for n, answers in enumerate(texts)
    ]
    store.add_items(batch, items, model=ModelRef("echo:"), sampling=Sampling(), author="test")
    return store


def graded(items: int, answers: int) -> list[list[str]]:
    """Answers that say how good they are, so that a test can rank them wherever they stand: 'grade 0' is best."""
    return [[f"grade {grade} in item {n}" for grade in range(answers)] for n in range(items)]


def open_desk(page: Page, studio: Studio, batch: str) -> Locator:
    page.goto(f"{studio.url}/?tab=labeling&batch={batch}")
    page.wait_for_function("window.ladderReady === true", polling=50)
    expect(page.locator(".desk-item")).to_be_visible()
    return page.locator(".desk")


def on_screen(page: Page) -> list[str]:
    return page.locator(".desk article:not([hidden]) .text").evaluate_all("all => all.map((one) => one.textContent)")


def key_of(page: Page, words: str) -> str:
    """The digit of the answer that starts with these words."""
    return str(next(place for place, text in enumerate(on_screen(page), 1) if text.startswith(words)))


def rank(page: Page, *grades: int) -> None:
    """Place these grades, best first, and wait for the next item (or the end)."""
    decide(page, *(key_of(page, f"grade {grade}") for grade in grades))


def stored(store: Store, batch: str) -> list[list[list[int]]]:
    """The rankings as grades, one per judged item, in the order of the items."""
    return [_grades(item) for item in store.judgements(batch)]


def _grades(item: RankedItem) -> list[list[int]]:
    grade = {answer.id: int(answer.text.split()[1]) for answer in item.answers}
    return [sorted(grade[key] for key in group) for group in item.groups]


def is_stored(store: Store, batch: str, count: int) -> bool:
    return wait_until(lambda: len(store.judgements(batch)) == count, 20)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    expect.set_options(timeout=SLOW)
    yield
    expect.set_options(timeout=None)


@pytest.fixture
def troubled(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A page that may see failures: the browser's console says so, and that is no defect here."""
    context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def test_pairs_take_one_key_each(page: Page, studio: Studio):
    store = put_items(studio, "pairs", graded(8, 2))
    desk = open_desk(page, studio, "pairs")
    orders = []
    for _ in range(8):
        orders.append(on_screen(page)[0].startswith("grade 0"))
        rank(page, 0)
    expect(desk.get_by_text("All 8 items are judged. Thank you.")).to_be_visible()
    expect(desk.get_by_role("button", name="Open Alignment")).to_be_visible()
    expect(desk.get_by_text("8 of 8 judged")).to_be_visible()
    assert is_stored(store, "pairs", 8)
    assert stored(store, "pairs") == [[[0], [1]]] * 8
    assert len(set(orders)) == 2  # shuffled: the better one stood left and right (both, but in 1 of 128 runs)


def test_four_answers_take_three_keys_and_ties_their_own(page: Page, studio: Studio):
    store = put_items(studio, "fours", graded(6, 4))
    open_desk(page, studio, "fours")
    rank(page, 2, 0, 3)  # the last one left places itself

    page.keyboard.press(key_of(page, "grade 1"))
    page.keyboard.press("=")
    page.keyboard.press(key_of(page, "grade 3"))
    expect(page.get_by_role("button", name=re.compile("placed tied 1st"))).to_have_count(2)
    rank(page, 0)

    page.keyboard.press(key_of(page, "grade 3"))
    page.keyboard.press(key_of(page, "grade 0"))
    page.keyboard.press("Backspace")
    expect(page.get_by_role("button", name=re.compile("placed"))).to_have_count(1)
    decide(page, "0")  # the rest equally good
    decide(page, "0")  # all of them
    decide(page, "x")
    decide(page, "s")
    expect(page.locator(".desk-empty")).to_contain_text(
        "You have been through all 6 items, 1 of which nobody has judged"
    )

    assert is_stored(store, "fours", 5)
    everything = [0, 1, 2, 3]
    assert stored(store, "fours") == [
        [[2], [0], [3], [1]],
        [[1, 3], [0], [2]],
        [[3], [0, 1, 2]],
        [everything],
        [everything],
    ]
    assert [item.tie_kind for item in store.judgements("fours")] == ["", "", "", "equal", "both_bad"]


def test_the_mouse_does_what_the_keys_do(page: Page, studio: Studio):
    store = put_items(studio, "clicks", graded(3, 3))
    desk = open_desk(page, studio, "clicks")
    for grade in (2, 0):
        desk.get_by_role("button", name=f"Place answer {key_of(page, f'grade {grade}')}").click()
    expect(desk.get_by_text("1 of 3 judged")).to_be_visible()
    desk.get_by_role("button", name="All bad").dblclick()  # the second click must not judge an item nobody read
    expect(desk.get_by_text("2 of 3 judged")).to_be_visible()
    assert is_stored(store, "clicks", 2)
    assert stored(store, "clicks") == [[[2], [0], [1]], [[0, 1, 2]]]
    desk.get_by_role("button", name="Guidelines").click()
    expect(page.get_by_role("complementary", name="Guidelines")).to_be_visible()


def test_undo_brings_the_last_item_back_and_the_new_ranking_counts(page: Page, studio: Studio):
    store = put_items(studio, "second-thoughts", graded(4, 2))
    desk = open_desk(page, studio, "second-thoughts")
    first = page.locator(".desk-prompt").text_content() or ""
    rank(page, 1)
    page.keyboard.press("u")
    expect(page.locator(".desk-prompt")).to_have_text(first)
    expect(desk.get_by_text(re.compile("Back again. You ranked it"))).to_be_visible()
    rank(page, 0)
    expect(desk.get_by_text("1 of 4 judged")).to_be_visible()
    expect(desk.locator(".save")).to_have_text("Saved")
    assert stored(store, "second-thoughts") == [[[0], [1]]]

    decide(page, "s")
    page.keyboard.press("u")
    expect(desk.get_by_text(re.compile("Back again. You skipped it"))).to_be_visible()
    for _ in range(3):
        rank(page, 0)
    assert is_stored(store, "second-thoughts", 4)


def failing(times: int) -> tuple[Callable[[Route], None], list[str]]:
    """A route that fails the first `times` calls in turn with 500 and a broken connection, and then lets go."""
    failed: list[str] = []

    def handle(route: Route) -> None:
        if len(failed) >= times:
            route.continue_()
            return
        failed.append(route.request.post_data or "")
        if len(failed) % 2:
            route.fulfill(status=500, json={"detail": "Something failed."})
        else:
            route.abort()

    return handle, failed


def test_failures_lose_nothing_and_double_nothing(troubled: Page, studio: Studio):
    store = put_items(studio, "stormy", graded(10, 2))
    handle, failed = failing(3)
    troubled.route(SAVING, handle)
    desk = open_desk(troubled, studio, "stormy")
    for _ in range(3):  # the desk goes on meanwhile
        rank(troubled, 0)
    expect(desk.locator(".save")).to_have_text("3 unsaved")
    expect(desk.get_by_text("3 of 10 judged")).to_be_visible()
    assert stored(store, "stormy") == []
    expect(desk.locator(".save")).to_have_text("Saved")
    assert len(failed) == 3
    assert len(set(failed)) == 1  # one at a time, under one client id
    assert stored(store, "stormy") == [[[0], [1]]] * 3


def test_an_answer_that_got_lost_on_the_way_back_is_stored_once(troubled: Page, studio: Studio):
    store = put_items(studio, "echoing", graded(4, 2))
    lost: list[int] = []

    def lose_the_answer(route: Route) -> None:
        answer = route.fetch()
        lost.append(answer.status)
        if len(lost) < 3:
            route.abort()
        else:
            route.fulfill(response=answer)

    troubled.route(SAVING, lose_the_answer)
    desk = open_desk(troubled, studio, "echoing")
    rank(troubled, 0)
    expect(desk.locator(".save")).to_have_text("Saved")
    assert lost == [201, 200, 200]
    assert stored(store, "echoing") == [[[0], [1]]]


def test_what_was_not_sent_is_sent_when_the_page_opens_again(troubled: Page, studio: Studio):
    store = put_items(studio, "closed", graded(6, 2))
    troubled.route(SAVING, lambda route: route.abort())
    desk = open_desk(troubled, studio, "closed")
    for _ in range(2):
        rank(troubled, 0)
    expect(desk.locator(".save")).to_have_text("2 unsaved")
    kept = troubled.evaluate("Object.keys(localStorage).map((name) => localStorage[name]).join()")
    assert "Question" not in kept  # ids only, never texts
    assert "grade" not in kept

    asked: list[str] = []
    troubled.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    troubled.unroute(SAVING)
    troubled.reload()
    assert asked == ["beforeunload"]
    assert is_stored(store, "closed", 2)
    assert stored(store, "closed") == [[[0], [1]]] * 2
    desk = open_desk(troubled, studio, "closed")  # no warning now: nothing is unsaved
    expect(desk.get_by_text("2 of 6 judged")).to_be_visible()


def test_a_refusal_is_said_and_the_item_can_be_labeled_again(troubled: Page, studio: Studio):
    store = put_items(studio, "refused", graded(4, 2))
    sentence = "Item 3 has other answers. Nothing was stored."
    troubled.route(SAVING, lambda route: route.fulfill(status=422, json={"detail": sentence}))
    desk = open_desk(troubled, studio, "refused")
    question = troubled.locator(".desk-prompt").text_content() or ""
    rank(troubled, 0)
    expect(desk.get_by_role("alert")).to_contain_text(sentence)
    expect(desk.locator(".save")).to_have_text("1 unsaved")
    troubled.unroute(SAVING)
    desk.get_by_role("button", name="Label it again").click()
    expect(troubled.locator(".desk-prompt")).to_have_text(question)
    expect(desk.get_by_role("alert")).to_be_hidden()
    rank(troubled, 1)
    assert is_stored(store, "refused", 1)
    assert stored(store, "refused") == [[[1], [0]]]


def test_what_a_model_wrote_is_shown_and_never_run(page: Page, studio: Studio):
    nasty = [
        "<script>window.ran = 1</script>",
        "<img src=x onerror='window.ran = 2'>",
        "${window.ran = 3} `${(() => { window.ran = 4 })()}`",
        "{{#each value}}{{constructor.constructor 'window.ran = 5'}}{{/each}}",
    ]
    put_items(studio, "nasty", [nasty])
    open_desk(page, studio, "nasty")
    assert sorted(on_screen(page)) == sorted(nasty)
    page.keyboard.press("1")
    assert page.evaluate("window.ran") is None


def test_long_and_right_to_left_answers_stay_in_their_cards(page: Page, studio: Studio):
    put_items(studio, "shapes", [["\n".join(f"line {n}" for n in range(200)), "שלום עולם", "x" * 900]])
    open_desk(page, studio, "shapes")
    text = page.locator(".desk article .text")
    heights = text.evaluate_all("all => all.filter((t) => t.offsetParent).map((t) => t.getBoundingClientRect().height)")
    assert max(heights) < 800
    directions = text.evaluate_all("all => all.map((t) => [t.textContent, getComputedStyle(t).direction])")
    assert dict(directions)["שלום עולם"] == "rtl"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keys_are_left_alone_while_somebody_types_or_looks_elsewhere(page: Page, studio: Studio):
    store = put_items(studio, "quiet", graded(3, 2))
    desk = open_desk(page, studio, "quiet")
    page.get_by_role("button", name="Batches and sampling").click()
    page.locator("#sample-batch").get_by_role("textbox").fill("s")
    page.keyboard.type("102xsu=g")
    expect(page.locator("#sample-batch").get_by_role("textbox")).to_have_value("s102xsu=g")
    page.locator(".desk-prompt").click()
    for shortcut in ("Control+1", "Alt+2", "Meta+s"):
        page.keyboard.press(shortcut)
    page.get_by_role("tab", name="Jobs", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Jobs")).to_be_visible()
    page.keyboard.type("12xs")
    page.get_by_role("tab", name="Labeling", exact=True).click()
    expect(desk.get_by_text("0 of 3 judged")).to_be_visible()
    assert stored(store, "quiet") == []
    rank(page, 0)  # once, though the desk was left and opened again
    expect(desk.get_by_text("1 of 3 judged")).to_be_visible()
    assert is_stored(store, "quiet", 1)


def test_the_next_item_is_painted_with_the_key_whatever_the_network_does(page: Page, studio: Studio):
    """How long that takes is measured by benchmarks/labeling.py."""
    store = put_items(studio, "quick", graded(6, 2))
    desk = open_desk(page, studio, "quick")
    page.route("**/api/v1/**", lambda route: None)  # neither items nor judgements get through
    page.evaluate(
        """() => { window.painted = []; addEventListener('keydown', () => requestAnimationFrame(() =>
             window.painted.push(document.querySelector('.desk-prompt').textContent))) }"""
    )
    for done in (1, 2):
        page.keyboard.press("1")
        page.wait_for_function("(n) => window.painted.length === n", arg=done)
    assert len(set(page.evaluate("window.painted"))) == 2
    expect(desk.locator(".save")).to_have_text("2 unsaved")
    page.unroute("**/api/v1/**")  # lets those go that waited
    assert is_stored(store, "quick", 2)


def test_answers_are_sampled_and_come_to_the_desk(page: Page, studio: Studio):
    fields = ("echo:", "data:brackenfold@1", "sampled", 12, 3, 1.0, 40, 0)
    assert call(studio.url, "sample_answers", "key-of-this-click", *fields)[0] == "complete"
    store = Store.in_folder(studio.workspace)
    assert wait_until(lambda: any(b.name == "sampled" and b.items == 12 for b in store.batches()), 60)
    desk = open_desk(page, studio, "sampled")
    expect(desk.get_by_text("0 of 12 judged")).to_be_visible()
    page.keyboard.press("g")
    expect(page.get_by_role("complementary", name="Guidelines")).to_contain_text("Next step:")
    page.keyboard.press("0")
    expect(desk.get_by_text("1 of 12 judged")).to_be_visible()
    assert is_stored(store, "sampled", 1)


def test_a_batch_is_chosen_in_the_list_or_in_the_table(page: Page, studio: Studio):
    for name in ("monday", "tuesday"):
        put_items(studio, name, graded(2, 2))
    open_desk(page, studio, "monday")
    prompt = page.locator(".desk-prompt")
    expect(prompt).to_contain_text("of monday?")
    page.get_by_role("button", name="Batches and sampling").click()
    page.get_by_role("row", name=re.compile("tuesday")).click()
    expect(prompt).to_contain_text("of tuesday?")
    page.get_by_role("combobox", name="Batch", exact=True).click()
    page.get_by_role("option", name="monday").click()
    expect(prompt).to_contain_text("of monday?")
