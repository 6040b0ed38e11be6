"""PPO as a whole: what holds before the first step, during training, and when it is stopped, and that it learns.

The reference answers as the policy does in the beginning, so every divergence and every ratio begins at exactly 0 and
exactly 1; "bitwise" below means that no tolerance is needed anywhere on a CPU.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from studio.errors import InputError, ModelError, RunError
from studio.training.actors import Actors
from studio.training.decode import Generated
from studio.training.ppo import Interrupted, Outcome, Score, Trainer, tune
from tests.memory_run import MemoryRun
from tests.training.toys import (
    RAGGED,
    STOP,
    WORDS,
    brevity,
    cast,
    copy_adapter,
    even_words,
    frozen_bytes,
    gradients,
    llama,
    logprobs,
    no_number,
    nothing,
    one_thread,  # noqa: F401 (a fixture)
    practised,
    shuffled,
    trainer,
)

pytestmark = pytest.mark.usefixtures("one_thread")
LEARNING = {"shared": ("policy",), "adapter": ("policy", "value")}
ANSWERS = [[3, 1], [20, 40, 60, 5, 3], [8], [9, 9, 9], [50, 3], [33], [1, 2, 3], [62, 61]]

both_modes = pytest.mark.parametrize("mode", LEARNING)


def tuned(mode: str = "shared", frozen: Sequence[str] = (), base: Any = None) -> Actors:
    """Actors whose adapters have learned something already, so that no gradient is 0."""
    return cast(LEARNING[mode], frozen, tuned=(*LEARNING[mode], *frozen), base=base)


def figures(metrics: dict[str, float]) -> dict[str, float]:
    """Those that are the same on any machine."""
    measured = ("time/", "perf/", "memory", "seconds_left")
    return {name: value for name, value in metrics.items() if not name.startswith(measured)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def worth_something(toy: Trainer) -> Trainer:
    """Give the value head weights: as long as they are 0, nothing behind them gets a gradient."""
    torch.manual_seed(6)
    nn.init.normal_(toy.value_head.weight)
    return toy


class Witness:
    """A reward that remembers what it was shown."""

    def __init__(self, score: Score = even_words) -> None:
        self.prompts: list[list[list[int]]] = []
        self.answers: list[list[Generated]] = []
        self._score = score

    def __call__(self, prompts: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
        self.prompts.append([list(p) for p in prompts])
        self.answers.append(list(answers))
        return self._score(prompts, answers)


# -- before the first step ---------------------------------------------------------------------------------------


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": WORDS, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("base", [llama, lambda: llama().bfloat16(), gpt2], ids=["llama", "in-bf16", "gpt2"])
@pytest.mark.parametrize("settings", [{}, {"checkpointing": True}, {"micro_tokens": 7}], ids=str)
@both_modes
def test_before_the_first_step_no_answer_has_moved_and_every_ratio_is_1(mode, base, settings):
    actors = tuned(mode, ["reference"], base())
    copy_adapter(actors, "policy", "reference")
    found = trainer(
        actors=actors, reference="reference", value_mode=mode, minibatch=8, epochs=1, temperature=0.7, **settings
    ).iterate()
    assert [found[f"kl/{name}"] for name in ("seq", "token", "k3", "sqrt")] == [0] * 4
    assert [found[f"policy/ratio_{name}"] for name in ("first", "mean", "max")] == [1] * 3
    assert (found["policy/approx_kl"], found["policy/clip_frac"]) == (0, 0)


def test_a_new_adapter_begins_as_the_bare_base():
    found = trainer(minibatch=8, epochs=1).iterate()
    assert (found["kl/seq"], found["policy/ratio_first"]) == (0, 1)


def test_from_the_second_step_on_ratios_move():
    found = trainer().iterate()
    assert found["policy/ratio_first"] == 1
    assert found["policy/ratio_max"] > 1
    assert found["policy/approx_kl"] > 0


# -- what training changes, and what it leaves alone --------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@both_modes
def test_all_that_learns_moves_and_all_else_stays_as_it_is_to_the_last_bit(mode, checkpointing):
    learning = LEARNING[mode]
    actors = tuned(mode, ["reference", "reward"])
    untouched = llama()
    toy = trainer(actors=actors, reference="reference", value_mode=mode, checkpointing=checkpointing)
    moving = {n: p.detach().clone() for name in learning for n, p in actors.parameters(name).items()}
    frozen = frozen_bytes(actors, learning)
    for _ in range(2):
        toy.iterate()
    toy.evaluate(RAGGED[:3])
    assert frozen_bytes(actors, learning) == frozen
    now = dict(actors.model.named_parameters())
    assert all(not torch.equal(value, now[name]) for name, value in moving.items())
    assert toy.value_head.weight.abs().min() > 0
    with torch.no_grad(), actors.playing(None) as model:
        ids = torch.tensor(RAGGED[:1])
        assert torch.equal(model(input_ids=ids).logits, untouched(input_ids=ids).logits)


@pytest.mark.parametrize("reference", [None, "reference"])
def test_the_reference_never_changes_its_mind(reference):
    actors = tuned(frozen=["reference"])
    before = logprobs(actors, reference, RAGGED, ANSWERS)
    policy = logprobs(actors, "policy", RAGGED, ANSWERS)
    toy = trainer(actors=actors, reference=reference)
    for _ in range(2):
        toy.iterate()
    assert torch.equal(logprobs(actors, reference, RAGGED, ANSWERS), before)
    assert not torch.equal(logprobs(actors, "policy", RAGGED, ANSWERS), policy)


def interrupted(build: Callable[..., Trainer]) -> None:
    """As soon as the answers have their scores."""
    witness = Witness()
    with pytest.raises(Interrupted):
        build(witness, stop_requested=lambda: witness.answers).iterate()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize(
    "use",
    [
        lambda build: build().iterate(),
        lambda build: build().evaluate(RAGGED),
        lambda build: build().greedy(RAGGED, "reference"),
        interrupted,
    ],
    ids=["iterate", "evaluate", "greedy", "interrupted"],
)
@both_modes
def test_afterwards_mode_flags_and_player_are_as_they_were(mode, use, checkpointing):
    actors = tuned(mode, ["reference"])

    def look() -> tuple[Any, ...]:
        parts, parameters = actors.model.modules(), actors.model.named_parameters()
        return [m.training for m in parts], [n for n, p in parameters if p.requires_grad], actors.model.active_adapter

    before = look()
    use(partial(trainer, actors=actors, reference="reference", value_mode=mode, checkpointing=checkpointing))
    assert look() == before
    assert not any(before[0])


@both_modes
def test_recomputing_activations_changes_no_gradient(mode):
    """And both adapters learn: with one summed loss, one of them would be recomputed with the other's adapter."""
    once = {"value_mode": mode, "epochs": 1, "minibatch": 8, "micro_tokens": 30}
    plain, recomputed = (
        gradients(worth_something(trainer(actors=tuned(mode), checkpointing=is_on, **once))) for is_on in (False, True)
    )
    assert same(plain, recomputed)
    assert {name.partition(":")[0] for name in plain} == {*LEARNING[mode], "head"}
    assert all(g.abs().max() > 0 for g in plain.values())


