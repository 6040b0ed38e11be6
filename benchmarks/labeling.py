"""At the labeling desk: from a key press to the next item on the screen, measured inside the page.

From the keyboard event's own time stamp to the frame after the one in which the prompt changed. The bar is a 95th
percentile under 150 ms; judgements are saved and items fetched meanwhile, as in real work.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.report import row
from studio.processes import wait_until
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import NewItem, Prompt, Store
from tests.browser import find_browser
from tests.fixtures_journeys import Studio, start_studio, stop_studio

PRESSES = 240
READING_MS = 120  # nobody reads faster; the page has time to fetch, as it has with people
KEYS = {2: "1", 4: "213"}  # the last key of each places the last two answers
WORDS = "You can dry the tent at home: hang it in the hall, open the door a little and turn it once. Next step: do it. "

_WATCH = """
() => {
  window.took = [];
  const prompt = () => document.querySelector('.desk-prompt').textContent;
  addEventListener('keydown', (event) => {
    const before = prompt();
    const look = () => {
      if (prompt() === before) return window.patience-- > 0 && requestAnimationFrame(look);
      requestAnimationFrame(() => window.took.push(performance.now() - event.timeStamp));
    };
    window.patience = 300;
    if (event.key === window.lastKey) requestAnimationFrame(look);
  }, true);
}
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    studio = start_studio(folder / "workspace", folder / "run")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_browser(),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            for answers, keys in KEYS.items():
                took = _label(browser.new_context().new_page(), studio, answers, keys)
                name = f"key press to next item, {answers} answers"
                print(row(name, took, "ms"))
                print(f"{'':44} p50 {percentile(took, 50):.1f} ms, p95 {percentile(took, 95):.1f} ms")
            browser.close()
    finally:
        stop_studio(studio)


def _label(page: Page, studio: Studio, answers: int, keys: str) -> list[float]:
    store, batch = Store.in_folder(studio.workspace), f"of-{answers}"
    _put_items(store, batch, answers)
    page.goto(f"{studio.url}/?tab=labeling&batch={batch}")
    page.wait_for_function("document.querySelector('.desk-item')?.checkVisibility() && window.ladderReady", polling=50)
    page.wait_for_timeout(1000)
    page.evaluate(_WATCH)
    page.evaluate("(key) => { window.lastKey = key }", keys[-1])
    for done in range(PRESSES):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_function("(n) => window.took.length === n", arg=done + 1, polling="raf")
        page.wait_for_timeout(READING_MS)
    took: list[float] = page.evaluate("window.took")
    if not wait_until(lambda: len(store.judgements(batch)) == PRESSES, 30):
        raise SystemExit(f"{PRESSES} items were ranked, and {len(store.judgements(batch))} judgements are stored.")
    return took


def _put_items(store: Store, batch: str, answers: int) -> None:
    items = [
        NewItem(
            Prompt.of([user(f"Question {n}: how do I dry a wet tent at home?")], group=f"{batch}-{n}", split="train"),
            tuple(
                Completion(text=f"{k}. {WORDS * 4}", finish="stop", prompt_tokens=1, output_tokens=1)
                for k in range(answers)
            ),
        )
        for n in range(PRESSES + 10)
    ]
    store.add_items(batch, items, model=ModelRef("echo:"), sampling=Sampling(), author="benchmark")


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


if __name__ == "__main__":
    main()
