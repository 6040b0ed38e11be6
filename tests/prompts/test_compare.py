"""The comparison of the rungs: the prompt is chosen in one place, and judged once in another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.backends import Backend, Conversation, EchoBackend
from studio.errors import InputError, NotFound, RunError
from studio.evaluation import paired_difference, real_difference, real_mean
from studio.preferences import RULE, points, rule_annotator
from studio.prompts import Compare, comparison, template
from studio.prompts.compare import examples_of
from studio.prompts.verdict import verdict
from studio.specs import ModelRef
from studio.store import Store, model_row, read_rows
from tests.prompts.desk import Answering, DeskRun, stopping_after
from tests.prompts.rungs import Scoring, trained
from tests.prompts.test_measure import RECORDS

FIELDS: dict[str, Any] = {
    "base": "echo:",
    "tuned": "run:7",
    "evaluation": "eval:gear@1",
    "development": "eval:gear-development@1",
    "examples": "data:gear@1",
    "guidelines": "Be brief.",
}
STYLE = [{"rule": "ends_with_next_step"}, {"rule": "speaks_to_reader"}]


def _items(name: str, n: int) -> list[dict[str, Any]]:
    return [
        {"instruction": f"{name} question {i}", "rules": [*STYLE, {"rule": "contains_any", "values": [f"{i}"]}]}
        for i in range(n)
    ]


def _base(messages: Conversation) -> str:
    """Does better when it is told how to answer, and best when it is shown."""
    question = messages[-1].content
    if len(messages) > 2:
        return f"You ask: {question}"
    return question if messages[0].role == "system" else "I do not know."


def _tuned(messages: Conversation) -> str:
    return f"You ask: {messages[-1].content}. Next step: wait."


@pytest.fixture
def desk(sqlite_store: Store, tmp_path: Path) -> Store:
    """A store with both sets, the examples and the row of the tuned model."""
    sqlite_store.freeze(tmp_path, "eval", "gear", _items("frozen", 40), author="ann")
    sqlite_store.freeze(tmp_path, "eval", "gear-development", _items("development", 10), author="ann")
    sqlite_store.freeze(tmp_path, "data", "gear", RECORDS, author="ann")
    row = model_row("run:7", "Tuned", author="ann", new_parameters=500, train_seconds=60.0)
    sqlite_store.add_model(row)
    return sqlite_store


@pytest.fixture
def run(desk: Store, tmp_path: Path) -> Iterator[DeskRun]:
    models: dict[str, Backend] = {
        "echo:": Answering(ModelRef("echo:"), _base),
        "run:7": Answering(ModelRef("run:7"), _tuned),
    }
    return DeskRun(desk, tmp_path, Compare.model_validate(FIELDS), models)


def _compare(run: DeskRun, **changes: Any) -> dict[str, Any]:
    result = Compare.model_validate(FIELDS | changes).do(run)
    if result:
        run.finish(result)
    return result


# -- choosing and measuring ----------------------------------------------------------------------------------


def test_the_prompt_is_chosen_on_the_development_set_alone(run: DeskRun) -> None:
    result = _compare(run)
    assert result["template"] == "few-shot"
    development = {run.store.evaluation(i).snapshot for i in result["development"].values()}
    assert (list(result["development"]), development) == (
        ["plain", "zero-shot", "few-shot", "chain-of-thought"],
        {"eval:gear-development@1"},
    )


def test_the_frozen_set_sees_each_rung_once(run: DeskRun) -> None:
    result = _compare(run)
    measured = run.store.evaluations("eval:gear@1")
    assert {e.rung: (e.model, e.template.partition("#")[0]) for e in measured} == {
        "L1": ("echo:", "few-shot"),
        "L2": ("run:7", "plain"),
    }
    assert {e.rung: e.id for e in measured} == result["rungs"]
    base = run.backend(ModelRef("echo:"))
    assert isinstance(base, Answering)
    frozen = [m for m in base.asked if m[-1].content.startswith("frozen")]
    assert len(frozen) == 40


def test_of_equal_prompts_the_first_and_cheapest_wins(run: DeskRun) -> None:
    run._models["echo:"] = Answering(ModelRef("echo:"), lambda messages: "You know.")
    assert _compare(run)["template"] == "plain"


def test_a_single_prompt_needs_no_choosing(run: DeskRun) -> None:
    result = _compare(run, templates=["zero-shot"])
    assert (result["template"], result["development"]) == ("zero-shot", {})
    assert run.steps[-1] == (80, 80)
    assert run.store.evaluations("eval:gear-development@1") == []
    assert comparison(run.store, run.id).tried == ()


def test_the_tuned_model_gets_the_plain_question(run: DeskRun) -> None:
    _compare(run)
    tuned = run.backend(ModelRef("run:7"))
    assert isinstance(tuned, Answering)
    assert {(len(m), m[0].role) for m in tuned.asked} == {(1, "user")}
    assert template("plain").system == ""


def test_progress_counts_every_answer_and_words_say_what_is_tried(run: DeskRun) -> None:
    _compare(run)
    assert run.steps[-1] == (4 * 10 + 2 * 40, 120)
    assert [step for step, _ in run.steps] == sorted(step for step, _ in run.steps)
    assert run.said[0] == f"Trying the prompt '{template('plain').title}' on 10 development items."
    assert run.said[-1] == "L2: run:7 with the plain question on 40 frozen items."


def test_a_second_run_of_the_same_comparison_measures_nothing_again(run: DeskRun, tmp_path: Path) -> None:
    first = _compare(run)
    again = DeskRun(run.store, tmp_path, Compare.model_validate(FIELDS), {})
    assert _compare(again) == first
    assert again.steps == [(120, 120)]


def test_a_stopped_comparison_goes_on_where_it_was(run: DeskRun) -> None:
    with stopping_after(run, 3):
        assert _compare(run) == {}
    kept = run.store.evaluations()
    assert len(kept) == 3
    result = _compare(run)
    assert set(result["development"].values()) > {e.id for e in kept}


def test_the_echo_model_goes_through_all_of_it(desk: Store, tmp_path: Path) -> None:
    models: dict[str, Backend] = {"echo:": EchoBackend(), "echo:tuned": EchoBackend(ModelRef("echo:tuned"))}
    run = DeskRun(desk, tmp_path, Compare.model_validate(FIELDS | {"tuned": "echo:tuned"}), models)
    _compare(run, tuned="echo:tuned")
    (l1, l2) = comparison(desk, run.id).rows
    assert (l1.score.value, l2.score.value) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert l2.difference is not None
    assert not l2.difference.excludes_zero


# -- the table -----------------------------------------------------------------------------------------------


def test_the_table_pairs_the_rungs_item_by_item(run: DeskRun) -> None:
    result = _compare(run)
    found = comparison(run.store, run.id)
    l1, l2 = found.rows
    before, after = ([i.score for i in run.store.evaluation_items(result["rungs"][r])] for r in ("L1", "L2"))
    assert (found.snapshot, l1.rung, l2.rung, l1.items, l2.items) == ("eval:gear@1", "L1", "L2", 40, 40)
    assert (l1.score.value, l2.score.value) == (pytest.approx(2 / 3), pytest.approx(1.0))
    assert (l1.all_rules.value, l2.all_rules.value) == (0.0, 1.0)
    assert l1.difference is None
    assert l2.difference == paired_difference(before, after)
    assert l2.difference.excludes_zero


def test_the_table_says_what_each_rung_cost(run: DeskRun) -> None:
    result = _compare(run)
    l1, l2 = comparison(run.store, run.id).rows
    assert (l1.build_seconds, l1.new_parameters) == (result["selection_seconds"], 0)
    assert (l2.build_seconds, l2.new_parameters) == (60.0, 500)
    assert l1.seconds_per_call > 0
    assert l1.prompt_tokens == 10.0


def test_the_table_shows_every_prompt_that_was_tried(run: DeskRun) -> None:
    _compare(run)
    tried = comparison(run.store, run.id).tried
    assert [(e.template.partition("#")[0], round(e.score, 2)) for e in tried] == [
        ("plain", 0.0),
        ("zero-shot", 0.33),
        ("few-shot", 0.67),
        ("chain-of-thought", 0.0),
    ]


def test_both_answers_to_each_item_are_shown_the_largest_gain_first(run: DeskRun, tmp_path: Path) -> None:
    def uneven(messages: Conversation) -> str:
        return "You. Next step: 3." if messages[-1].content.endswith(" 3") else _base(messages)

    run._models["run:7"] = Answering(ModelRef("run:7"), uneven)
    result = _compare(run)
    rows = read_rows(tmp_path, run.store.snapshot("eval:gear@1"))
    pairs = examples_of(run.store, rows, result["rungs"]["L1"], result["rungs"]["L2"])
    assert len(pairs) == 40
    assert (pairs[0].item.instruction, pairs[0].after_text) == ("frozen question 3", "You. Next step: 3.")
    assert [p.gap for p in pairs] == sorted((p.gap for p in pairs), reverse=True)


def test_answers_on_different_sets_are_not_paired(run: DeskRun) -> None:
    result = _compare(run)
    with pytest.raises(RunError, match="cannot be paired"):
        examples_of(run.store, [], result["development"]["plain"], result["rungs"]["L2"])


def test_a_job_without_a_result_holds_no_comparison(run: DeskRun) -> None:
    with pytest.raises(NotFound, match=rf"Job {run.id} holds no comparison \(running\)"):
        comparison(run.store, run.id)


# -- what cannot work is refused before it is queued ---------------------------------------------------------


def test_a_good_comparison_passes(desk: Store) -> None:
    Compare.model_validate(FIELDS).check(desk)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"tuned": "echo:"}, "both echo:", id="one model twice"),
        pytest.param({"tuned": "run:8"}, "no model 'run:8'", id="a model nobody made"),
        pytest.param({"aligned": "run:7"}, "Tuned and aligned model are both run:7", id="aligned is tuned"),
        pytest.param({"aligned": "echo:"}, "Base and aligned model are both echo:", id="aligned is the base"),
        pytest.param({"aligned": "run:8"}, "no model 'run:8'", id="an aligned model nobody made"),
        pytest.param({"base": "run:6"}, "run:6 scores answers and gives none", id="a scorer as base"),
        pytest.param({"tuned": "run:6"}, "run:6 scores answers and gives none", id="a scorer as tuned model"),
        pytest.param({"aligned": "run:6"}, "run:6 scores answers and gives none", id="a scorer as aligned model"),
        pytest.param({"reward": "run:7"}, "run:7 is not a reward model", id="a reward model that answers"),
        pytest.param({"reward": "echo:"}, "echo: is not a reward model", id="a reward model that is no run"),
        pytest.param({"reward": "run:8"}, "no model 'run:8'", id="a reward model nobody made"),
        pytest.param({"evaluation": "eval:gear@9"}, "no snapshot 'eval:gear@9'", id="a set nobody froze"),
        pytest.param({"evaluation": "data:gear@1"}, "not a snapshot of kind 'eval'", id="records as a set"),
        pytest.param({"examples": "eval:gear@1"}, "not a snapshot of kind 'data'", id="a set as examples"),
        pytest.param({"development": "eval:gear@1"}, "cannot choose the prompt and judge it too", id="one set"),
        pytest.param({"templates": ["plain", "magic"]}, "no template 'magic'", id="an unknown template"),
        pytest.param({"evaluation": "eval:tiny@1"}, "has a single item", id="nothing to compare on"),
        pytest.param(
            {"examples": "data:tiny@1"}, "shows 4 examples, but data:tiny@1 has 2 rows", id="too few examples"
        ),
    ],
)
def test_a_comparison_that_cannot_work_is_refused(
    desk: Store, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    desk.freeze(tmp_path, "eval", "tiny", _items("tiny", 1), author="ann")
    desk.freeze(tmp_path, "data", "tiny", RECORDS[:2], author="ann")
    desk.add_model(model_row("run:6", "Reward", author="ann", answers=False, scores=True))
    with pytest.raises(InputError, match=sentence):
        Compare.model_validate(FIELDS | changes).check(desk)


def test_too_few_training_rows_are_told_before_any_model_is_asked(run: DeskRun, tmp_path: Path) -> None:
    held_out = [{**row, "split": "test"} for row in RECORDS]
    run.store.freeze(tmp_path, "data", "held-out", held_out, author="ann")
    with pytest.raises(InputError, match="has 0 training rows"):
        _compare(run, examples="data:held-out@1")
    assert run.steps == []


def test_a_title_says_what_is_compared() -> None:
    assert Compare.model_validate(FIELDS).title == "Compare echo: with run:7 on eval:gear@1"
    assert (
        Compare.model_validate(FIELDS | {"aligned": "run:9"}).title
        == "Compare echo: with run:7 and run:9 on eval:gear@1"
    )


# -- the third rung ------------------------------------------------------------------------------------------


class Ladder:
    """A tuned model, the reward model that learned from rankings of its answers, and what PPO made of both."""

    def __init__(self, store: Store, root: Path, simulated: int = 30) -> None:
        self.store, self.root = store, root
        self.tuned = trained(store, {"method": "lora"}, base="echo:", method="lora", train_seconds=60.0)
        scores: dict[str, Any] = {"answers": False, "scores": True, "train_seconds": 40.0, "base": self.tuned}
        self.reward = trained(store, {"method": "reward", "simulated": simulated}, method="reward", **scores)
        report = {"method": "ppo", "reward": self.reward, "simulated": simulated, "best": {"score": 1.0, "kl": 3.25}}
        aligned = {"base": self.tuned, "method": "ppo", "new_parameters": 700, "train_seconds": 500.0}
        self.aligned = trained(store, report, **aligned)
        self.scorer = Scoring(self.reward, lambda question, answer: len(answer) / 7 - len(question))
        self.models: dict[str, Backend] = {
            "echo:": Answering(ModelRef("echo:"), _base),
            self.tuned: Answering(self.tuned, _tuned),
            self.aligned: Answering(self.aligned, _aligned),
            self.reward: self.scorer,
        }

    def task(self, **changes: Any) -> Compare:
        chosen = {"tuned": self.tuned, "aligned": self.aligned, "reward": self.reward}
        return Compare.model_validate(FIELDS | chosen | changes)

    def run(self, models: dict[str, Backend] | None = None, **changes: Any) -> DeskRun:
        return DeskRun(self.store, self.root, self.task(**changes), self.models if models is None else models)

    def compare(self, **changes: Any) -> DeskRun:
        run = self.run(**changes)
        run.finish(self.task(**changes).do(run))
        return run


def _aligned(messages: Conversation) -> str:
    """Says nothing to some questions, and gives every other one a figure of its own."""
    question = messages[-1].content
    if question.endswith("7"):
        return ""
    return f"You ask: {question}. It costs {len(question)} euros. Next step: wait."


@pytest.fixture
def ladder(desk: Store, tmp_path: Path) -> Ladder:
    return Ladder(desk, tmp_path)


def test_an_aligned_model_gets_the_plain_question_on_the_frozen_set_alone(ladder: Ladder) -> None:
    run = ladder.compare()
    rungs = {e.rung: e.model for e in run.store.evaluations("eval:gear@1")}
    assert rungs == {"L1": "echo:", "L2": ladder.tuned, "L3": ladder.aligned}
    aligned = ladder.models[ladder.aligned]
    assert isinstance(aligned, Answering)
    assert {(len(m), m[0].role) for m in aligned.asked} == {(1, "user")}
    assert len(aligned.asked) == 40


def test_every_rungs_answers_are_scored_on_the_plain_question(ladder: Ladder) -> None:
    run = ladder.compare()
    rungs = (run.store.job(run.id).result or {})["rungs"]
    assert [len(call) for call in ladder.scorer.calls] == [40, 40, 40]
    assert {tuple(turn.role for turn in c) for call in ladder.scorer.calls for c in call} == {("user", "assistant")}
    assert ladder.scorer.is_closed
    for rung in ("L1", "L2", "L3"):
        said = run.store.scores(rungs[rung])[ladder.reward]
        outputs = [i.output for i in run.store.evaluation_items(rungs[rung])]
        assert said == [pytest.approx(len(o) / 7 - len(f"frozen question {i}")) for i, o in enumerate(outputs)]
    assert "" in outputs  # an empty answer is an answer


def test_a_context_is_part_of_the_question_that_is_scored(ladder: Ladder, tmp_path: Path) -> None:
    items = [{**item, "context": f"Note {i}."} for i, item in enumerate(_items("noted", 4))]
    ladder.store.freeze(tmp_path, "eval", "noted", items, author="ann")
    ladder.compare(evaluation="eval:noted@1")
    assert ladder.scorer.calls[0][2][0].content == "noted question 2\n\nNote 2."


def test_long_sets_are_scored_in_pieces_between_which_a_run_can_be_stopped(ladder: Ladder, tmp_path: Path) -> None:
    ladder.store.freeze(tmp_path, "eval", "long", _items("long", 150), author="ann")
    run = ladder.run(evaluation="eval:long@1")
    batches = 4 + 3 * 3  # four prompts on 10 items, three rungs on 150, 64 at once
    with stopping_after(run, batches + 2):
        assert ladder.task(evaluation="eval:long@1").do(run) == {}
    assert [len(call) for call in ladder.scorer.calls] == [64, 64]
    assert [e.rung for e in ladder.store.evaluations("eval:long@1")] == ["L3", "L2", "L1"]
    result = ladder.task(evaluation="eval:long@1").do(run)
    assert [len(call) for call in ladder.scorer.calls[2:]] == [64, 64, 22] * 3
    assert result["reward"] == ladder.reward


def test_progress_counts_the_scores_too(ladder: Ladder) -> None:
    run = ladder.compare()
    assert run.steps[-1] == (4 * 10 + 3 * 40 + 3 * 40, 280)
    assert [step for step, _ in run.steps] == sorted(step for step, _ in run.steps)
    assert run.said[-1] == f"{ladder.reward} scores the answers of 3 rungs."


def test_what_was_measured_and_scored_before_is_used_again(ladder: Ladder) -> None:
    first = ladder.compare()
    again = ladder.run(models={})
    assert ladder.task().do(again) == first.store.job(first.id).result
    assert again.steps == [(280, 280)]


def test_a_rung_can_be_added_to_a_comparison_of_two(ladder: Ladder) -> None:
    before = ladder.compare(aligned=None, reward=None)
    ladder.models["echo:"] = Answering(ModelRef("echo:"), lambda _: pytest.fail("measured twice"))
    after = ladder.compare()
    was, now = ((run.store.job(run.id).result or {})["rungs"] for run in (before, after))
    assert {"L1": now["L1"], "L2": now["L2"]} == was


def test_a_reward_model_without_an_aligned_one_scores_two_rungs(ladder: Ladder) -> None:
    run = ladder.compare(aligned=None)
    l1, l2 = comparison(run.store, run.id).rows
    assert l1.reward is not None
    assert l2.reward_step is not None
    assert run.steps[-1][1] == 4 * 10 + 2 * 40 + 2 * 40


def test_after_simulated_judgements_the_rule_itself_scores_too(ladder: Ladder) -> None:
    run = ladder.compare()
    result = run.store.job(run.id).result or {}
    assert result["rule"] == rule_annotator(run.store).name
    said = run.store.scores(result["rungs"]["L3"])[result["rule"]]
    outputs = [i.output for i in run.store.evaluation_items(result["rungs"]["L3"])]
    assert said == [points(f"frozen question {i}", output) for i, output in enumerate(outputs)]
    found = comparison(run.store, run.id)
    assert (found.rule, found.simulated, found.reward) == (RULE, True, ladder.reward)


def test_after_peoples_judgements_there_is_no_rule(desk: Store, tmp_path: Path) -> None:
    ladder = Ladder(desk, tmp_path, simulated=0)
    run = ladder.compare()
    found = comparison(run.store, run.id)
    assert (found.rule, found.simulated) == ("", False)
    assert all(row.rule is None for row in found.rows)
    assert set(run.store.scores((run.store.job(run.id).result or {})["rungs"]["L1"])) == {ladder.reward}


def test_a_reward_model_whose_run_is_not_here_scores_all_the_same(ladder: Ladder) -> None:
    ladder.store.add_model(model_row("run:99", "Reward", author="ann", answers=False, scores=True))
    ladder.models["run:99"] = Scoring(ModelRef("run:99"), lambda question, answer: 1.0)
    run = ladder.compare(reward="run:99")
    found = comparison(run.store, run.id)
    assert found.rule == ""
    assert [row.reward.value for row in found.rows if row.reward] == [1.0, 1.0, 1.0]
    assert found.simulated  # the aligned model learned from such judgements


# -- the table of three ---------------------------------------------------------------------------------------


def test_every_step_is_paired_with_the_row_above(ladder: Ladder) -> None:
    run = ladder.compare()
    rungs = (run.store.job(run.id).result or {})["rungs"]
    l1, l2, l3 = comparison(run.store, run.id).rows
    scores = {rung: [i.score for i in run.store.evaluation_items(key)] for rung, key in rungs.items()}
    rewards = {rung: run.store.scores(key)[ladder.reward] for rung, key in rungs.items()}
    assert (l1.step, l1.reward_step, l1.rule_step, l1.kl) == (None, None, None, None)
    assert l2.step == l2.difference == paired_difference(scores["L1"], scores["L2"])
    assert l3.difference == paired_difference(scores["L1"], scores["L3"])
    assert l3.step == paired_difference(scores["L2"], scores["L3"])
    assert l3.reward == real_mean(rewards["L3"])
    assert l3.reward_step == real_difference(rewards["L2"], rewards["L3"])
    assert l3.reward.value < -1  # no share: a scale of its own
    assert l3.rule_step is not None
    assert l3.rule_step.value < 0  # figures of its own
    assert (l2.kl, l3.kl) == (None, 3.25)


def test_a_rung_costs_everything_that_led_to_it_once(ladder: Ladder) -> None:
    run = ladder.compare()
    _, l2, l3 = comparison(run.store, run.id).rows
    assert (l2.build_seconds, l3.build_seconds) == (60.0, 500.0 + 40.0 + 60.0)
    assert l3.new_parameters == 700


def test_a_comparison_from_before_there_was_a_third_rung_still_reads(run: DeskRun) -> None:
    result = _compare(run)
    old = {name: value for name, value in result.items() if name not in ("reward", "rule")}
    fields = {
        n: v
        for n, v in Compare.model_validate(FIELDS).model_dump(mode="json").items()
        if n not in ("aligned", "reward")
    }
    assert Compare.model_validate(fields).aligned is None
    past = DeskRun(run.store, run.workspace, Compare.model_validate(fields), {})
    past.finish(old)
    found = comparison(run.store, past.id)
    assert [row.rung for row in found.rows] == ["L1", "L2"]
    assert (found.reward, found.rule, found.simulated) == ("", "", False)
    assert verdict(found).alignment == ""


def test_nothing_chosen_in_a_list_is_nothing() -> None:
    task = Compare.model_validate(FIELDS | {"aligned": "", "reward": ""})
    assert (task.aligned, task.reward) == (None, None)
