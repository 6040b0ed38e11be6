"""The Evaluate page: columns as exact pairs, a plan before the start, a job, its figures and rows, and tuning sets."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args

from components.playground import evaluate
from components.playground.evaluate_results import View
from components.playground.evaluate_setup import METRICS_SCRIPT, Columns
from studio.errors import NotFound
from studio.jobs import run_here
from studio.prompts import save_template, template
from studio.prompts.grid import Grid, GridColumn, grid_report
from studio.specs import ModelRef, Sampling
from studio.store import GridCell, Job
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.fixtures_pages import open_workspace
from tests.screen import Screen

EVAL, RECORDS = "eval:brackenfold-development@1", "data:gear@1"
EVIL = "<img src=x onerror=alert(1)>"


class Desk(Screen):
    """The Evaluate page of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.widgets = evaluate.build(workspace)
        super().__init__(demo)

    def look(self) -> list[Any]:
        """What opening the page does, and each beat of the pulse."""
        refresh = self.widgets.refresh
        assert refresh is not None
        given = (self.values[block._id] for block in refresh.inputs)
        answer = refresh.fn(gr.Request(username="owner"), *given)
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)
        return answer

    def press(self, name: str, do: str, key: str | int = "") -> None:
        """A button inside a piece of HTML."""
        listener = next(fn for fn in self.demo.fns.values() if fn.api_name == name)
        given = [gr.EventData(None, {"do": do, "key": str(key)})]
        given += [self.values[block._id] for block in listener.inputs]
        inputs, *_ = special_args(listener.fn, inputs=given, request=gr.Request(username="owner"))
        answer = listener.fn(*inputs)
        answer = answer if len(listener.outputs) > 1 else [answer] if listener.outputs else []
        for block, value in zip(listener.outputs, answer, strict=True):
            self._update(block, value)

    def add(self, prompt: str = "plain", model: str = "echo:", **more: Any) -> None:
        """Add a column; `more` are the other pickers by label."""
        self.type(column_prompt=prompt, column_model=model, column_temperature=0, **more)
        self.do("add_column")

    def measure(self, *names: str, **settings: dict[str, Any]) -> None:
        """Tick these metrics alone; settings by metric, as their fields hold them."""
        board = json.loads(json.dumps(self["Metrics"]))
        for metric in board["metrics"]:
            metric["on"] = metric["name"] in names
            for field in metric["fields"]:
                field["value"] = settings.get(metric["name"], {}).get(field["name"], field["value"])
        self.type(metrics=board)

    def start(self) -> Job:
        """Press Start and see the job through, in a worker process of its own."""
        self.do("start")
        job = run_here(self.store, self.workspace.path, self.workspace.settings, int(self["Evaluation shown"]))
        self.look()
        return job

    def plan(self) -> str:
        self.do("plan")
        return re.sub(r"<[^>]+>", " ", self["What it will take"])

    @property
    def columns(self) -> tuple[GridColumn, ...]:
        return Columns.read(self["Columns"]).columns

    @property
    def task(self) -> Grid:
        """What was queued last."""
        return Grid.model_validate(self.store.jobs(limit=1)[0].task)


def put_records(workspace: Workspace, rows: int = 60) -> None:
    """Questions whose reference is the question itself where the row is even; the last one is no friend of ours."""
    made = [
        {"instruction": f"Say {n}", "context": "", "response": f"Say {n if n % 2 == 0 else -n}", "split": "test"}
        for n in range(rows)
    ]
    made[-1] |= {"instruction": f"{EVIL} {rows - 1}", "context": EVIL}
    workspace.store.freeze(workspace.path, "data", "gear", [*made, {**made[0], "split": "train"}], author="ann")


def put_shouting(workspace: Workspace) -> None:
    """A prompt that makes echo: say more than the question."""
    loud = template("plain").model_copy(update={"name": "shouting", "user": "Shout: {{ instruction }}"})
    save_template(workspace.store, loud, author="ann")


