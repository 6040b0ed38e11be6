"""A colleague who never trained a model, in a real browser: three fields, a model, its verdict, and once more with changes.

The tests of this file stand on each other, as in test_ladder.py. The model that learns is the tiny random one: what it
answers is nothing to judge, but how it is launched, judged, repeated and compared is the same.
"""

from __future__ import annotations

import re
import zipfile

import pytest
from playwright.sync_api import Locator, Page, expect

from studio.processes import wait_until
from studio.store import Job, Store
from tests.fixtures_journeys import Studio, choose

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]

MOST_FIELDS = 3
RUN_SECONDS = 120


@pytest.fixture(scope="module", autouse=True)
def second_model(studio: Studio, tiny, tokenizer) -> None:
    folder = studio.workspace / "models" / "tiny"
    tiny.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def store(studio: Studio) -> Store:
    return Store.in_folder(studio.workspace)


def open_tuning(page: Page) -> Locator:
    page.get_by_role("tab", name="Tuning", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Tuning", exact=True)).to_be_visible()
    return page.locator("[role=tabpanel]:visible").first


def first_model(page: Page, base: str | None = None, seconds: int = RUN_SECONDS) -> int:
    """From the open studio to a model that answers; returns how many fields had to be touched."""
    tuning = open_tuning(page)
    touched = 0
    expect(tuning.get_by_label("What to teach", exact=True)).not_to_have_value("")  # the newest snapshot
    if base is not None:
        choose(page, tuning.get_by_label("Which model", exact=True), base)
        touched += 1
    tuning.get_by_label("Quick", exact=True).check()
    touched += 1
    expect(tuning.get_by_text(re.compile(r"It goes through \d+ records once"))).to_be_visible()
    tuning.get_by_role("button", name="Start tuning").click()
    expect(tuning.get_by_text(re.compile(r"answers as run:\d+"))).to_be_visible(timeout=seconds * 1000)
    return touched


def newest(store: Store, kind: str) -> Job:
    return next(job for job in store.jobs() if job.kind == kind)


def test_1_what_is_in_the_way_is_said_before_the_start(page: Page):
    tuning = open_tuning(page)
    before = tuning.locator("#preflight")
    expect(before).to_contain_text(re.compile(r"records"), timeout=60_000)
    for said in ("Memory", "Disk", "Time", "New parameters"):
        expect(before).to_contain_text(said)
    # The model's own tokenizer counts in the background, and the form does not wait for it.
    expect(before.get_by_role("row", name=re.compile("Learned tokens"))).to_contain_text("Exact", timeout=60_000)


def test_2_three_fields_make_a_model(page: Page, store: Store):
    assert first_model(page, "tiny") <= MOST_FIELDS
    assert newest(store, "lora").state == "done"


def test_3_a_verdict_follows_by_itself(page: Page, store: Store):
    run = newest(store, "lora").id
    tuning = open_tuning(page)
    tuning.get_by_role("row", name=re.compile(rf"run:{run}\b")).click()
    verdict = tuning.locator("#tuning-verdict")
    expect(verdict.locator(".ruling .sentence")).to_be_visible(timeout=RUN_SECONDS * 1000)
    expect(verdict.get_by_role("table", name="Figures of the verdict")).to_contain_text("Perplexity")
    expect(verdict.get_by_role("radio", name=re.compile(r"The same \(\d+\)"))).to_be_visible()


def test_4_it_answers_the_same_outside_of_the_studio(page: Page):
    verdict = open_tuning(page).locator("#tuning-verdict")
    verdict.get_by_role("button", name="Check it").click()
    expect(verdict.get_by_text(re.compile("answers are the same, token for token"))).to_be_visible(
        timeout=RUN_SECONDS * 1000
    )
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download model").click()
    assert waiting.value.suggested_filename == "run-1.zip"
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert {"run-1/adapter_model.safetensors", "run-1/README.md", "run-1/SHA256SUMS"} <= set(archive.namelist())


def test_5_once_more_with_one_knob_changed_and_the_two_compared(page: Page, store: Store):
    first = newest(store, "lora").id
    tuning = open_tuning(page)
    tuning.get_by_role("button", name="Run with changes").click()
    expect(tuning.get_by_text(f"The form is filled from run {first}.")).to_be_visible()
    rate = tuning.get_by_role("textbox", name=re.compile("^Learning rate"))
    if not rate.is_visible():
        tuning.get_by_role("button", name=re.compile("^Advanced")).click()
    rate.fill("0.01")
    rate.press("Tab")
    tuning.get_by_role("button", name="Start tuning").click()
    assert wait_until(lambda: newest(store, "lora").id != first, 20)
    second = newest(store, "lora").id
    expect(tuning.get_by_text(f"answers as run:{second}")).to_be_visible(timeout=RUN_SECONDS * 1000)
    for run in (first, second):
        tuning.get_by_role("row", name=re.compile(rf"run:{run}\b")).get_by_role("checkbox").check()
    compared = tuning.locator("#compare-runs")
    expect(compared).to_contain_text("Learning rate")
    expect(compared).not_to_contain_text("Batch size")


def test_6_it_opens_in_the_playground_beside_its_base(page: Page, store: Store):
    run = newest(store, "lora").id
    tuning = open_tuning(page)
    tuning.get_by_role("row", name=re.compile(rf"run:{run}\b")).click()
    tuning.get_by_role("button", name="Try it beside its base").click()
    expect(page.get_by_role("heading", level=1, name="Playground", exact=True)).to_be_visible()
    playground = page.locator("[role=tabpanel]:visible").first
    expect(playground.get_by_label("Model 1", exact=True)).to_have_value("tiny")
    expect(playground.get_by_label("Model 2", exact=True)).to_have_value(re.compile(rf"^run:{run}\b"))


def test_7_the_browser_tells_of_an_end_when_nobody_looks(page: Page, store: Store, studio: Studio):
    """The notification is the browser's own; this only writes down that it was shown, and what it said."""
    page.context.grant_permissions(["notifications"], origin=studio.url)
    page.add_init_script(
        """
        window.shown = [];
        window.Notification = class extends window.Notification {
          constructor(title, more) { super(title, more); window.shown.push(`${title}: ${more.body}`); }
        };
        Object.defineProperty(document, 'hidden', { get: () => window.looksAway === true });
        """
    )
    page.reload()
    page.wait_for_function("window.ladderReady === true", polling=50)
    first = newest(store, "lora").id
    tuning = open_tuning(page)
    tuning.get_by_role("button", name="Tell me when a run ends").click()
    expect(tuning.get_by_role("button", name="Stop telling me")).to_be_visible()
    tuning.get_by_role("row", name=re.compile(rf"run:{first}\b")).click()
    tuning.get_by_role("button", name="Run again", exact=True).click()
    assert wait_until(lambda: newest(store, "lora").id != first, 20)
    run = newest(store, "lora")
    page.evaluate("window.looksAway = true")
    page.wait_for_function("window.shown.length === 1", timeout=RUN_SECONDS * 1000)
    assert page.evaluate("window.shown[0]").startswith(f"Run {run.id} is done: {run.title}")
