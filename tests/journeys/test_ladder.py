"""One person's way up all three rungs, in a real browser: prompt, upload, tune, compare, label, reward, align.

The tests of this file stand on each other: they are one afternoon in one workspace.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from studio.processes import holder, wait_until
from studio.store import Job, Store
from tests.desk_keys import decide
from tests.fixtures_journeys import ROOT, Studio, choose, free_port, start_studio, stop_studio

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

FIRST_ANSWER = 120_000  # ms: the engine starts and loads the weights
RUN_SECONDS = 300
QUESTION = "How do I dry a wet tent at home?"


def open_tab(page: Page, name: str) -> Locator:
    """Go there; returns the page inside the tab (visited tabs stay in the document, hidden)."""
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=name, exact=True)).to_be_visible()
    return page.locator("[role=tabpanel]:visible").first


def ask_for_a_long_answer(page: Page, about: str) -> Locator:
    """Ask for more than anybody waits for; returns the playground once the answer has begun."""
    playground = open_tab(page, "Playground")
    choose(page, playground.get_by_label("Prompt", exact=True), "Plain")
    playground.get_by_label("Instruction", exact=True).fill(f"Write a very long story about {about}.")
    playground.get_by_role("button", name="Sampling").click()
    playground.get_by_label("Max tokens", exact=True).fill("2000")
    playground.get_by_label("Max tokens", exact=True).press("Tab")
    playground.get_by_role("button", name="Ask", exact=True).click()
    expect(playground.get_by_label("Answer 1", exact=True)).not_to_have_value("", timeout=FIRST_ANSWER)
    return playground


def store_of(studio: Studio) -> Store:
    return Store.in_folder(studio.workspace)


def newest(store: Store, kind: str) -> Job:
    return next(job for job in store.jobs() if job.kind == kind)


def test_1_ask_keep_and_send_to_the_dataset(page: Page, studio: Studio):
    playground = open_tab(page, "Playground")
    expect(playground.get_by_text("Apache-2.0").first).to_be_visible()
    choose(page, playground.get_by_label("Prompt", exact=True), "Few-shot")
    playground.get_by_label("Instruction", exact=True).fill(QUESTION)
    prompt = playground.get_by_label("Rendered prompt")
    expect(prompt).to_have_value(re.compile(re.escape(QUESTION)), timeout=FIRST_ANSWER)
    expect(prompt).to_have_value(re.compile(r"<\|im_start\|>assistant\n.*Next step:", re.DOTALL))  # the examples
    expect(playground.get_by_text(re.compile(r"[\d,]+ tokens of prompt"))).to_be_visible()

    playground.get_by_role("button", name="Ask", exact=True).click()
    expect(playground.get_by_label("Answer 1", exact=True)).not_to_have_value("", timeout=FIRST_ANSWER)
    expect(playground.get_by_text(re.compile(r"\d+ \+ \d+ tokens"))).to_be_visible(timeout=FIRST_ANSWER)
    playground.get_by_role("button", name="Keep", exact=True).click()
    expect(playground.get_by_role("button", name="Kept", exact=True)).to_be_visible()
    playground.get_by_role("button", name="To dataset", exact=True).click()
    expect(playground.get_by_role("button", name="In the dataset", exact=True)).to_be_visible()

    store = store_of(studio)
    last = list(store.all_records(store.dataset("brackenfold").id))[-1]
    assert last.instruction == QUESTION
    assert last.source.startswith("answer ")


def test_2_stop_ends_an_answer_which_can_still_be_kept(page: Page, studio: Studio):
    playground = ask_for_a_long_answer(page, "the sea")
    playground.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Model ready", timeout=30_000)
    said = playground.get_by_label("Answer 1", exact=True).input_value()
    assert 0 < len(said.split()) < 1500
    playground.get_by_role("button", name="Keep", exact=True).click()
    expect(playground.get_by_role("button", name="Kept", exact=True)).to_be_visible()
    kept = store_of(studio).kept_completions()[0]
    assert kept.finish == "cancelled"
    assert kept.text.startswith(said)


def test_3_upload_a_table_map_it_edit_a_record_and_freeze_it(page: Page, studio: Studio, tmp_path: Path):
    table = tmp_path / "bench.csv"
    rows = "".join(f"May I borrow tool number {i}?,You may. Next step: sign for tool {i}.\n" for i in range(40))
    table.write_text("asked,told\n" + rows + "A row without a reply,\n", encoding="utf-8")
    dataset = open_tab(page, "Dataset")
    dataset.get_by_role("button", name="Import", exact=True).click()
    dataset.locator("input[type=file]").first.set_input_files(table)
    expect(dataset.get_by_text("May I borrow tool number 0?").first).to_be_visible()
    choose(page, dataset.get_by_label("Instruction column", exact=True), "asked")
    choose(page, dataset.get_by_label("Response column", exact=True), "told")
    dataset.get_by_role("button", name="Import", exact=True).last.click()
    expect(dataset.get_by_text(re.compile(r"40 records"))).to_be_visible()
    expect(dataset.get_by_text(re.compile("response is empty")).first).to_be_visible()
    dataset.get_by_role("button", name="Show the records").click()

    dataset.get_by_text("May I borrow tool number 3?").first.click()
    response = dataset.get_by_label("Response", exact=True)
    expect(response).to_have_value(re.compile("sign for tool 3"))
    response.fill("Yes, you may. Next step: sign for tool 3 at the bench.")
    dataset.get_by_role("button", name="Save", exact=True).click()
    expect(dataset.get_by_text(re.compile("Revision 2"))).to_be_visible()
    dataset.get_by_role("button", name="Take snapshot").click()
    expect(page.get_by_text(re.compile(r"data:bench@1")).first).to_be_visible()

    store = store_of(studio)
    assert store.snapshot("data:bench@1").rows == 40


def test_4_three_fields_tune_a_model(page: Page, studio: Studio):
    tuning = open_tab(page, "Tuning")
    choose(page, tuning.get_by_label("What to teach", exact=True), "data:bench@1")
    tuning.get_by_label("Quick", exact=True).check()
    expect(tuning.get_by_text(re.compile(r"It goes through \d+ records once"))).to_be_visible()
    tuning.get_by_label("Judge it when it is done", exact=True).uncheck()  # tests/journeys/test_tuner.py waits for that
    tuning.get_by_role("button", name="Start tuning").dblclick()  # a double click starts one run

    store = store_of(studio)
    assert wait_until(lambda: any(j.kind == "lora" for j in store.jobs()), 20)
    job = newest(store, "lora")
    expect(tuning.get_by_role("heading", name=f"run:{job.id}")).to_be_visible()
    page.reload()  # the run does not need this page
    page.wait_for_function("window.ladderReady === true", polling=50)
    tuning = open_tab(page, "Tuning")
    expect(tuning.get_by_text(f"answers as run:{job.id}")).to_be_visible(timeout=RUN_SECONDS * 1000)
    expect(tuning.get_by_text(re.compile(r"Validation loss \d"))).to_be_visible()
    assert [j.id for j in store.jobs() if j.kind == "lora"] == [job.id]

    tuning.get_by_role("button", name="Try it beside its base").click()
    playground = page.locator("[role=tabpanel]:visible").first
    expect(playground.get_by_role("heading", level=1, name="Playground")).to_be_visible()
    choose(page, playground.get_by_label("Prompt", exact=True), "Plain")
    playground.get_by_label("Instruction", exact=True).fill("May I borrow tool number 77?")
    playground.get_by_role("button", name="Ask", exact=True).click()
    for number in (1, 2):
        expect(playground.get_by_label(f"Answer {number}", exact=True)).not_to_have_value("", timeout=FIRST_ANSWER)
    expect(playground.get_by_text(f"run:{job.id}", exact=True).first).to_be_visible()


def test_5_compare_says_whether_it_was_worth_it(page: Page, studio: Studio):
    store = store_of(studio)
    compare = open_tab(page, "Compare")
    # The other way round than a person would: the rungs answer the smaller set, and are scored on it.
    choose(page, compare.get_by_label("Evaluation set", exact=True), "eval:brackenfold-development@1")
    choose(page, compare.get_by_label("Development set", exact=True), "eval:brackenfold@1")
    compare.get_by_role("button", name="More settings").click()
    for prompt in ("Zero-shot", "Few-shot", "Chain of thought"):
        compare.get_by_label(prompt, exact=True).uncheck()
    fill(compare, "Max tokens", "8")
    compare.get_by_role("button", name="Compare", exact=True).click()
    assert wait_until(lambda: any(j.kind == "compare" for j in store.jobs()), 20)
    job = newest(store, "compare")
    assert wait_until(lambda: store.job(job.id).is_over, RUN_SECONDS), store.job(job.id)
    assert store.job(job.id).state == "done", store.job(job.id).error
    table = compare.get_by_role("table").first
    for rung in ("L1", "L2"):
        expect(table.get_by_text(rung, exact=True).first).to_be_visible(timeout=30_000)
    expect(compare.get_by_text(re.compile(r"64")).first).to_be_visible()


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


def test_6_answers_are_sampled_and_ranked_by_keyboard(page: Page, studio: Studio):
    store = store_of(studio)
    labeling = open_tab(page, "Labeling")
    labeling.get_by_role("button", name="Batches and sampling").click()
    choose(page, labeling.get_by_label("Prompts", exact=True), "prompts:brackenfold@1")
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


def test_7_a_reward_model_learns_and_the_policy_from_it(page: Page, studio: Studio):
    store = store_of(studio)
    alignment = open_tab(page, "Alignment")
    training, aligning = alignment.locator("#step-reward"), alignment.locator("#step-ppo")
    training.get_by_role("button", name="Advanced").click()
    fill(training, "Epochs", "1")
    alignment.get_by_role("button", name="Train the reward model").dblclick()  # a double click starts one run
    reward = is_done(store, "reward")
    assert [j.id for j in store.jobs() if j.kind == "reward"] == [reward.id]
    expect(alignment.get_by_text(f"run:{reward.id}").first).to_be_visible(timeout=30_000)

    fill(aligning, "Iterations", "2")
    aligning.get_by_role("button", name="Advanced").click()
    for label, value in (("Answers per iteration", "4"), ("Answers per step", "2"), ("Longest answer", "12")):
        fill(aligning, label, value)
    alignment.get_by_role("button", name="Align the model").click()
    assert wait_until(lambda: any(j.kind == "ppo" for j in store.jobs()), 20)
    page.reload()  # the run does not need this page
    page.wait_for_function("window.ladderReady === true", polling=50)
    alignment = open_tab(page, "Alignment")
    ppo = is_done(store, "ppo")
    expect(alignment.get_by_text(f"run:{ppo.id}").first).to_be_visible(timeout=30_000)
    assert store.model(f"run:{ppo.id}").base == f"run:{newest(store, 'lora').id}"
    assert ppo.task["reward"] == f"run:{reward.id}"


def test_8_compare_gets_its_third_row(page: Page, studio: Studio):
    store = store_of(studio)
    aligned, last = newest(store, "ppo"), newest(store, "compare").id
    compare = open_tab(page, "Compare")
    compare.get_by_role("button", name="What to compare").click()
    choose(page, compare.get_by_label("Aligned model", exact=True), f"run:{aligned.id}")
    choose(page, compare.get_by_label("Reward model", exact=True), aligned.task["reward"])
    choose(page, compare.get_by_label("Evaluation set", exact=True), "eval:brackenfold-development@1")
    choose(page, compare.get_by_label("Development set", exact=True), "eval:brackenfold@1")
    compare.get_by_role("button", name="More settings").click()
    for prompt in ("Zero-shot", "Few-shot", "Chain of thought"):
        compare.get_by_label(prompt, exact=True).uncheck()
    fill(compare, "Max tokens", "8")
    compare.get_by_role("button", name="Compare", exact=True).click()
    assert wait_until(lambda: newest(store, "compare").id != last, 20)
    is_done(store, "compare")
    table = compare.get_by_role("table").first
    for rung in ("L1", "L2", "L3"):
        expect(table.get_by_text(rung, exact=True).first).to_be_visible(timeout=30_000)
    expect(table.get_by_text(f"run:{aligned.id}").first).to_be_visible()


def test_9_models_and_jobs_tell_where_it_came_from(page: Page, studio: Studio):
    store = store_of(studio)
    run = newest(store, "lora")
    models = open_tab(page, "Models")
    expect(models.get_by_text(f"run:{run.id}", exact=True).first).to_be_visible()
    expect(models.get_by_text("data:bench@1").first).to_be_visible()
    models.get_by_role("tab", name="Catalogue").click()
    expect(models.get_by_text("SmolLM2 135M Instruct").first).to_be_visible()
    jobs = open_tab(page, "Jobs")
    jobs.get_by_text(run.title).first.click()
    expect(jobs.get_by_role("log")).to_be_visible()


def test_10_a_run_is_cancelled_and_resumed(page: Page, studio: Studio):
    store = store_of(studio)
    tuning = open_tab(page, "Tuning")
    choose(page, tuning.get_by_label("What to teach", exact=True), "data:brackenfold@1")
    tuning.get_by_label("Balanced", exact=True).check()
    last = newest(store, "lora").id
    tuning.get_by_role("button", name="Start tuning").click()
    assert wait_until(lambda: newest(store, "lora").id != last, 20)
    run = newest(store, "lora").id
    assert wait_until(lambda: store.job(run).step >= 2, 120), store.job(run)
    tuning.get_by_role("button", name="Cancel", exact=True).click()
    assert wait_until(lambda: store.job(run).state == "cancelled", 40), store.job(run)
    stopped_at = store.job(run).step
    tuning.get_by_role("button", name="Resume", exact=True).click()
    assert wait_until(lambda: store.job(run).state == "running" and store.job(run).step > stopped_at, 120)
    tuning.get_by_role("button", name="Pause", exact=True).click()
    assert wait_until(lambda: store.job(run).state == "paused", 40), store.job(run)
    assert store.job(run).step >= stopped_at


def test_11_a_killed_engine_is_a_sentence_and_a_restart(page: Page, studio: Studio, short_runtime: Path):
    playground = ask_for_a_long_answer(page, "the moor")
    (lock,) = short_runtime.glob("*/engine.lock")
    os.kill(holder(lock).pid, signal.SIGKILL)
    expect(playground.get_by_text(re.compile("engine stopped")).first).to_be_visible(timeout=20_000)
    expect(playground.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    playground.get_by_label("Max tokens", exact=True).fill("20")
    playground.get_by_label("Max tokens", exact=True).press("Tab")
    playground.get_by_role("button", name="Ask", exact=True).click()
    expect(playground.get_by_text(re.compile(r"\d+ \+ 20 tokens"))).to_be_visible(timeout=FIRST_ANSWER)


def test_12_a_second_studio_is_refused_and_a_restart_finds_everything(studio: Studio, short_runtime: Path):
    second = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--port", str(free_port()), "--workspace", str(studio.workspace)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 2
    assert f"already open in a studio (process {studio.process.pid}" in second.stderr
    assert second.stderr.count("\n") == 1
    stop_studio(studio)
    again = start_studio(studio.workspace, short_runtime)
    stop_studio(again)
    assert store_of(studio).snapshot("data:bench@1").rows == 40
