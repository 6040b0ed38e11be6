"""Search: prompts drawn by a seed are tried on development rows, and the winner is judged once on rows held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.backends import Backend, Conversation
from studio.errors import Conflict, InputError, NotFound
from studio.evaluation import Interval, paired_difference
from studio.jobs.registry import task_kinds
from studio.prompts.search import (
    Search,
    SearchReport,
    Trial,
    candidates,
    halves,
    save_winner,
    search_of,
    search_plan,
    search_verdict,
)
from studio.prompts.templates import find_template, template
from studio.prompts.trials import Way
from studio.store import Store
from tests.prompts.desk import stopping_after
from tests.prompts.trying import ECHO, FROZEN, OPEN, RECORDS, Scripted, furnish, items, number_of, run_of, words_of

ROWS = 150  # of which 50 and more are held out
FIELDS: dict[str, Any] = {
    "model": ECHO,
    "template": "few-shot",
    "guidelines": "Be brief.",
    "evaluation": OPEN,
    "examples": RECORDS,
    "instructions": ("Say yes when it is true.", "Answer as a { poet } would."),
    "shots": (0, 2, 4),
    "trials": 12,
}


@pytest.fixture
def desk(sqlite_store: Store, tmp_path: Path) -> Store:
    furnish(sqlite_store, tmp_path, ROWS)
    return sqlite_store


def _knows(messages: Conversation, n: int) -> bool:
    """Is right more often when it is told to say yes, and a little more when it sees examples."""
    told = "say yes when it is true" in words_of(messages).casefold()
    return n % 3 == 0 or (told and n % 3 == 1) or (len(messages) > 2 and n % 12 == 5)


def _found(desk: Store, root: Path, model: Backend, **changes: Any) -> SearchReport:
    task = Search.model_validate(FIELDS | changes)
    task.check(desk)
    run = run_of(desk, root, task, model)
    run.finish(task.do(run))
    return search_of(desk, run.id)


def test_jobs_know_it() -> None:
    assert task_kinds()["search"] is Search


# -- where it looks ------------------------------------------------------------------------------------------


def test_no_question_is_on_both_sides_and_each_stays_where_it_is(desk: Store, tmp_path: Path) -> None:
    task = Search.model_validate(FIELDS)
    development, held = halves(desk, tmp_path, task)
    assert len(development) + len(held) == ROWS
    assert {item.group for item in development}.isdisjoint(item.group for item in held)
    desk.freeze(tmp_path, "eval", "gear-development", items(90), author="ann")
    fewer, _ = halves(desk, tmp_path, Search.model_validate(FIELDS | {"evaluation": "eval:gear-development@2"}))
    assert {item.group for item in fewer} < {item.group for item in development}


def test_validation_rows_are_halved_too(desk: Store, tmp_path: Path) -> None:
    """Their groups' first digits are all alike, since these decide the split."""
    from studio.instructions import group_hash, split_of

    rows = [{"instruction": f"Is this item {n} ?", "context": "", "response": "yes"} for n in range(2000)]
    groups = [group_hash(row["instruction"], "") for row in rows]
    kept = [{**row, "split": split_of(group), "group": group} for row, group in zip(rows, groups, strict=True)]
    desk.freeze(tmp_path, "data", "many", kept, author="ann")
    development, held = halves(desk, tmp_path, Search.model_validate(FIELDS | {"evaluation": "data:many@1"}))
    assert len(development) + len(held) == sum(row["split"] == "validation" for row in kept)
    assert 0.7 < len(development) / len(held) < 1.4


def test_held_out_rows_are_asked_after_the_search_and_by_two_prompts_only(desk: Store, tmp_path: Path) -> None:
    task = Search.model_validate(FIELDS)
    development, held = halves(desk, tmp_path, task)
    model = Scripted(_knows)
    found = _found(desk, tmp_path, model)
    seen = [number_of(messages) for messages in model.asked]
    tried = len(found.trials) * len(development)
    numbers = {int(item.row["instruction"].split()[3]) for item in held}
    assert numbers.isdisjoint(seen[:tried])
    assert sorted(seen[tried:]) == sorted([*numbers, *numbers])


def test_two_sets_that_share_a_question_are_refused(desk: Store, tmp_path: Path) -> None:
    desk.freeze(tmp_path, "eval", "more", [*items(300)[200:], items(5)[3]], author="ann")
    task = Search.model_validate(FIELDS | {"held_out": "eval:more@1"})
    with pytest.raises(InputError, match="1 of the 101 questions of eval:more@1 are in eval:gear-d.*“Is this item 3"):
        search_plan(task, desk, tmp_path)
    with pytest.raises(InputError, match="1 of the 101 questions"):
        task.do(run_of(desk, tmp_path, task, Scripted(_knows)))


def test_a_held_out_set_of_its_own_is_judged_on_whole(desk: Store, tmp_path: Path) -> None:
    desk.freeze(tmp_path, "eval", "more", items(300)[200:], author="ann")
    found = _found(desk, tmp_path, Scripted(_knows), held_out="eval:more@1")
    assert (found.trials[0].score.n, found.winner.n) == (ROWS, 100)


