"""Distilling: the good prompt's answers become records for the bare question, held-out data stay held out, and a run
that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from studio.backends import Backend, Conversation
from studio.errors import EngineLost, InputError, ModelError, NotFound, RunError
from studio.fields import describe
from studio.instructions import group_hash, split_of
from studio.jobs import task_from
from studio.prompts import template
from studio.prompts.distil import LEFT_OUT, Distil
from studio.specs import Completion, ModelRef, Sampling
from studio.store import Record, Store, model_row
from tests.prompts.desk import Answering, DeskRun, stopping_after

ECHO = ModelRef("echo:")
FIELDS = {"model": "echo:", "template": "zero-shot", "prompts": "data:gear@1", "dataset": "distilled"}


def _row(number: int, **more: Any) -> dict[str, Any]:
    instruction = f"How heavy is tent number {number}?"
    group = group_hash(instruction, "")
    row = {"instruction": instruction, "context": "", "response": f"gold {number}", "category": "open_qa"}
    return {**row, "group": group, "split": split_of(group), **more}


ROWS = [_row(number) for number in range(150)]


def _last(messages: Conversation) -> str:
    return messages[-1].content


def _answers(answer: Callable[[Conversation], str] = lambda messages: f"It is light: {_last(messages)}") -> Answering:
    return Answering(ECHO, answer)


class Cut(Answering):
    """Runs into the token limit at some questions."""

    async def complete(self, batch: Any, sampling: Sampling, on_done: Any = None) -> list[Completion]:
        answers = await super().complete(batch, sampling, on_done)
        return [
            a.model_copy(update={"finish": "length"}) if "number 1?" in _last(m) else a
            for a, m in zip(answers, batch, strict=True)
        ]


@pytest.fixture
def store(sqlite_store: Store, tmp_path: Path) -> Store:
    sqlite_store.freeze(tmp_path, "data", "gear", ROWS, author="ann", licence="CC-BY-4.0")
    return sqlite_store


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Callable[..., tuple[DeskRun, dict[str, Any]]]:
    """Runs a distillation with this backend and these fields; gives the run and its result."""

    def make(backend: Backend | None = None, **fields: Any) -> tuple[DeskRun, dict[str, Any]]:
        task = Distil.model_validate(FIELDS | fields)
        task.check(store)
        run = DeskRun(store, tmp_path, task, {"echo:": backend or _answers()})
        result = task.do(run)
        run.finish(result)
        return run, result

    return make


Start = Callable[..., tuple[DeskRun, dict[str, Any]]]


def _records(store: Store, dataset: str = "distilled") -> list[Record]:
    return list(store.all_records(store.dataset(dataset).id))


# -- what becomes a record -----------------------------------------------------------------------------------------


def test_answers_to_the_good_prompt_become_records_of_the_bare_question(store: Store, start: Start) -> None:
    backend = _answers()
    _, result = start(backend, guidelines="Say kilos.", count=5)
    assert result == {"dataset": "distilled", "questions": 5, "added": 5, "left_out": {}}
    assert backend.asked[0][0].content == "Say kilos."
    for record, row in zip(_records(store), ROWS, strict=False):
        assert (record.instruction, record.context, record.category) == (row["instruction"], "", "open_qa")
        assert record.response == f"It is light: {row['instruction']}"
    assert backend.is_closed


def test_a_record_says_which_prompt_model_and_seed_it_came_from(store: Store, start: Start) -> None:
    run, _ = start(count=2, seed=7)
    digest = template("zero-shot").digest("")
    told = [r.source for r in _records(store)]
    assert told == [f"job {run.id}: row {n} of data:gear@1, zero-shot#{digest} by echo:, seed 7" for n in (1, 2)]


def test_a_new_dataset_inherits_licence_and_guidelines_and_an_old_one_is_added_to(store: Store, start: Start) -> None:
    start(guidelines="Say kilos.", count=1)
    made = store.dataset("distilled")
    assert (made.licence, made.guidelines) == ("CC-BY-4.0", "Say kilos.")
    assert made.description.startswith("Answers of echo: to data:gear@1 with 'zero-shot'")
    start(count=3)
    assert len(_records(store)) == 3
    assert [d.name for d in store.datasets()] == ["distilled"]


def test_every_record_is_in_the_split_its_question_was_born_into(store: Store, start: Start, tmp_path: Path) -> None:
    edited = _row(200, group="f" * 64, split="test")
    store.freeze(tmp_path, "data", "edited", [edited, *ROWS], author="ann")
    start(prompts="data:edited@1")
    splits = {r.instruction: (r.group_hash, r.split) for r in _records(store)}
    assert splits == {row["instruction"]: (row["group"], row["split"]) for row in [edited, *ROWS]}
    assert {split for _, split in splits.values()} == {"train", "validation", "test"}


def test_a_chain_of_thought_teaches_its_answer_alone(store: Store, start: Start) -> None:
    _, result = start(
        _answers(lambda _: "It is made of cloth.\nReply: Two kilos."), template="chain-of-thought", count=2
    )
    assert result["added"] == 2
    assert {r.response for r in _records(store)} == {"Two kilos."}


def test_a_version_of_a_saved_template_is_named_in_full(store: Store, start: Start) -> None:
    body = template("zero-shot").model_dump(mode="json") | {"name": "kilos", "user": "Weigh: {{ instruction }}"}
    for note in ("first", "second"):
        store.add_template_version("kilos", body | {"summary": note}, author="ann")
    backend = _answers()
    start(backend, template="kilos", count=1)
    assert _last(backend.asked[0]) == f"Weigh: {ROWS[0]['instruction']}"
    assert ", kilos@2#" in _records(store)[0].source


# -- what does not -------------------------------------------------------------------------------------------------


def test_questions_of_an_evaluation_set_are_never_asked(store: Store, start: Start, tmp_path: Path) -> None:
    held = [{"instruction": ROWS[n]["instruction"].upper(), "context": ""} for n in (0, 3)]
    store.freeze(tmp_path, "eval", "gear", held, author="ann")
    born = _row(3, instruction="An edit of an evaluation item")
    store.freeze(tmp_path, "data", "gear", [born, *ROWS], author="ann")
    backend = _answers()
    _, result = start(backend, prompts="data:gear@2")
    assert result["left_out"] == {"evaluation": 3}
    assert (result["questions"], result["added"]) == (148, 148)
    asked = {_last(messages) for messages in backend.asked}
    assert not asked & {ROWS[0]["instruction"], ROWS[3]["instruction"], born["instruction"]}


def test_each_question_is_asked_once_and_not_at_all_if_the_dataset_has_it(
    store: Store, start: Start, tmp_path: Path
) -> None:
    twice = _row(4, instruction="how heavy  is tent number 4?")
    store.freeze(tmp_path, "data", "twice", [*ROWS[:6], twice, _row(9, split="excluded")], author="ann")
    start(prompts="data:twice@1", count=2)
    backend = _answers()
    _, result = start(backend, prompts="data:twice@1")
    assert result["left_out"] == {"excluded": 1, "alike": 1, "known": 2}
    assert (result["added"], len(backend.asked), len(_records(store))) == (4, 4, 6)


@pytest.mark.parametrize(
    ("fields", "answer", "why"),
    [
        ({"template": "chain-of-thought"}, "Two kilos, without the marker.", "unread"),
        ({}, "  \n", "unread"),
        ({"at_least": 10}, "Two kilos", "short"),
        ({"rules": ('{"rule": "contains_all", "values": ["kilos"]}',)}, "It weighs little", "rules"),
    ],
    ids=["no marker", "empty", "short", "against a rule"],
)
def test_an_answer_that_teaches_nothing_good_stays_out(
    store: Store, start: Start, fields: dict[str, Any], answer: str, why: str
) -> None:
    good = "So.\nReply: Two good kilos"
    backend = _answers(lambda messages: answer if "number 1?" in _last(messages) else good)
    _, result = start(backend, **({"count": 3} | fields))
    assert (result["added"], result["left_out"]) == (2, {why: 1})
    assert all("number 1?" not in r.instruction for r in _records(store))


def test_a_lenient_reading_takes_what_the_strict_one_refuses(store: Store, start: Start) -> None:
    backend = _answers(lambda _: "Two kilos, without the marker.")
    start(backend, template="chain-of-thought", reading="lenient", count=2)
    assert len(_records(store)) == 2


def test_cut_answers_stay_out_unless_they_are_wanted(store: Store, start: Start) -> None:
    cut = Cut(ECHO, lambda _: "Two kilos")
    assert start(cut, count=3)[1]["left_out"] == {"cut": 1}
    _, result = start(cut, count=3, keep_cut=True)
    assert (result["added"], result["left_out"]) == (1, {"known": 2})


def test_nothing_good_makes_no_dataset(store: Store, start: Start) -> None:
    _, result = start(_answers(lambda _: ""), count=3)
    assert (result["added"], result["left_out"]) == (0, {"unread": 3})
    assert store.datasets() == []


def test_every_reason_has_its_words() -> None:
    assert {"evaluation", "alike", "known", "unread", "cut", "short", "rules", "failed", "excluded"} == set(LEFT_OUT)


# -- examples ------------------------------------------------------------------------------------------------------


def test_examples_are_training_rows_and_never_the_question_or_an_evaluation_item(
    store: Store, start: Start, tmp_path: Path
) -> None:
    train = [row for row in ROWS if row["split"] == "train"][:7]
    store.freeze(tmp_path, "data", "few", train, author="ann")
    store.freeze(tmp_path, "eval", "gear", [{"instruction": train[0]["instruction"]}], author="ann")
    backend = _answers()
    start(backend, template="few-shot", examples="data:few@1", prompts="data:few@1")
    assert len(backend.asked) == 6
    for messages in backend.asked:
        said = [m.content for m in messages if m.role == "user"]
        assert len(said) == 5
        assert said.count(_last(messages)) == 1
        assert train[0]["instruction"] not in said


def test_examples_of_a_bank_come_through_its_selector(store: Store, start: Start) -> None:
    words = [{"instruction": f"Pole {n}?", "context": "", "reasoning": "", "response": f"P{n}"} for n in range(5)]
    rows = [{**w, "category": "", "group_hash": group_hash(w["instruction"], "")} for w in words]
    store.add_examples("poles", rows, author="ann")
    backend = _answers()
    start(backend, template="zero-shot", bank="poles", shots=2, count=1)
    assert [m.content for m in backend.asked[0]][:4] == ["Pole 0?", "P0", "Pole 1?", "P1"]


def test_what_shapes_the_prompt_changes_its_name(store: Store, start: Start) -> None:
    names = set()
    for fields in ({}, {"guidelines": "Say kilos."}, {"examples": "data:gear@1", "shots": 2}, {"template": "few-shot"}):
        given = {"examples": "data:gear@1"} if "template" in fields else {}
        start(count=1, dataset=f"d{len(names)}", **fields, **given)
        names.add(_records(store, f"d{len(names)}")[0].source.split(", ")[1])
    assert len(names) == 4


# -- jobs ----------------------------------------------------------------------------------------------------------


def test_progress_is_logged_and_the_first_answers_can_be_read(start: Start) -> None:
    run, _ = start()
    assert run.steps == [(64, 150), (128, 150), (150, 150)]
    assert run.said[-1] == "128 of 150 questions done, 128 records added to distilled."
    number, prompt, answers = run.samples[0]
    assert (number, prompt) == (1, ROWS[0]["instruction"])
    assert answers == {"answer": f"It is light: {ROWS[0]['instruction']}"}


def test_a_stopped_run_keeps_what_it_has_and_goes_on_from_there(store: Store, tmp_path: Path) -> None:
    task = Distil.model_validate(FIELDS | {"temperature": 0.7})
    backend = _answers(lambda m: "" if "number 1?" in _last(m) else f"It is light: {_last(m)}")
    run = DeskRun(store, tmp_path, task, {"echo:": backend})
    with stopping_after(run, 1):
        assert task.do(run)["added"] == 63
    assert len(_records(store)) == 63
    result = task.do(run)
    assert result == {"dataset": "distilled", "questions": 150, "added": 149, "left_out": {"unread": 1}}
    assert [r.instruction for r in _records(store)] == [row["instruction"] for n, row in enumerate(ROWS) if n != 1]
    assert len(backend.asked) == 150, "nothing is asked twice"


def test_a_run_that_died_between_records_and_checkpoint_adds_none_twice(store: Store, tmp_path: Path) -> None:
    task = Distil.model_validate(FIELDS)
    run = DeskRun(store, tmp_path, task, {"echo:": _answers()})
    publish, run.publish = run.publish, _dies  # type: ignore[method-assign]
    with pytest.raises(OSError, match="power"):
        task.do(run)
    run.publish = publish  # type: ignore[method-assign]
    assert task.do(run)["left_out"] == {"known": 64}
    assert len({r.group_hash for r in _records(store)}) == len(_records(store)) == 150


def _dies(folder: Path) -> None:
    raise OSError("the power went")


def test_the_same_seed_draws_the_same_for_a_row_however_the_rows_are_portioned(
    store: Store, start: Start, tmp_path: Path
) -> None:
    def seeds(**fields: Any) -> dict[str, int]:
        backend = _answers()
        start(backend, temperature=0.7, **fields)
        return {_last(m): s.seed for m, s in zip(backend.asked, backend.sampling, strict=True)}

    first = seeds(dataset="a", count=5)
    assert first.items() <= seeds(dataset="b", count=9).items()
    assert first != seeds(dataset="c", count=5, seed=1)
    assert len(set(first.values())) == 5


def test_a_run_whose_prompt_changed_meanwhile_does_not_go_on(store: Store, tmp_path: Path) -> None:
    body = template("zero-shot").model_dump(mode="json") | {"name": "kilos"}
    store.add_template_version("kilos", body, author="ann")
    task = Distil.model_validate(FIELDS | {"template": "kilos"})
    run = DeskRun(store, tmp_path, task, {"echo:": _answers()})
    with stopping_after(run, 1):
        task.do(run)
    store.add_template_version("kilos", body | {"user": "Weigh: {{ instruction }}"}, author="ann")
    with pytest.raises(RunError, match=r"began with the prompt kilos@1#.*, which is kilos@2#"):
        task.do(run)
    assert len(_records(store)) == 64


class Failing(Answering):
    def __init__(self, error: Exception, at: str) -> None:
        super().__init__(ECHO, lambda m: f"It is light: {_last(m)}")
        self._error, self._at = error, at

    async def complete(self, batch: Any, sampling: Sampling, on_done: Any = None) -> list[Completion]:
        if any(self._at in _last(messages) for messages in batch):
            raise self._error
        return await super().complete(batch, sampling, on_done)


def test_one_question_that_cannot_be_asked_leaves_the_others(store: Store, start: Start) -> None:
    _, result = start(Failing(ModelError("too long"), "number 1?"), count=5)
    assert (result["added"], result["left_out"]) == (4, {"failed": 1})


@pytest.mark.parametrize(
    ("error", "at"), [(ModelError("refused"), "tent"), (EngineLost("gone"), "number 1?")], ids=["every", "engine"]
)
def test_a_model_that_cannot_be_asked_ends_the_run_with_its_reason(
    store: Store, start: Start, error: Exception, at: str
) -> None:
    backend = Failing(error, at)
    with pytest.raises(type(error), match=str(error)):
        start(backend, count=5)
    assert store.datasets() == []
    assert backend.is_closed


# -- refused before anything starts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"prompts": "eval:gear@1"}, InputError, "holds no questions"),
        ({"prompts": "data:none@1"}, NotFound, "no snapshot 'data:none@1'"),
        ({"template": "none"}, NotFound, "no template 'none'"),
        ({"template": "few-shot"}, InputError, "shows 4 examples. Choose a snapshot to take them from, or a bank"),
        ({"shots": 2}, InputError, "shows 2 examples"),
        ({"shots": 2, "examples": "data:gear@1", "bank": "b"}, InputError, "shows 2 examples"),
        ({"shots": 2, "examples": "prompts:gear@1"}, InputError, "holds no answers to show"),
        ({"shots": 2, "bank": "b"}, InputError, "Bank 'b' is empty"),
        ({"model": "run:3"}, InputError, "run:3 scores answers"),
    ],
    ids=["kind", "snapshot", "template", "no examples", "shots", "both", "answers", "bank", "reward"],
)
def test_what_cannot_work_is_refused_before_it_starts(
    store: Store, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    store.add_model(model_row("run:3", "Reward", author="ann", answers=False, scores=True))
    with pytest.raises(error, match=words):
        Distil.model_validate(FIELDS | fields).check(store)


def test_a_template_with_variables_that_rows_lack_is_refused(store: Store) -> None:
    body = template("plain").model_dump(mode="json")
    body |= {"name": "toned", "declares": ["instruction", "tone"], "user": "{{ instruction }} {{ tone }}"}
    store.add_template_version("toned", body, author="ann")
    with pytest.raises(InputError, match="needs a value for 'tone', which the rows of data:gear@1 do not have"):
        Distil.model_validate(FIELDS | {"template": "toned@1"}).check(store)


@pytest.mark.parametrize(
    "fields", [{"dataset": "a b"}, {"rules": ("max_words",)}, {"rules": ('{"rule": "shouts"}',)}, {"at_least": 0}]
)
def test_fields_that_cannot_be_used_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Distil.model_validate(FIELDS | fields)


def test_the_task_is_known_to_jobs_and_forms() -> None:
    task = task_from("distil", FIELDS | {"examples": ""})
    assert isinstance(task, Distil)
    assert json.loads(task.model_dump_json())["examples"] is None
    assert all(field.title and field.help for field in describe(Distil))