@both_modes
def test_the_size_of_micro_batches_changes_no_gradient(mode):
    """Answers differ in length, so a mean of means would."""
    once = {"value_mode": mode, "epochs": 1, "minibatch": 8}
    whole, *cut = (
        gradients(worth_something(trainer(actors=tuned(mode), micro_tokens=size, **once))) for size in (4096, 25, 1)
    )
    scale = math.sqrt(sum(float(g.square().sum()) for g in whole.values()))
    for other in cut:
        error = math.sqrt(sum(float((g - whole[name]).square().sum()) for name, g in other.items()))
        assert error / scale <= 1e-6


def test_no_activation_is_dropped_while_it_answers_or_learns():
    def twice(dropout: float, checkpointing: bool) -> list[dict[str, float]]:
        toy = trainer(actors=tuned(base=llama(attention_dropout=dropout)), checkpointing=checkpointing)
        return [figures(toy.iterate()) for _ in range(2)]

    assert twice(0.5, True) == twice(0.0, True) == twice(0.5, False)


def test_a_model_in_train_mode_is_not_asked():
    toy = trainer()
    toy.actors.model.train()
    with pytest.raises(ModelError, match="evaluation mode"):
        toy.iterate()


def test_a_checkpoints_own_defaults_bend_no_answer():
    stubborn = llama()
    stubborn.generation_config.repetition_penalty = 1.9
    stubborn.generation_config.top_k = 1
    stubborn.generation_config.temperature = 0.1
    assert figures(trainer(actors=cast(base=stubborn)).iterate()) == figures(trainer().iterate())


