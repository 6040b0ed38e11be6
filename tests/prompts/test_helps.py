"""Does it help here: asked on the same rows with the same model, answered with an interval or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.backends import Backend, EchoBackend
from studio.errors import InputError, ModelError, NotFound, RunError
from studio.evaluation import Interval, paired_difference
from studio.jobs.registry import task_kinds
from studio.prompts.helps import Help, Helps, Side, help_of, help_plan, help_verdict, newest_help
from studio.store import Store
from tests.prompts.desk import stopping_after
from tests.prompts.trying import ECHO, FROZEN, OPEN, RECORDS, Scripted, furnish, items, records, run_of, words_of

ROWS = 60
FIELDS: dict[str, Any] = {
    "model": ECHO,
    "template": "zero-shot",
    "guidelines": "Be sure.",
    "evaluation": OPEN,
    "examples": RECORDS,
}


@pytest.fixture
def desk(sqlite_store: Store, tmp_path: Path) -> Store:
    furnish(sqlite_store, tmp_path, ROWS)
    return sqlite_store


def _told(desk: Store, root: Path, model: Backend, **changes: Any) -> Help:
    task = Helps.model_validate(FIELDS | changes)
    task.check(desk)
    run = run_of(desk, root, task, model)
    run.finish(task.do(run))
    return help_of(desk, run.id)


def test_jobs_know_it() -> None:
    assert task_kinds()["helps"] is Helps


def test_the_difference_is_paired_row_by_row(desk: Store, tmp_path: Path) -> None:
    told = Scripted(lambda messages, n: n % 2 == 0 or (n % 3 == 0 and "Be sure." in words_of(messages)))
    found = _told(desk, tmp_path, told)
    plain = [float(n % 2 == 0) for n in range(ROWS)]
    tried = [float(n % 2 == 0 or n % 3 == 0) for n in range(ROWS)]
    assert found.difference == paired_difference(plain, tried)
    assert (found.plain.score.value, found.tried.score.value) == (0.5, pytest.approx(40 / 60))
    assert help_verdict(found).outcome == "helps"


def test_the_newest_check_of_a_prompt_is_of_that_prompt_as_it_was_written(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    assert newest_help(desk, "zero-shot") is None
    _told(desk, tmp_path, model)
    newest = _told(desk, tmp_path, model, seed=1)
    _told(desk, tmp_path, model, technique="self-consistency", settings={"votes": 3}, temperature=0.7)
    _told(desk, tmp_path, model, template="few-shot")
    job = newest_help(desk, "zero-shot")
    assert job is not None
    assert job.id == newest.job_id


def test_both_ways_ask_every_row_once(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    _told(desk, tmp_path, model)
    assert len(model.asked) == 2 * ROWS
    assert sum("Be sure." in words_of(messages) for messages in model.asked) == ROWS


def test_a_technique_is_tried_on_the_plain_prompt_with_its_cost_beside_it(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    found = _told(desk, tmp_path, model, template="plain", technique="zero-shot-chain-of-thought")
    assert (found.plain.calls, found.tried.calls) == (1, 2)
    assert found.tried.prompt_tokens == 2 * found.plain.prompt_tokens
    assert "2 calls instead of 1" in help_verdict(found).cost


def test_settings_reach_the_technique(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: True)
    found = _told(desk, tmp_path, model, template="plain", technique="self-consistency", settings={"votes": 3}, rows=5)
    assert found.tried.calls == 3


def test_parse_and_truncation_rates_are_told_for_both_ways(desk: Store, tmp_path: Path) -> None:
    class Cut(EchoBackend):
        """Runs out of tokens, and never writes the marker."""

    found = _told(desk, tmp_path, Cut(), template="chain-of-thought", max_tokens=1)
    assert (found.plain.cut, found.plain.strict) == (1.0, 1.0)
    assert (found.tried.cut, found.tried.strict) == (0.0, 1.0)
    reading = help_verdict(found).reading
    assert "0% ran out of tokens (100%)" in reading


def test_few_shot_prompts_show_training_examples_only(desk: Store, tmp_path: Path) -> None:
    desk.freeze(tmp_path, "data", "mixed", [*records(4), *records(30, "test", 2000)], author="ann")
    model = Scripted(lambda messages, n: True)
    _told(desk, tmp_path, model, template="few-shot", examples="data:mixed@1")
    shown = [messages for messages in model.asked if len(messages) > 2]
    assert len(shown) == ROWS
    examples = words_of([turn for messages in shown for turn in messages[1:-1]])
    assert "item 100" in examples
    assert "item 20" not in examples


def test_an_example_that_is_an_evaluation_item_is_never_shown(desk: Store, tmp_path: Path) -> None:
    leaking = [{**r, "instruction": i["instruction"]} for r, i in zip(records(3), items(3), strict=True)]
    desk.freeze(tmp_path, "data", "leaking", [*leaking, *records(4, first=3000)], author="ann")
    model = Scripted(lambda messages, n: True)
    _told(desk, tmp_path, model, template="few-shot", examples="data:leaking@1")
    shown = [messages for messages in model.asked if len(messages) > 2]
    assert all("item 300" in turn.content for m in shown for turn in m[1:-1] if turn.role == "user")


def test_too_few_rows_decide_nothing(desk: Store, tmp_path: Path) -> None:
    found = _told(desk, tmp_path, Scripted(lambda messages, n: "Be sure." in words_of(messages)), rows=49)
    assert found.difference.value == 1.0
    verdict = help_verdict(found)
    assert verdict.outcome == "few"
    assert verdict.sentence.startswith("Too few rows to tell: 49, and it takes 50.")


def test_a_second_look_asks_nobody(desk: Store, tmp_path: Path) -> None:
    model = Scripted(lambda messages, n: n % 2 == 0)
    first = _told(desk, tmp_path, model)
    asked = len(model.asked)
    assert _told(desk, tmp_path, model).difference == first.difference
    assert len(model.asked) == asked


def test_a_run_that_was_stopped_goes_on_where_it_was(desk: Store, tmp_path: Path) -> None:
    task = Helps.model_validate(FIELDS)
    model = Scripted(lambda messages, n: n % 2 == 0)
    run = run_of(desk, tmp_path, task, model)
    with stopping_after(run, 3):
        assert task.do(run) == {}
    assert 0 < len(model.asked) < 2 * ROWS
    assert model.is_closed
    run.finish(task.do(run))
    assert len(model.asked) == 2 * ROWS
    assert run.steps[-1] == (2 * ROWS, 2 * ROWS)
    assert help_of(desk, run.id).difference.n == ROWS


def test_a_row_that_the_model_refuses_is_left_out_and_said(desk: Store, tmp_path: Path) -> None:
    def right(messages: Any, n: int) -> bool:
        if n == 7 and "Be sure." in words_of(messages):
            raise ModelError("The prompt has 9,000 tokens.")
        return True

    found = _told(desk, tmp_path, Scripted(right))
    assert (found.difference.n, found.left_out, found.refusal) == (ROWS - 1, 1, "The prompt has 9,000 tokens.")
    assert "1 row was left out" in help_verdict(found).sentence


def test_a_model_that_refuses_everything_ends_the_run_with_its_reason(desk: Store, tmp_path: Path) -> None:
    def right(messages: Any, n: int) -> bool:
        raise ModelError("The server is gone.")

    with pytest.raises(RunError, match="None of 32 rows was answered.*The server is gone"):
        _told(desk, tmp_path, Scripted(right))


def test_a_record_snapshot_is_asked_on_its_validation_rows(desk: Store, tmp_path: Path) -> None:
    rows = [*records(4), *records(50, "validation", 2000), *records(50, "test", 4000)]
    desk.freeze(tmp_path, "data", "split", [{**r, "response": "yes"} for r in rows], author="ann")
    model = Scripted(lambda messages, n: n % 2 == 0)
    found = _told(desk, tmp_path, model, evaluation="data:split@1")
    assert (found.metric, found.plain.score.value, found.difference.n) == ("exact", 0.5, 50)
    assert all("item 4" not in words_of(messages) for messages in model.asked)


def test_what_it_takes_is_said_before(desk: Store, tmp_path: Path) -> None:
    changes = {"template": "plain", "technique": "self-consistency", "settings": {"votes": 3}, "rows": 8}
    task = Helps.model_validate(FIELDS | changes)
    plan = help_plan(task, desk, tmp_path)
    model = Scripted(lambda messages, n: True)
    task.do(run_of(desk, tmp_path, task, model))
    assert plan.calls == len(model.asked) == 4 * 8
    plain, *votes = model.sampling  # the plain rows share a batch
    assert plan.output_tokens == 8 * plain.max_tokens + sum(sampling.max_tokens for sampling in votes)
    assert plan.prompt_tokens == pytest.approx(sum(len(words_of(m)) for m in model.asked) / 4, abs=2)
    assert plan.sentence.startswith("At most 32 calls: about")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"evaluation": FROZEN}, "eval:gear@1 is a frozen set.*Choose an open set such as eval:gear-d", id="frozen"),
        pytest.param({"evaluation": "prompts:gear@1"}, "nothing to hold answers against", id="prompts"),
        pytest.param({"evaluation": "eval:nowhere@1"}, "There is no snapshot", id="no such set"),
        pytest.param({"template": "plain"}, "is the plain prompt itself", id="against itself"),
        pytest.param({"template": "few-shot", "examples": ""}, "shows 4 examples. Choose", id="no examples"),
        pytest.param({"template": "nothing"}, "There is no template 'nothing'", id="no such template"),
        pytest.param({"technique": "magic"}, "There is no technique 'magic'", id="no such technique"),
        pytest.param({"technique": "self-consistency", "settings": {"votes": 1}}, "Votes", id="bad setting"),
        pytest.param({"metric": "exact"}, "not defined on eval:gear-development@1, which has rules", id="metric"),
        pytest.param({"metric": "label"}, "asks a model of its own", id="a metric that asks"),
        pytest.param({"selector": "best"}, "There is no selector 'best'", id="no such selector"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anybody_is_asked(desk: Store, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Helps.model_validate(FIELDS | changes).check(desk)


def test_a_set_that_judged_a_comparison_is_frozen_whatever_its_name(desk: Store, tmp_path: Path) -> None:
    from studio.prompts import Compare

    desk.freeze(tmp_path, "eval", "other", items(4), author="ann")
    task = Helps.model_validate(FIELDS | {"evaluation": "eval:other@1"})
    task.check(desk)
    compare = Compare.model_validate(
        {"base": ECHO, "tuned": "run:1", "evaluation": "eval:other@1", "development": OPEN, "examples": RECORDS}
    )
    job = desk.queue_job(compare, author="ann")
    with pytest.raises(InputError, match=f"comparison {job.id} judges with it"):
        task.check(desk)


def test_too_few_examples_are_told_before_anybody_is_asked(desk: Store, tmp_path: Path) -> None:
    desk.freeze(tmp_path, "data", "small", records(2), author="ann")
    model = Scripted(lambda messages, n: True)
    with pytest.raises(InputError, match="shows 4 examples, and 'data:small@1' has 2"):
        help_plan(Helps.model_validate(FIELDS | {"template": "few-shot", "examples": "data:small@1"}), desk, tmp_path)
    assert model.asked == []


def test_a_job_without_a_result_says_so(desk: Store, tmp_path: Path) -> None:
    run = run_of(desk, tmp_path, Helps.model_validate(FIELDS), EchoBackend())
    with pytest.raises(NotFound, match="has not told whether a prompt helps"):
        help_of(desk, run.id)


SIDE = Side(Interval(0.5, 0.4, 0.6, 64), 1.0, 0.9, 0.0, 1.0, 40.0, 20.0, 1.0)


@pytest.mark.parametrize(
    ("gap", "higher", "outcome", "words"),
    [
        pytest.param((0.08, 0.02, 0.14, 64), True, "helps", "It helps here by +0.08 [+0.02, +0.14], 64 rows.", id="helps"),
        pytest.param((-0.05, -0.09, -0.01, 64), True, "hurts", "It hurts here by −0.05", id="hurts"),
        pytest.param((0.01, -0.03, 0.05, 64), True, "even", "It makes no difference that 64 rows could show", id="even"),
        pytest.param((0.5, 0.4, 0.6, 49), True, "few", "Too few rows to tell", id="few"),
        pytest.param((0.08, 0.02, 0.14, 64), False, "hurts", "It hurts", id="where lower is better"),
    ],
)  # fmt: skip
def test_the_verdict_is_read_off_the_interval(
    gap: tuple[float, float, float, int], higher: bool, outcome: str, words: str
) -> None:
    verdict = help_verdict(Help(1, "rules", higher, Interval(*gap), SIDE, SIDE, 0, ""))
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(words)
