"""The page Statistics: what the open dataset is made of, in bars that open the records behind them.

A small dataset is counted when the page opens and when it changed; a large one by a job. The page reads what they left.
"""

from __future__ import annotations

import html
import logging
import threading
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.dataset.shared import Shared, to_show
from components.dataset.statistics_cards import cards, first_line, part_and_label
from components.dataset.words import count, when
from components.frame import (
    Refresh,
    TabWidgets,
    fresh_choices,
    handler,
    live_dropdown,
    markup,
    notice,
    progress,
    untouched,
    user_of,
)
from components.picking import picked
from studio.errors import InputError, StudioError
from studio.instructions.describing import (
    AT_ONCE,
    Describe,
    Description,
    describe,
    described_at,
    description_of,
    is_worth_a_wait,
    records_of,
)
from studio.models import EMBEDDED
from studio.specs import ModelRef
from studio.store import Dataset, Job

__all__ = ["build"]

log = logging.getLogger(__name__)

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# Whatever carries a key can be picked; arrows go from one to the next within a list.
_ON_LOAD = """
const kept = (event) => event.target.closest('[data-key]');
const send = (it) => trigger('pick', { key: it.dataset.key });
element.addEventListener('click', (event) => { if (kept(event) && getSelection().isCollapsed) send(kept(event)); });
element.addEventListener('keydown', (event) => {
  const it = kept(event);
  if (!it || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const group = it.closest('[data-roving]');
  if (by && group) {
    const all = [...group.querySelectorAll('[data-key]')];
    all[(all.indexOf(it) + by + all.length) % all.length].focus();
  } else if (it.tagName !== 'BUTTON' && (event.key === 'Enter' || event.key === ' ')) send(it);
  else return;
  event.preventDefault();
});
"""


def build(shared: Shared) -> TabWidgets:
    """Lay out the page and wire it."""
    page = _Page(shared)
    _wire(page)
    return TabWidgets(refresh=Refresh(page.look, page.look_inputs, page.outputs))


@dataclass(frozen=True)
class _Painted:
    """What is on the page, so that what did not move is left alone: a reader keeps their place."""

    cards: str = ""
    head: str = ""
    models: str = ""

    @classmethod
    def read(cls, text: str) -> _Painted:
        parts = text.split("\n")
        return cls(*parts) if len(parts) == 3 else cls()

    def __str__(self) -> str:
        return "\n".join((self.cards, self.head, self.models))


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.workspace, self.store = shared, shared.workspace, shared.workspace.store
        self.describing = threading.Lock()  # two people who open the page wait for one count
        with gr.Row(elem_classes=["stat-head"]):
            self.head = markup(label="What the dataset is made of", elem_id="statistics-head")
            self.model = live_dropdown([], label="Tokenizer that counts", show_label=False, container=False,
                                       scale=0, min_width=200)  # fmt: skip
            self.tokens = gr.Button("Count tokens", size="sm", scale=0, min_width=0, elem_id="statistics-tokens")
            self.again = gr.Button(
                "Bring up to date", size="sm", scale=0, min_width=0, visible=False, elem_id="statistics-again"
            )
        self.cards = gr.HTML(
            "",
            label="Statistics of the dataset",
            elem_id="dataset-statistics",
            js_on_load=_ON_LOAD,
            apply_default_css=False,
            padding=False,
        )
        with gr.Row(elem_classes=["off-screen"]):
            self.painted = gr.Textbox("", label="Statistics painted", visible="hidden")
            self.due = gr.Textbox("", label="Statistics due", visible="hidden")

    @property
    def look_inputs(self) -> list[Any]:
        return [self.shared.chosen, self.painted, self.model]

    @property
    def outputs(self) -> list[Any]:
        return [self.head, self.model, self.tokens, self.again, self.cards, self.painted, self.due]

    # -- what is shown -------------------------------------------------------------------------------------------

    def look(self, name: str, painted: str, model: str | None) -> list[Any]:
        """The page as the database has it now. Runs outside the queue: never raises."""
        try:
            return self.looked(name, painted, model) if name else untouched(self.outputs)
        except StudioError as error:
            log.warning("The statistics could not be brought up to date: %s", error)
            return untouched(self.outputs)

    def looked(self, name: str, painted: str, model: str | None) -> list[Any]:
        before, dataset, job = _Painted.read(painted), self.store.dataset(name), self._job(name)
        n = self.store.count_records(dataset.id)
        token = f"{dataset.id} {dataset.change} {described_at(self.workspace.path, dataset.id)}"
        head = f"{token} {(job.id, job.change) if job else ''}"
        now = _Painted(token, head, str(self.store.state_token()))
        if now == before:
            return untouched(self.outputs)
        models = gr.skip() if now.models == before.models else self._models(model)
        if now.head == before.head:
            return [gr.skip(), models, gr.skip(), gr.skip(), gr.skip(), str(now), gr.skip()]
        found = description_of(self.workspace.path, dataset.id)
        is_old = found is None or found.change != dataset.change
        is_at_work = job is not None and not job.is_over
        due = is_old and not is_at_work and is_worth_a_wait(n, found)
        return [
            _head(dataset, n, found, job, is_due=due),
            models,
            gr.Button(interactive=n > 0 and not is_at_work),
            gr.Button(
                "Bring up to date" if found else "Count", visible=n > 0 and is_old and not due and not is_at_work
            ),
            gr.skip() if now.cards == before.cards else self._cards(found, n),
            str(now),
            f"{dataset.id} {dataset.change}" if due else gr.skip(),
        ]

    def _cards(self, found: Description | None, n: int) -> str:
        if found is None or not n:
            return ""
        keys = [weak.record for weak in found.weakest]
        keys += [key for topic in (found.topics.topics if found.topics else ()) for key in topic.typical]
        return cards(found, self.store.some_records(sorted(set(keys))))

    def _models(self, model: str | None) -> gr.Dropdown:
        choices = [(offer.label, str(offer.ref)) for offer in self.workspace.offers()]
        return fresh_choices(choices, model, str(EMBEDDED))

    def _job(self, name: str) -> Job | None:
        """The newest one that describes this dataset."""
        jobs = self.store.jobs(limit=50, kinds={Describe.kind})
        return next((job for job in jobs if job.task.get("dataset") == name), None)

    # -- what a person does --------------------------------------------------------------------------------------

    def count(self, due: str, name: str, painted: str, model: str | None) -> list[Any]:
        """Count a small dataset that is new or changed, then show it."""
        if not due or not name:
            return untouched(self.outputs)
        try:
            self._describe(self.store.dataset(name))
        except StudioError as error:  # said where the count would be, with the button that tries again
            again = gr.Button(visible=True)
            return [notice(str(error), "bad"), gr.skip(), gr.skip(), again, *[gr.skip()] * 3]
        return self.looked(name, painted, model)

    def bring(self, request: gr.Request, name: str, painted: str, model: str | None) -> list[Any]:
        """Count again: at once what is small, else as a job."""
        dataset = self.store.dataset(name)
        if self.store.count_records(dataset.id) <= AT_ONCE:
            self._describe(dataset)
        else:
            self._queue(Describe(dataset=name), user_of(request))
        return self.looked(name, painted, model)

    def count_tokens(self, request: gr.Request, name: str, painted: str, model: str | None) -> list[Any]:
        """With the tokenizer of a model, which may have to be loaded first: as a job."""
        if not model:
            raise InputError("No model is chosen. Choose one, and its tokenizer counts.")
        self._queue(Describe(dataset=name, model=ModelRef(model)), user_of(request))
        return self.looked(name, painted, model)

    def pick(self, event: gr.EventData, name: str) -> str:
        """The records behind what was picked, for the page Records."""
        dataset = self.store.dataset(name)
        found = description_of(self.workspace.path, dataset.id)
        if found is None:
            raise InputError(f"{name} is not counted yet. Count it first.")
        return to_show(records_of(found, *part_and_label(picked(event))))

    def _describe(self, dataset: Dataset) -> None:
        root = self.workspace.path
        with self.describing:
            found = description_of(root, dataset.id)
            if found is None or found.change != self.store.dataset(dataset.name).change:
                describe(self.store, root, dataset)

    def _queue(self, task: Describe, author: str) -> None:
        job = self._job(task.dataset)
        if job is not None and not job.is_over:
            raise InputError(f"Job {job.id} counts {task.dataset} already. Wait for it, or cancel it under Jobs.")
        self.workspace.queue(task, author=author)


