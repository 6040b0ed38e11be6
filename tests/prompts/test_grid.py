"""Batch evaluation: every row by every column, nothing asked twice, and figures that say what they stand on."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from studio.backends import Backend, Conversation, EchoBackend, RemoteBackend
from studio.errors import EngineLost, InputError, ModelError, NotFound, RunError, Unsupported
from studio.evaluation import mcnemar, mean_interval, wilson
from studio.jobs import task_from
from studio.models.endpoints import Opened
from studio.prompts.asking import Question
from studio.prompts.bank import add_example
from studio.prompts.cache import Remembering
from studio.prompts.documents import import_documents
from studio.prompts.grid import Grid, asked_like, failures, grid_lines, grid_page, grid_report, grids, plan_grid
from studio.prompts.memory import Memory
from studio.prompts.templates import Template, save_template, template
from studio.specs import Completion, ModelRef, Sampling, TokenLogprob, user
from studio.store import CellFilter, Endpoint, GridCell, Price, Store, model_row
from tests.prompts.desk import DeskRun

ECHO = ModelRef("echo:")
ROWS = [
    {"instruction": f"Say {n}", "context": "", "response": str(n), "category": f"c{n % 3}", "split": split}
    for n, split in enumerate(["train"] * 8 + ["test"] * 2)
]
PLAIN = {"template": "plain", "model": "echo:"}
FIELDS: dict[str, Any] = {"columns": [PLAIN], "rows": "data:gear@1", "metrics": ["exact"]}

Say = Callable[[str], str]


class Model(EchoBackend):
    """Answers what a function makes of the last question; takes 0.5 s for each and counts what it is asked."""

    def __init__(self, say: Say = lambda asked: asked, ref: str = "echo:") -> None:
        super().__init__(ModelRef(ref))
        self.asked: list[Conversation] = []
        self.sampling: list[Sampling] = []
        self.is_closed = False
        self._say = say

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        texts = [self._say(messages[-1].content) for messages in batch]
        self.asked += batch
        self.sampling += [sampling] * len(batch)
        return [
            Completion(text=t, finish="stop", prompt_tokens=7, output_tokens=len(t.split()), seconds=0.5) for t in texts
        ]

    async def close(self) -> None:
        self.is_closed = True

    @property
    def questions(self) -> list[str]:
        return [messages[-1].content for messages in self.asked]


def number(asked: str) -> str:
    return asked.split()[-1]


def number_or_even(asked: str) -> str:
    """Right on even numbers only."""
    return number(asked) if int(number(asked)) % 2 == 0 else "unknown"


@pytest.fixture
def store(sqlite_store: Store, tmp_path: Path) -> Store:
    sqlite_store.freeze(tmp_path, "data", "gear", ROWS, author="ann")
    return sqlite_store


class Desk:
    """Runs grids in one workspace; `models` are asked."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.root = store, root
        self.models: dict[str, Backend] = {"echo:": Model(number)}

    def run(self, **changes: Any) -> DeskRun:
        task = Grid.model_validate(FIELDS | changes)
        task.check(self.store)
        return DeskRun(self.store, self.root, task, self.models)

    def do(self, **changes: Any) -> DeskRun:
        run = self.run(**changes)
        run.finish(_task(run).do(run))
        return run

    def model(self, ref: str = "echo:") -> Model:
        found = self.models[ref]
        assert isinstance(found, Model)
        return found


def _task(run: DeskRun) -> Grid:
    return Grid.model_validate(run.store.job(run.id).task)


def _cells(run: DeskRun) -> list[GridCell]:
    return list(run.store.all_cells(run.id))


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path)


def _two(**second: Any) -> list[dict[str, Any]]:
    return [PLAIN, PLAIN | {"model": "echo:other"} | second]


# -- every row by every column -------------------------------------------------------------------------------


def test_every_column_answers_every_row_once_and_each_answer_is_measured(desk: Desk) -> None:
    desk.models["echo:other"] = Model(number_or_even, "echo:other")
    run = desk.do(columns=_two())
    found = {(c.row, c.column): (c.answer, c.scores) for c in _cells(run)}
    assert len(found) == 20
    assert found[3, 0] == ("3", {"exact": 1.0})
    assert found[3, 1] == ("unknown", {"exact": 0.0})
    assert desk.model().questions == [row["instruction"] for row in ROWS]
    assert (desk.model().is_closed, desk.model("echo:other").is_closed) == (True, True)
    assert run.store.job(run.id).result == {"rows": 10, "cells": 20, "refused": 0}


def test_columns_are_pairs_and_not_a_cross_product(desk: Desk) -> None:
    desk.models["echo:other"] = Model(number, "echo:other")
    run = desk.do(columns=[PLAIN, {"template": "zero-shot", "model": "echo:other", "guidelines": "Be brief."}])
    assert {len(asked) for asked in desk.model().asked} == {1}
    assert {asked[0].content for asked in desk.model("echo:other").asked} == {"Be brief."}
    assert len(_cells(run)) == 20