@pytest.fixture
def desk(project: Workspace) -> Desk:
    desk = Desk(project)
    desk.look()
    return desk


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, int]:
    """60 rows by two columns, answered by a worker: the first repeats the question, the second shouts it."""
    workspace = open_workspace(tmp_path_factory.mktemp("evaluated"))
    put_records(workspace)
    put_shouting(workspace)
    desk = Desk(workspace)
    desk.look()
    desk.add()
    desk.add("shouting")
    desk.type(evaluate_on=f"{RECORDS}#test")
    desk.do("fit_metrics")
    desk.measure("exact", "f1")
    desk.do("plan")  # as every change does, which keeps the draft
    job = desk.start()
    assert job.state == "done", job.error
    return workspace, job.id


@pytest.fixture
def results(finished: tuple[Workspace, int]) -> Desk:
    desk = Desk(finished[0])
    desk.type(evaluation_shown=str(finished[1]))
    desk.look()
    return desk


# -- the first look --------------------------------------------------------------------------------------------


def test_an_empty_workspace_offers_the_example_and_then_its_sets(workspace):
    desk = Desk(workspace)
    desk.look()
    sentence = next(b for b in desk.demo.blocks.values() if "no set to evaluate on" in str(getattr(b, "value", "")))
    assert desk.shows(sentence.parent)
    call(desk.demo, "load_example_sets")
    desk.look()
    assert not desk.shows(sentence.parent)
    assert desk["Evaluate on"] == EVAL  # the one to try on, not the one that judges


def test_evaluation_sets_and_held_out_rows_of_datasets_are_offered(desk):
    offered = [value for _, value in desk.props[desk._find("Evaluate on")]["choices"]]
    assert {EVAL, "eval:brackenfold@1", "data:brackenfold@1#validation", "data:brackenfold@1#test"} == set(offered)


def test_metrics_say_what_they_are_and_which_the_set_has_nothing_for(desk):
    board = {metric["name"]: metric for metric in desk["Metrics"]["metrics"]}
    assert board["rules"]["on"]
    assert board["rules"]["why"] == ""
    assert "reference answers" in board["exact"]["why"]
    assert all(metric["summary"] for metric in board.values())
    assert [field["name"] for field in board["regex"]["fields"]] == ["pattern", "is_case_sensitive"]
    models = next(field for field in board["judge"]["fields"] if field["name"] == "model")
    assert models["kind"] == "choice"
    assert models["choices"]
    desk.type(evaluate_on="data:brackenfold@1#test")
    desk.do("fit_metrics")
    board = {metric["name"]: metric for metric in desk["Metrics"]["metrics"]}
    assert board["exact"]["why"] == ""
    assert board["rules"]["why"]


def test_the_scripts_put_no_text_of_others_into_markup():
    for way in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "eval("):
        assert way not in METRICS_SCRIPT


# -- columns ---------------------------------------------------------------------------------------------------


def test_columns_are_exact_pairs_and_not_a_cross_product(desk):
    desk.add()
    desk.add("zero-shot", "echo:loud", other_settings="top_p: 0.9\nseed: 4")
    desk.type(column_temperature=0.7, other_settings="")
    desk.do("add_column")
    assert [(c.template, str(c.model), c.sampling) for c in desk.columns] == [
        ("plain", "echo:", Sampling()),
        ("zero-shot", "echo:loud", Sampling(top_p=0.9, seed=4)),
        ("zero-shot", "echo:loud", Sampling(temperature=0.7)),
    ]
    assert "temperature 0.7" in desk["Columns of the evaluation"]


def test_a_column_is_duplicated_changed_and_removed(desk):
    desk.add(other_settings="name: Bare")
    desk.press("act_on_columns", "duplicate", 0)
    desk.press("act_on_columns", "change", 1)
    assert desk["Column prompt"] == "plain"
    desk.type(column_temperature=0.5)
    desk.do("add_column")
    assert [(c.label, c.sampling.temperature) for c in desk.columns] == [("Bare", 0.0), ("", 0.5)]
    desk.press("act_on_columns", "remove", 0)
    assert [c.sampling.temperature for c in desk.columns] == [0.5]


