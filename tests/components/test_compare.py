"""What a person can read off a comparison, and that starting one does it once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components import compare
from components.charts import RungPoint, ladder_chart
from studio.backends import EchoBackend
from studio.errors import InputError
from studio.evaluation import Interval
from studio.prompts import Compare, comparison, examples_of
from studio.prompts.proposal import options, plan, propose
from studio.prompts.verdict import sift, verdict
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Store, model_row
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.prompts.desk import Answering, DeskRun

GOOD = "Pack you a stove <b>today</b>."


class Bench:
    """A workspace with an evaluation set, a run that answers, and comparisons that were really measured."""

    def __init__(self, root: Path, store: Store) -> None:
        settings = Settings(workspace=root, cache=root / "cache", runtime=root / "runtime")
        self.workspace = Workspace(root, settings, store)
        self.store, self.root = store, root
        store.freeze(root, "data", "shop", [{"instruction": "Hi", "response": "Yes", "split": "train"}] * 4, author="a")
        store.create_dataset("shop", author="ann", guidelines="Be short.")
        store.freeze(root, "eval", "shop-development", _items("dev", 2), author="ann")
        store.freeze(root, "eval", "shop", _items("item", 60), author="ann")
        store.freeze(root, "eval", "tiny", _items("tiny", 10), author="ann")
        row = model_row(
            "run:7",
            "Tuned",
            author="ann",
            base="echo:",
            method="lora",
            snapshot="data:shop@1",
            new_parameters=4_900_000,
            train_seconds=540,
        )
        store.add_model(row)

    def task(self, **changes: Any) -> Compare:
        fields: dict[str, Any] = {
            "base": "echo:",
            "tuned": "run:7",
            "evaluation": "eval:shop@1",
            "development": "eval:shop-development@1",
            "examples": "data:shop@1",
            "templates": ("plain", "zero-shot"),
        }
        return Compare(**fields | changes)

    def measured(self, base_is_good: bool, tuned_is_good: bool, **changes: Any) -> int:
        task = self.task(**changes)
        base = Answering(ModelRef("echo:"), lambda _: GOOD) if base_is_good else EchoBackend()
        tuned = Answering(ModelRef("run:7"), lambda _: GOOD) if tuned_is_good else EchoBackend()
        run = DeskRun(self.store, self.root, task, {"echo:": base, "run:7": tuned})
        run.finish(task.do(run))
        return run.id

    def page(self) -> gr.Blocks:
        with gr.Blocks() as demo:
            self.widgets = compare.build(self.workspace)
        return demo

    def look(self, job: str = "") -> dict[str, Any]:
        """What the page shows of a comparison, by the label of the widget."""
        self.page()
        refresh = self.widgets.refresh
        assert refresh is not None
        values = refresh.fn(job, "", "", "", *[""] * (len(refresh.inputs) - 4))
        return {str(getattr(w, "label", "")): v for w, v in zip(refresh.outputs, values, strict=True)}


def _items(name: str, count: int) -> list[dict[str, Any]]:
    rules = [{"rule": "contains_all", "values": ["stove"]}, {"rule": "max_words", "value": 40}]
    return [{"instruction": f"{name} {i}: what <script> do I pack?", "rules": rules} for i in range(count)]


@pytest.fixture
def bench(tmp_path: Path, sqlite_store: Store) -> Iterator[Bench]:
    bench = Bench(tmp_path, sqlite_store)
    yield bench
    asyncio.run(bench.workspace.engine.close())


def form_values(**changes: Any) -> list[Any]:
    fields: dict[str, Any] = {
        "base": "echo:",
        "tuned": "run:7",
        "evaluation": "eval:shop@1",
        "development": "eval:shop-development@1",
        "examples": "data:shop@1",
        "guidelines": "Be short.",
        "templates": ["plain", "zero-shot"],
        "max_tokens": 110,
        "seed": 0,
    }
    return list((fields | changes).values())


# -- the verdict -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_is_good", "tuned_is_good", "evaluation", "outcome", "begins"),
    [
        (False, True, "eval:shop@1", "tuning", "Tuning is worth it here: +0.50"),
        (True, False, "eval:shop@1", "prompt", "The prompt is better: tuning is at −0.50"),
        (True, True, "eval:shop@1", "even", "No difference can be told: +0.00"),
        (False, True, "eval:tiny@1", "few", "Too few rows to tell: 10 items."),
    ],
    ids=["tuning wins", "prompt wins", "even", "too few"],
)
def test_the_verdict_says_what_the_interval_allows(
    bench: Bench, base_is_good: bool, tuned_is_good: bool, evaluation: str, outcome: str, begins: str
) -> None:
    job = bench.measured(base_is_good, tuned_is_good, evaluation=evaluation)
    found = verdict(comparison(bench.store, job))
    assert found.outcome == outcome
    assert found.sentence.startswith(begins)


def test_the_verdict_for_tuning_says_what_it_costs(bench: Bench) -> None:
    found = verdict(comparison(bench.store, bench.measured(False, True)))
    assert "4.9 million new parameters, 9 min of training" in found.reason


def test_wins_losses_and_shared_failures_are_told_apart(bench: Bench) -> None:
    job = bench.store.job(bench.measured(False, True))
    rungs = (job.result or {})["rungs"]
    pairs = examples_of(bench.store, bench.workspace.snapshot("eval:shop@1"), rungs["L1"], rungs["L2"])
    assert {by: len(sift(pairs, by)) for by in ("better", "worse", "both", "all")} == {
        "better": 60,
        "worse": 0,
        "both": 0,
        "all": 60,
    }


# -- before the start ------------------------------------------------------------------------------------------


def test_the_plan_counts_every_answer(bench: Bench) -> None:
    size = plan(bench.store, bench.task())
    assert (size.prompts, size.development, size.frozen, size.answers) == (2, 2, 60, 124)


def test_the_newest_run_and_the_sets_of_its_dataset_are_proposed(bench: Bench) -> None:
    proposed = propose(bench.store)
    assert (proposed.base, proposed.tuned) == ("echo:", "run:7")
    assert (proposed.evaluation, proposed.development) == ("eval:shop@1", "eval:shop-development@1")
    assert (proposed.examples, proposed.guidelines) == ("data:shop@1", "Be short.")


def test_a_model_that_only_scores_cannot_be_compared(bench: Bench) -> None:
    bench.store.add_model(model_row("run:9", "Reward", author="ann", answers=False, scores=True))
    assert [m.ref for m in options(bench.store).tuned] == ["run:7"]


def test_a_workspace_without_a_tuned_model_points_to_tuning(tmp_path: Path, sqlite_store: Store) -> None:
    assert propose(sqlite_store).tuned == ""
    workspace = Workspace(tmp_path, Settings(runtime=tmp_path / "r"), sqlite_store)
    with gr.Blocks():
        widgets = compare.build(workspace)
    assert widgets.refresh is not None
    values = widgets.refresh.fn("", "", "", "", *[""] * (len(widgets.refresh.inputs) - 4))
    shown = dict(zip(widgets.refresh.outputs, values, strict=True))
    assert shown[widgets.start].interactive is False
    asyncio.run(workspace.engine.close())


# -- the page --------------------------------------------------------------------------------------------------


def test_a_double_click_starts_one_comparison(bench: Bench) -> None:
    demo = bench.page()
    first, key = call(demo, "start_compare", *form_values(), "key-1")
    second, _ = call(demo, "start_compare", *form_values(), "key-1")
    third, _ = call(demo, "start_compare", *form_values(), key)
    assert first == second != third
    assert bench.store.job(int(first)).author == "owner"


def test_an_impossible_comparison_is_refused_with_the_cure(bench: Bench) -> None:
    with pytest.raises(gr.Error, match="cannot choose the prompt and judge it too"):
        call(bench.page(), "start_compare", *form_values(development="eval:shop@1"), "")
    assert bench.store.jobs() == []


def test_a_stranger_cannot_start_one(bench: Bench) -> None:
    with pytest.raises(gr.Error, match="not signed in"):
        call(bench.page(), "start_compare", *form_values(), "", user=None)


def test_the_table_can_be_asked_for_by_a_program(bench: Bench) -> None:
    job = bench.measured(False, True)
    found = call(bench.page(), "comparison_table", job)
    assert found["outcome"] == "tuning"
    assert [row["rung"] for row in found["rows"]] == ["L1", "L2"]
    assert found["rows"][1]["difference"]["low"] > 0


def test_the_page_opens_at_the_newest_finding(bench: Bench) -> None:
    bench.measured(False, True, evaluation="eval:tiny@1")
    newest = bench.measured(False, True)
    seen = bench.look()
    assert seen["Comparison shown"] == str(newest)
    assert "Tuning is worth it here" in seen["Verdict"]
    assert "L2 better (60)" in str(seen["Show"].choices)


def test_while_one_is_measured_the_one_before_can_be_read(bench: Bench) -> None:
    before = bench.measured(False, True)
    running = bench.workspace.queue(bench.task(), author="ann")
    seen = bench.look()
    assert seen["Comparison shown"] == str(running.id)
    assert "Waits for its turn" in seen["Progress"]
    assert seen["Comparison"]["value"] == str(before)


def test_a_failed_comparison_says_why(bench: Bench) -> None:
    job = bench.workspace.queue(bench.task(), author="ann")
    claimed = bench.store.claim_job("light", "desk")
    assert claimed is not None
    bench.store.finish_job(job.id, claimed.attempt, "failed", error="run:7 is gone. Choose another model.")
    assert "run:7 is gone" in bench.look(str(job.id))["What went wrong"].value


def test_a_link_to_a_comparison_that_is_not_there_says_so(bench: Bench) -> None:
    assert "There is no run 99" in bench.look("99")["What went wrong"].value


def test_what_models_and_people_wrote_is_text_on_the_page(bench: Bench) -> None:
    seen = bench.look(str(bench.measured(False, True)))
    answers = seen["Answers side by side"]
    assert "<script>" not in answers
    assert "&lt;script&gt;" in answers
    assert "&lt;b&gt;today&lt;/b&gt;" in answers


def test_each_answer_shows_the_rules_it_kept_and_broke_in_words(bench: Bench) -> None:
    answers = bench.look(str(bench.measured(False, True)))["Answers side by side"]
    assert 'data-kept="false"' in answers
    assert "names stove" in answers
    assert "1 of 2 rules" in answers


# -- the chart -------------------------------------------------------------------------------------------------


def test_the_chart_names_its_rungs_for_those_who_cannot_see_it() -> None:
    points = [
        RungPoint("L1", "base", Interval(0.6, 0.55, 0.65, 168), 420, 0),
        RungPoint("L2", "run:7", Interval(0.9, 0.87, 0.93, 168), 110, 4_900_000),
    ]
    drawn = ladder_chart(points)
    assert 'aria-label="L1 base: score 0.60, 420 tokens per call; L2 run:7: score 0.90, 110 tokens per call"' in drawn
    assert "4.9 M new parameters" in drawn


def test_a_chart_of_equal_rungs_can_be_drawn() -> None:
    point = RungPoint("L1", "base", Interval(1.0, 0.98, 1.0, 168), 1, 0)
    assert "<svg" in ladder_chart([point, point])


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(InputError, match="no way to choose answers"):
        compare._pairs_of([], [], "worst", 5)


def test_labels_of_marks_at_the_same_height_do_not_overlap() -> None:
    left = RungPoint("L2", "run:2", Interval(0.69, 0.65, 0.72, 168), 107, 4_900_000)
    right = RungPoint("L1", "smollm2-135m-instruct", Interval(0.68, 0.63, 0.71, 168), 430, 0)
    heights = [float(h) for h in re.findall(r'class="name" x="[\d.]+" y="([\d.]+)"', ladder_chart([right, left]))]
    assert abs(heights[0] - heights[1]) > 34


def test_comparison_table_gives_something_back_to_a_client(bench: Bench) -> None:
    found = next(fn for fn in bench.page().fns.values() if fn.api_name == "comparison_table")
    assert len(found.outputs) == 1