def test_the_number_of_answers_and_calls_is_known_before_the_start(desk: Desk) -> None:
    chain = PLAIN | {"technique": "self-consistency", "knobs": {"votes": 3}}
    sampled = PLAIN | {"sampling": {"temperature": 0.7}, "model": "endpoint:office/small"}
    metrics = ["exact", {"metric": "label"}, {"metric": "judge", "model": "echo:"}]
    task = Grid.model_validate(FIELDS | {"columns": [PLAIN, chain, sampled], "repeats": 2, "metrics": metrics})
    plan = plan_grid(desk.store, desk.root, task)
    assert (plan.rows, plan.cells) == (10, 60)
    assert [(c.calls, c.labels, c.leaves) for c in plan.columns] == [
        (10, 100, False),
        (60, 100, False),
        (20, 100, True),
    ]
    assert plan.verdicts == 2 * 2 * 10 * 2
    assert plan.calls == 90 + 300 + 80


def test_a_limit_draws_rows_by_the_seed_and_a_split_leaves_the_others(desk: Desk) -> None:
    drawn = [{c.row for c in _cells(desk.do(limit=4, seed=seed))} for seed in (1, 1, 2)]
    assert [len(rows) for rows in drawn] == [4, 4, 4]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [c.row for c in _cells(desk.do(split="test"))] == [8, 9]


def test_progress_reaches_the_end_and_words_say_how_far_it_is(desk: Desk) -> None:
    run = desk.do(columns=[PLAIN | {"label": "Bare"}], repeats=2)
    assert run.steps == [(10, 20), (20, 20)]
    assert run.said == ["Bare: 0 of 20 answers.", "Bare: 10 of 20 answers."]


def test_questions_without_answers_are_asked_and_what_is_not_defined_is_no_zero(desk: Desk) -> None:
    rules = [{"rule": "contains_all", "values": ["7"]}, {"rule": "max_words", "value": 3}]
    desk.store.freeze(desk.root, "eval", "tents", [{"instruction": "Say 7", "rules": rules}], author="ann")
    desk.store.freeze(desk.root, "prompts", "open", [{"instruction": "Say 7"}], author="ann")
    run = desk.do(rows="eval:tents@1", metrics=["rules", "json", {"metric": "contains"}])
    assert [c.scores for c in _cells(run)] == [{"rules": 1.0, "json": 1.0, "contains": None}]
    assert grid_report(desk.store, run.id, "contains").columns[0].score is None
    (cell,) = _cells(desk.do(rows="prompts:open@1", metrics=[]))
    assert (cell.answer, cell.scores) == ("7", {})


def test_a_technique_of_several_calls_is_one_cell_with_all_it_took(desk: Desk) -> None:
    chain = PLAIN | {"technique": "self-consistency", "knobs": {"votes": 3, "marker": "is"}}
    desk.models["echo:"] = Model(lambda asked: "So the answer is 4")
    (cell, *_) = _cells(desk.do(columns=[chain], limit=1))
    assert (cell.answer, cell.calls, cell.is_strict, cell.prompt_tokens, cell.seconds) == ("4", 3, True, 21, 1.5)


def test_a_template_with_a_marker_has_its_answer_behind_it(desk: Desk) -> None:
    made = template("plain").model_copy(update={"name": "marked", "answer_after": "Reply:"})
    save_template(desk.store, made, author="ann")
    desk.models["echo:"] = Model(lambda asked: f"Hm. Reply: {number(asked)}" if asked != "Say 3" else "Three")
    found = {c.row: (c.answer, c.is_strict) for c in _cells(desk.do(columns=[PLAIN | {"template": "marked@1"}]))}
    assert (found[2], found[3]) == (("2", True), ("Three", False))


# -- from one question to a whole set ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "put",
    [
        {"template": "plain"},
        {"template": "zero-shot", "guidelines": "Be brief.", "sampling": Sampling(max_tokens=9, top_p=0.5)},
        {"template": "few-shot", "examples": "data:gear@1", "sampling": Sampling(seed=3)},
        {"template": "few-shot", "examples": "data:gear@1", "selector": "random", "sampling": Sampling(seed=3)},
        {"template": "few-shot", "examples": "data:gear@1", "selector": "knn", "shots": 2},
        {"template": "named@1", "more": {"tone": "warm"}},
        {"template": "answer-from-documents", "passages": 1},
    ],
    ids=["plain", "guidelines", "fixed", "random", "knn", "variables", "passages"],
)
def test_a_column_made_of_a_question_asks_each_row_as_that_question_is_asked(desk: Desk, put: dict[str, Any]) -> None:
    named = Template(
        name="named", title="Named", user="{{ tone }}: {{ instruction }}", declares=("instruction", "tone")
    )
    save_template(desk.store, named, author="ann")
    _add_document(desk, "Whoever is asked to say 8 says it twice.")
    question = Question(instruction="Say 8", **put)
    model = desk.models["echo:"] = Model()
    desk.do(columns=[asked_like(question, ECHO, desk.store)], split="test")
    memory = Memory()
    alone = asyncio.run(question.composed(desk.store, desk.root, model, memory))
    assert list(model.asked[0]) == alone.messages
    assert model.sampling[0].model_copy(update={"seed": 0}) == alone.sampling.model_copy(update={"seed": 0})


