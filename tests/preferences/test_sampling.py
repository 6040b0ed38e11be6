"""Sampling: every prompt once, its different answers as one item, and a stopped run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from studio.backends import Backend, Conversation, EchoBackend
from studio.errors import InputError, ModelError, NotFound
from studio.jobs import task_from
from studio.preferences import SampleAnswers, freeze_prompts, prompts_of
from studio.specs import Completion, Sampling
from studio.store import DeskItem, Store, model_row
from tests.prompts.desk import DeskRun, stopping_after

FIELDS = {"model": "echo:", "prompts": "prompts:gear@1", "batch": "gear"}
ROWS = [{"instruction": f"What of tent number {n} and its poles", "category": "open_qa"} for n in range(40)]


class Sampler(EchoBackend):
    """Answers with what a function makes of the question and the row of the call."""

    def __init__(self, answer: Callable[[str, int], str] = lambda asked, row: f"{asked}: {row}") -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.sampling: list[Sampling] = []
        self.is_closed = False
        self._answer = answer

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        self.calls.append([messages[-1].content for messages in batch])
        self.sampling.append(sampling)
        texts = [self._answer(messages[-1].content, row) for row, messages in enumerate(batch)]
        return [Completion(text=text, finish="stop", prompt_tokens=5, output_tokens=3) for text in texts]

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def store(sqlite_store: Store, tmp_path: Path) -> Store:
    freeze_prompts(sqlite_store, tmp_path, "gear", ROWS, author="ann")
    return sqlite_store


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Callable[..., tuple[DeskRun, dict[str, Any]]]:
    """Runs a sampling with this backend and these fields; gives the run and its result."""

    def make(backend: Backend, **fields: Any) -> tuple[DeskRun, dict[str, Any]]:
        task = SampleAnswers.model_validate(FIELDS | fields)
        task.check(store)
        run = DeskRun(store, tmp_path, task, {FIELDS["model"]: backend})
        result = task.do(run)
        run.finish(result)
        return run, result

    return make


Start = Callable[..., tuple[DeskRun, dict[str, Any]]]


def _items(store: Store, batch: str = "gear") -> list[DeskItem]:
    return store.lease_items(batch, store.annotator("machine", "ai"), 100, seconds=60)


def test_each_prompt_becomes_an_item_with_its_answers(store: Store, start: Start) -> None:
    _, result = start(Sampler())
    assert result == {"batch": "gear", "prompts": 40, "items": 40, "known": 0, "alike": 0}
    items = _items(store)
    assert {i.prompt[0]["content"] for i in items} == {row["instruction"] for row in ROWS}
    for item in items:
        assert len(item.answers) == 4
        assert all(text.startswith(item.prompt[0]["content"]) for _, text in item.answers)
    (batch,) = store.batches()
    assert (batch.items, batch.models) == (40, ("echo:",))
    assert store.batch_source("gear") == "prompts:gear@1"


def test_the_echo_model_goes_through_all_of_it(store: Store, start: Start) -> None:
    _, result = start(EchoBackend(), answers=3)
    assert result["items"] + result["alike"] == 40
    assert result["items"] > 30
    assert all(2 <= len(item.answers) <= 3 for item in _items(store))


def test_a_call_asks_for_32_answers_at_most_with_a_seed_of_its_own(start: Start) -> None:
    asked = Sampler()
    start(asked, answers=3, temperature=0.7, max_tokens=50, seed=2)
    assert [len(call) for call in asked.calls] == [63, 57]
    assert [(s.temperature, s.max_tokens) for s in asked.sampling] == [(0.7, 50), (0.7, 50)]
    other = Sampler()
    start(other, batch="other", seed=3)
    seeds = [s.seed for s in asked.sampling + other.sampling]
    assert len(set(seeds)) == len(seeds)
    assert asked.is_closed


def test_equal_answers_count_once_and_empty_ones_not_at_all(store: Store, start: Start) -> None:
    said = {0: "The same.", 1: "Another.", 2: " The same.\n", 3: " \x00"}
    _, result = start(Sampler(lambda asked, row: said[row % 4]), count=5)
    assert (result["items"], result["alike"]) == (5, 0)
    assert {tuple(sorted(text for _, text in i.answers)) for i in _items(store)} == {("Another.", "The same.")}


def test_a_prompt_without_two_different_answers_makes_no_item_and_is_counted(store: Store, start: Start) -> None:
    _, result = start(Sampler(lambda asked, row: "" if row % 4 else "Only this."), count=5)
    assert (result["items"], result["alike"]) == (0, 5)
    assert store.batches() == []


def test_the_seed_shuffles_the_prompts_and_more_of_them_begin_with_the_same(store: Store, start: Start) -> None:
    few, more, other = Sampler(), Sampler(), Sampler()
    start(few, count=16)
    start(more, count=32, batch="more")
    start(other, count=16, batch="other", seed=1)
    assert more.calls[0] == few.calls[0]
    assert other.calls[0] != few.calls[0]
    assert few.calls[0][::4] != [row["instruction"] for row in ROWS[:16]]


def test_a_question_carries_its_context_and_is_asked_once(store: Store, start: Start, tmp_path: Path) -> None:
    rows = [{"instruction": "Sum up", "context": "A long day."}] * 3
    freeze_prompts(store, tmp_path, "twice", rows, author="ann")
    asked = Sampler()
    start(asked, prompts="prompts:twice@1")
    assert asked.calls == [["Sum up\n\nA long day."] * 4]


def test_records_of_a_dataset_are_prompts_too_and_keep_their_split(store: Store, start: Start, tmp_path: Path) -> None:
    rows = [{"instruction": "Edited since", "context": "", "response": "r", "category": "c", "group": "0" * 64}]
    store.freeze(tmp_path, "data", "gear", rows, author="ann")
    start(Sampler(), prompts="data:gear@1", batch="records")
    (prompt,) = prompts_of(rows, "data:gear@1")
    assert (prompt.group_hash, prompt.split, prompt.category) == ("0" * 64, "train", "c")
    assert store.batch_prompts("records") == {prompt.id}


# -- stopping and starting again -----------------------------------------------------------------------------


def test_what_a_stopped_run_stored_stays_and_the_next_goes_on(store: Store, start: Start, tmp_path: Path) -> None:
    task = SampleAnswers.model_validate(FIELDS)
    first = Sampler()
    run = DeskRun(store, tmp_path, task, {"echo:": first})
    with stopping_after(run, 1):
        assert task.do(run)["items"] == 16
    assert first.is_closed
    assert store.batches()[0].items == 16
    second = Sampler()
    run._models["echo:"] = second
    assert task.do(run) == {"batch": "gear", "prompts": 40, "items": 24, "known": 16, "alike": 0}
    assert [s.seed for s in first.sampling + second.sampling] == [0, 1, 2]
    assert run.steps[-1] == (40, 40)


def test_a_run_that_was_interrupted_ends_with_the_items_of_one_that_was_not(
    store: Store, start: Start, tmp_path: Path
) -> None:
    def said(batch: str) -> dict[str, list[str]]:
        return {i.prompt[0]["content"]: sorted(text for _, text in i.answers) for i in _items(store, batch)}

    task = SampleAnswers.model_validate(FIELDS)
    run = DeskRun(store, tmp_path, task, {"echo:": EchoBackend()})
    with stopping_after(run, 1):
        task.do(run)
    task.do(run)
    run.finish({})
    start(EchoBackend(), batch="whole")
    assert said("gear") == said("whole")


def test_running_it_again_asks_nobody_and_adds_nothing(store: Store, start: Start) -> None:
    start(Sampler())
    again = Sampler()
    run, result = start(again)
    assert result == {"batch": "gear", "prompts": 40, "items": 0, "known": 40, "alike": 0}
    assert (again.calls, run.steps[-1]) == ([], (40, 40))
    assert store.batches()[0].items == 40


def test_a_model_that_fails_half_way_leaves_what_came_before(store: Store, start: Start) -> None:
    def fail(asked: str, row: int) -> str:
        if len(failing.calls) == 2:
            raise ModelError("out of memory")
        return f"{asked}: {row}"

    failing = Sampler(fail)
    with pytest.raises(ModelError, match="out of memory"):
        start(failing)
    assert failing.is_closed
    assert store.batches()[0].items == 16


def test_progress_reaches_the_end_and_words_say_how_far_it_is(start: Start) -> None:
    run, _ = start(Sampler())
    assert run.steps == [(16, 40), (32, 40), (40, 40)]
    assert run.said[-1] == "32 of 40 prompts done, 32 of them are new items."


# -- what cannot work is refused before it is queued ---------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        pytest.param({"prompts": "eval:gear@1"}, InputError, "eval:gear@1 holds no questions", id="a set"),
        pytest.param({"prompts": "prefs:gear@1"}, InputError, "Choose a snapshot like prompts:", id="judgements"),
        pytest.param({"prompts": "prompts:gear@9"}, NotFound, "no snapshot 'prompts:gear@9'", id="not frozen"),
        pytest.param({"model": "run:8"}, NotFound, "no model 'run:8'", id="a model nobody made"),
        pytest.param({"model": "run:7"}, InputError, "run:7 scores answers and gives none", id="a reward model"),
    ],
)
def test_a_sampling_that_cannot_work_is_refused(
    store: Store, changes: dict[str, str], error: type[Exception], sentence: str
) -> None:
    store.add_model(model_row("run:7", "reward", author="ann", answers=False, scores=True))
    with pytest.raises(error, match=sentence):
        SampleAnswers.model_validate(FIELDS | changes).check(store)


@pytest.mark.parametrize("model", ["echo:", "run:6", "dir:mine"])
def test_a_model_that_answers_passes(store: Store, model: str) -> None:
    store.add_model(model_row("run:6", "tuned", author="ann"))
    SampleAnswers.model_validate(FIELDS | {"model": model}).check(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": "two words"},
        {"batch": ""},
        {"batch": "../gear"},
        {"count": 0},
        {"count": 5001},
        {"answers": 1},
        {"answers": 5},
        {"temperature": 0},
        {"max_tokens": 2},
        {"seed": -1},
    ],
    ids=str,
)
def test_fields_out_of_bounds_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        SampleAnswers.model_validate(FIELDS | changes)


def test_a_title_says_what_is_sampled() -> None:
    task = task_from("sample", FIELDS | {"model": "run:1"})
    assert task.title == "Sample 4 answers to 120 prompts from run:1"
    assert task.lane == "light"
