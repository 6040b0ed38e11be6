"""The third rung begins, in a real browser: the embedded model is asked, and its answers are ranked by keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from studio.processes import wait_until
from studio.store import Job, Store
from tests.fixtures_journeys import Studio
from tests.journeys.test_labeling import decide
from tests.journeys.test_ladder import RUN_SECONDS, choose, newest, open_tab, store_of

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]


def fill(where: Locator, label: str, value: str) -> None:
    """Type into a field and leave it, which is when it counts."""
    where.get_by_label(label, exact=True).fill(value)
    where.get_by_label(label, exact=True).press("Tab")


def is_done(store: Store, kind: str) -> Job:
    """Wait for the newest job of that kind and see it done."""
    assert wait_until(lambda: any(j.kind == kind for j in store.jobs()), 20)
    job = newest(store, kind)
    assert wait_until(lambda: store.job(job.id).is_over, RUN_SECONDS), store.job(job.id)
    assert store.job(job.id).state == "done", store.job(job.id).error
    return store.job(job.id)


def test_answers_are_sampled_and_ranked_by_keyboard(page: Page, studio: Studio):
    store = store_of(studio)
    labeling = open_tab(page, "Labeling")
    labeling.get_by_role("button", name="Batches and sampling").click()
    choose(page, labeling, "Prompts", "prompts:brackenfold@1")
    labeling.locator("#sample-batch").get_by_role("textbox").fill("afternoon")
    labeling.get_by_role("button", name="How many and how varied").click()
    for label, value in (("Prompts to ask", "30"), ("Answers per prompt", "2"), ("Max tokens", "16")):
        fill(labeling, label, value)
    labeling.get_by_role("button", name="Start sampling").click()
    is_done(store, "sample")
    (batch,) = store.batches()
    assert batch.items >= 24

    page.goto(f"{studio.url}/?tab=labeling&batch=afternoon")
    page.wait_for_function("window.ladderReady === true", polling=50)
    desk = page.locator(".desk")
    expect(desk.locator(".desk-item")).to_be_visible()
    for _ in range(batch.items):
        decide(page, "1")
    expect(desk.get_by_text(f"All {batch.items} items are judged. Thank you.")).to_be_visible()
    assert wait_until(lambda: store.batches()[0].human == batch.items, 20)
