"""Self-instruct: a few tasks become new ones, as drafts, with where they came from and what was left out."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from studio.backends import Conversation, EchoBackend
from studio.errors import EngineLost, InputError, ModelError, NotFound, RunError
from studio.fields import describe
from studio.instructions.growing import LEFT_OUT, SelfInstruct
from studio.specs import ModelRef
from studio.store import Store
from tests.instructions.growing.garden import ECHO, Choosy, drafts, grow, held_out, last, planted, records, run_of
from tests.prompts.desk import Answering, stopping_after

FIELDS: dict[str, Any] = {"model": "echo:", "dataset": "gear", "requests": 8}
SEEDS = [
    {"instruction": f"Explain how one {verb} a {thing}.", "response": f"With care and {verb}ing."}
    for verb, thing in (
        ("wash", "jacket"),
        ("pitch", "tent"),
        ("bake", "loaf"),
        ("tune", "violin"),
        ("mend", "bicycle"),
    )
]
NEW = (
    "Name three birds that winter by the sea.",
    "Describe the smell of rain to somebody far away.",
    "Which knots does a sailor learn first?",
    "Plan a quiet evening for two grandparents.",
    "Compare a kettle with an open fire.",
)


def _writes(tasks: Any = NEW, answer: str = "That is told in one good sentence.") -> Any:
    """A model that lists these tasks when asked for new ones and answers everything alike."""

    def write(messages: Conversation) -> str:
        if "new tasks" in last(messages):
            return "\n".join(f"{n}. {text}" for n, text in enumerate(tasks, 1))
        return answer

    return write


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    planted(sqlite_store, SEEDS)
    return sqlite_store


def _task(**more: Any) -> SelfInstruct:
    return SelfInstruct.model_validate(FIELDS | more)


# -- what becomes a draft ------------------------------------------------------------------------------------------


def test_new_tasks_become_drafts_with_an_answer(store: Store, tmp_path: Path) -> None:
    _, result = grow(store, tmp_path, _task(), _writes())
    found = drafts(store)
    assert [record.instruction for record in found] == list(NEW)
    assert {record.response for record in found} == {"That is told in one good sentence."}
    assert {record.state for record in found} == {"draft"}
    # The eight requests of a step get the same list back: all but the first are like it.
    assert result == {"dataset": "gear", "added": 5, "left_out": {"alike": 35}, "note": result["note"]}
    assert result["note"].startswith("Of 40 texts that echo: wrote, 5 could be used.")


def test_a_draft_says_which_model_prompt_seeds_and_sampling_it_came_from(store: Store, tmp_path: Path) -> None:
    run, _ = grow(store, tmp_path, _task(seed=7, temperature=0.9), _writes())
    record = drafts(store)[0]
    assert record.provenance is not None
    seeds = record.provenance.pop("seeds")
    assert len(set(seeds)) == 5
    assert set(seeds) <= {r.id for r in records(store) if not r.provenance}
    assert record.provenance == {
        "way": "self-instruct",
        "job": run.id,
        "model": "echo:",
        "template": "self-instruct@1",
        "passages": [],
        "sampling": [
            {"temperature": 0.9, "max_tokens": 200, "seed": 7_000_000},
            {"temperature": 0.0, "max_tokens": 200, "seed": 7_000_001},
        ],
    }
    assert record.source == f"job {run.id}: self-instruct by echo:"
    assert record.author == "ann"


def test_the_model_sees_examples_of_one_kind_and_the_draft_is_of_it(sqlite_store: Store, tmp_path: Path) -> None:
    kinds = {"brainstorming": SEEDS[:2], "creative_writing": SEEDS[2:]}
    planted(
        sqlite_store, [seed | {"category": kind, "licence": "MIT"} for kind, seeds in kinds.items() for seed in seeds]
    )
    backend = Answering(ECHO, _writes())
    grow(sqlite_store, tmp_path, _task(category="creative_writing"), backend)
    asked = [last(messages) for messages in backend.asked if "new tasks" in last(messages)]
    assert all(seed["instruction"] in asked[0] for seed in SEEDS[2:])
    assert not any(seed["instruction"] in text for seed in SEEDS[:2] for text in asked)
    assert {(record.category, record.licence) for record in drafts(sqlite_store)} == {("creative_writing", "MIT")}


def test_new_tasks_are_answered_in_the_manner_of_the_examples(store: Store, tmp_path: Path) -> None:
    backend = Answering(ECHO, _writes())
    grow(store, tmp_path, _task(), backend)
    question = next(messages for messages in backend.asked if last(messages) == NEW[0])
    assert [turn.role for turn in question] == ["user", "assistant", "user", "assistant", "user"]
    assert question[1].content in {seed["response"] for seed in SEEDS}


# -- held-out data and drafts teach nothing ------------------------------------------------------------------------


def test_only_training_records_that_people_stand_for_are_shown(sqlite_store: Store, tmp_path: Path) -> None:
    hidden = [
        {"instruction": "A test record?", "response": "t", "split": "test"},
        {"instruction": "A rejected record?", "response": "r", "state": "rejected"},
        {"instruction": "A record with context?", "response": "c", "context": "Wool."},
        {"instruction": "A draft of a model?", "response": "d", "state": "draft", "provenance": {"model": "echo:"}},
    ]
    approved = {
        "instruction": "An approved draft of a model?",
        "response": "a",
        "state": "approved",
        "provenance": {"model": "echo:"},
    }
    planted(sqlite_store, [*SEEDS[:2], *hidden, approved])
    backend = Answering(ECHO, _writes())
    grow(sqlite_store, tmp_path, _task(), backend)
    shown = "\n".join(turn.content for messages in backend.asked for turn in messages)
    assert not any(row["instruction"] in shown for row in hidden)
    assert approved["instruction"] in shown


def test_a_task_like_one_of_an_evaluation_set_or_the_dataset_is_dropped(store: Store, tmp_path: Path) -> None:
    held_out(store, tmp_path, NEW[0])
    tasks = [NEW[0].replace("three", "four"), SEEDS[0]["instruction"].replace("one", "anyone"), NEW[1]]
    _, result = grow(store, tmp_path, _task(requests=1), _writes(tasks))
    assert [record.instruction for record in drafts(store)] == [NEW[1]]
    assert result["left_out"] == {"alike": 2}


# -- what is left out, and why -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "answer", "left_out"),
    [
        (["Go.", NEW[0]], "One good sentence.", {"unread": 1}),
        (["Describe the attached picture of a boat.", NEW[0]], "One good sentence.", {"unseen": 1}),
        ([NEW[0], NEW[0]], "One good sentence.", {"alike": 1}),
        ([NEW[0]], "I'm sorry, but I cannot do that.", {"refusal": 1}),
        ([NEW[0]], NEW[0], {"echo": 1}),
        ([NEW[0]], " ", {"unread": 1}),
        ([NEW[0]], "Birds and birds by the sea. " * 9, {"poor": 1}),
        ([], "One good sentence.", {"unread": 1}),
    ],
    ids=["short", "picture", "twice", "refusal", "echo", "empty", "poor", "no list"],
)
def test_whatever_is_left_out_is_counted_with_its_reason(
    store: Store, tmp_path: Path, tasks: list[str], answer: str, left_out: dict[str, int]
) -> None:
    _, result = grow(store, tmp_path, _task(requests=1, lowest_quality=60), _writes(tasks, answer))
    assert result["left_out"] == left_out
    assert result["added"] == len(tasks) - sum(left_out.values()) * bool(tasks)
    assert set(left_out) <= set(LEFT_OUT)


def test_the_last_entry_of_a_list_that_was_cut_is_dropped(store: Store, tmp_path: Path) -> None:
    _, result = grow(store, tmp_path, _task(requests=1), Choosy(_writes(NEW[:3]), cuts="new tasks"))
    assert [record.instruction for record in drafts(store)] == list(NEW[:2])
    assert result["left_out"] == {"cut": 1}


def test_no_more_drafts_come_in_than_were_asked_for(store: Store, tmp_path: Path) -> None:
    _, result = grow(store, tmp_path, _task(count=2, requests=80), _writes())
    assert (result["added"], len(drafts(store)), result["left_out"]["surplus"]) == (2, 2, 3)


def test_a_model_that_only_repeats_gives_nothing_and_the_result_says_so(store: Store, tmp_path: Path) -> None:
    run, result = grow(store, tmp_path, _task(requests=16), EchoBackend(ECHO))
    assert (result["added"], drafts(store)) == (0, [])
    assert sum(result["left_out"].values()) > 0
    assert "0 could be used. See what was left out and why" in result["note"]
    assert run.steps == [(1, 2), (2, 2)]


def test_the_embedded_model_is_called_small(store: Store, tmp_path: Path) -> None:
    small = "embedded:smollm2-135m-instruct"
    _, result = grow(store, tmp_path, _task(model=small), Answering(ModelRef(small), lambda messages: "Sure!"))
    assert "The embedded model has 135 million parameters" in result["note"]


# -- jobs ----------------------------------------------------------------------------------------------------------


def _counting() -> Any:
    """A model that never writes the same task twice."""
    numbers = itertools.count()
    things = [a + b for a in "kltmr" for b in ("osk", "irp", "ung", "abel", "eft", "ovan")]

    def write(messages: Conversation) -> str:
        if "new tasks" not in last(messages):
            return "That is told in one good sentence."
        n = next(numbers)
        return f"1. {things[n % 30].title()} {things[n * 7 % 30]} {things[n * 11 % 29]} x{n}?"

    return write


def test_a_stopped_run_keeps_its_drafts_and_goes_on_from_there(store: Store, tmp_path: Path) -> None:
    task = _task(requests=24)
    run = run_of(store, tmp_path, task, _counting())
    with stopping_after(run, 1):
        first = task.do(run)
    assert 0 < first["added"] == len(drafts(store)) <= 8
    result = task.do(run)
    assert result["added"] == len(drafts(store)) > first["added"]
    assert result["added"] + sum(result["left_out"].values()) == 24
    assert [step for step, _ in run.steps] == [1, 2, 3]
    assert f"{first['added']} of 50 drafts written" in run.said[1]


def test_a_run_whose_prompt_changed_meanwhile_does_not_go_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task(requests=24)
    run = run_of(store, tmp_path, task, _counting())
    with stopping_after(run, 1):
        task.do(run)
    monkeypatch.setattr(SelfInstruct, "template", "self-instruct@2")
    with pytest.raises(RunError, match="began with the prompt self-instruct@1, which is self-instruct@2 now"):
        task.do(run)


def test_a_run_that_died_before_its_checkpoint_adds_nothing_twice(store: Store, tmp_path: Path) -> None:
    task = _task()
    run = run_of(store, tmp_path, task, _writes())
    publish, run.publish = run.publish, _dies  # type: ignore[method-assign]
    with pytest.raises(OSError, match="power"):
        task.do(run)
    run.publish = publish  # type: ignore[method-assign]
    assert task.do(run)["added"] == 0
    assert len(drafts(store)) == 5


def _dies(folder: Path) -> None:
    raise OSError("the power went")


def test_the_same_seed_shows_the_same_examples(store: Store, tmp_path: Path) -> None:
    def shown(**more: Any) -> list[str]:
        backend = Answering(ECHO, lambda messages: "")
        grow(store, tmp_path, _task(shown=3, **more), backend)
        return [last(messages) for messages in backend.asked]

    assert shown() == shown() != shown(seed=1)


def test_one_request_that_cannot_be_asked_leaves_the_others(store: Store, tmp_path: Path) -> None:
    _, result = grow(store, tmp_path, _task(requests=1), Choosy(_writes(NEW[:3]), refuses="birds"))
    assert (result["added"], result["left_out"]) == (2, {"failed": 1})


@pytest.mark.parametrize("error", [ModelError("refused"), EngineLost("gone")], ids=["every", "engine"])
def test_a_model_that_cannot_be_asked_ends_the_run_with_its_reason(
    store: Store, tmp_path: Path, error: Exception
) -> None:
    def fail(messages: Conversation) -> str:
        raise error

    backend = Answering(ECHO, fail)
    with pytest.raises(type(error), match=str(error)):
        grow(store, tmp_path, _task(), backend)
    assert backend.is_closed


def test_the_first_draft_of_a_step_can_be_read_while_it_runs(store: Store, tmp_path: Path) -> None:
    run, _ = grow(store, tmp_path, _task(), _writes())
    assert run.samples == [(run.id, NEW[0], {"draft": "That is told in one good sentence."})]


# -- refused before anything starts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("category", "said"),
    [("", "'gear' has fewer than 2 examples to start from"), ("poetry", "examples of category 'poetry' to start from")],
)
def test_too_few_examples_are_refused(sqlite_store: Store, tmp_path: Path, category: str, said: str) -> None:
    planted(sqlite_store, SEEDS[: 1 if not category else 5])
    with pytest.raises(InputError, match=said):
        grow(sqlite_store, tmp_path, _task(category=category), _writes())


def test_a_dataset_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="no dataset 'none'"):
        _task(dataset="none").check(store)


def test_every_field_has_a_title_and_a_description() -> None:
    assert all(field.title and field.help for field in describe(SelfInstruct))
    assert _task().title == "Draft 50 records for gear with echo: (self-instruct)"