# -- what it tries -------------------------------------------------------------------------------------------


def test_the_start_comes_first_and_every_prompt_differs(desk: Store, tmp_path: Path) -> None:
    task = Search.model_validate(FIELDS)
    tried = candidates(desk, tmp_path, task)
    row = items(1)[0]
    prompts = [words_of(Way(c.template, "Be brief.", tuple(e.fields for e in c.examples)).messages(row)) for c in tried]
    assert tried[0].template == template("few-shot")
    assert len(set(prompts)) == len(prompts) == 13
    assert {len(c.examples) for c in tried} == {0, 2, 4}


def test_the_same_seed_tries_the_same_and_another_seed_does_not(desk: Store, tmp_path: Path) -> None:
    def told(seed: int) -> list[str]:
        return [c.words for c in candidates(desk, tmp_path, Search.model_validate(FIELDS | {"seed": seed}))]

    assert told(0) == told(0) != told(1)


def test_the_same_examples_are_tried_in_other_orders(desk: Store, tmp_path: Path) -> None:
    one_set = {"instructions": (), "rewords": False, "shots": (4,), "sets": 1}
    tried = candidates(desk, tmp_path, Search.model_validate(FIELDS | one_set))
    shown = [tuple(example.id for example in c.examples) for c in tried]
    assert len(set(shown)) == len(shown) == 13
    assert len({frozenset(ids) for ids in shown}) == 1


def test_a_small_space_is_tried_whole_and_ends(desk: Store, tmp_path: Path) -> None:
    small = {"template": "zero-shot", "instructions": ("One.", "Two."), "rewords": False, "shots": (), "examples": ""}
    tried = candidates(desk, tmp_path, Search.model_validate(FIELDS | small | {"trials": 50}))
    assert [c.template.system for c in tried[1:]].count("Be brief.") == 0
    assert {c.template.system for c in tried} == {"{{ guidelines }}", "One.", "Two."}


# -- what it finds -------------------------------------------------------------------------------------------


def test_the_winner_is_judged_on_rows_that_the_search_never_saw(desk: Store, tmp_path: Path) -> None:
    task = Search.model_validate(FIELDS)
    _, held = halves(desk, tmp_path, task)
    found = _found(desk, tmp_path, Scripted(_knows))
    assert "say yes when it is true" in found.template.system.casefold()
    numbers = [int(item.row["instruction"].split()[3]) for item in held]
    start = [float(n % 3 == 0 or n % 12 == 5) for n in numbers]
    winner = [float(n % 3 != 2 or (found.template.shots > 0 and n % 12 == 5)) for n in numbers]
    assert found.difference == paired_difference(start, winner)
    verdict = search_verdict(found)
    assert verdict.outcome == "better"
    assert "only the second figure counts" in verdict.honesty


def test_a_winner_that_shines_only_where_it_was_chosen_is_found_out(desk: Store, tmp_path: Path) -> None:
    development, held = halves(desk, tmp_path, Search.model_validate(FIELDS))
    easy = {int(item.row["instruction"].split()[3]) for item in development}

    def lucky(messages: Conversation, n: int) -> bool:
        return n % 2 == 0 or ("{ poet }" in words_of(messages) and n in easy)

    found = _found(desk, tmp_path, Scripted(lucky))
    assert "{ poet }" in found.template.system
    assert found.trials[found.best].score.value == 1.0
    assert found.flattery > 0.4
    assert found.difference is not None
    assert found.difference.n == len(held)
    assert search_verdict(found).outcome == "even"


def test_a_start_that_nothing_beats_stays(desk: Store, tmp_path: Path) -> None:
    found = _found(desk, tmp_path, Scripted(lambda messages, n: True), instructions=("A much longer one.",), shots=(4,))
    if found.best:  # of equals the cheapest
        assert found.trials[found.best].tokens < found.trials[0].tokens
    found = _found(
        desk, tmp_path, Scripted(lambda messages, n: messages[0].content == "Be brief." and len(messages) == 10)
    )
    assert (found.best, found.difference) == (0, None)
    assert search_verdict(found).sentence.endswith("did better than the start. Keep it.")


def test_a_stopped_search_goes_on_and_finds_the_same(desk: Store, tmp_path: Path) -> None:
    task = Search.model_validate(FIELDS)
    model = Scripted(_knows)
    run = run_of(desk, tmp_path, task, model)
    with stopping_after(run, 9):
        assert task.do(run) == {}
    before = len(model.asked)
    assert before > 0
    run.finish(task.do(run))
    assert len({words_of(messages) for messages in model.asked}) == len(model.asked)
    whole = Scripted(_knows)
    desk.cache_answers({})
    assert search_of(desk, run.id).trials == _found(desk, tmp_path, whole).trials
    assert whole.asked == []  # all of it is remembered


