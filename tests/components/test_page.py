"""The frame in a real browser: what a person sees of it, and what it asks the network for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from studio.workspace import Workspace

pytestmark = pytest.mark.journey


@pytest.fixture
def page(browser: Browser, served: tuple[str, Workspace]) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", color_scheme="light", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    foreign: list[str] = []
    page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((served[0], "data:", "blob:")) else None)
    page.set_default_timeout(15_000)
    yield page
    context.close()
    assert foreign == []


def test_a_link_opens_the_tab_and_the_run_it_names(page: Page, served: tuple[str, Workspace]):
    page.goto(f"{served[0]}/?tab=tuning&run=17")
    expect(page.get_by_role("tab", name="Tuning")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Rows read")).to_have_value("run 17 at 0")


def test_the_address_follows_the_tabs_and_back_goes_back(page: Page, served: tuple[str, Workspace]):
    page.goto(served[0])
    page.get_by_role("tab", name="Jobs").click()
    page.wait_for_url("**/?tab=jobs")
    page.go_back()
    expect(page.get_by_role("tab", name="Playground")).to_have_attribute("aria-selected", "true")


def test_the_chosen_theme_outlives_a_reload(page: Page, served: tuple[str, Workspace]):
    page.goto(served[0])
    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()
    page.get_by_role("button", name="Switch between light and dark").wait_for()
    page.wait_for_function("document.body.classList.contains('dark')", polling=50)


def test_help_opens_beside_the_page_and_escape_closes_it(page: Page, served: tuple[str, Workspace]):
    page.goto(served[0])
    page.get_by_role("button", name="Help for this page").click()
    expect(page.locator("#help-playground")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help-playground")).to_be_hidden()


def test_a_failure_is_a_toast_below_the_header_with_a_reference(page: Page, served: tuple[str, Workspace]):
    page.goto(served[0])
    page.get_by_role("button", name="Fail").click()
    toast = page.get_by_text("Something failed (ref ")
    toast.wait_for()
    box = toast.bounding_box()
    assert box is not None
    assert box["y"] >= 48


def test_a_bad_value_is_said_under_its_field(page: Page, served: tuple[str, Workspace]):
    page.goto(f"{served[0]}/?tab=tuning")
    box = page.get_by_label("Temperature")
    box.fill("9")
    box.press("Tab")
    page.get_by_role("button", name="Start tuning").click()
    expect(page.get_by_text("Must be 5 or less, not 9.")).to_be_visible()


@pytest.mark.parametrize("tab", ["playground", "tuning"])
def test_nothing_scrolls_sideways(page: Page, served: tuple[str, Workspace], tab: str):
    page.goto(f"{served[0]}/?tab={tab}")
    page.get_by_role("button", name="Help for this page").wait_for()
    for width in (1440, 1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_function(f"document.documentElement.scrollWidth <= {width}", polling=50)


def test_the_letters_are_our_own_fonts(page: Page, served: tuple[str, Workspace]):
    page.goto(served[0])
    page.get_by_role("button", name="Ask").wait_for()
    page.wait_for_function("document.fonts.check('700 14px \"IBM Plex Sans\"')", polling=50)
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).fontFamily").startswith('"IBM Plex Sans"')


def test_keyboard_focus_can_be_seen(page: Page, served: tuple[str, Workspace]):
    page.goto(served[0])
    page.get_by_role("button", name="Ask").wait_for()
    page.get_by_role("tab", name="Tuning").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    style = page.evaluate(
        "(s => [s.outlineStyle, parseFloat(s.outlineWidth)])(getComputedStyle(document.activeElement))"
    )
    assert style[0] == "solid"
    assert style[1] >= 2
