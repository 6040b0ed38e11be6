"""What a person can read off a comparison of two rungs or three, and that starting one does it once."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components import compare
from components.charts import RungPoint, ladder_chart
from studio.backends import EchoBackend
from studio.demo import table
from studio.errors import InputError
from studio.evaluation import Interval
from studio.preferences import RULE
from studio.prompts import Compare, Comparison, RungRow, comparison, examples_of
from studio.prompts.proposal import options, plan, propose
from studio.prompts.verdict import sift, verdict
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Store, model_row
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.prompts.desk import Answering, DeskRun
from tests.prompts.rungs import Scoring, trained

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

    def align(self, simulated: int = 30) -> tuple[ModelRef, ModelRef]:
        """A reward model that learned from rankings of the tuned model's answers, and what PPO made with it."""
        learned = {"method": "reward", "simulated": simulated}
        scores: dict[str, Any] = {"base": "run:7", "method": "reward", "answers": False, "scores": True}
        reward = trained(self.store, learned, snapshot="prefs:shop@1", train_seconds=60, **scores)
        report = {"method": "ppo", "reward": reward, "simulated": simulated, "best": {"score": 1.0, "kl": 4.21}}
        ppo: dict[str, Any] = {
            "base": "run:7",
            "method": "ppo",
            "snapshot": "prompts:shop@1",
            "new_parameters": 4_900_000,
        }
        return reward, trained(self.store, report, train_seconds=1200, **ppo)

    def measured_thrice(self, simulated: int = 30, **changes: Any) -> int:
        """The base repeats the question, the tuned model keeps the rules, the aligned one does so with a figure."""
        reward, aligned = self.align(simulated)
        task = self.task(**{"aligned": aligned, "reward": reward} | changes)
        models = {
            "echo:": EchoBackend(),
            "run:7": Answering(ModelRef("run:7"), lambda _: GOOD),
            aligned: Answering(aligned, lambda _: f"{GOOD} It costs 12 euros."),
            reward: Scoring(reward, lambda question, answer: len(answer) / 10),
        }
        run = DeskRun(self.store, self.root, task, models)
        run.finish(task.do(run))
        return run.id

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
        self.demo = demo
        return demo

    def listener(self, name: str) -> Any:
        """The function behind a listener of the page's own, without its gate."""
        found = [fn.fn for fn in self.demo.fns.values() if getattr(fn.fn, "__name__", "") == name]
        assert len(found) == 1, f"{len(found)} listeners are called {name}"
        return partial(found[0], gr.Request(username="owner"))  # type: ignore[arg-type]

    def look(self, job: str = "", offered: str = "", **chosen: str) -> dict[str, Any]:
        """What the page shows of a comparison, by the label of the widget; `chosen` is what its lists hold."""
        self.page()
        refresh = self.widgets.refresh
        assert refresh is not None
        values = refresh.fn(job, "", offered, "", *(chosen.get(name, "") for name in compare._CHOOSERS))
        return {str(getattr(w, "label", "")): v for w, v in zip(refresh.outputs, values, strict=True)}


def _items(name: str, count: int) -> list[dict[str, Any]]:
    rules = [{"rule": "contains_all", "values": ["stove"]}, {"rule": "max_words", "value": 40}]
    return [{"instruction": f"{name} {i}: what <script> do I pack?", "rules": rules} for i in range(count)]


@pytest.fixture
def bench(tmp_path: Path, sqlite_store: Store) -> Iterator[Bench]:
    bench = Bench(tmp_path, sqlite_store)
    yield bench
    asyncio.run(bench.workspace.engine.close())


def choices(dropdown: Any) -> list[Any]:
    """The values to choose from, of an update to a list."""
    return [c[1] if isinstance(c, list | tuple) else c for c in dropdown["choices"]]


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


ABOVE = Interval(0.5, 0.4, 0.6, 60)
BELOW = Interval(-0.5, -0.6, -0.4, 60)
UNCLEAR = Interval(0.1, -0.1, 0.3, 60)


