"""A prompt designer's morning, in a real browser: a prompt of her own, examples, two models, a batch, its failures.

The tests of this file stand on each other, as in test_ladder.py. The second model is the tiny random one: it answers at
once, and nothing here is about what an answer says.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from studio.processes import wait_until
from studio.prompts import find_template
from studio.store import Store
from tests.fixtures_journeys import Studio, choose

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]

FIRST_ANSWER = 120_000  # ms: the engine starts and loads the weights
QUESTION = "My tent smells of mould. What can I do?"
TONE = "You write like a patient shop assistant."


@pytest.fixture(scope="module", autouse=True)
def second_model(studio: Studio, tiny, tokenizer) -> None:
    folder = studio.workspace / "models" / "tiny"
    tiny.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def open_page(page: Page, name: str) -> Locator:
    """Go to a page of the playground; returns what is on screen."""
    page.get_by_role("tab", name=name, exact=True).click()
    return page.locator("#playground-pages [role=tabpanel]:visible").first


def test_1_a_prompt_of_her_own_outlives_a_reload(page: Page, studio: Studio):
    prompt = open_page(page, "Prompt")
    prompt.get_by_role("button", name="Edit this prompt").click()
    prompt.get_by_label("Instruction", exact=True).fill(QUESTION)
    words = prompt.get_by_label("User part")  # of the prompt that a new page has chosen
    for slip, said in (
        ("{{ nobody }}", "nobody"),
        ("{% for x in %}", "line 1"),
        ("{{ 'x' * 10**9 }}", "cannot calculate"),
    ):
        words.fill(slip)
        told = prompt.locator(".budget, .notice").first
        expect(told).to_contain_text(re.compile(said, re.IGNORECASE), timeout=FIRST_ANSWER)

    choose(page, prompt.get_by_label("Prompt", exact=True), "Few-shot")
    expect(prompt.get_by_label("Save as", exact=True)).to_have_value("my-few-shot")  # the editor has it
    system = prompt.get_by_label("System part")
    system.fill(TONE)
    expect(prompt.get_by_text(re.compile("Not saved yet"))).to_be_visible()
    page.reload()
    page.wait_for_function("window.ladderReady === true", polling=50)
    prompt = open_page(page, "Prompt")
    prompt.get_by_role("button", name="Edit this prompt").click()
    expect(prompt.get_by_label("System part")).to_have_value(TONE)
    expect(prompt.get_by_label("Save as", exact=True)).to_have_value("my-few-shot")  # all of it is back
    page.wait_for_timeout(500)  # the hand of a person is slower than a page
    prompt.get_by_label("Save as", exact=True).fill("patient")
    prompt.get_by_label("What changed", exact=True).fill("Kinder")
    prompt.get_by_role("button", name="Save version").click()
    expect(prompt.get_by_label("Prompt", exact=True)).to_have_value(re.compile("patient"))
    assert find_template(Store.in_folder(studio.workspace), "patient").system == TONE


def test_2_a_bank_gives_each_question_its_examples(page: Page, studio: Studio):
    examples = open_page(page, "Examples")
    examples.get_by_role("button", name="Fill", exact=True).click()
    expect(examples.get_by_role("grid", name="Examples").get_by_role("row")).not_to_have_count(1)
    examples.get_by_label("Question", exact=True).fill(QUESTION)
    examples.get_by_role("button", name="Show the choice").click()
    expect(examples.locator("#choice")).to_contain_text(re.compile(r"\d"), timeout=20_000)
    bank = Store.in_folder(studio.workspace).banks()[0]
    assert bank.on > 100

    prompt = open_page(page, "Prompt")
    prompt.get_by_role("button", name="Examples").click()
    choose(page, prompt.get_by_label("Examples from", exact=True), f"Bank {bank.name}")
    choose(page, prompt.get_by_label("Chosen how", exact=True), "Nearest")
    prompt.get_by_label("Instruction", exact=True).fill(QUESTION)
    rendered = prompt.get_by_label("Rendered prompt")
    expect(rendered).to_have_value(re.compile(re.escape(TONE)), timeout=FIRST_ANSWER)
    expect(rendered).to_have_value(re.compile(r"Next step:", re.DOTALL))


def test_3_two_models_answer_at_one_key_and_a_good_answer_goes_to_the_dataset(page: Page, studio: Studio):
    prompt = open_page(page, "Prompt")
    choose(page, prompt.get_by_label("Prompt", exact=True), "Plain")
    prompt.get_by_role("button", name="Add a column").click()
    choose(page, prompt.get_by_label("Model 2", exact=True), "tiny")
    question = prompt.get_by_label("Instruction", exact=True)
    question.fill(QUESTION)
    question.press("Control+Enter")
    for number in (1, 2):
        expect(prompt.get_by_label(f"Answer {number}", exact=True)).not_to_have_value("", timeout=FIRST_ANSWER)
    expect(prompt.get_by_text(re.compile(r"\d+ \+ \d+ tokens"))).to_have_count(2, timeout=FIRST_ANSWER)
    answer = prompt.get_by_label("Answer 1", exact=True)
    answer.fill("Air it for a day, then wash it by hand. Next step: hang it up.")
    prompt.get_by_role("button", name="To dataset", exact=True).first.click()
    expect(prompt.get_by_role("button", name="In the dataset", exact=True)).to_be_visible()
    store = Store.in_folder(studio.workspace)
    last = list(store.all_records(store.dataset("brackenfold").id))[-1]
    assert last.instruction == QUESTION
    assert last.response.startswith("Air it for a day")


def test_4_a_file_is_there_at_the_first_press(page: Page, studio: Studio):
    prompt = open_page(page, "Prompt")
    prompt.get_by_role("button", name="Edit this prompt").click()
    with page.expect_download() as waiting:
        prompt.get_by_role("button", name="Export YAML").click()
    assert "name: plain" in waiting.value.path().read_text(encoding="utf-8")


def test_5_a_batch_is_measured_and_its_failures_are_read(page: Page, studio: Studio):
    evaluate = open_page(page, "Evaluate")
    choose(page, evaluate.get_by_label("Column prompt", exact=True), "patient")
    for model in ("SmolLM2", "tiny"):
        choose(page, evaluate.get_by_label("Column model", exact=True), model)
        if model == "tiny":
            choose(page, evaluate.get_by_label("Column prompt", exact=True), "Plain")
        evaluate.get_by_label("Longest answer", exact=True).fill("16")
        evaluate.get_by_label("Longest answer", exact=True).press("Tab")
        evaluate.locator("#add-column").click()
    expect(evaluate.locator("#evaluation-columns")).to_contain_text("tiny")
    choose(page, evaluate.get_by_label("Evaluate on", exact=True), "eval:brackenfold-development@1")
    evaluate.get_by_label("Rows at most", exact=True).fill("4")
    evaluate.get_by_label("Rows at most", exact=True).press("Tab")
    expect(evaluate.get_by_text(re.compile("8 calls|8 answers")).first).to_be_visible()
    evaluate.get_by_role("button", name="Start evaluation").click()
    store = Store.in_folder(studio.workspace)
    assert wait_until(lambda: any(job.kind == "grid" and job.is_over for job in store.jobs()), 200)
    job = next(job for job in store.jobs() if job.kind == "grid")
    assert job.state == "done", job.error
    failures = evaluate.get_by_role("button", name=re.compile("^Failures"))
    expect(failures).to_be_visible(timeout=30_000)
    failures.click()
    expect(failures).to_have_attribute("aria-pressed", "true")
    evaluate.get_by_role("button", name=re.compile(r"^Row \d")).first.click()
    expect(evaluate.locator("tr.opened:visible")).to_have_count(1)

    page.goto(f"{studio.url}/?tab=playground&grid={job.id}")
    page.wait_for_function("window.ladderReady === true", polling=50)
    expect(page.get_by_role("button", name=re.compile("^Failures"))).to_be_visible()


def test_6_whether_a_prompt_helps_is_one_press_away(page: Page, studio: Studio):
    prompt = open_page(page, "Prompt")
    choose(page, prompt.get_by_label("Prompt", exact=True), "Summary")  # which the page that checks would not propose
    prompt.get_by_role("button", name="Does it help here?").click()
    checks = page.locator("#page-checks")
    expect(checks.get_by_label("Prompt to check", exact=True)).to_have_value("Summary")
    page.wait_for_timeout(1000)  # nor does it, having been read once more
    expect(checks.get_by_label("Prompt to check", exact=True)).to_have_value("Summary")
    expect(checks.get_by_label("Does it help here?", exact=True)).to_be_checked()
    expect(checks.locator("#check-plan")).to_contain_text("Every row is asked both ways")
    expect(checks.get_by_role("button", name="Start the check")).to_be_enabled()


def test_7_columns_go_to_a_whole_set_at_one_press(page: Page, studio: Studio):
    prompt = open_page(page, "Prompt")
    choose(page, prompt.get_by_label("Prompt", exact=True), "Zero-shot")
    prompt.get_by_role("button", name="Evaluate on a set").click()
    evaluate = page.locator("#page-evaluate")
    columns = evaluate.locator("#evaluation-columns")
    expect(columns).to_contain_text("zero-shot · embedded:smollm2")
    expect(columns).to_contain_text("patient")  # what she had put together is there as well
    expect(evaluate.get_by_role("button", name="Start evaluation")).to_be_visible()