@pytest.mark.parametrize(
    ("put", "said"),
    [
        ({"draft": template("plain")}, "your edits of 'plain' are not saved"),
        ({"template": "few-shot"}, "Choose a bank or a snapshot"),
        ({"template": "few-shot", "examples": "data:gear@1", "shots": 65}, "at most 64 examples, not 65"),
        ({"template": "nobody"}, "nobody"),
    ],
)
def test_what_rows_cannot_be_given_is_refused(desk: Desk, put: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        asked_like(Question(**{"template": "plain", "instruction": "Say 8"} | put), ECHO, desk.store)


def test_what_a_prompt_does_not_declare_and_what_rows_bring_themselves_stay_out_of_a_column(desk: Desk) -> None:
    named = Template(
        name="named", title="Named", user="{{ category }}: {{ instruction }}", declares=("instruction", "category")
    )
    save_template(desk.store, named, author="ann")
    question = Question("named@1", "Say 8", more={"category": "mine", "nobody": "x"})
    assert asked_like(question, ECHO, desk.store).variables == {}


def test_a_resumed_grid_does_not_go_on_with_other_documents(desk: Desk) -> None:
    _add_document(desk, "Whoever is asked to say 8 says it twice.")
    sampled = {"temperature": 0.5}
    run = desk.run(
        columns=[PLAIN | {"template": "answer-from-documents", "passages": 1, "sampling": sampled}], repeats=2
    )
    _stop_at(run, cells=10)
    assert _task(run).do(run) == {}
    _add_document(desk, "Whoever is asked to say 9 keeps silent.")
    run.stop = lambda: ""
    with pytest.raises(RunError, match="The documents of .* changed since this grid began"):
        _task(run).do(run)


def _add_document(desk: Desk, text: str) -> None:
    file = desk.root / f"{len(text)}.txt"
    file.write_text(text, encoding="utf-8")
    import_documents(desk.store, desk.root, [file], author="ann")


# -- nothing is asked twice ----------------------------------------------------------------------------------


def _stop_at(run: DeskRun, cells: int) -> None:
    """Somebody presses Stop once so many answers are there."""
    run.stop = lambda: "cancel" if len(run.store.cell_places(run.id)) >= cells else ""


def test_a_stopped_grid_goes_on_without_asking_again(desk: Desk) -> None:
    desk.store.freeze(
        desk.root, "data", "long", [r | {"instruction": f"Say {n}"} for n, r in enumerate(ROWS * 9)], author="a"
    )
    run = desk.run(rows="data:long@1")
    _stop_at(run, cells=64)
    assert _task(run).do(run) == {}
    assert (len(_cells(run)), desk.model().is_closed) == (64, True)
    run.stop = lambda: ""
    before = len(desk.model().asked)
    result = _task(run).do(run)
    assert (result["cells"], len(desk.model().asked), before) == (90, 90, 64)
    assert {c.is_cached for c in _cells(run)} == {False}
    assert run.steps[-1] == (90, 90)


class Hanging(Model):
    """Answers three questions and then thinks for ever."""

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        if len(self.asked) == 3:
            await asyncio.Event().wait()
        return await super().complete(batch, sampling, on_done)


def test_stop_is_heard_in_the_middle_of_a_batch_and_its_answers_are_kept(desk: Desk) -> None:
    desk.models["echo:"] = hanging = Hanging(number)
    run = desk.run(columns=[PLAIN | {"sampling": {"temperature": 0.5}}])
    run.stop = lambda: "cancel" if len(hanging.asked) == 3 else ""
    assert _task(run).do(run) == {}
    assert (_cells(run), hanging.is_closed) == ([], True)
    run.stop = lambda: ""
    desk.models["echo:"] = Model(number)
    _task(run).do(run)
    assert (len(_cells(run)), len(desk.model().asked)) == (10, 7)


def test_another_grid_asks_for_what_is_new_only_and_says_what_it_knew(desk: Desk) -> None:
    desk.do(limit=4)
    run = desk.do()
    assert len(desk.model().asked) == 10
    assert sum(c.is_cached for c in _cells(run)) == 4
    assert {c.seconds for c in _cells(run)} == {0.5}  # a known answer keeps its first seconds,
    figures = grid_report(desk.store, run.id).columns[0]
    assert (figures.counts.cached, figures.counts.calls, figures.counts.seconds) == (
        4,
        6,
        3.0,
    )  # and no figure has them
    assert figures.seconds_per_call == 0.5
    known = grid_report(desk.store, desk.do().id).columns[0]
    assert (known.counts.cached, known.seconds_per_call) == (10, None)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "echo:other"},
        {"sampling": {"max_tokens": 9}},
        {"sampling": {"stop": ["x"]}},
        {"template": "zero-shot", "guidelines": "Be brief."},
    ],
    ids=str,
)
def test_whatever_shapes_an_answer_makes_it_another_one(desk: Desk, change: dict[str, Any]) -> None:
    desk.models["echo:other"] = Model(number, "echo:other")
    desk.do(limit=2)
    assert not any(c.is_cached for c in _cells(desk.do(columns=[PLAIN | change], limit=2)))