def test_columns_of_one_prompt_and_model_are_told_apart_by_what_differs(desk):
    desk.add()
    desk.type(column_temperature=1)
    desk.do("add_column")
    desk.press("act_on_columns", "duplicate", 1)
    desk.measure("rules")
    desk.do("start")
    titles = [column.title for column in desk.task.columns]
    assert titles[0] == "plain · echo: · temperature 0"
    assert titles[1].startswith("plain · echo: · temperature 1")
    assert len(set(titles)) == 3


def test_a_technique_and_its_settings_are_part_of_a_column(desk):
    desk.add("plain", column_technique="self-consistency", other_settings="votes: 3\nmarker: So")
    desk.add("classify", column_technique="", other_settings="labels: yes, no")
    assert (desk.columns[0].technique, desk.columns[0].knobs) == ("self-consistency", {"votes": 3, "marker": "So"})
    assert desk.columns[1].knobs == {"labels": ["yes", "no"]}
    desk.press("act_on_columns", "change", 1)
    assert desk["Other settings"] == "labels: yes, no"


@pytest.mark.parametrize(
    ("picked", "sentence"),
    [
        ({"prompt": ""}, "The column has no prompt"),
        ({"model": ""}, "The column has no model"),
        ({"model": "gpt"}, "'gpt' is not a ModelRef"),
        ({"prompt": "nope"}, "There is no template 'nope'"),
        ({"prompt": "few-shot", "column_examples": ""}, "Choose a bank or a snapshot"),
        ({"examples_shown": "two"}, "Examples shown cannot be 'two'"),
        ({"longest_answer": 0}, "Max tokens: must be 1 or more, not 0"),
        ({"other_settings": "votes 3"}, "Line 1 of the other settings is 'votes 3'"),
        ({"other_settings": "top_p: 0.9\nvotes: 3"}, "Line 2 of the other settings: this column has no 'votes'"),
        ({"other_settings": "top_p: much"}, "Top-p: must be a number, not 'much'"),
        ({"column_technique": "self-consistency", "other_settings": "votes: 99"}, "Votes: must be 64 or less"),
    ],
    ids=str,
)
def test_a_column_that_cannot_be_is_a_sentence_and_no_column(desk, picked, sentence):
    with pytest.raises(gr.Error, match=re.escape(sentence)):
        desk.add(**picked)
    assert desk.columns == ()


def test_there_is_a_highest_number_of_columns(desk):
    for _ in range(12):
        desk.add()
    with pytest.raises(gr.Error, match="at most 12 columns"):
        desk.add()
    with pytest.raises(gr.Error, match="at most 12 columns"):
        desk.press("act_on_columns", "duplicate", 0)


@pytest.mark.parametrize("text", ["[]", "{", '{"columns": [{"model": "echo:"}]}', '{"columns": 7}'])
def test_columns_that_no_page_would_send_are_refused(desk, text):
    desk.type(columns=text)
    with pytest.raises(gr.Error, match="cannot be read"):
        desk.do("start")


# -- the plan --------------------------------------------------------------------------------------------------


def test_the_plan_says_rows_columns_calls_and_what_is_not_known(desk):
    desk.add()
    desk.add("plain", column_technique="self-consistency", other_settings="votes: 3")
    desk.measure("rules")
    said = desk.plan()
    assert "64 rows × 2 columns = 128 answers" in said
    assert "at most 256 calls" in said  # 64 + 3 × 64
    assert re.search(r"About [\d,]+ tokens to read, no more than [\d,]+ to write", said)
    assert "no evaluation has timed echo: yet" in said
    desk.type(rows_at_most=10, answers_per_row=2)
    said = desk.plan()
    assert "10 rows × 2 columns × 2 answers = 40 answers" in said
    assert "at most 70 calls" in said  # greedy repeats are one call


def test_a_set_that_judges_and_an_evaluation_without_metrics_are_cautioned(desk):
    desk.add()
    desk.type(evaluate_on="eval:brackenfold@1")
    desk.measure()
    said = desk.plan()
    assert "eval:brackenfold@1 is a frozen set" in said
    assert "Nothing is measured" in said
    desk.measure("contains")
    assert "Contains has no value, and eval:brackenfold@1 has no references" in desk.plan()


def test_the_plan_says_what_is_wrong_instead_of_raising(desk):
    assert "once there is a column" in desk.plan()
    desk.add()
    desk.type(evaluate_on="eval:gone@1")
    assert "no snapshot &#x27;eval:gone@1&#x27;" in desk.plan()


