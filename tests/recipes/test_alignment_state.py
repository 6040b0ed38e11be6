"""Where alignment stands: which step is where, what it needs and costs, and what results mean in words."""

from __future__ import annotations

import pytest

from studio.errors import InputError, NotFound
from studio.preferences import SimulateJudgements
from studio.recipes.alignment_state import (
    Line,
    concerns,
    fitting,
    follow,
    outlook,
    plan_ppo,
    plan_reward,
    remarks,
)
from studio.recipes.lora import Lora
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.specs import ModelRef, SnapshotRef
from studio.store import Batch, Store
from tests.recipes.lines import (
    TUNED,
    add_batch,
    add_prompts,
    add_tuned,
    ppo_run,
    report,
    reward_run,
    start,
)

NOT_YET = SnapshotRef("prefs:gear@1")


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    add_tuned(sqlite_store)
    return sqlite_store


def words(line: Line) -> list[str]:
    return [step.words for step in line.steps]


def only_batch(store: Store) -> Batch:
    (batch,) = store.batches()
    return batch


# -- which step is where -------------------------------------------------------------------------------------


def test_nothing_labelled_yet_needs_twenty_judgements(store):
    line = follow(store)
    assert words(line) == [
        "needs 20 judgements",
        "needs 20 judgements",
        "needs a reward model",
        "needs an aligned model",
    ]
    assert (line.current.number, line.current.state) == (1, "ready")


@pytest.mark.parametrize(
    ("people", "first", "current"),
    [(7, "needs 13 more judgements", 1), (19, "needs 1 more judgement", 1), (20, "20 judgements", 2)],
)
def test_labels_are_counted_until_there_are_enough(store, people, first, current):
    add_batch(store, people=people)
    line = follow(store)
    assert (words(line)[0], line.current.number) == (first, current)


@pytest.mark.parametrize(
    ("state", "said", "kind"),
    [
        ("queued", "waiting", "going"),
        ("running", "running 40 %", "going"),
        ("paused", "paused at 40 %", "stopped"),
        ("failed", "failed", "stopped"),
        ("cancelled", "cancelled", "stopped"),
        ("done", "done", "done"),
    ],
)
def test_a_step_says_the_state_of_its_run(store, tmp_path, state, said, kind):
    add_batch(store, people=30)
    reward_run(store, tmp_path, state)
    step = follow(store).steps[1]
    assert (step.words, step.state) == (said, kind)


def test_with_a_reward_model_practice_is_ready_and_with_an_aligned_model_all_is_done(store, tmp_path):
    add_batch(store, people=30)
    reward = reward_run(store, tmp_path)
    line = follow(store)
    assert words(line)[1:] == ["done", "ready", "needs an aligned model"]
    assert line.current.number == 3
    ppo_run(store, reward, add_prompts(store, tmp_path))
    line = follow(store)
    assert [step.state for step in line.steps] == ["done"] * 4
    assert line.current.number == 4


def test_the_rule_at_work_is_shown_as_labelling(store):
    add_batch(store, items=30)
    job = start(store, SimulateJudgements(batch="gear"))
    store.log_metrics(job.id, 1, 12, 30, {})
    assert words(follow(store))[0] == "running 40 %"


# -- what belongs together -----------------------------------------------------------------------------------


def test_a_run_brings_the_rest_of_its_line(store, tmp_path):
    add_batch(store, people=30)
    prompts = add_prompts(store, tmp_path)
    old = reward_run(store, tmp_path)
    first, second = (ppo_run(store, old, prompts) for _ in range(2))
    new = reward_run(store, tmp_path)
    by_ppo = follow(store, run=str(first.id))
    assert (by_ppo.batch.name, by_ppo.reward.id, by_ppo.ppo.id) == ("gear", old.id, first.id)
    by_reward = follow(store, run=str(old.id))
    assert (by_reward.reward.id, by_reward.ppo.id) == (old.id, second.id)
    assert (follow(store).reward.id, follow(store).ppo) == (new.id, None)


def test_a_batch_brings_the_newest_that_was_made_from_it(store, tmp_path):
    add_batch(store, "spring", people=20)
    add_batch(store, "summer", people=20)
    spring = reward_run(store, tmp_path, batch="spring")
    summer = reward_run(store, tmp_path, batch="summer")
    assert follow(store, "spring").reward.id == spring.id
    assert follow(store, "summer").reward.id == summer.id
    assert follow(store, "nobody").reward is None


def test_a_newer_batch_begins_a_new_line(store, tmp_path):
    add_batch(store, "spring", people=20)
    reward_run(store, tmp_path, batch="spring")
    add_batch(store, "summer")
    line = follow(store)
    assert (line.batch.name, line.reward) == ("summer", None)


def test_judgements_that_came_after_the_reward_model_are_counted(store, tmp_path):
    add_batch(store, people=24)
    reward_run(store, tmp_path, judgements=20)
    assert follow(store).newer == 4