def three_rungs(simulated: bool = False, scores: tuple[float, float, float] = (0.4, 0.6, 0.7), **l3: Any) -> Comparison:
    def row(rung: str, score: float, **more: Any) -> RungRow:
        fields: dict[str, Any] = {"model": f"run:{rung[1]}", "prompt": "plain", "items": 60, "difference": None}
        fields |= {"score": Interval(score, score - 0.1, score + 0.1, 60), "all_rules": Interval(0.5, 0.4, 0.6, 60)}
        costs = {
            "build_seconds": 60.0,
            "new_parameters": 9,
            "prompt_tokens": 9,
            "output_tokens": 9,
            "seconds_per_call": 1,
        }
        return RungRow(rung=rung, **fields | costs | more)

    above = {"difference": ABOVE, "step": ABOVE}
    rows = (row("L1", scores[0]), row("L2", scores[1], **above), row("L3", scores[2], **above | l3))
    return Comparison(1, "eval:shop@1", rows, (), simulated=simulated)


@pytest.mark.parametrize(
    ("scores", "best"), [((0.4, 0.6, 0.7), "L3"), ((0.4, 0.7, 0.6), "L2"), ((0.4, 0.6, 0.6), "L2")]
)
def test_of_three_rungs_the_verdict_is_about_the_best(scores: tuple[float, float, float], best: str) -> None:
    found = verdict(three_rungs(scores=scores))
    assert found.sentence == f"Tuning is worth it here: +0.50 [+0.40, +0.60] for {best} over the best prompt, 60 items."


@pytest.mark.parametrize(
    ("gap", "sentence"),
    [
        (BELOW, "The prompt is better: L3 is at −0.50 [−0.60, −0.40] against it, 60 items."),
        (UNCLEAR, "No difference can be told: +0.10 [−0.10, +0.30] for L3, 60 items."),
    ],
    ids=["prompt wins", "even"],
)
def test_of_three_rungs_the_verdict_names_the_one_that_decides(gap: Interval, sentence: str) -> None:
    assert verdict(three_rungs(difference=gap)).sentence == sentence


@pytest.mark.parametrize(
    ("l3", "says"),
    [
        pytest.param(
            {"reward_step": ABOVE, "kl": 3.21, "step": ABOVE},
            "Alignment raised the reward score: +0.50 [+0.40, +0.60] against L2. "
            "L3 is 3.2 nats (KL) away from the model it began as. "
            "On the frozen set it is better: +0.50 [+0.40, +0.60].",
            id="both rose",
        ),
        pytest.param(
            {"reward_step": ABOVE, "step": BELOW},
            "Alignment raised the reward score: +0.50 [+0.40, +0.60] against L2. "
            "On the frozen set it is worse: −0.50 [−0.60, −0.40].",
            id="the reward rose and the score fell",
        ),
        pytest.param(
            {"reward_step": UNCLEAR, "step": UNCLEAR},
            "Whether alignment changed the reward score cannot be told: +0.10 [−0.10, +0.30] against L2. "
            "On the frozen set no difference can be told: +0.10 [−0.10, +0.30].",
            id="nothing can be told",
        ),
        pytest.param(
            {"reward_step": BELOW, "step": ABOVE},
            "Alignment lowered the reward score: −0.50 [−0.60, −0.40] against L2. "
            "On the frozen set it is better: +0.50 [+0.40, +0.60].",
            id="the reward fell",
        ),
        pytest.param(
            {"kl": 0.04},
            "No reward model scored the answers, so whether alignment pleased it cannot be told. "
            "L3 is 0.0 nats (KL) away from the model it began as. "
            "On the frozen set it is better: +0.50 [+0.40, +0.60].",
            id="no reward model",
        ),
    ],
)
def test_a_second_sentence_says_what_alignment_did(l3: dict[str, Any], says: str) -> None:
    assert verdict(three_rungs(**l3)).alignment == says