# -- starting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"columns": "{}"}, "There is no column yet"),
        ({"evaluate_on": None}, "There is no set to evaluate on"),
        ({"evaluate_on": "prefs:x@1"}, "prefs:x@1 holds no questions"),
        ({"rows_at_most": -3}, "At most so many rows: must be 0 or more, not -3"),
        ({"answers_per_row": 50}, "Repeats: must be 20 or less, not 50"),
        ({"metrics": {"metrics": [{"name": "bleu", "on": True, "fields": []}]}}, "There is no metric 'bleu'"),
        ({"metrics": {"metrics": [7]}}, "The metrics of this page cannot be read"),
    ],
    ids=str,
)
def test_an_evaluation_that_cannot_be_is_a_sentence_and_no_job(desk, changes, sentence):
    desk.add()
    desk.type(**changes)
    with pytest.raises(gr.Error, match=re.escape(sentence)):
        desk.do("start")
    assert desk.store.jobs() == []


@pytest.mark.parametrize(
    ("metric", "settings", "sentence"),
    [
        ("regex", {"pattern": "(a"}, "Regular expression. Pattern: is no regular expression"),
        ("regex", {"pattern": ""}, "Regular expression. Pattern: is needed"),
        ("json", {"json_schema": "{"}, "JSON validity. JSON schema:"),
        ("judge", {"model": "echo:"}, "The judge has nothing to compare: there is one column"),
    ],
    ids=str,
)
def test_a_metric_that_cannot_be_is_named_with_its_setting(desk, metric, settings, sentence):
    desk.add()
    desk.measure(metric, **{metric: settings})
    with pytest.raises(gr.Error, match=re.escape(sentence)):
        desk.do("start")
    assert desk.store.jobs() == []


def test_a_split_without_rows_is_refused_before_the_job(desk, project):
    put_records(project)
    desk.add()
    desk.type(evaluate_on=f"{RECORDS}#validation")
    with pytest.raises(gr.Error, match="no row in the split 'validation'"):
        desk.do("start")
    assert desk.store.jobs() == []


def test_what_was_put_together_is_queued_with_versions_pinned(desk, project):
    put_shouting(project)
    desk.add("shouting", other_settings="name: Loud")
    desk.add()
    desk.type(rows_at_most=5, answers_per_row=2)
    settings = {"contains": {"value": "tent", "is_whole": False}, "judge": {"model": "echo:judge"}}
    desk.measure("rules", "regex", "contains", "judge", regex={"pattern": "a+"}, **settings)
    desk.do("start")
    (job,) = desk.store.jobs()
    task = desk.task
    assert (job.kind, job.state, job.author) == ("grid", "queued", "owner")
    assert (str(task.rows), task.split, task.limit, task.repeats) == (EVAL, "all", 5, 2)
    assert [column.template for column in task.columns] == ["shouting@1", "plain"]
    made = {metric.metric: metric for metric in task.metrics}
    assert set(made) == {"rules", "regex", "contains", "judge"}
    assert made["regex"].pattern == "a+"
    assert (made["contains"].value, made["contains"].is_whole) == ("tent", False)
    assert made["judge"].model == "echo:judge"
    desk.look()
    assert "Waits for its turn" in desk["How far it is"]


def test_progress_shows_and_the_page_can_cancel(desk):
    desk.add()
    desk.measure("rules")
    desk.do("start")
    job = desk.store.claim_job("light", "here")
    desk.store.start_job(job.id, job.attempt, 1)
    desk.store.log_metrics(job.id, job.attempt, 16, 64, {})
    desk.look()
    assert "16 of 64 answers" in desk["How far it is"]
    assert "The first answers appear here" in desk["Rows"]
    cell = GridCell(0, 2, 0, "Hi", "Hi", True, "stop", 3, 1, 0.1, 1, False, {"rules": 0.5})
    desk.store.add_cells(job.id, [cell])
    desk.store.log_metrics(job.id, job.attempt, 32, 64, {})
    desk.look()
    assert 'aria-label="Row 3"' in desk["Rows"]
    desk.press("act_on_job", "cancel", job.id)
    assert desk.store.job(job.id).intent == "cancel"
    desk.store.finish_job(job.id, job.attempt, "cancelled")
    desk.look()
    assert "was stopped (cancelled)" in desk["How far it is"]
    assert 'aria-label="Row 3"' in desk["Rows"]


