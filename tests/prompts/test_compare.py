"""The comparison of the rungs: the prompt is chosen in one place, and judged once in another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.backends import Backend, Conversation, EchoBackend
from studio.errors import InputError, NotFound, RunError
from studio.evaluation import paired_difference
from studio.prompts import Compare, comparison, template
from studio.prompts.compare import examples_of
from studio.specs import ModelRef
from studio.store import Store, model_row, read_rows
from tests.prompts.desk import Answering, DeskRun, stopping_after
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