@pytest.mark.parametrize(
    ("rule_step", "ends"),
    [
        (ABOVE, "By the stated rule that simulated the judgements it is better: +0.50 [+0.40, +0.60]."),
        (
            BELOW,
            "it is worse: −0.50 [−0.60, −0.40]. Read the answers: the gain may be in the eyes of the reward model alone.",
        ),
        (UNCLEAR, "+0.30]. Read the answers: the gain may be in the eyes of the reward model alone."),
    ],
    ids=["the rule agrees", "the rule disagrees", "the rule cannot tell"],
)
def test_simulated_judgements_are_held_against_the_rule_that_gave_them(rule_step: Interval, ends: str) -> None:
    assert verdict(three_rungs(True, reward_step=ABOVE, rule_step=rule_step)).alignment.endswith(ends)


def test_simulated_judgements_are_said_where_the_rule_scored_nothing() -> None:
    assert verdict(three_rungs(True)).alignment.endswith("It learned from simulated judgements.")


def test_from_few_items_nothing_is_told_of_alignment_either(bench: Bench) -> None:
    found = verdict(comparison(bench.store, bench.measured_thrice(evaluation="eval:tiny@1")))
    assert (found.outcome, found.alignment) == ("few", "Nor can 10 items tell what alignment did.")


def test_two_rungs_have_no_word_on_alignment(bench: Bench) -> None:
    assert verdict(comparison(bench.store, bench.measured(False, True))).alignment == ""


def test_a_terminal_shows_what_each_rung_changed_under_the_comparison(bench: Bench) -> None:
    job = bench.measured_thrice()
    rungs, steps, notes = table(comparison(bench.store, job)).split("\n\n")
    assert [line.split()[0] for line in rungs.splitlines()] == ["rung", "L1", "L2", "L3"]
    heads = ["score, step", "reward score", "reward score, step", "points by the rule", "points by the rule, step"]
    assert re.split(r" {2,}", steps.splitlines()[0]) == ["rung", *(f"{h} [95 %]" for h in heads), "KL, nats"]
    assert [line.split()[0] for line in steps.splitlines()] == ["rung", "L1", "L2", "L3"]
    assert steps.splitlines()[3].endswith("4.21")
    assert notes.endswith(RULE)


def test_a_terminal_shows_two_rungs_as_before(bench: Bench) -> None:
    said = table(comparison(bench.store, bench.measured(False, True)))
    assert len(said.splitlines()) == 3


# -- before the start ------------------------------------------------------------------------------------------


def test_the_plan_counts_every_answer(bench: Bench) -> None:
    size = plan(bench.store, bench.task())
    assert (size.prompts, size.development, size.frozen, size.answers) == (2, 2, 60, 124)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "First echo: tries 2 prompts on 2 development items. Then it, with the best of them, and run:7 answer the 60 items",
        ),
        ({"templates": ("zero-shot",)}, "echo:, with 'Zero-shot', and run:7 answer the 60 items"),
    ],
    ids=["prompts to choose from", "a single prompt"],
)
def test_the_plan_is_a_sentence(bench: Bench, changes: dict[str, Any], said: str) -> None:
    task = bench.task(**changes)
    words = re.sub(r"<[^>]+>", "", html.unescape(compare._plan_html(task, plan(bench.store, task))))
    assert words.startswith(said)


def test_three_rungs_are_a_sentence_too(bench: Bench) -> None:
    reward, aligned = bench.align()
    task = bench.task(aligned=aligned, reward=reward, templates=("zero-shot",))
    words = re.sub(r"<[^>]+>", "", html.unescape(compare._plan_html(task, plan(bench.store, task))))
    assert words.startswith(f"echo:, with 'Zero-shot', run:7 and {aligned} answer the 60 items")