def test_only_evaluations_and_tuning_sets_are_stopped_from_here(desk):
    with pytest.raises(gr.Error, match="no run 999"):
        desk.press("act_on_job", "cancel", 999)
    with pytest.raises(gr.Error, match="is no number"):
        desk.press("act_on_job", "cancel", "1; drop")


def test_what_was_being_put_together_comes_back_after_a_reload(desk, project):
    desk.add(other_settings="name: Mine")
    desk.type(evaluate_on="data:brackenfold@1#test", rows_at_most=7)
    desk.do("fit_metrics")
    desk.measure("regex", regex={"pattern": "Next step"})
    desk.do("plan")
    again = Desk(project)
    again.look()
    assert [column.label for column in again.columns] == ["Mine"]
    assert "Mine" in again["Columns of the evaluation"]
    assert (again["Evaluate on"], again["Rows at most"]) == ("data:brackenfold@1#test", 7)
    board = {metric["name"]: metric for metric in again["Metrics"]["metrics"]}
    assert [name for name, metric in board.items() if metric["on"]] == ["regex"]
    assert board["regex"]["fields"][0]["value"] == "Next step"


def test_half_a_page_is_no_draft(desk, project):
    desk.add(other_settings="name: Mine")
    desk.type(evaluate_on="data:brackenfold@1#test", rows_at_most=7)
    desk.do("plan")
    half = Desk(project)
    half.do("plan")  # before its lists are there
    again = Desk(project)
    again.look()
    assert (again["Evaluate on"], again["Rows at most"]) == ("data:brackenfold@1#test", 7)
    assert [column.label for column in again.columns] == ["Mine"]


@pytest.mark.parametrize("opened", [False, True], ids=["first look", "open page"])
def test_columns_of_the_prompt_page_join_those_that_are_there(project, opened):
    before = Desk(project)
    before.look()
    before.add(other_settings="name: Mine", column_guidelines="")
    before.do("plan")
    desk = Desk(project)
    if opened:
        desk.look()
    more = Columns((GridColumn(template="zero-shot", model=ModelRef("echo:"), guidelines="Be brief."),))
    for _ in range(2):  # the second time they are there already
        take = desk.widgets.take
        for block, value in zip(
            take.outputs, take.fn(gr.Request(username="owner"), more.written(), desk["Evaluation painted"]), strict=True
        ):
            desk._update(block, value)
        desk.look()
    assert [(column.title, column.guidelines) for column in desk.columns] == [
        ("Mine", ""),
        ("zero-shot · echo:", "Be brief."),
    ]
    assert "zero-shot" in desk["Columns of the evaluation"]


def test_a_later_look_leaves_alone_what_somebody_chose_or_typed(desk, project):
    desk.add()
    desk.type(column_prompt="plain", evaluate_on="eval:brackenfold@1", rows_at_most=3, column_guidelines="Mine.")
    desk.measure("contains", contains={"value": "tent"})
    before = {label: desk[label] for label in ("Columns", "Column prompt", "Evaluate on", "Rows at most", "Metrics")}
    put_shouting(project)  # something new to choose
    desk.look()
    assert "shouting@1" in [value for _, value in desk.props[desk._find("Column prompt")]["choices"]]
    assert {label: desk[label] for label in before} == before
    assert desk["Column guidelines"] == "Mine."


def test_a_look_that_finds_nothing_new_sends_nothing(results):
    listed = results.look()
    boards = [results.widgets.refresh.outputs.index(results.demo.blocks[results._find(n)]) for n in ("Figures", "Rows")]
    assert [listed[place] for place in boards] == [gr.skip()] * 2


# -- results ---------------------------------------------------------------------------------------------------