def test_repeats_of_a_greedy_answer_are_one_call(desk: Desk) -> None:
    run = desk.do(repeats=3, limit=4, columns=[PLAIN | {"sampling": {"seed": 5}}])
    assert (len(_cells(run)), len(desk.model().asked)) == (12, 4)
    assert grid_report(desk.store, run.id).columns[0].counts.distinct == 1.0


def test_repeats_of_a_sampled_answer_differ_by_their_seed_and_are_known_the_second_time(desk: Desk) -> None:
    changes = {"repeats": 3, "limit": 4, "columns": [PLAIN | {"sampling": {"temperature": 0.9}}]}
    desk.do(**changes)
    assert len({s.seed for s in desk.model().sampling}) == 12
    run = desk.do(**changes)
    assert (len(desk.model().asked), {c.is_cached for c in _cells(run)}) == (12, {True})


def test_equal_questions_are_asked_once_in_a_batch(desk: Desk) -> None:
    desk.store.freeze(desk.root, "data", "twice", [ROWS[0], ROWS[0], ROWS[1]], author="ann")
    run = desk.do(rows="data:twice@1")
    assert desk.model().questions == ["Say 0", "Say 1"]
    assert [c.is_cached for c in _cells(run)] == [False, True, False]


def test_a_resumed_grid_does_not_go_on_with_another_prompt(desk: Desk) -> None:
    save_template(desk.store, template("plain").model_copy(update={"name": "mine"}), author="ann")
    run = desk.run(columns=[PLAIN | {"template": "mine"}], repeats=2)
    _stop_at(run, cells=10)
    _task(run).do(run)
    run.stop = lambda: ""
    other = template("plain").model_copy(update={"name": "mine", "user": "Now: {{ instruction }}"})
    save_template(desk.store, other, author="ann")
    with pytest.raises(
        RunError, match="The template of 'mine · echo:' changed since this grid began. Start a new grid"
    ):
        _task(run).do(run)


def test_a_pinned_grid_keeps_the_version_it_began_with(desk: Desk) -> None:
    save_template(desk.store, template("plain").model_copy(update={"name": "mine"}), author="ann")
    task = Grid.model_validate(FIELDS | {"columns": [PLAIN | {"template": "mine"}, PLAIN]}).pinned(desk.store)
    assert [c.template for c in task.columns] == ["mine@1", "plain"]


# -- what a server samples -----------------------------------------------------------------------------------


class Server(RemoteBackend):
    """A server without a wire."""

    def __init__(self, url: str = "http://localhost:1/v1") -> None:
        endpoint = Endpoint(1, "office", url, False, "", (), Price(), 5.0, "ann", 0.0)
        super().__init__(ModelRef("endpoint:office/small"), Opened(endpoint))
        self.calls: list[int] = []
        self.breaks_off = False

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        self.calls.append(len(batch))
        finish = "cancelled" if self.breaks_off else "stop"
        return [Completion(text="Yes", finish=finish, prompt_tokens=1, output_tokens=1) for _ in batch]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("temperature", "trusts_seeds", "asked"), [(0.0, False, 1), (0.7, False, 2), (0.7, True, 1)], ids=str
)
def test_what_a_server_sampled_is_remembered_only_when_people_say_so(
    desk: Desk, temperature: float, trusts_seeds: bool, asked: int
) -> None:
    desk.models["endpoint:office/small"] = server = Server()
    column = PLAIN | {"model": "endpoint:office/small", "sampling": {"temperature": temperature}}
    for _ in range(2):
        desk.do(columns=[column], limit=1, trusts_seeds=trusts_seeds)
    assert sum(server.calls) == asked


@pytest.mark.anyio
async def test_two_servers_of_one_name_share_no_answers(store: Store) -> None:
    for url in ("http://localhost:1/v1", "http://localhost:2/v1"):
        server = Server(url)
        await Remembering(server, store).complete([[user("Why?")]], Sampling())
        assert server.calls == [1]


@pytest.mark.anyio
async def test_what_a_server_was_paid_for_is_kept_in_small_pieces(store: Store) -> None:
    server = Server()
    remembering = Remembering(server, store)
    await remembering.complete([[user(f"Say {n}")] for n in range(10)], Sampling())
    assert server.calls == [4, 4, 2]
    server.breaks_off = True
    with pytest.raises(ModelError, match="broke off half-way through its answer. Ask again"):
        await remembering.complete([[user("Say 3")], [user("Something new")]], Sampling())
    assert server.calls[3:] == [1]


# -- what cannot be asked ------------------------------------------------------------------------------------


def _fails_on(*questions: str, error: type[Exception] = ModelError) -> Say:
    def say(asked: str) -> str:
        if asked in questions:
            raise error(f"The prompt '{asked}' is too long.")
        return number(asked)

    return say