def _wire(page: _Page) -> None:
    now = page.look_inputs
    page.due.change(
        handler(page.count),
        [page.due, *now],
        page.outputs,
        trigger_mode="multiple",
        api_name="statistics_count",
        **_QUIET,
    )
    page.again.click(handler(page.bring), now, page.outputs, api_name="statistics_again", **_QUIET)
    page.tokens.click(handler(page.count_tokens), now, page.outputs, api_name="statistics_tokens", **_QUIET)
    page.cards.pick(
        handler(page.pick), page.shared.chosen, page.shared.show, api_name="statistics_pick", **_QUIET
    ).success(None, None, None, js="() => { window.scrollTo({ top: 0 }) }", api_visibility="private")


# -- words -----------------------------------------------------------------------------------------------------------


def _head(dataset: Dataset, n: int, found: Description | None, job: Job | None, *, is_due: bool) -> str:
    """The dataset in one line, as of when, and what goes on."""
    if not n:
        return _line(f"{dataset.name} has no records yet, so there is nothing to count. Import a file, or add one.")
    if found is None:
        told = _line(f"{count(n)}. {'They are being counted.' if is_due else 'They are not counted yet.'}")
        if not is_due and n > AT_ONCE:
            told += f'<p class="quiet">More than {AT_ONCE:,} are counted by a job, which takes a while.</p>'
    else:
        since = dataset.change - found.change
        after = f", {count(since, 'change')} since" if since else ""
        again = " They are being counted again." if is_due else ""
        told = _line(first_line(found)) + f'<p class="quiet">As of {when(found.at)}{after}.{again}</p>'
    return told + _going(job, found)


def _line(words: str) -> str:
    return f'<p class="stat-line">{html.escape(words)}</p>'


def _going(job: Job | None, found: Description | None) -> str:
    """The job at work, or why the last one came to nothing."""
    if job is None:
        return ""
    if not job.is_over:
        words = "Waits for its turn." if job.is_waiting else job.message or "Begins."
        return (
            f'<p class="running-title"><b>{html.escape(job.title)}</b> '
            f'<a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a></p>{progress(job.progress, words)}'
        )
    is_news = found is None or (job.ended_at or 0.0) > found.at
    return notice(f"Job {job.id}: {job.error}", "bad") if job.error and is_news else ""