def test_an_address_opens_that_evaluation_and_an_unknown_one_says_so(finished):
    workspace, job_id = finished
    desk = Desk(workspace)
    assert desk.widgets.links["grid"].label == "Evaluation shown"
    desk.type(evaluation_shown=str(job_id))
    desk.look()
    assert f"Evaluation {job_id}" in desk["Figures"]
    desk = Desk(workspace)
    desk.type(evaluation_shown="4711")
    desk.look()
    assert "no run 4711" in desk["How far it is"]
    assert desk["Evaluation shown"] == str(job_id)


def test_figures_have_intervals_rates_and_a_paired_test_in_words(results, finished):
    shown = results["Figures"]
    report = grid_report(finished[0].store, finished[1])
    assert [c.score.value for c in report.columns] == [0.5, 0.0]
    assert "<b>50 %</b>" in shown
    assert "[38 %, 62 %]" in shown  # Wilson's for 30 of 60
    assert "Exact match" in shown
    assert "F1 over words" in shown
    words = results.words(results.demo.blocks[results._find("Figures")])
    assert "shouting@1 · echo: is worse than plain · echo:: −0.50" in words
    assert "p = 1.9e-09" in words or "p = 9.3e-10" in words
    assert "McNemar's test" in shown.replace("&#x27;", "'")


def test_tests_and_failures_go_by_the_metric_and_the_column_that_was_pressed(results):
    results.press("act_on_figures", "baseline", 1)
    assert "plain · echo: is better than shouting@1" in results["Figures"]
    results.press("act_on_figures", "metric", "f1")
    assert "paired bootstrap over the rows" in results["Figures"]
    assert "Failures 1<" in results["Rows"]  # F1 passes from a half on
    with pytest.raises(gr.Error, match="no metric 'bleu'"):
        results.press("act_on_figures", "metric", "bleu")
    with pytest.raises(gr.Error, match="no column 10"):
        results.press("act_on_figures", "baseline", 9)


def test_rows_are_filtered_and_paged_on_the_server(results):
    rows = results["Rows"]
    assert [f"{words} {n}" in rows for words, n in (("All", 60), ("Failures", 60), ("Differences", 30))] == [True] * 3
    assert "1–20 of 60" in rows
    assert 'aria-label="Row 21"' not in rows
    results.press("act_on_rows", "turn", 20)
    assert "21–40 of 60" in results["Rows"]
    assert 'aria-label="Row 21"' in results["Rows"]
    results.press("act_on_rows", "only", "differences")
    shown = re.findall(r'aria-label="Row (\d+)"', results["Rows"])
    assert shown == [str(n) for n in range(1, 40, 2)]  # rows 0, 2, 4, … of which only the first column is right
    with pytest.raises(gr.Error, match="cannot be looked at"):
        results.press("act_on_rows", "only", "drop table")


def test_an_open_row_has_question_reference_answers_and_their_differences(results):
    results.press("act_on_rows", "row", 1)
    shown = results["Rows"]
    assert 'aria-expanded="true"' in shown
    assert "Reference" in shown
    assert "Say -1" in shown
    assert "Shout: Say 1" in shown
    assert "<ins>Shout: </ins>" in shown
    assert "Word by word against the reference" in shown
    assert shown.count("Prompt as it was sent") == 2
    results.press("act_on_rows", "row", 1)
    assert 'aria-expanded="true"' not in results["Rows"]


def test_the_prompt_of_a_row_has_the_examples_that_it_was_shown(desk):
    desk.add("few-shot", column_examples="data:brackenfold@1", column_guidelines=f"Be brief. {EVIL}")
    desk.type(rows_at_most=1)
    desk.measure("rules")
    job = desk.start()
    (cell,) = desk.store.all_cells(job.id)
    desk.press("act_on_rows", "row", cell.row)
    shown = desk["Rows"]
    assert len(cell.examples) == 4
    rows = desk.workspace.snapshot("data:brackenfold@1")
    told = [rows[int(name.partition("#")[2]) - 1] for name in cell.examples]
    assert all(html.escape(row[part]) in shown for row in told for part in ("instruction", "response"))
    assert html.escape(f"Be brief. {EVIL}") in shown
    assert "<img" not in shown