def test_a_row_that_cannot_be_asked_is_refused_and_the_others_go_on(desk: Desk) -> None:
    desk.models["echo:"] = Model(_fails_on("Say 3", "Say 5"))
    run = desk.do()
    refused = {c.row: c.output for c in _cells(run) if c.is_refused}
    assert refused == {n: f"The prompt 'Say {n}' is too long." for n in (3, 5)}
    figures = grid_report(desk.store, run.id).columns[0]
    assert (figures.counts.refused, figures.answered, figures.score) == (2, 8, wilson(8, 8))
    assert [r.row.number for r in grid_page(desk.store, desk.root, run.id, CellFilter("refused")).rows] == [3, 5]


@pytest.mark.parametrize("error", [EngineLost, Unsupported])
def test_an_error_that_no_row_is_to_blame_for_ends_the_grid(desk: Desk, error: type[Exception]) -> None:
    desk.models["echo:"] = Model(_fails_on("Say 3", error=error))
    run = desk.run()
    with pytest.raises(error):
        _task(run).do(run)
    assert (_cells(run), desk.model().is_closed) == ([], True)


def test_a_model_that_refuses_all_rows_ends_the_grid_with_its_reason(desk: Desk) -> None:
    desk.models["echo:"] = Model(_fails_on(*(row["instruction"] for row in ROWS)))
    run = desk.run()
    with pytest.raises(ModelError, match="'Say 0' is too long"):
        _task(run).do(run)
    assert _cells(run) == []


# -- examples ------------------------------------------------------------------------------------------------


def test_a_row_never_sees_itself_among_its_examples_and_says_which_it_saw(desk: Desk) -> None:
    run = desk.do(columns=[PLAIN | {"bank": "data:gear@1", "k": 4}])
    for cell, asked in zip(_cells(run), desk.model().asked, strict=True):
        shown = [turn.content for turn in asked[:-1] if turn.role == "user"]
        assert len(shown) == len(cell.examples) == 4
        assert asked[-1].content not in shown
        assert cell.examples == [f"data:gear@1#{int(number(text)) + 1}" for text in shown]
        assert not {"Say 8", "Say 9"} & set(shown)  # held out for the test


def test_examples_that_a_selector_chose_from_a_bank_are_recorded_for_each_row(desk: Desk) -> None:
    texts = ["Do you open on Sunday", "How do I wash wool"]
    ids = [
        add_example(desk.store, desk.root, "shop", {"instruction": t, "response": "r"}, author="ann").id for t in texts
    ]
    rows = [{"instruction": "Is the Heron heavy"}, {"instruction": texts[0]}]
    desk.store.freeze(desk.root, "prompts", "asked", rows, author="ann")
    run = desk.do(rows="prompts:asked@1", metrics=[], columns=[PLAIN | {"bank": "shop", "k": 1}])
    assert [c.examples for c in _cells(run)] == [[ids[0]], [ids[1]]]
    assert [asked[0].content for asked in desk.model().asked] == texts


def test_a_selector_may_draw_from_a_snapshot_too(desk: Desk) -> None:
    column = PLAIN | {"bank": "data:gear@1", "k": 3, "selector": "random"}
    drawn = [_cells(desk.do(columns=[column | {"seed": seed}]))[9].examples for seed in range(3)]
    assert all(set(names) <= {f"data:gear@1#{n}" for n in range(1, 9)} for names in drawn)
    assert len({tuple(names) for names in drawn}) > 1


def test_a_template_may_use_the_category_of_a_row_but_never_its_answer(desk: Desk) -> None:
    plain = template("plain").model_dump() | {"name": "sorted", "declares": ["instruction", "category", "response"]}
    save_template(desk.store, Template(**plain | {"user": "{{ category }}: {{ instruction }}"}), author="ann")
    desk.do(columns=[PLAIN | {"template": "sorted"}], limit=10)
    assert desk.model().questions[4] == "c1: Say 4"
    save_template(desk.store, Template(**plain | {"user": "{{ instruction }} {{ response }}"}), author="ann")
    with pytest.raises(InputError, match="needs a value for 'response'"):
        desk.run(columns=[PLAIN | {"template": "sorted"}])


# -- labels --------------------------------------------------------------------------------------------------