def test_what_it_takes_is_said_before(desk: Store, tmp_path: Path) -> None:
    task = Search.model_validate(FIELDS)
    plan = search_plan(task, desk, tmp_path)
    model = Scripted(_knows)
    task.do(run_of(desk, tmp_path, task, model))
    assert plan.prompts == 13
    assert plan.plan.calls == len(model.asked) == 13 * plan.development + 2 * plan.held_out
    assert plan.plan.prompt_tokens >= sum(len(turn.content) for messages in model.asked for turn in messages) / 4


# -- what is kept --------------------------------------------------------------------------------------------


def test_the_winner_becomes_a_template_and_a_bank(desk: Store, tmp_path: Path) -> None:
    found = _found(
        desk, tmp_path, Scripted(lambda messages, n: _knows(messages, n) and len(messages) > 2), shots=(2, 4)
    )
    ref = save_winner(desk, found.job_id, "gear-found", author="ann")
    kept = find_template(desk, ref)
    assert ref == "gear-found@1"
    assert (kept.system, kept.user, kept.shots) == (found.template.system, found.template.user, len(found.examples))
    assert [example.fields for example in desk.bank_examples("gear-found")] == list(found.examples)
    assert save_winner(desk, found.job_id, "gear-found", author="ann") == ref  # twice changes nothing
    assert "rows held out" in desk.template_version("gear-found").note


def test_a_name_that_is_taken_keeps_what_it_has(desk: Store, tmp_path: Path) -> None:
    found = _found(
        desk, tmp_path, Scripted(lambda messages, n: _knows(messages, n) and len(messages) > 2), shots=(2, 4)
    )
    desk.add_examples("mine", [{"instruction": "q", "response": "a", "group_hash": "g"}], author="ann")
    with pytest.raises(Conflict, match="'mine' has other examples"):
        save_winner(desk, found.job_id, "mine", author="ann")
    with pytest.raises(InputError, match="'Not a name!' cannot be saved"):
        save_winner(desk, found.job_id, "Not a name!", author="ann")
    with pytest.raises(InputError, match="'plain' is a template of the library"):
        save_winner(desk, found.job_id, "plain", author="ann")
    assert len(desk.bank_examples("mine")) == 1
    assert desk.prompt_templates() == []
    assert desk.bank_examples("plain") == []


# -- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"evaluation": FROZEN}, "eval:gear@1 is a frozen set", id="searching on the frozen set"),
        pytest.param({"held_out": FROZEN}, "eval:gear@1 is a frozen set", id="judging on the frozen set"),
        pytest.param({"held_out": OPEN}, "cannot choose the prompt and judge it too", id="one set twice"),
        pytest.param({"examples": ""}, "shows up to 4 examples. Choose", id="no examples"),
        pytest.param({"instructions": ("Use {{ nothing }}.",)}, "“Use {{ nothing }}.” cannot be tried", id="variable"),
        pytest.param(
            {"template": "plain", "instructions": (), "shots": (), "examples": ""}, "nothing to search", id="no space"
        ),
    ],
)
def test_bad_input_is_refused_before_anybody_is_asked(desk: Store, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Search.model_validate(FIELDS | changes).check(desk)


def test_a_set_that_is_too_small_to_halve_is_refused(desk: Store, tmp_path: Path) -> None:
    desk.freeze(tmp_path, "eval", "tiny", items(2), author="ann")
    with pytest.raises(InputError, match="left to search on"):
        search_plan(Search.model_validate(FIELDS | {"evaluation": "eval:tiny@1"}), desk, tmp_path)


def test_a_job_without_a_result_says_so(desk: Store, tmp_path: Path) -> None:
    run = run_of(desk, tmp_path, Search.model_validate(FIELDS), Scripted(_knows))
    with pytest.raises(NotFound, match="has not found a prompt"):
        search_of(desk, run.id)


@pytest.mark.parametrize(
    ("gap", "outcome", "words"),
    [
        pytest.param((0.07, 0.01, 0.13, 60), "better", "The search found a better prompt: +0.07 [+0.01, +0.13]", id="better"),
        pytest.param((-0.07, -0.13, -0.01, 60), "worse", "The winner is worse than the start", id="worse"),
        pytest.param((0.02, -0.03, 0.07, 60), "even", "The search found nothing better that 60 rows", id="even"),
        pytest.param((0.4, 0.3, 0.5, 49), "few", "Too few rows to tell: 49 held out", id="few"),
    ],
)  # fmt: skip
def test_the_verdict_is_read_off_the_rows_held_out(
    gap: tuple[float, float, float, int], outcome: str, words: str
) -> None:
    score = Interval(0.6, 0.5, 0.7, 60)
    trials = (Trial("the start", score, 40.0), Trial("other", Interval(0.9, 0.8, 1.0, 60), 40.0))
    found = SearchReport(1, trials, 1, score, score, Interval(*gap), template("plain"), ())
    verdict = search_verdict(found)
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(words)
    assert "it scored 0.90; held out it scores 0.60" in verdict.honesty