def test_an_open_row_of_an_evaluation_set_says_which_rules_each_answer_keeps(desk):
    rules = [{"rule": "max_words", "value": 3}, {"rule": "contains_all", "values": ["tent"]}]
    desk.store.freeze(
        desk.workspace.path, "eval", "few", [{"instruction": "A tent, please", "rules": rules}], author="a"
    )
    desk.add()
    desk.type(evaluate_on="eval:few@1")
    desk.measure("rules")
    desk.do("start")
    job = desk.store.claim_job("light", "here")
    desk.store.start_job(job.id, job.attempt, 1)
    cell = GridCell(0, 0, 0, "No, sorry", "No, sorry", True, "stop", 3, 1, 0.1, 1, False, {"rules": 0.5})
    desk.store.add_cells(job.id, [cell])
    desk.look()
    desk.press("act_on_rows", "row", 0)
    kept = re.findall(r'data-kept="(\w+)".*?</span> ([^<]+)</li>', desk["Rows"])
    assert kept == [("true", "at most 3 words"), ("false", "names tent")]


def test_what_was_written_is_shown_as_text(results):
    results.press("act_on_rows", "turn", 40)
    results.press("act_on_rows", "row", 59)
    assert "&lt;img src=x" in results["Rows"]
    for label in ("Rows", "Figures"):
        assert "<img" not in results[label]


def test_an_export_has_every_answer(results, finished):
    results.press("export_evaluation", "save", "jsonl")
    lines = [json.loads(line) for line in _file(results).read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 120
    assert (lines[1]["output"], lines[1]["score exact"], lines[1]["template"]) == ("Shout: Say 0", 0.0, "shouting@1")
    results.press("export_evaluation", "save", "csv")
    assert _file(results).name == f"evaluation-{finished[1]}.csv"
    with _file(results).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows[:2]] == ["Say 0", "Shout: Say 0"]
    with pytest.raises(gr.Error, match="cannot be written as 'xlsx'"):
        results.press("export_evaluation", "save", "xlsx")


def _file(desk: Desk) -> Path:
    return Path(desk.values[next(k for k, b in desk.demo.blocks.items() if isinstance(b, gr.DownloadButton))])


def test_a_second_evaluation_asks_for_what_is_new_only_and_few_rows_decide_nothing(finished):
    workspace, _ = finished
    desk = Desk(workspace)
    desk.look()  # the draft has the columns of the first one
    desk.type(rows_at_most=10)
    said = desk.plan()
    assert "20 of the answers are known from earlier evaluations" in said
    assert "tokens to read" not in said  # nothing is left to ask
    desk.add("plain", "echo:other")
    said = desk.plan()
    assert "30 answers" in said
    assert "20 of the answers are known" in said
    job = desk.start()
    assert job.state == "done", job.error
    report = grid_report(workspace.store, job.id)
    assert [c.counts.cached for c in report.columns] == [10, 10, 0]
    assert "Too few rows to tell: 10 in both columns" in desk["Figures"]
    past = [value for _, value in desk.props[desk._find("Past evaluations")]["choices"]]
    assert past[0] == str(job.id)  # newest first
    workspace.store.save_draft("owner", "evaluate", {})


def test_a_view_of_another_evaluation_or_of_nobodys_making_begins_afresh():
    view = View(3, "f1", 1, "failures", 20, 4)
    assert View.read(view.written(), 3) == view
    for text in (view.written(), "", "[]", "{", '{"grid": 4, "first": "x"}'):
        assert View.read(text, 4) == View(4)


# -- tuning sets -----------------------------------------------------------------------------------------------