def test_a_single_prompt_is_shown_without_a_choice() -> None:
    assert "Zero-shot was the only one" in compare._tried_html((), "zero-shot")


def test_the_newest_run_and_the_sets_of_its_dataset_are_proposed(bench: Bench) -> None:
    proposed = propose(bench.store)
    assert (proposed.base, proposed.tuned) == ("echo:", "run:7")
    assert (proposed.evaluation, proposed.development) == ("eval:shop@1", "eval:shop-development@1")
    assert (proposed.examples, proposed.guidelines) == ("data:shop@1", "Be short.")


def test_a_model_that_only_scores_is_offered_as_a_reward_model_alone(bench: Bench) -> None:
    reward, aligned = bench.align()
    found = options(bench.store)
    assert [m.ref for m in found.tuned] == [aligned, "run:7"]
    assert [m.ref for m in found.aligned] == [aligned]
    assert [m.ref for m in found.rewards] == [reward]


def test_the_newest_aligned_model_is_proposed_with_what_it_stands_on(bench: Bench) -> None:
    bench.align()
    reward, aligned = bench.align()
    bench.store.add_model(model_row("run:90", "Tuned since", author="ann", base="echo:", method="lora"))
    proposed = propose(bench.store)
    assert (proposed.base, proposed.tuned, proposed.aligned, proposed.reward) == ("echo:", "run:7", aligned, reward)
    assert (proposed.evaluation, proposed.examples) == ("eval:shop@1", "data:shop@1")


def test_for_a_tuned_model_what_was_aligned_from_it_is_proposed(bench: Bench) -> None:
    reward, aligned = bench.align()
    bench.store.add_model(model_row("run:90", "Tuned since", author="ann", base="echo:", method="lora"))
    chosen, other = propose(bench.store, "run:7"), propose(bench.store, "run:90")
    assert (chosen.aligned, chosen.reward) == (aligned, reward)
    assert (other.tuned, other.aligned, other.reward) == ("run:90", "", "")


def test_a_reward_model_that_is_gone_is_not_proposed(bench: Bench) -> None:
    trained(bench.store, {"method": "ppo", "reward": "run:99"}, base="run:7", method="ppo")
    assert propose(bench.store).aligned != ""
    assert propose(bench.store).reward == ""


def test_the_plan_counts_the_scores_of_every_rung(bench: Bench) -> None:
    reward, aligned = bench.align()
    size = plan(bench.store, bench.task(aligned=aligned, reward=reward))
    assert (size.answers, size.scores) == (2 * 2 + 3 * 60, 3 * 60)
    assert plan(bench.store, bench.task()).scores == 0


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


def test_a_third_rung_and_its_reward_model_may_be_named(bench: Bench) -> None:
    reward, aligned = bench.align()
    job, _ = call(bench.page(), "start_compare", *form_values(), "", aligned, reward)
    task = bench.store.job(int(job)).task
    assert (task["aligned"], task["reward"]) == (aligned, reward)


@pytest.mark.parametrize("nothing", [None, ""], ids=["empty list", "the choice None"])
def test_a_third_rung_may_stay_out(bench: Bench, nothing: str | None) -> None:
    job, _ = call(bench.page(), "start_compare", *form_values(), "", nothing, nothing)
    task = bench.store.job(int(job)).task
    assert (task["aligned"], task["reward"]) == (None, None)


def test_a_field_that_cannot_be_is_marked_in_its_place_whatever_comes_behind_it(bench: Bench) -> None:
    found = next(fn for fn in bench.page().fns.values() if fn.api_name == "start_compare")
    values = [*form_values(evaluation="nonsense"), "key", "", ""]
    assert len(found.inputs) == len(values)
    assert found.validator is not None
    marked = found.validator(*values)
    assert [verdict["is_valid"] for verdict in marked] == [i != 2 for i in range(len(values))]


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