class Rating(Model):
    """Finds a label likely when it is the number asked for; twice as long a label has twice as many tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.scored = 0

    async def logprobs(self, messages: Conversation, continuation: str, top: int = 0) -> list[TokenLogprob]:
        self.scored += 1
        likely = -0.1 if continuation == number(messages[-1].content) else -2.0
        return [TokenLogprob(token=c, logprob=likely) for c in continuation]


def test_the_likeliest_label_counts_whatever_the_model_says(desk: Desk) -> None:
    rows = [{"instruction": f"Say {n}", "response": wanted} for n, wanted in ((1, "1"), (22, "22"), (1, "22"))]
    desk.store.freeze(desk.root, "data", "few", rows, author="ann")
    desk.models["echo:"] = rating = Rating()
    run = desk.do(rows="data:few@1", metrics=["exact", "label"])
    assert [c.scores for c in _cells(run)] == [
        {"exact": 0.0, "label": 1.0},
        {"exact": 0.0, "label": 1.0},
        {"exact": 0.0, "label": 0.0},
    ]
    assert rating.scored == 4  # the third question is the first one again
    desk.do(rows="data:few@1", metrics=["label"])
    assert rating.scored == 4


def test_a_model_that_cannot_tell_likelihoods_is_refused_by_name(desk: Desk) -> None:
    run = desk.run(metrics=["label"])
    with pytest.raises(Unsupported, match="echo: cannot tell how likely an answer is"):
        _task(run).do(run)


# -- the judge -----------------------------------------------------------------------------------------------


def _judged(desk: Desk, verdict: Callable[[str, str], str], **changes: Any) -> DeskRun:
    """Two columns, the second right on even numbers only; `verdict` sees answers A and B."""

    def say(asked: str) -> str:
        answers = asked.split("Answer A:\n")[1].split("\n\nWhich")[0]
        return verdict(*answers.split("\n\nAnswer B:\n"))

    desk.models["echo:other"] = Model(number_or_even, "echo:other")
    desk.models["echo:judge"] = Model(say, "echo:judge")
    return desk.do(columns=_two(), metrics=[{"metric": "judge", "model": "echo:judge"}], **changes)


def _key(run: DeskRun) -> str:
    return _task(run).metrics[0].key


def test_a_judge_that_means_what_it_says_decides_in_both_orders(desk: Desk) -> None:
    run = _judged(desk, lambda a, b: "A" if b == "unknown" else "B")
    key = _key(run)
    found = {c.row: c.scores.get(key) for c in _cells(run) if c.column == 1}
    assert found == {n: 0.0 if n % 2 else 0.5 for n in range(10)}  # equal answers tie,
    assert len(desk.model("echo:judge").asked) == 2 * 5  # and nobody is asked
    figures = grid_report(desk.store, run.id, key).columns
    assert figures[0].score is None
    assert (figures[1].score.value, figures[1].unread) == (pytest.approx(0.25), 0)  # type: ignore[union-attr]
    assert figures[1].position_bias.value == 0.0  # type: ignore[union-attr]
    assert run.steps[-1] == (30, 30)


def test_a_judge_that_goes_by_the_place_ties_everything_and_is_found_out(desk: Desk) -> None:
    run = _judged(desk, lambda a, b: "A")
    figures = grid_report(desk.store, run.id).columns[1]
    assert (figures.score.value, figures.position_bias.value) == (0.5, 1.0)  # type: ignore[union-attr]


def test_a_verdict_that_cannot_be_read_is_none_and_is_counted(desk: Desk) -> None:
    run = _judged(desk, lambda a, b: "Both are lovely.")
    figures = grid_report(desk.store, run.id).columns[1]
    assert (figures.unread, figures.position_bias) == (5, None)
    assert figures.score.n == 5  # type: ignore[union-attr]  # the equal ones


def test_a_stopped_comparison_of_answers_goes_on_where_it_was(desk: Desk) -> None:
    run = _judged(desk, lambda a, b: "A")
    asked = len(desk.model("echo:judge").asked)
    assert _task(run).do(run) == {"rows": 10, "cells": 20, "refused": 0}
    assert len(desk.model("echo:judge").asked) == asked


def test_one_column_may_be_held_against_the_references(desk: Desk) -> None:
    desk.models["echo:judge"] = Model(lambda asked: "Tie", "echo:judge")
    desk.models["echo:"] = Model(lambda asked: "no idea")
    run = desk.do(metrics=[{"metric": "judge", "model": "echo:judge", "against": "reference"}])
    assert {c.scores[_key(run)] for c in _cells(run)} == {0.5}
    assert "Answer B:\n0" in desk.model("echo:judge").questions[0]


# -- what cannot work is refused before it is queued ---------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        pytest.param({"rows": "prefs:gear@1"}, InputError, "prefs:gear@1 holds no questions", id="kind"),
        pytest.param({"rows": "data:gear@9"}, NotFound, "no snapshot 'data:gear@9'", id="snapshot"),
        pytest.param({"rows": "eval:tents@1"}, InputError, "Exact match needs reference answers", id="no references"),
        pytest.param(
            {"metrics": ["rules"]}, InputError, "Rules kept needs rules, and data:gear@1 has none", id="rules"
        ),
        pytest.param({"rows": "eval:tents@1", "split": "test", "metrics": []}, InputError, "no splits", id="split"),
        pytest.param(
            {"columns": [PLAIN | {"template": "nope"}]},
            InputError,
            r"Column 1 \(nope · echo:\): There is no template",
            id="template",
        ),
        pytest.param({"columns": [PLAIN | {"technique": "nope"}]}, InputError, "no technique 'nope'", id="technique"),
        pytest.param(
            {"columns": [PLAIN, PLAIN | {"k": 2}]}, InputError, "Column 2 .* shows 2 examples. Choose a bank", id="bank"
        ),
        pytest.param(
            {"columns": [PLAIN | {"k": 2, "bank": "shop"}]}, InputError, "Bank 'shop' is empty", id="empty bank"
        ),
        pytest.param(
            {"columns": [PLAIN | {"model": "run:7"}]}, InputError, "scores answers and gives none", id="reward"
        ),
        pytest.param(
            {"metrics": [{"metric": "judge", "model": "echo:"}]},
            InputError,
            "The judge has nothing to compare",
            id="judge",
        ),
        pytest.param(
            {"columns": [PLAIN] * 12, "repeats": 20, "rows": "data:many@1"},
            InputError,
            "24,000 answers; at most 20,000",
            id="size",
        ),
    ],
)
def test_a_grid_that_cannot_work_is_refused(
    desk: Desk, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    desk.store.add_model(model_row("run:7", "reward", author="ann", answers=False, scores=True))
    desk.store.freeze(desk.root, "data", "many", [r | {"n": i} for i, r in enumerate(ROWS * 10)], author="ann")
    item = {"instruction": "Say", "rules": [{"rule": "max_words", "value": 3}]}
    desk.store.freeze(desk.root, "eval", "tents", [item], author="ann")
    with pytest.raises(error, match=sentence):
        Grid.model_validate(FIELDS | changes).check(desk.store)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"columns": []}, "at least 1"),
        ({"columns": [PLAIN] * 13}, "at most 12"),
        ({"repeats": 21}, "less than or equal to 20"),
        ({"metrics": ["exact", "exact"]}, "'Exact match' is there twice"),
        ({"metrics": ["bleu"]}, "no metric 'bleu'"),
        ({"columns": [PLAIN | {"selector": "nope"}]}, "no selector 'nope'"),
    ],
    ids=str,
)
def test_fields_that_cannot_be_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Grid.model_validate(FIELDS | changes)


def test_a_grid_survives_the_way_into_a_jobs_row_and_back() -> None:
    fields = FIELDS | {
        "columns": [PLAIN | {"bank": "shop", "k": 3, "selector": {"name": "knn", "nearest": "first"}}],
        "metrics": ["exact", {"metric": "regex", "pattern": "a+"}],
    }
    task = Grid.model_validate(fields)
    assert task_from("grid", json.loads(task.model_dump_json())) == task
    assert task.title == "Evaluate 1 column on data:gear@1"


# -- the page ------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(desk: Desk) -> DeskRun:
    """60 rows; the second column is right on the even ones."""
    rows = [{"instruction": f"Say {n}", "response": str(n)} for n in range(60)]
    desk.store.freeze(desk.root, "data", "sixty", rows, author="ann")
    desk.models["echo:other"] = Model(number_or_even, "echo:other")
    return desk.do(rows="data:sixty@1", columns=_two(label="Other"), metrics=["exact", "f1"])


def test_shares_come_with_wilsons_interval_and_pairs_with_mcnemars_test(desk: Desk, compared: DeskRun) -> None:
    report = grid_report(desk.store, compared.id)
    assert [c.score for c in report.columns] == [wilson(60, 60), wilson(30, 60)]
    (pair,) = report.pairs
    assert (pair.place, pair.baseline, pair.rows, pair.outcome) == (1, 0, 60, "worse")
    assert pair.test == mcnemar([True] * 60, [n % 2 == 0 for n in range(60)])
    assert pair.difference is not None
    assert pair.difference.value == -0.5
    assert pair.sentence.startswith("Other is worse than plain · echo:: −0.50 [")
    (other,) = grid_report(desk.store, compared.id, baseline=1).pairs
    assert (other.place, other.outcome) == (0, "better")


def test_graded_metrics_and_repeats_are_compared_by_their_rows(desk: Desk, compared: DeskRun) -> None:
    (pair,) = grid_report(desk.store, compared.id, "f1").pairs
    assert (pair.test, pair.outcome, pair.rows) == (None, "worse", 60)
    desk.models["echo:"] = Model(number)
    repeated = desk.do(repeats=2, columns=[PLAIN | {"sampling": {"temperature": 1.0}}, PLAIN])
    report = grid_report(desk.store, repeated.id)
    assert (report.columns[0].score.n, report.pairs[0].test) == (10, None)  # type: ignore[union-attr]


def test_the_mean_over_repeats_is_over_rows_and_no_share(desk: Desk) -> None:
    asked: Counter[str] = Counter()

    def right_at_first(question: str) -> str:
        asked[question] += 1
        return number(question) if asked[question] == 1 else number_or_even(question)

    desk.models["echo:"] = Model(right_at_first)
    run = desk.do(repeats=2, columns=[PLAIN | {"sampling": {"temperature": 1.0}}])
    figures = grid_report(desk.store, run.id).columns[0]
    assert figures.score == mean_interval([1.0, 0.5] * 5)
    assert figures.counts.distinct == 1.5


def test_below_fifty_rows_nothing_is_decided(desk: Desk) -> None:
    desk.models["echo:other"] = Model(lambda asked: "wrong", "echo:other")
    (pair,) = grid_report(desk.store, desk.do(columns=_two()).id).pairs
    assert pair.outcome == "few"
    assert pair.sentence == "Too few rows to tell: 10 in both columns, and it takes 50."


def test_equal_columns_are_even(desk: Desk, compared: DeskRun) -> None:
    run = desk.do(rows="data:sixty@1", columns=[PLAIN, PLAIN | {"label": "Again"}])
    (pair,) = grid_report(desk.store, run.id).pairs
    assert (pair.outcome, pair.test.p) == ("even", 1.0)  # type: ignore[union-attr]
    assert pair.sentence.startswith("No difference can be told between Again and plain")


def test_failures_and_differences_are_found_and_paged(desk: Desk, compared: DeskRun) -> None:
    wrong = failures(_task(compared))
    first = grid_page(desk.store, desk.root, compared.id, wrong, limit=20)
    rest = grid_page(desk.store, desk.root, compared.id, wrong, offset=20, limit=20)
    assert [r.row.number for r in (*first.rows, *rest.rows)] == list(range(1, 60, 2))
    assert (first.total, rest.total) == (30, 30)
    assert [c.answer for (c,) in first.rows[0].cells] == ["1", "unknown"]
    assert first.rows[0].row.reference == "1"
    differing = grid_page(desk.store, desk.root, compared.id, CellFilter("differences", "exact"), limit=100)
    assert differing.total == len(differing.rows) == 30


def test_a_grid_that_has_just_begun_has_a_report_too(desk: Desk) -> None:
    run = desk.run(columns=_two())
    report = grid_report(desk.store, run.id)
    assert [(c.answered, c.score, c.parse_rate, c.seconds_per_call) for c in report.columns] == [
        (0, None, None, None)
    ] * 2
    assert (report.pairs[0].outcome, report.pairs[0].difference) == ("few", None)
    assert grid_page(desk.store, desk.root, run.id).total == 0
    assert list(grid_lines(desk.store, desk.root, run.id, "jsonl")) == []


def test_parse_and_truncation_rates_are_shares_of_what_was_answered(desk: Desk) -> None:
    desk.models["echo:"] = EchoBackend()
    figures = grid_report(desk.store, desk.do(columns=[PLAIN | {"sampling": {"max_tokens": 1}}]).id).columns[0]
    assert (figures.truncation_rate, figures.parse_rate, figures.strict_rate) == (1.0, 1.0, 1.0)
    desk.models["echo:"] = Model(lambda asked: "" if asked == "Say 1" else "x")
    run = desk.do()
    assert grid_report(desk.store, run.id).columns[0].parse_rate == 0.9
    page = grid_page(desk.store, desk.root, run.id, CellFilter("unparsed"))
    assert [r.row.number for r in page.rows] == [1]


@pytest.mark.parametrize(
    ("metric", "baseline", "sentence"),
    [("bleu", 0, r"no metric 'bleu'\. Its metrics: exact"), ("", 3, "There is no column 4; this grid has 1")],
)
def test_what_a_grid_has_not_is_refused(desk: Desk, metric: str, baseline: int, sentence: str) -> None:
    run = desk.do()
    with pytest.raises(InputError, match=sentence):
        grid_report(desk.store, run.id, metric, baseline)


def test_grids_are_listed_newest_first_and_other_jobs_are_not_grids(desk: Desk) -> None:
    ids = [desk.do().id for _ in range(2)]
    assert [job.id for job in grids(desk.store)] == ids[::-1]


# -- export --------------------------------------------------------------------------------------------------


def test_jsonl_has_every_answer_as_it_is_with_what_made_it(desk: Desk, compared: DeskRun) -> None:
    lines = [json.loads(line) for line in grid_lines(desk.store, desk.root, compared.id, "jsonl")]
    assert len(lines) == 120
    assert (lines[3]["row"], lines[3]["column"], lines[3]["name"]) == (2, 2, "Other")
    assert {name: lines[3][name] for name in ("instruction", "reference", "answer", "score exact", "model")} == {
        "instruction": "Say 1",
        "reference": "1",
        "answer": "unknown",
        "score exact": 0.0,
        "model": "echo:other",
    }


@pytest.mark.parametrize("said", ["=1+1", "+1", "-1", "@cmd", "\t=1", "＝1+1"])
def test_csv_runs_nothing_in_a_spreadsheet(desk: Desk, said: str) -> None:
    desk.models["echo:"] = Model(lambda asked: said)
    run = desk.do(limit=2)
    text = "".join(grid_lines(desk.store, desk.root, run.id, "csv"))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["output"] for line in lines] == [f"'{said}"] * 2
    (line, *_) = [json.loads(line) for line in grid_lines(desk.store, desk.root, run.id, "jsonl")]
    assert line["output"] == said


def test_csv_tells_a_refusal_from_an_answer(desk: Desk) -> None:
    desk.models["echo:"] = Model(_fails_on("Say 3"))
    text = "".join(grid_lines(desk.store, desk.root, desk.do().id, "csv"))
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(text))}
    assert (lines["4"]["output"], lines["4"]["error"]) == ("", "The prompt 'Say 3' is too long.")
    assert (lines["4"]["score exact"], lines["5"]["score exact"]) == ("", "1.0")