@both_modes
def test_the_padding_may_be_the_stop_token(mode):
    one, other = (trainer(value_mode=mode, pad=pad, micro_tokens=60) for pad in (STOP, 0))
    assert [figures(one.iterate()) for _ in range(2)] == [figures(other.iterate()) for _ in range(2)]
    assert same(one.tensors(), other.tensors())


# -- the order of things ------------------------------------------------------------------------------------------


def test_every_prompt_comes_once_before_any_comes_again_and_a_last_small_minibatch_counts():
    witness = Witness()
    toy = trainer(witness, episodes=3, minibatch=2, epochs=2)
    steps = [toy.iterate()["progress/opt_steps"] for _ in range(8)]
    seen = [p for batch in witness.prompts for p in batch]
    rounds = [sorted(seen[start : start + 8]) for start in (0, 8, 16)]
    assert rounds == [sorted(RAGGED)] * 3
    assert seen[:8] != seen[8:16]
    assert steps == [4 * i for i in range(1, 9)]


def test_the_same_prompt_is_answered_anew_every_time():
    witness = Witness()
    toy = trainer(witness, prompts=[[7, 8]], max_tokens=6, learning_rate=0.0, stops=())
    for _ in range(3):
        toy.iterate()
    assert len({tuple(a.ids) for batch in witness.answers for a in batch}) == 24


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_takes_the_same_steps(seed):
    one, other, another = (trainer(seed=s) for s in (seed, seed, seed + 1))
    assert figures(one.iterate()) == figures(other.iterate()) != figures(another.iterate())
    assert same(one.tensors(), other.tensors())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_figures_are_those_of_the_answers(temperature):
    witness = Witness()
    knobs = {"kl_coef": 0.5, "unfinished_penalty": 0.25, "temperature": temperature}
    found = trainer(witness, actors=tuned(), **knobs).iterate()
    [answers], [prompts] = witness.answers, witness.prompts
    scores = even_words(prompts, answers)
    ended = torch.tensor([a.ended for a in answers])
    lengths = torch.tensor([len(a.ids) for a in answers]).float()
    assert 0 < ended.float().mean() < 1
    after = scores - 0.25 * ~ended
    policy, base = (
        logprobs(tuned(), name, prompts, [a.ids for a in answers], temperature) for name in ("policy", None)
    )
    moved = float((policy - base).sum())
    expected = {
        "reward/score_raw": scores.mean(),
        "reward/score": after.mean(),
        "reward/score_std": after.std(correction=0),
        "reward/ended_rate": ended.float().mean(),
        "reward/clipped_rate": 0.0,
        "kl/seq": moved / 8,
        "kl/token": moved / lengths.sum(),
        "reward/kl_penalty": 0.5 * moved / 8,
        "reward/total": after.mean() - 0.5 * moved / 8,
        "len/response_mean": lengths.mean(),
        "len/score_corr": torch.corrcoef(torch.stack([lengths, scores]))[0, 1],
        "progress/episodes": 8.0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(
        {n: float(v) for n, v in expected.items()}, abs=1e-5
    )
    assert all(map(math.isfinite, found.values()))


@pytest.mark.parametrize(
    ("given", "stops", "score", "clipped"),
    [
        pytest.param(9.0, range(WORDS), 5.0, 1.0, id="too high"),
        pytest.param(-9.0, range(WORDS), -5.0, 1.0, id="too low"),
        pytest.param(9.0, (), 4.0, 1.0, id="too high, and cut off"),
        pytest.param(0.5, (), -0.5, 0.0, id="cut off"),
        pytest.param(0.5, range(WORDS), 0.5, 0.0, id="as it is"),
    ],
)
def test_a_score_is_clipped_first_and_an_answer_that_was_cut_off_pays_for_that_after(given, stops, score, clipped):
    found = trainer(
        lambda _, answers: torch.full((len(answers),), given), stops=stops, unfinished_penalty=1.0, actors=cast()
    ).iterate()
    assert found["reward/score_raw"] == given
    assert found["reward/score"] == pytest.approx(score)
    assert found["reward/clipped_rate"] == clipped


def test_advantages_are_whitened_over_all_answers_of_an_iteration():
    """Over a minibatch's alone, every minibatch would have as much to praise as to blame."""
    still = {"learning_rate": 0.0, "epochs": 1, "actors": tuned()}
    assert trainer(minibatch=8, **still).iterate()["policy/loss"] == pytest.approx(0, abs=1e-5)
    assert abs(trainer(minibatch=4, **still).iterate()["policy/loss"]) > 1e-3


def test_the_learning_rate_warms_up_over_iterations_and_stays():
    toy = trainer(learning_rate=0.004, warmup=4)
    assert [toy.iterate()["policy/lr"] for _ in range(6)] == pytest.approx([0.001, 0.002, 0.003, *[0.004] * 3])


def test_an_iteration_ends_early_when_one_step_goes_too_far():
    found = trainer(minibatch=8, epochs=4, target_kl=1e-9).iterate()
    assert found["guard/early_stop_epoch"] == 2
    assert found["progress/opt_steps"] == 2
    assert trainer(minibatch=8, epochs=4).iterate()["guard/early_stop_epoch"] == 0


@both_modes
def test_while_the_value_warms_up_the_policy_stands_still(mode):
    actors = tuned(mode)
    toy = worth_something(trainer(actors=actors, value_mode=mode, value_warmup=2))
    policy = {n: p.detach().clone() for n, p in actors.parameters("policy").items()}
    for _ in range(2):
        toy.iterate()
    assert same(policy, actors.parameters("policy"))
    assert toy.value_head.bias.item() != 0
    toy.iterate()
    assert all(not torch.equal(value, actors.parameters("policy")[name]) for name, value in policy.items())


def test_the_pull_is_steered_towards_the_target():
    def pull(target: float) -> float:
        toy = trainer(actors=tuned(), kl_coef=0.1, kl_target=target, kl_horizon=100)
        assert toy.iterate()["kl/coef"] == 0.1
        return toy.iterate()["kl/coef"]

    assert pull(1e-4) == pytest.approx(0.1 * (1 + 0.2 * 8 / 100))
    assert pull(1e4) == pytest.approx(0.1 * (1 - 0.2 * 8 / 100))
    with pytest.raises(InputError, match="Both must be above 0"):
        trainer(kl_target=0.0)


# -- learning -----------------------------------------------------------------------------------------------------

# Five seeds, the 16th iteration (after 15 had been learned from), one core; min / median / max.
#   even words, shared:  .480-.523 at first, then .642 / .678 / .716 at a divergence of 3.9 / 4.3 / 5.4 nats
#   even words, adapter:                    .714 / .728 / .783                      4.7 / 5.2 / 6.5
#   brevity, shared:     .078-.118 at first, then .861 / .879 / .884, ended .984 /  1  / 1
#   brevity, adapter:                       .848 / .884 / .892, ended .984 /  1  / 1
# Controls, ten iterations: no reward 0 / 0 / 0 nats; beta 10 at most .34 / .38 / .49 nats; shuffled scores, mean of the
# last four against the first of sixteen: even words -.036 / -.018 / +.026, brevity -.038 / -.031 / +.028.


def test_it_learns_to_prefer_even_words():
    found = practised(even_words, seed=0, value_mode="adapter")
    assert found[0]["reward/score_raw"] < 0.55
    assert found[15]["reward/score_raw"] >= 0.62
    assert 0 < found[15]["kl/seq"] < 10


def test_it_learns_to_be_brief():
    found = practised(brevity, seed=0, value_mode="shared")
    assert found[0]["reward/score_raw"] < 0.2
    assert found[15]["reward/score_raw"] >= 0.8
    assert found[15]["reward/ended_rate"] >= 0.95


@both_modes
def test_it_learns_to_foresee_a_score(mode):
    found = practised(even_words, seed=0, iterations=5, value_mode=mode, value_warmup=5)
    assert found[-1]["value/loss"] < found[0]["value/loss"] / 2
    assert max(m["kl/seq"] for m in found) == 0


def test_without_a_reward_it_goes_nowhere():
    assert max(abs(m["kl/seq"]) for m in practised(nothing, seed=0, iterations=6)) < 0.05


def test_a_strong_pull_keeps_it_near_the_reference():
    assert max(m["kl/seq"] for m in practised(brevity, seed=0, iterations=8, kl_coef=10.0)) < 1


def test_scores_given_to_the_wrong_answers_teach_nothing():
    found = practised(shuffled(brevity), seed=0, iterations=12)
    assert sum(m["reward/score_raw"] for m in found[-4:]) / 4 < found[0]["reward/score_raw"] + 0.1


# -- updates that cannot be used ----------------------------------------------------------------------------------


def spoilt(*iterations: int) -> Score:
    """A reward that gives no numbers in these iterations."""
    calls = 0

    def score(prompts: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
        nonlocal calls
        calls += 1
        return (no_number if calls - 1 in iterations else even_words)(prompts, answers)

    return score


@both_modes
def test_a_score_that_is_no_number_costs_its_updates_and_no_more(mode):
    toy = trainer(spoilt(1), value_mode=mode)
    toy.iterate()
    before = toy.tensors()
    found = toy.iterate()
    assert (found["guard/skipped"], found["progress/opt_steps"]) == (4, 4)
    assert same(toy.tensors(), before)
    found = toy.iterate()
    assert (found["guard/skipped"], found["progress/opt_steps"]) == (4, 8)
    assert math.isfinite(found["policy/loss"])
    assert not same(toy.tensors(), before)


def test_a_loss_that_is_no_number_is_not_learned_from():
    toy = trainer()
    before = toy.tensors()
    with torch.no_grad():
        toy.value_head.bias.fill_(math.nan)
    assert toy.iterate()["guard/skipped"] == 4
    assert same(toy.tensors(), before)


@pytest.mark.parametrize("broken", ["policy", "value", "head"])
def test_a_gradient_that_is_no_number_moves_nothing_at_all(broken):
    toy = trainer(value_mode="adapter")
    parameter = toy.value_head.bias if broken == "head" else next(iter(toy.actors.parameters(broken).values()))
    before = toy.tensors()
    parameter.register_hook(lambda g: g * math.nan)
    assert toy.iterate()["guard/skipped"] == 4
    assert same(toy.tensors(), before)


def test_a_policy_that_ran_away_in_one_step_is_not_learned_from_until_it_answers_anew():
    sure_of_itself = llama(initializer_range=1.0)  # so one step can make what it said impossible
    toy = trainer(actors=tuned(base=sure_of_itself), learning_rate=0.3, minibatch=8, epochs=4)
    found = toy.iterate()
    assert (found["guard/skipped"], found["progress/opt_steps"]) == (3, 1)
    assert found["policy/ratio_mean"] == 1
    assert toy.iterate()["policy/ratio_first"] == 1


@pytest.mark.parametrize("minibatch", [2, 8], ids=["eight-updates-per-iteration", "two"])
def test_five_unusable_updates_in_a_row_end_the_run_and_its_checkpoint_can_still_be_used(tmp_path, minibatch):
    undisturbed, course = (Course(tmp_path / name, minibatch=minibatch, iterations=5) for name in ("whole", "parts"))
    undisturbed.go()
    course.go(stop_after=2)
    with pytest.raises(
        RunError, match=r"5 updates in a row could not be used \(policy loss nan.*last checkpoint is kept"
    ):
        course.go(score=no_number)
    assert course.go().finished
    assert same(course.toy.tensors(), undisturbed.toy.tensors())


def test_a_good_update_between_bad_ones_starts_the_count_again():
    toy = trainer(spoilt(0, 2, 4))
    for _ in range(5):
        found = toy.iterate()
    assert found["guard/skipped"] == 12


# -- stopping and going on ----------------------------------------------------------------------------------------


class Course:
    """A run in parts: each goes on, in a new trainer, from the checkpoint that the one before has left."""

    def __init__(self, folder: Path, **knobs: Any) -> None:
        self.run = MemoryRun(folder)
        self._knobs = {"iterations": 6, "evaluate_every": 2, "kl_target": 0.5, "kl_horizon": 100.0, **knobs}
        self.toy: Trainer

    def go(
        self,
        *,
        score: Score = even_words,
        stop_after: int | None = None,
        stop_requested: Callable[[], object] | None = None,
    ) -> Outcome:
        self.run.stop_after = stop_after
        self.toy = trainer(score, stop_requested=stop_requested or self.run.stop_requested, **self._knobs)
        return tune(self.toy, self.run, RAGGED[:3])

    @property
    def figures(self) -> list[tuple[int, dict[str, float]]]:
        return [(step, figures(metrics)) for step, metrics in self.run.logged]

    @property
    def policy(self) -> dict[str, Tensor]:
        return dict(self.toy.actors.parameters("policy"))


@pytest.mark.parametrize(
    ("mode", "evaluate_every"),
    [("shared", 2), ("adapter", 2), ("shared", 3)],
    ids=["shared", "adapter", "in-evaluation"],
)
def test_a_stopped_run_takes_the_same_steps(tmp_path, mode, evaluate_every):
    settings = {"value_mode": mode, "evaluate_every": evaluate_every}
    whole, parts = Course(tmp_path / "whole", **settings), Course(tmp_path / "parts", **settings)
    expected = whole.go()
    stopped = parts.go(stop_after=3)
    assert (stopped.finished, stopped.iterations) == (False, 3)
    assert parts.go() == expected
    assert expected.finished
    assert parts.figures == whole.figures
    assert parts.toy.state == whole.toy.state
    assert same(parts.toy.tensors(), whole.toy.tensors())
    assert same(parts.policy, whole.policy)
    assert any("exp_avg_sq" in name for name in whole.toy.tensors())


class Impatience:
    """Somebody who wants to stop from the n-th time on that the run looks up."""

    def __init__(self, looks: float = math.inf) -> None:
        self.looked, self._looks = 0, looks

    def __call__(self) -> bool:
        self.looked += 1
        return self.looked > self._looks


def test_a_stop_in_the_middle_of_an_iteration_forgets_that_one_alone(tmp_path):
    """In every phase of the run: answering, looking at the answers, learning from them, evaluating."""
    whole, patience, phases = Course(tmp_path / "whole", iterations=4), Impatience(), []

    def score(prompts: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
        phases.append(patience.looked)
        return even_words(prompts, answers)

    expected = whole.go(score=score, stop_requested=patience)
    # Evaluations: before anything, and after iterations 2 and 4.
    first, second, evaluation = phases[1], phases[2], phases[3]
    moments = {"first evaluation": 1, "updating": first + 2, "answering": first + 6, "looking at answers": second - 1}
    moments |= {"evaluating": evaluation - 4, "about to end": patience.looked - 1}
    stops = {name: Impatience(looks) for name, looks in moments.items()}
    done = {}
    for name, impatience in stops.items():
        course = Course(tmp_path / name, iterations=4)
        outcome = course.go(stop_requested=impatience)
        assert not outcome.finished
        assert outcome.best is None
        done[name] = outcome.iterations
        assert json.loads((course.run.last_checkpoint() / "state.json").read_text())["iteration"] == outcome.iterations
        assert course.go() == expected
        assert course.figures == whole.figures
        assert same(course.toy.tensors(), whole.toy.tensors())
    assert done == {
        "first evaluation": 0,
        "updating": 0,
        "answering": 1,
        "looking at answers": 1,
        "evaluating": 2,
        "about to end": 4,
    }


def test_a_run_that_is_stopped_again_at_once_keeps_what_it_had(tmp_path):
    whole, course = Course(tmp_path / "whole"), Course(tmp_path / "parts")
    whole.go()
    course.go(stop_after=3)
    for _ in range(2):
        assert course.go(stop_requested=lambda: True).iterations == 3
    course.go()
    assert same(course.toy.tensors(), whole.toy.tensors())


def test_a_stop_is_heeded_while_a_single_answer_is_being_written():
    impatience = Impatience(10)
    toy = trainer(prompts=[[7, 8]], episodes=1, minibatch=1, max_tokens=500, stops=(), stop_requested=impatience)
    for long_work in (toy.iterate, lambda: toy.evaluate([[7, 8]]), lambda: toy.greedy([[7, 8]])):
        with pytest.raises(Interrupted):
            long_work()
    assert impatience.looked < 20


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda f: (f / "training.safetensors").write_bytes((f / "training.safetensors").read_bytes()[:200]),
    "no tensors": lambda f: (f / "training.safetensors").unlink(),
    "no state": lambda f: (f / "state.json").unlink(),
    "no JSON": lambda f: (f / "state.json").write_text("{"),
    "another state": lambda f: (f / "state.json").write_text('{"step": 3}'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    course = Course(tmp_path)
    course.go(stop_after=2)
    DAMAGE[name](course.run.last_checkpoint())
    with pytest.raises(RunError, match="checkpoint step-2 of run 1 cannot be read.*Start the run again"):
        course.go()


def test_a_checkpoint_of_other_adapters_is_refused(tmp_path):
    course = Course(tmp_path)
    course.go(stop_after=2)
    with pytest.raises(RunError, match="checkpoint step-2 of run 1 cannot be read"):
        tune(trainer(value_mode="adapter"), course.run, ())


def test_no_prompt_is_said_so():
    with pytest.raises(RunError, match="There is no prompt to practise on"):
        trainer(prompts=[])


# -- the end ------------------------------------------------------------------------------------------------------


def test_a_policy_that_strays_too_far_is_halted_and_the_best_one_kept(tmp_path):
    toy = trainer(kl_stop=0.05, evaluate_every=1, iterations=20, learning_rate=1e-2, kl_coef=5.0)
    outcome = tune(toy, MemoryRun(tmp_path), RAGGED)
    assert outcome.finished
    assert outcome.iterations < 20
    assert f"Stopped at iteration {outcome.iterations}: answers had moved" in outcome.halted
    assert "(the limit is 0.05). The best policy so far is kept." in outcome.halted
    assert outcome.best.iteration < outcome.iterations  # the pull makes straying worth less
    again = toy.evaluate(RAGGED)
    assert (again.score, again.kl) == (outcome.best.score, outcome.best.kl)


def test_a_policy_that_no_longer_ends_its_answers_is_halted(tmp_path):
    outcome = tune(trainer(stops=(), iterations=20), MemoryRun(tmp_path), RAGGED)
    assert (outcome.finished, outcome.iterations) == (True, 5)
    assert "hardly an answer came to an end" in outcome.halted


def test_a_run_that_was_stopped_while_it_halted_halts(tmp_path):
    knobs = {"kl_stop": 0.05, "learning_rate": 1e-2, "kl_target": None, "iterations": 20}
    whole, course = Course(tmp_path / "whole", **knobs), Course(tmp_path / "parts", **knobs)
    expected = whole.go()
    assert not course.go(stop_after=expected.iterations).finished
    assert course.go() == expected


def test_the_best_policy_is_the_one_that_is_kept(tmp_path):
    toy = trainer(spoilt(), iterations=4, evaluate_every=1)
    shown: list[int] = []
    run = MemoryRun(tmp_path)
    outcome = tune(toy, run, RAGGED, lambda _, iteration: shown.append(iteration))
    worth = [s - 0.02 * k for s, k in zip(run.values("eval/score"), run.values("eval/kl"), strict=True)]
    assert shown == [0, 1, 2, 3, 4]
    assert outcome.before.kl == 0
    assert outcome.best.worth(0.02) == max(worth) > worth[0]
    assert outcome.best.iteration == worth.index(max(worth))
    again = toy.evaluate(RAGGED)
    assert (again.score, again.kl) == (outcome.best.score, outcome.best.kl)


def test_an_evaluation_that_is_no_number_is_never_the_best(tmp_path):
    outcome = tune(trainer(spoilt(0), iterations=1), MemoryRun(tmp_path), RAGGED)
    assert math.isnan(outcome.before.score)
    assert outcome.best.iteration == 1


def test_without_anything_to_evaluate_on_the_last_policy_is_kept(tmp_path):
    one, other = trainer(iterations=2), trainer(iterations=2)
    outcome = tune(one, MemoryRun(tmp_path), ())
    assert (outcome.finished, outcome.before, outcome.best) == (True, None, None)
    for _ in range(2):
        other.iterate()
    assert same(one.tensors(), other.tensors())


def test_greedy_answers_come_from_whom_one_asks():
    actors = tuned(frozen=["reference"])
    twin = copy.deepcopy(actors)
    toy = trainer(actors=actors, reference="reference", stops=())
    policy, reference, base = (toy.greedy(RAGGED, name) for name in ("policy", "reference", None))
    assert len({str(answers) for answers in (policy, reference, base)}) == 3
    assert toy.greedy(RAGGED) == policy
    with torch.no_grad(), twin.playing("reference") as model:
        first = [int(model(input_ids=torch.tensor([p])).logits[0, -1].argmax()) for p in RAGGED]
    assert [a.ids[0] for a in reference] == first