def test_a_program_gets_the_third_rung_with_all_that_was_said_of_it(bench: Bench) -> None:
    found = call(bench.page(), "comparison_table", bench.measured_thrice())
    assert [row["rung"] for row in found["rows"]] == ["L1", "L2", "L3"]
    assert found["rows"][2]["reward_step"]["low"] > 0
    assert found["rows"][2]["rule_step"]["high"] < 0
    assert found["rows"][2]["kl"] == 4.21
    assert (found["rule"], found["simulated"]) == (RULE, True)
    assert found["alignment"].startswith("Alignment raised the reward score")
    assert json.loads(json.dumps(found)) == found


def test_the_page_opens_at_the_newest_finding(bench: Bench) -> None:
    bench.measured(False, True, evaluation="eval:tiny@1")
    newest = bench.measured(False, True)
    seen = bench.look()
    assert seen["Comparison shown"] == str(newest)
    assert "Tuning is worth it here" in seen["Verdict"]
    assert "L2 better (60)" in str(seen["Show"].choices)


def test_the_lists_offer_the_third_rung_and_to_do_without(bench: Bench) -> None:
    reward, aligned = bench.align()
    seen = bench.look()
    assert (seen["Aligned model"]["value"], seen["Reward model"]["value"]) == (aligned, reward)
    assert choices(seen["Aligned model"]) == ["", aligned]
    assert choices(seen["Reward model"]) == ["", reward]


def test_a_model_aligned_since_is_proposed_and_what_was_chosen_stays(bench: Bench) -> None:
    offered = bench.look()["Choices offered"]
    reward, aligned = bench.align()
    first = bench.look(offered=offered, tuned="run:7", aligned="", reward="")
    assert (first["Aligned model"]["value"], first["Reward model"]["value"]) == (aligned, reward)
    bench.store.add_model(model_row("run:90", "Tuned since", author="ann", base="echo:", method="lora"))
    left_out = bench.look(offered=first["Choices offered"], tuned="run:7", aligned="", reward=reward)
    assert (left_out["Aligned model"]["value"], left_out["Reward model"]["value"]) == ("", reward)


def test_the_page_shows_three_rungs_and_what_each_changed(bench: Bench) -> None:
    seen = bench.look(str(bench.measured_thrice()))
    assert "Alignment raised the reward score" in seen["Verdict"]
    assert "simulated" in seen["Verdict"]
    steps = seen["Comparison of the rungs"].partition("Rung by rung")[2]
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", steps)
    assert heads == ["Rung", "Score", "Step", "Reward score", "Step", "Points by the rule", "Step", "KL, nats"]
    assert ">4.2<" in steps
    assert html.escape(RULE) in steps


def test_peoples_judgements_are_not_called_simulated(bench: Bench) -> None:
    seen = bench.look(str(bench.measured_thrice(simulated=0)))
    assert "Reward score" in seen["Comparison of the rungs"]
    assert "Points by the rule" not in seen["Comparison of the rungs"]
    assert "simulated" not in seen["Verdict"] + seen["Comparison of the rungs"]


def test_two_rungs_that_nothing_scored_fill_one_table(bench: Bench) -> None:
    seen = bench.look(str(bench.measured(False, True)))
    assert seen["Comparison of the rungs"].count("<table") == 1
    assert seen["Hold against each other"].visible is False


def test_any_two_of_three_rungs_can_be_held_against_each_other(bench: Bench) -> None:
    job = str(bench.measured_thrice())
    seen = bench.look(job)
    held = seen["Hold against each other"]
    assert held.visible is True
    assert [value for _, value in held.choices] == ["L2:L3", "L1:L3", "L1:L2"]
    assert held.value == "L2:L3"
    assert [words for words, _ in seen["Show"].choices][:2] == ["L3 better (0)", "L2 better (0)"]
    for rungs, words in (("L1:L3", "L3 better (60)"), ("L1:L2", "L2 better (60)")):
        by, shown, *_ = bench.listener("hold")(job, rungs)
        assert by.choices[0] == (words, "better")
        assert by.choices[1][0] == "L1 better (0)"
        assert re.findall(r'data-rung="(L\d)"', shown)[:2] == rungs.split(":")
    assert f"reward +{len(GOOD) / 10:.2f}" in shown


