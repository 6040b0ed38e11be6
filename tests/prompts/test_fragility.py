"""How fragile a prompt is: every way to write it asked on the same rows, and one number that luck is taken out of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.backends import Backend, Conversation
from studio.errors import InputError, NotFound, Unsupported
from studio.evaluation import Interval
from studio.jobs.registry import task_kinds
from studio.prompts.fragility import (
    REWORDINGS,
    Fragility,
    FragilityReport,
    Line,
    Width,
    fragility_of,
    fragility_plan,
    fragility_words,
    orders,
    relabelled,
    width,
)
from studio.store import Store
from tests.prompts.desk import stopping_after
from tests.prompts.trying import ECHO, FROZEN, OPEN, RECORDS, Labelling, Scripted, furnish, records, run_of, words_of

ROWS = 52
FIELDS: dict[str, Any] = {
    "model": ECHO,
    "template": "few-shot",
    "guidelines": "Be sure.",
    "evaluation": OPEN,
    "examples": RECORDS,
    "changes": ("order",),
}


@pytest.fixture
def desk(sqlite_store: Store, tmp_path: Path) -> Store:
    furnish(sqlite_store, tmp_path, ROWS)
    return sqlite_store


def _report(desk: Store, root: Path, model: Backend, **changes: Any) -> FragilityReport:
    task = Fragility.model_validate(FIELDS | changes)
    task.check(desk)
    run = run_of(desk, root, task, model)
    run.finish(task.do(run))
    return fragility_of(desk, run.id)


def _last_example(messages: Conversation) -> str:
    return messages[-2].content


# -- ways to write it ----------------------------------------------------------------------------------------


@given(st.integers(0, 12), st.integers(0, 99))
def test_orders_are_all_there_are_or_a_seeded_draw_with_the_written_one_first(k: int, seed: int) -> None:
    found = orders(k, 24, seed)
    assert found[0] == tuple(range(k))
    assert len(set(found)) == len(found) == min(24, math.factorial(k))
    assert all(sorted(order) == list(range(k)) for order in found)
    assert found == orders(k, 24, seed)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.integers(0, 99))
def test_shuffled_labels_are_the_same_ones_dealt_out_otherwise(labels: list[str], seed: int) -> None:
    examples = [{"instruction": f"q{n}", "response": label} for n, label in enumerate(labels)]
    for dealt in relabelled(examples, 5, seed):
        said = [example["response"] for example in dealt]
        assert said != labels
        assert sorted(said) == sorted(labels)
        assert [example["instruction"] for example in dealt] == [example["instruction"] for example in examples]


def test_labels_that_are_all_alike_cannot_be_shuffled() -> None:
    assert relabelled([{"instruction": f"q{n}", "response": "yes"} for n in range(4)]) == []


@pytest.mark.parametrize("name", REWORDINGS)
def test_a_rewording_changes_the_text_and_keeps_its_words(name: str) -> None:
    text = "Answer in one word. Name the tent."
    reworded = REWORDINGS[name](text)
    assert reworded != text
    assert [w for w in text.casefold().rstrip(".").split() if w not in reworded.casefold()] == []


# -- the number ----------------------------------------------------------------------------------------------


def test_ways_that_score_alike_on_every_row_have_no_width() -> None:
    found = width([[1, 0, 1, 0]] * 5)
    assert (found.interval.value, found.worst, found.best, found.chance) == (0, 0.5, 0.5, 0)
    assert not found.is_beyond_chance
    assert found.interval.high == 0.75  # 4 rows are no proof: the rule of three


def test_a_way_that_is_always_wrong_is_as_wide_as_can_be() -> None:
    found = width([[1.0] * 60, [0.0] * 60, [1.0] * 60])
    assert (found.interval.value, found.interval.high) == (pytest.approx(1), 1)
    assert found.is_beyond_chance


def test_thirty_ways_that_differ_by_luck_alone_are_called_so() -> None:
    draws = np.random.default_rng(3)
    found = [width(draws.random((30, 50)) < 0.6) for _ in range(20)]
    assert np.mean([w.best - w.worst for w in found]) > 0.2  # what a bare range would report
    assert np.mean([w.interval.value for w in found]) < 0.1
    assert sum(w.is_beyond_chance for w in found) <= 4
    assert all(w.interval.low < 0.02 for w in found)


def test_a_width_that_is_there_is_found() -> None:
    draws = np.random.default_rng(4)
    chances = np.linspace(0.3, 0.7, 12)[:, None]
    found = [width(draws.random((12, 100)) < chances) for _ in range(20)]
    assert np.mean([w.interval.value for w in found]) == pytest.approx(0.4, abs=0.05)
    assert sum(w.interval.low <= 0.4 <= w.interval.high for w in found) >= 17
    assert all(w.is_beyond_chance for w in found)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=2, max_size=6))
def test_the_number_lies_in_its_interval_and_never_beyond_what_was_seen(scores: list[list[float]]) -> None:
    found = width(scores)
    assert 0 <= found.interval.low <= found.interval.value <= found.interval.high <= 1
    assert found.interval.value <= found.best - found.worst + 1e-9


@pytest.mark.parametrize("scores", [[[1.0, 0.0]], [[1.0], [0.0]], []], ids=["one way", "one row", "nothing"])
def test_one_way_or_one_row_has_no_width(scores: list[list[float]]) -> None:
    with pytest.raises(InputError, match="2 ways to write a prompt and 2 rows"):
        width(scores)


# -- the job -------------------------------------------------------------------------------------------------


def test_jobs_know_it() -> None:
    assert task_kinds()["fragility"] is Fragility


def test_all_24_orders_of_4_examples_are_asked(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    found = _report(desk, tmp_path, model)
    assert [len(found.of(kind)) for kind in ("as written", "order", "wording", "labels", "drop")] == [1, 23, 0, 0, 0]
    assert len({words_of(messages[:-1]) for messages in model.asked}) == 24


def test_a_model_that_copies_the_last_example_is_called_fragile(desk: Store, tmp_path: Path) -> None:
    lucky: list[str] = []

    def right(messages: Conversation, n: int) -> bool:
        lucky.append(_last_example(messages))
        return _last_example(messages) == lucky[0] or n % 4 == 0

    found = _report(desk, tmp_path, Scripted(right), rows=0)
    assert found.width is not None
    assert (found.width.worst, found.width.best) == (0.25, 1.0)
    assert found.width.interval.value == pytest.approx(0.75, abs=0.02)
    assert fragility_words(found)[0].startswith("It is fragile: 24 ways to write it score between 0.25 and 1.00")


def test_a_model_that_does_not_care_is_said_to_hold(desk: Store, tmp_path: Path) -> None:
    found = _report(desk, tmp_path, Scripted(lambda messages, n: n % 2 == 0), changes=("order", "wording"))
    assert fragility_words(found)[0].startswith(f"It holds on {ROWS - 2} rows: ")


def test_below_50_rows_nothing_is_decided(desk: Store, tmp_path: Path) -> None:
    found = _report(desk, tmp_path, Scripted(lambda m, n: _last_example(m) == "a0"), rows=20)
    assert fragility_words(found)[0].startswith("Too few rows to tell: 20, and it takes 50.")


def test_what_changes_the_prompts_meaning_is_no_part_of_the_number(desk: Store, tmp_path: Path) -> None:
    """Right only with all four examples, as they are."""
    pairs = {f"Is this item {1000 + n} ?": f"a{n}" for n in range(8)}

    def right(messages: Conversation, n: int) -> bool:
        shown = [(messages[i].content, messages[i + 1].content) for i in range(1, len(messages) - 1, 2)]
        return len(shown) == 4 and all(pairs[q] == a for q, a in shown)

    found = _report(desk, tmp_path, Scripted(right), changes=("labels", "drop", "wording"))
    assert found.width is not None
    assert (found.width.worst, found.width.best) == (1.0, 1.0)
    assert found.labels is not None
    assert found.labels.value == -1.0
    assert [line.score.value for line in found.of("drop")] == [0.0] * 4
    words = " ".join(fragility_words(found))
    assert "With the answers of its examples shuffled the score changes by −1.00" in words
    assert "so it reads them, not only their form" in words


def test_without_examples_only_the_wording_of_the_instruction_changes(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    found = _report(desk, tmp_path, model, template="zero-shot", changes=("wording", "order", "labels", "drop"))
    assert {line.kind for line in found.lines} == {"as written", "wording"}
    assert len({messages[0].content for messages in model.asked}) == len(found.lines) == 1 + len(REWORDINGS)
    assert len({messages[-1].content for messages in model.asked}) == ROWS - 2


def test_a_prompt_without_a_system_part_is_reworded_in_its_questions(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    _report(desk, tmp_path, model, template="plain", changes=("wording",), rows=10)
    assert any(messages[0].content.startswith("Please is this item") for messages in model.asked)


# -- labels --------------------------------------------------------------------------------------------------


def _biased(messages: Conversation) -> dict[str, float]:
    """Leans to what the last example said, by more than it knows: without content only the lean is left."""
    lean = 2.0 if _last_example(messages) == "yes" else -2.0
    asked = messages[-1].content
    knows = 0.0 if "item" not in asked else (1.0 if int(asked.split("item ")[1].split()[0]) % 2 == 0 else -1.0)
    yes = 1 / (1 + math.exp(-(lean + knows)))
    return {"yes": math.log(yes), "no": math.log(1 - yes)}


@pytest.fixture
def labelled(desk: Store, tmp_path: Path) -> Store:
    """Records that are answered yes when their number is even."""

    def answered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**r, "response": "yes" if i % 2 == 0 else "no"} for i, r in enumerate(rows)]

    rows = [*answered(records(8)), *answered(records(ROWS, "validation", 2000))]
    desk.freeze(tmp_path, "data", "labelled", rows, author="ann")
    return desk


LABELLED: dict[str, Any] = {"evaluation": "data:labelled@1", "examples": "data:labelled@1", "labels": ("yes", "no")}


def test_calibration_takes_away_what_the_prompt_alone_says(labelled: Store, tmp_path: Path) -> None:
    model = Labelling(_biased)
    found = _report(labelled, tmp_path, model, **LABELLED, rows=12)
    assert model.asked == []  # nothing was written
    assert found.ordered is not None
    assert found.calibrated is not None
    assert found.calibration is not None
    assert found.ordered.best < 0.7  # always the label of the last example
    assert found.calibrated.worst == 1.0
    assert found.calibration.low > 0
    assert any(
        sentence.startswith("Calibrated, the score over the orders changes by +") for sentence in fragility_words(found)
    )


def test_each_prompt_is_read_once_for_each_label_and_never_again_after_a_stop(labelled: Store, tmp_path: Path) -> None:
    task = Fragility.model_validate(FIELDS | LABELLED | {"rows": 10, "changes": ("labels",)})
    model = Labelling(_biased)
    run = run_of(labelled, tmp_path, task, model)
    with stopping_after(run, 15):
        assert task.do(run) == {}
    assert len(model.told) == 2 * 15
    run.finish(task.do(run))
    assert len({(words_of(messages), label) for messages, label in model.told}) == len(model.told)
    assert run.steps[-1][0] == run.steps[-1][1]


def test_a_backend_that_cannot_read_labels_off_is_named(labelled: Store, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="echo: cannot tell how likely an answer is"):
        _report(labelled, tmp_path, Scripted(lambda messages, n: True), **LABELLED)


# -- before, and what cannot be --------------------------------------------------------------------------------


def test_what_it_takes_is_said_before(desk: Store, tmp_path: Path) -> None:
    task = Fragility.model_validate(FIELDS | {"rows": 10, "changes": ("order", "wording", "labels", "drop")})
    plan = fragility_plan(task, desk, tmp_path)
    model = Scripted(lambda messages, n: True)
    task.do(run_of(desk, tmp_path, task, model))
    assert plan.ways == {"as written": 1, "order": 23, "wording": len(REWORDINGS), "labels": 5, "drop": 4}
    assert plan.plan.calls == len(model.asked) == 10 * sum(plan.ways.values())


def test_what_labels_take_is_said_before(labelled: Store, tmp_path: Path) -> None:
    task = Fragility.model_validate(FIELDS | LABELLED | {"rows": 5})
    plan = fragility_plan(task, labelled, tmp_path)
    model = Labelling(_biased)
    task.do(run_of(labelled, tmp_path, task, model))
    assert plan.plan.calls == len(model.told) == 24 * (5 + 3) * 2
    assert plan.plan.output_tokens == 0


def test_a_stopped_report_goes_on_where_it_was(desk: Store, tmp_path: Path) -> None:
    task = Fragility.model_validate(FIELDS | {"rows": 10})
    model = Scripted(lambda messages, n: n % 2 == 0)
    run = run_of(desk, tmp_path, task, model)
    with stopping_after(run, 7):
        assert task.do(run) == {}
    assert len(model.asked) == 70
    run.finish(task.do(run))
    assert len(model.asked) == 240
    assert fragility_of(desk, run.id).width is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"evaluation": FROZEN}, "eval:gear@1 is a frozen set", id="frozen"),
        pytest.param({"examples": ""}, "shows 4 examples. Choose", id="no examples"),
        pytest.param({"template": "plain"}, "only its wording can change", id="nothing to change"),
        pytest.param({"labels": ("yes", "no"), "technique": "self-consistency"}, "writes first", id="labels and steps"),
        pytest.param({"metric": "exact"}, "not defined on", id="metric"),
    ],
)
def test_bad_input_is_refused_before_anybody_is_asked(desk: Store, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Fragility.model_validate(FIELDS | changes).check(desk)


@pytest.mark.parametrize("labels", [("yes",), ("Yes", "yes"), ("yes", " ")], ids=["one", "alike", "empty"])
def test_labels_that_cannot_be_told_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="two or more labels"):
        Fragility.model_validate(FIELDS | {"labels": labels})


def test_a_job_without_a_result_says_so(desk: Store, tmp_path: Path) -> None:
    run = run_of(desk, tmp_path, Fragility.model_validate(FIELDS), Scripted(lambda messages, n: True))
    with pytest.raises(NotFound, match="has no fragility report"):
        fragility_of(desk, run.id)


def test_labels_that_do_not_matter_are_said_to_be_read_for_their_form_only() -> None:
    same = Interval(0.01, -0.05, 0.07, 60)
    line = Line("as written", "as written", Interval(0.5, 0.4, 0.6, 60), None)
    wide = Width(Interval(0.0, 0.0, 0.1, 60), 0.5, 0.5, 0.1)
    report = FragilityReport(1, (line,), wide, same, None, None, None, 0)
    assert "their form, range and style may be all" in fragility_words(report)[1]