def test_what_is_no_run_of_alignment_is_refused_by_name(store):
    lora = store.queue_job(Lora(data=SnapshotRef("data:x@1"), base=ModelRef(TUNED)), author="ann")
    with pytest.raises(NotFound, match="no run 999"):
        follow(store, run="999")
    with pytest.raises(InputError, match="kind 'lora'"):
        follow(store, run=str(lora.id))
    with pytest.raises(InputError, match="'x' is no run"):
        follow(store, run="x")


def test_forms_begin_with_what_fits_to_the_line(store, tmp_path):
    add_batch(store, people=20)
    prompts = add_prompts(store, tmp_path)
    assert fitting(store, follow(store)).ranked == TUNED
    old, new = reward_run(store, tmp_path), reward_run(store, tmp_path)
    assert fitting(store, follow(store, run=str(old.id))).reward == f"run:{old.id}"
    fit = fitting(store, follow(store))
    assert (fit.reward, fit.policy, fit.prompts) == (f"run:{new.id}", TUNED, str(prompts))


# -- what it costs -------------------------------------------------------------------------------------------


def test_a_reward_model_says_what_it_goes_through_and_what_is_usual(store):
    add_batch(store, people=60)
    plan = plan_reward(store, only_batch(store), Reward(data=NOT_YET, base=ModelRef(TUNED)))
    assert plan.learned + plan.checked + plan.held_out == 60
    assert f"goes through {plan.learned} judgements 3 times, in {plan.steps} steps" in plan.sentence
    assert f"{plan.held_out} that it never sees are for the report card" in plan.sentence
    assert "on two cores; the first run here measures it; 4.9 million new parameters." in plan.sentence


def test_with_too_few_judgements_there_is_no_plan(store):
    add_batch(store, people=7)
    with pytest.raises(InputError, match="has 7 judgements.*Rank 13 more"):
        plan_reward(store, only_batch(store), Reward(data=NOT_YET, base=ModelRef(TUNED)))


def test_practice_says_how_many_prompts_it_answers(store, tmp_path):
    add_batch(store, people=20)
    reward, prompts = reward_run(store, tmp_path), add_prompts(store, tmp_path)
    plan = plan_ppo(store, tmp_path, task(reward.id, prompts))
    assert "answers 480 prompts in 30 iterations" in plan.sentence
    assert "Usually 7 min to 21 min on two cores" in plan.sentence


def test_the_last_run_of_its_kind_says_how_long_the_next_takes(store, tmp_path):
    add_batch(store, people=20)
    reward, prompts = reward_run(store, tmp_path), add_prompts(store, tmp_path)
    ppo_run(store, reward, prompts)
    plan = plan_ppo(store, tmp_path, task(reward.id, prompts, iterations=60))
    assert plan.cost.seconds == pytest.approx(480.0)
    assert "About 8 min here, judged by the last run" in plan.sentence
    assert outlook(store, Ppo.kind).seconds == pytest.approx(240.0)
    ppo_run(store, reward, prompts, episodes=8)  # took as long, but most of that was loading
    assert plan_ppo(store, tmp_path, task(reward.id, prompts, iterations=60)).cost.seconds == pytest.approx(480.0)


def test_practice_that_cannot_work_is_a_sentence(store, tmp_path):
    add_batch(store, people=20)
    add_tuned(store, "run:901", digest="another base")
    reward, prompts = reward_run(store, tmp_path), add_prompts(store, tmp_path)
    with pytest.raises(InputError, match="stands on another base than run:901"):
        plan_ppo(store, tmp_path, task(reward.id, prompts, base=ModelRef("run:901")))


def task(reward: int, prompts: SnapshotRef, **knobs) -> Ppo:
    return Ppo(**{"base": ModelRef(TUNED), "reward": ModelRef.of_run(reward), "prompts": prompts, **knobs})


# -- what it means -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (report(0.79, 0.56), []),
        (report(0.57, 0.40), ["hardly more than guessing"]),
        (report(0.95, 0.56), ["more than people agree with each other"]),
        (report(0.70, 0.70), ["Always choosing the longer answer agrees as often (70 %)"]),
        (report(0.55, 0.58), ["hardly more than guessing", "longer answer"]),
        (None, ["no held-out pair"]),
    ],
    ids=["sound", "poor", "too-good", "length", "both", "not-defined"],
)
def test_a_doubtful_report_card_says_why(card, said):
    found = concerns({"report": card})
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"best": {"iteration": 20}, "halted": "", "skipped": 0}, []),
        ({"best": {"iteration": 0}}, ["answers as that does. Give it more iterations"]),
        ({"best": {"iteration": 0}, "halted": "Stopped at 14."}, ["Stopped at 14.", "answers as that does."]),
        ({"best": None, "skipped": 1, "left_out": 2}, ["1 update was skipped", "2 prompts were too long"]),
    ],
    ids=["sound", "no-better", "halted", "skipped"],
)
def test_what_is_odd_about_a_ppo_run_is_said(result, said):
    found = remarks(result)
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))