def test_a_tuning_set_is_queued_from_a_column_and_ends_as_records(desk):
    desk.add("zero-shot", column_guidelines="Say kilos.")
    desk.measure("rules")
    desk.type(rows_at_most=2)
    desk.start()
    desk.press("act_on_figures", "tuning", 0)
    assert desk["Dataset for the records"] == "brackenfold-distilled"
    desk.type(dataset_for_the_records="kilos")
    desk.do("make_set")
    job = desk.store.jobs(limit=1)[0]
    assert (job.kind, job.author) == ("distil", "owner")
    wanted = {
        "model": "echo:",
        "template": "zero-shot",
        "prompts": "prompts:brackenfold@1",
        "dataset": "kilos",
        "guidelines": "Say kilos.",
        "examples": None,
        "bank": "",
        "shots": None,
        "temperature": 0.0,
        "max_tokens": 160,
        "seed": 0,
    }
    assert {name: job.task[name] for name in wanted} == wanted
    desk.look()
    assert "Tuning set kilos" in desk["How far it is"]
    done = run_here(desk.store, desk.workspace.path, desk.workspace.settings, job.id)
    assert done.state == "done", done.error
    desk.look()
    added = done.result["added"]
    assert f"Added {added:,} records to kilos" in desk["How far it is"]
    assert "?tab=dataset&amp;dataset=kilos" in desk["How far it is"]
    assert desk.store.count_records(desk.store.dataset("kilos").id) == added > 0


def _finished_column(desk: Desk, **fields: Any) -> None:
    task = Grid.model_validate({"columns": [{"template": "plain", "model": "echo:", **fields}], "rows": EVAL})
    job = desk.workspace.queue(task, author="ann")
    desk.type(evaluation_shown=str(job.id))
    desk.look()
    desk.press("act_on_figures", "tuning", 0)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"technique": "zero-shot-chain-of-thought"}, "has a technique of its own"),
        ({"template": "self-consistency", "knobs": {"votes": 3}}, "has settings of its technique"),
        ({"sampling": {"top_p": 0.5}}, "has the sampling settings top_p"),
        ({"seed": 3}, "has a seed for its examples and another one"),
        ({"k": 2, "bank": "data:brackenfold@1", "selector": "random"}, "has a selector over a snapshot"),
    ],
    ids=str,
)
def test_a_column_that_a_tuning_set_could_not_follow_is_refused(desk, fields, sentence):
    _finished_column(desk, **fields)
    with pytest.raises(gr.Error, match=sentence):
        desk.do("make_set")
    assert [job.kind for job in desk.store.jobs()] == ["grid"]


def test_bad_input_for_a_tuning_set_is_a_sentence(desk):
    _finished_column(desk)
    desk.type(dataset_for_the_records="my data")
    with pytest.raises(gr.Error, match="Dataset: needs a name of letters, digits"):
        desk.do("make_set")
    desk.type(dataset_for_the_records="fine", take_the_questions_of="")
    with pytest.raises(gr.Error, match="There are no questions to ask"):
        desk.do("make_set")
    desk.press("act_on_figures", "tuning", 0)
    desk.type(take_the_questions_of="prompts:brackenfold@1")
    with pytest.raises(gr.Error, match="No column is chosen"):
        desk.do("make_set")


def test_examples_of_a_column_come_from_where_it_has_them(desk):
    _finished_column(desk, template="few-shot", bank="data:brackenfold@1")
    desk.do("make_set")
    task = desk.store.jobs(limit=1)[0].task
    assert (task["examples"], task["bank"], task["shots"]) == ("data:brackenfold@1", "", None)


# -- for scripts -----------------------------------------------------------------------------------------------


def test_the_main_actions_have_stable_names(finished, desk):
    workspace, job_id = finished
    page = Desk(workspace).demo
    figures = call(page, "evaluation_figures", job_id, "exact", 1)
    assert figures["state"] == "done"
    assert [column["score"]["value"] for column in figures["columns"]] == [0.5, 0.0]
    assert figures["pairs"][0]["outcome"] == "better"
    found = call(page, "evaluation_rows", job_id, "failures")
    assert (found["total"], len(found["rows"]), found["rows"][0]["instruction"]) == (60, 20, "Say 0")
    with pytest.raises(gr.Error, match="no column 3"):
        call(page, "make_tuning_set", job_id, 3, RECORDS, "x")
    columns = [{"template": "plain", "model": "echo:"}]
    started = call(desk.demo, "start_evaluation", columns, EVAL, [{"metric": "rules"}], 3)
    assert (desk.store.job(started).kind, desk.task.limit) == ("grid", 3)
    with pytest.raises(gr.Error, match="no metric 'bleu'"):
        call(desk.demo, "start_evaluation", columns, EVAL, [{"metric": "bleu"}])
    with pytest.raises(NotFound):
        desk.store.job(started + 1)