def test_two_rungs_that_are_not_there_are_refused(bench: Bench) -> None:
    job = bench.measured(False, True)
    with pytest.raises(InputError, match="'L2:L3' are no two rungs of comparison"):
        compare._held(bench.workspace, job, "L2:L3")


def test_picking_an_aligned_model_picks_the_reward_model_that_taught_it(bench: Bench) -> None:
    first, aligned = bench.align()
    bench.align()
    bench.page()
    assert bench.listener("follow_aligned")(aligned) == first


def test_picking_a_tuned_model_fills_the_rest_of_the_form(bench: Bench) -> None:
    reward, aligned = bench.align()
    bench.page()
    filled = bench.listener("follow")("run:7")
    assert filled == ["echo:", aligned, reward, "eval:shop@1", "eval:shop-development@1", "data:shop@1", "Be short."]


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


def test_an_unknown_filter_is_refused(bench: Bench) -> None:
    held = compare._held(bench.workspace, bench.measured(False, True))
    with pytest.raises(InputError, match="no way to choose answers"):
        compare._pairs_of(held, "worst", 5)


CLOSE = [
    [(0.31, 380), (0.62, 107), (0.64, 101)],
    [(0.60, 105), (0.62, 107), (0.61, 101)],
    [(0.62, 107), (0.62, 107), (0.62, 107)],
    [(0.05, 30), (0.07, 31), (0.06, 29)],
    [(0.31, 380), (0.69, 370), (0.62, 360)],
]


@pytest.mark.parametrize("places", CLOSE, ids=["two close", "three close", "all alike", "at the foot", "at the right"])
def test_labels_of_three_rungs_do_not_overlap(places: list[tuple[float, float]]) -> None:
    names = ("smollm2-135m-instruct", "run:3", "run:9")
    points = [
        RungPoint(f"L{i + 1}", names[i], Interval(score, score - 0.04, score + 0.04, 168), tokens, 4_900_000 * (i > 0))
        for i, (score, tokens) in enumerate(places)
    ]
    drawn = ladder_chart(points)
    labels = re.findall(r'<text class="note" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)<', drawn)
    assert len(labels) == 3
    boxes = []
    for x, y, anchor, text in labels:
        wide = 5.6 * len(text)
        left = float(x) - wide * (anchor == "end")
        boxes.append((left, float(y) - 28, left + wide, float(y) + 3))
        assert left >= 0
        assert left + wide <= 640
        assert float(y) < 264 - 30
    for i, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_a_small_mark_is_drawn_over_a_large_one() -> None:
    alike = Interval(0.6, 0.5, 0.7, 168)
    drawn = ladder_chart([RungPoint("L1", "base", alike, 100, 0), RungPoint("L2", "run:7", alike, 100, 4_900_000)])
    assert re.findall(r'data-rung="(L\d)"', drawn) == ["L2", "L1"]


def test_labels_of_marks_at_the_same_height_do_not_overlap() -> None:
    left = RungPoint("L2", "run:2", Interval(0.69, 0.65, 0.72, 168), 107, 4_900_000)
    right = RungPoint("L1", "smollm2-135m-instruct", Interval(0.68, 0.63, 0.71, 168), 430, 0)
    heights = [float(h) for h in re.findall(r'class="name" x="[\d.]+" y="([\d.]+)"', ladder_chart([right, left]))]
    assert abs(heights[0] - heights[1]) > 34


def test_comparison_table_gives_something_back_to_a_client(bench: Bench) -> None:
    found = next(fn for fn in bench.page().fns.values() if fn.api_name == "comparison_table")
    assert len(found.outputs) == 1
