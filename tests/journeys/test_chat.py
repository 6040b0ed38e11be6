"""A prompt designer talks to a model: with the keyboard, along branches, and in a browser that believes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from components.app import Tab, build_app
from components.playground import chat
from studio.example import load_example
from studio.serving import owner_only
from studio.specs import ModelRef
from studio.workspace import Offer, Workspace
from tests.fixtures_pages import open_workspace, serving

pytestmark = pytest.mark.journey

EVIL = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> ${window.hacked = 3}"


class Slow:
    """echo:, a word at a time."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def stream(self, messages: Any, sampling: Any) -> Any:
        async for chunk in self._backend.stream(messages, sampling):
            await asyncio.sleep(0.05)
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Workspace]]:
    workspace = open_workspace(tmp_path_factory.mktemp("talking"))
    load_example(workspace.store, workspace.path)
    quick = workspace.backend
    workspace.backend = lambda ref: Slow(quick(ref))  # type: ignore[method-assign, assignment]
    workspace.offers = lambda: [Offer(ModelRef("echo:"), "Echo", "")]  # type: ignore[method-assign]
    tabs = (Tab("first", "First", chat_free), Tab("chat", "Chat", chat.build))
    with serving(build_app(workspace, owner_only, tabs)) as url:
        yield url, workspace


def chat_free(_workspace: Workspace) -> Any:
    from components.frame import TabWidgets, markup

    markup("<p>Nothing here.</p>")
    return TabWidgets()


@pytest.fixture
def page(browser: Browser, talking: tuple[str, Workspace]) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", color_scheme="light", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(f"{talking[0]}/?tab=chat")
    page.wait_for_function("window.ladderReady === true", polling=50)
    expect(page.get_by_label("Chat painted")).not_to_have_value("")  # the lists are filled
    if page.locator(".turn").count():
        page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("Ask something. Every question")).to_be_visible()
    if page.get_by_label("Model for the next answer").input_value() != "Echo":
        page.get_by_label("Model for the next answer").click()
        page.get_by_role("option", name="Echo", exact=True).click()
    yield page
    context.close()


def say(page: Page, text: str) -> None:
    box = page.get_by_label("Message", exact=True)
    box.fill(text)
    box.press("Enter")


def test_a_conversation_by_keyboard_with_its_branches(page: Page) -> None:
    page.get_by_role("button", name="Explain in two sentences").click()
    box = page.get_by_label("Message", exact=True)
    expect(box).to_be_focused()
    box.press("Shift+Enter")
    box.press_sequentially("In plain words.")
    box.press("Enter")
    expect(page.locator(".growing")).to_contain_text("Explain in two")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_enabled()
    expect(page.get_by_role("button", name="Ask again for answer 1")).to_be_visible()
    expect(page.locator(".turn .text").last).to_have_text("Explain in two sentences what a token is.\nIn plain words.")
    expect(box).to_have_value("")
    page.get_by_role("button", name="Edit question 1").press("Enter")
    page.keyboard.insert_text(" Again.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit question 1")).to_be_focused()
    page.get_by_role("button", name="Edit question 1").press("Enter")
    page.keyboard.insert_text(" Again.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".turn .text").last).to_contain_text("Again.")
    page.get_by_role("button", name="Previous of 2, question 1").press("Enter")
    expect(page.locator(".turn .text").last).not_to_contain_text("Again.")
    page.reload()
    page.wait_for_function("window.ladderReady === true", polling=50)
    expect(page.get_by_text("1 of 2")).to_be_visible()
    expect(page.locator(".turn .text").last).not_to_contain_text("Again.")


def test_stop_keeps_the_words_and_another_chat_stays_open(page: Page) -> None:
    say(page, " ".join(["word"] * 150))
    expect(page.locator(".growing")).to_contain_text("word word")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("· stopped")).to_be_visible()
    say(page, " ".join(["more"] * 60))
    expect(page.locator(".growing")).to_contain_text("more more")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".talk-empty")).to_be_visible()
    page.locator("#chats tr").first.click()
    expect(page.locator(".growing")).to_contain_text("more more")
    expect(page.get_by_role("button", name="Ask again for answer 2")).to_be_visible()


def test_what_a_model_says_is_text(page: Page) -> None:
    say(page, EVIL)
    expect(page.get_by_role("button", name="Ask again for answer 1")).to_be_visible()
    expect(page.locator(".turn .text").last).to_have_text(EVIL)
    assert page.evaluate("window.hacked") is None
    assert page.locator(".talk img, .talk script, #chats img").count() == 0


def test_an_editor_that_is_open_outlives_what_comes_in(page: Page) -> None:
    say(page, "How wide is it?")
    page.get_by_role("button", name="Correct answer 1").click()
    field = page.get_by_label("Correction of answer 1")
    field.fill("Two metres, half a thought")
    page.get_by_role("button", name="Copy question 1").focus()
    say(page, "And how long?")
    expect(page.get_by_role("button", name="Ask again for answer 2")).to_be_visible()
    expect(field).to_have_value("Two metres, half a thought")
    page.get_by_role("button", name="Add to dataset: answer 1").click()
    expect(page.get_by_role("button", name="Kept: answer 1")).to_be_visible()
    expect(field).to_have_count(0)


def test_nothing_scrolls_sideways(page: Page) -> None:
    say(page, "word" * 200)
    expect(page.get_by_role("button", name="Ask again for answer 1")).to_be_visible()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_function(f"document.documentElement.scrollWidth <= {width}", polling=50)
