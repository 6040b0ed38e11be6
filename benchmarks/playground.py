"""At the playground: how long a key takes to show, and how far the screen is behind the model, measured inside the page.

A key: from the keyboard event's own time stamp to the frame after the one in which the field had the letter. The bar is
a 95th percentile under 100 ms with 200 examples in the bank, and the same is measured while four columns stream.
The first token: from the click on Ask to the frame in which its text stands on the page, less the seconds that the
model itself took until then (which the page states, from the first byte asked to the first piece of the answer). The
bar is 150 ms; it includes the click, the request, and the check of the prompt before it is sent.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

from benchmarks.labeling import percentile
from benchmarks.report import row
from studio.example import SNAPSHOT
from studio.prompts.bank import fill_bank
from studio.store import Store
from tests.browser import find_browser
from tests.fixtures_journeys import start_studio, stop_studio

KEYS = 200
EXAMPLES = 200
QUESTIONS = 24
BETWEEN_KEYS_MS = 60  # a quick typist
BANK = "bench"

_WATCH_KEYS = """
(field) => {
  window.took = [];
  const box = document.querySelector(field);
  box.onkeydown = (event) => {
    const before = box.value;
    const look = () => {
      if (box.value === before) return requestAnimationFrame(look);
      requestAnimationFrame(() => window.took.push(performance.now() - event.timeStamp));
    };
    requestAnimationFrame(look);
  };
}
"""

_WATCH_ANSWER = """
() => {
  window.shown = null;
  const box = document.querySelector('#answer-1 textarea');
  const ask = document.querySelector('#ask');
  ask.addEventListener('click', (event) => {
    const before = box.value;
    const look = () => {
      if (box.value === before || box.value === '') return requestAnimationFrame(look);
      window.shown = performance.now() - event.timeStamp;
    };
    requestAnimationFrame(look);
  }, { once: true });
}
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    studio = start_studio(folder / "workspace", folder / "run")
    try:
        filled = fill_bank(Store.in_folder(studio.workspace), studio.workspace, BANK, SNAPSHOT, author="benchmark")
        if filled.added < EXAMPLES:
            raise SystemExit(f"The bank has {filled.added} examples; {EXAMPLES} are needed.")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_browser(),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            page.goto(f"{studio.url}/?tab=playground&bank={BANK}")
            page.wait_for_function("window.ladderReady === true", polling=50)
            _examples(page)
            _prompt(page)
            browser.close()
    finally:
        stop_studio(studio)


def _examples(page: Page) -> None:
    page.get_by_role("tab", name="Examples", exact=True).click()
    field = page.get_by_label("Response", exact=True).locator("visible=true")
    field.wait_for()
    page.wait_for_timeout(1500)
    _report(f"a key in an example, {EXAMPLES} in the bank", _type(page, field))


def _prompt(page: Page) -> None:
    page.get_by_role("tab", name="Prompt", exact=True).click()
    question = page.get_by_label("Instruction", exact=True).locator("visible=true")
    _choose(page, "Prompt", "Few-shot")
    page.get_by_role("button", name="Examples").locator("visible=true").first.click()
    _choose(page, "Examples from", f"Bank {BANK}")
    _choose(page, "Chosen how", "Nearest")
    question.fill("How do I dry")
    page.wait_for_timeout(5000)  # the engine has started for the tokens
    _report("a key in the question, few-shot from the bank", _type(page, question))
    _first_tokens(page, question)
    for _ in range(3):
        page.get_by_role("button", name="Add a column", exact=True).click()
        page.wait_for_timeout(500)
    page.get_by_role("button", name="Sampling").locator("visible=true").first.click()
    page.get_by_label("Max tokens", exact=True).fill("2000")
    page.get_by_label("Max tokens", exact=True).press("Tab")
    question.fill("Write a very long story about the sea.")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_function("document.querySelector('#answer-4 textarea').value.length > 0", timeout=120_000)
    _report("a key while four columns stream", _type(page, question))
    page.get_by_role("button", name="Stop", exact=True).click()


def _first_tokens(page: Page, question: Locator) -> None:
    behind, own = [], []
    for number in range(QUESTIONS + 1):
        question.fill(f"How do I dry a wet tent on day {number}?")
        page.wait_for_timeout(1500)
        page.evaluate(_WATCH_ANSWER)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_function(r"/first after/.test(document.querySelector('.answer-head').innerText)", timeout=120_000)
        said = re.search(r"first after ([\d.]+) s", page.locator(".answer-head").first.inner_text())
        assert said is not None
        shown = page.evaluate("window.shown") / 1000
        page.evaluate("document.querySelector('.answer-head').innerText = ''")
        if number:  # the first one starts the engine
            own.append(1000 * float(said[1]))
            behind.append(1000 * shown - own[-1])
    print(row("the model's own first token", own, "ms"))
    print(row("on screen after that", behind, "ms"))


def _type(page: Page, field: Locator) -> list[float]:
    field.click()
    field.evaluate("(box) => { box.id = 'watched' }")
    page.evaluate(_WATCH_KEYS, "#watched")
    for number in range(KEYS):
        page.keyboard.press("abcdefgh "[number % 9])
        page.wait_for_timeout(BETWEEN_KEYS_MS)
    page.wait_for_timeout(1000)
    field.evaluate("(box) => { box.removeAttribute('id') }")
    took: list[float] = page.evaluate("window.took")
    return took


def _report(name: str, took: list[float]) -> None:
    print(row(name, took, "ms"))
    print(f"{'':44} p50 {percentile(took, 50):.1f} ms, p95 {percentile(took, 95):.1f} ms")


def _choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option).first.click()


if __name__ == "__main__":
    main()
