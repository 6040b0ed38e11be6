"""The recipes of alignment, on the tiny model: rankings become a reward model, and a policy learns from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.backends import LocalBackend
from studio.errors import InputError, ModelError, NotFound, RunError
from studio.instructions import group_hash, split_of
from studio.models import Weights
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.specs import ModelRef, SnapshotRef, assistant, user
from studio.store import Store, model_row
from studio.training.ppo import Trainer
from studio.training.reward import RewardHead
from tests.memory_run import MemoryRun

TINY = ModelRef("dir:tiny")
WORDS = "one two three four five six seven eight nine".split()


def judgement(i: int, ties: bool = False, kind: str = "human") -> dict[str, Any]:
    """The shorter of two answers is the better one."""
    question = f"Count to {i}, {WORDS[i % 9]}"
    group = group_hash(question, "")
    short, long = 2 * i + 1, 2 * i + 2
    return {
        "prompt": [{"role": "user", "content": question}],
        "answers": [
            {"id": short, "text": WORDS[i % 9]},
            {"id": long, "text": " ".join(WORDS[i % 9] for _ in range(6 + i % 3))},
        ],
        "groups": [[short, long]] if ties else [[short], [long]],
        "split": split_of(group),
        "group": group,
        "annotator_kind": kind,
    }


def prefs(store: Store, root: Path, name: str = "words", n: int = 60, **how: Any) -> SnapshotRef:
    return store.freeze(root, "prefs", name, [judgement(i, **how) for i in range(n)], author="ann").ref


def prompts(store: Store, root: Path, n: int = 30, length: int = 1) -> SnapshotRef:
    rows = []
    for i in range(n):
        text = " ".join([f"Say {WORDS[i % 9]} {i}"] * length)
        group = group_hash(text, "")
        rows.append({"instruction": text, "context": "", "split": split_of(group), "group": group})
    return store.freeze(root, "prompts", "words", rows, author="ann").ref


class Studio:
    """Runs that know each other's models, as in a workspace: dir:tiny, run:2 (a reward model)."""

    def __init__(self, folder: Path, settings: Any, store: Store, root: Path, tiny: Weights) -> None:
        self.folder, self.settings, self.store, self.root, self.tiny = folder, settings, store, root, tiny
        self.made: dict[str, Weights] = {}

    def run(self, name: str = "run", **how: Any) -> MemoryRun:
        (self.folder / name).mkdir(exist_ok=True)
        run = MemoryRun(self.folder / name, settings=self.settings, store=self.store, workspace=self.root, **how)
        known = run.weights
        run.weights = lambda ref: self.made.get(ref) or known(ref)  # type: ignore[method-assign]
        return run

    def add(self, ref: str, run: MemoryRun, **row: Any) -> ModelRef:
        self.made[ref] = Weights(ModelRef(ref), self.tiny.base, run.output / "model", self.tiny.digest, 2048, "")
        self.store.add_model(model_row(ref, ref, author="ann", base=str(TINY), base_digest=self.tiny.digest, **row))
        return ModelRef(ref)

    def rewarded(self) -> ModelRef:
        run = self.run("reward")
        learn(prefs(self.store, self.root)).do(run)
        return self.add("run:2", run, answers=False, scores=True)


@pytest.fixture
def studio(tmp_path, sqlite_store, model_settings, model_workspace, tiny_weights) -> Studio:
    return Studio(tmp_path, model_settings, sqlite_store, model_workspace, tiny_weights)


def learn(data: SnapshotRef, **knobs: Any) -> Reward:
    return Reward(data=data, base=TINY, **{"epochs": 2, "rank": 4, "learning_rate": 1e-2, **knobs})


def practise(reward: ModelRef, data: SnapshotRef, **knobs: Any) -> Ppo:
    small = {"iterations": 3, "episodes": 4, "minibatch": 2, "max_tokens": 6, "evaluate_every": 2}
    return Ppo(base=TINY, reward=reward, prompts=data, **small | knobs)


# -- the reward model ----------------------------------------------------------------------------------------


def test_rankings_become_a_model_that_scores_and_a_report_on_judgements_it_never_saw(studio):
    run = studio.run()
    result = learn(prefs(studio.store, studio.root)).do(run)
    assert (result["answers"], result["scores"], result["method"]) == (False, True, "reward")
    assert (result["judgements"], result["simulated"], result["left_out"]) == (60, 0, 0)
    report = result["report"]
    assert report["pairs"] == sum(judgement(i)["split"] == "test" for i in range(60)) > 0
    assert report["accuracy"]["value"] > 0.8
    assert report["accuracy"]["low"] <= report["accuracy"]["value"] <= report["accuracy"]["high"]
    assert report["longer_wins"]["value"] == 0.0
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    RewardHead.load(run.output / "model")


def test_judgements_that_a_rule_gave_are_counted_as_simulated(studio):
    assert learn(prefs(studio.store, studio.root, kind="rule"), epochs=1).do(studio.run())["simulated"] == 60


def test_without_a_held_out_judgement_there_is_no_accuracy(studio):
    rows = [{**judgement(i), "split": "train"} for i in range(20)]
    data = studio.store.freeze(studio.root, "prefs", "seen", rows, author="ann").ref
    assert learn(data, epochs=1).do(studio.run())["report"] is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": "prefs:few@1"}, "prefs:few@1 has 19 judgements; a reward model needs at least 20"),
        ({"data": "data:words@1"}, "data:words@1 holds no judgements"),
        ({"data": "prefs:nobody@1"}, "There is no snapshot 'prefs:nobody@1'"),
        ({"base": "echo:"}, "has no weights here to start from"),
        ({"base": "run:2"}, "run:2 scores answers already"),
    ],
    ids=["few", "no-judgements", "unknown", "no-weights", "a-scorer"],
)
def test_what_cannot_be_learned_from_is_refused_before_it_is_queued(studio, changes, sentence):
    prefs(studio.store, studio.root, "few", n=19)
    prefs(studio.store, studio.root)
    studio.store.add_model(model_row("run:2", "scorer", author="ann", answers=False, scores=True))
    with pytest.raises((InputError, NotFound), match=sentence):
        Reward.model_validate({"data": "prefs:words@1", "base": "dir:tiny", **changes}).check(studio.store)


def test_ties_alone_teach_nothing(studio):
    with pytest.raises(RunError, match="Nothing would be learned from .* there are only ties"):
        learn(prefs(studio.store, studio.root, "ties", ties=True)).do(studio.run())


def test_a_stopped_reward_run_leaves_a_checkpoint_and_goes_on_from_it(studio):
    data = prefs(studio.store, studio.root)
    whole = learn(data).do(studio.run("whole"))
    stopped = studio.run("stopped", stop_after=3)
    assert learn(data).do(stopped) == {}
    assert not (stopped.output / "model").exists()
    stopped.stop_after = None
    again = learn(data).do(stopped)
    assert again["report"] == whole["report"]
    assert (again["gain"], again["bias"]) == (whole["gain"], whole["bias"])


# -- the policy ----------------------------------------------------------------------------------------------


def test_ppo_leaves_an_adapter_on_the_base_and_says_how_far_it_went(studio):
    reward = studio.rewarded()
    run = studio.run()
    result = practise(reward, prompts(studio.store, studio.root)).do(run)
    assert (run.output / "model" / "adapter_model.safetensors").is_file()
    assert (result["method"], result["base"], result["reward"]) == ("ppo", "dir:tiny", "run:2")
    assert (result["iterations"], result["episodes"], result["halted"]) == (3, 12, "")
    assert result["before"]["kl"] == 0.0
    assert result["best"]["score"] >= result["before"]["score"] or result["best"]["kl"] == 0.0
    assert run.values("policy/ratio_first")[0] == 1.0
    assert {"reference", "policy"} == set(run.samples[0][2])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_ppo_on_a_tuned_model_begins_as_it_and_stays_one_adapter_on_the_base(studio, tiny_lora):
    reward = studio.rewarded()
    tuned = Weights(ModelRef("run:1"), studio.tiny.base, tiny_lora, studio.tiny.digest, 2048, "")
    studio.made["run:1"] = tuned
    studio.store.add_model(model_row("run:1", "tuned", author="ann", base_digest=studio.tiny.digest))
    run = studio.run()
    task = practise(reward, prompts(studio.store, studio.root), iterations=2, value_mode="adapter")
    result = task.model_copy(update={"base": ModelRef("run:1")}).do(run)
    assert run.values("kl/seq")[0] == 0.0  # the reference is the tuned adapter, and the policy a copy of it
    config = json.loads((run.output / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, "run:1")
    assert result["new_parameters"] > 0


def test_the_engine_scores_as_the_reward_model_does(studio, engine):
    studio.rewarded()
    weights = studio.made["run:2"]
    asked = [[user("Count to 3, four"), assistant(text)] for text in ("four", "four four four four four four", "")]
    scores = asyncio.run(LocalBackend(weights, engine).score(asked))
    assert len(scores) == 3
    assert scores[0] > scores[1]
    alone = asyncio.run(LocalBackend(weights, engine).score(asked[1:2]))
    # The engine's precision is that of this machine; a batch rounds otherwise than one row.
    assert scores[1] == pytest.approx(alone[0], abs=0.1)


def test_a_model_without_a_head_refuses_to_score(studio, engine, tiny_lora):
    plain = Weights(TINY, studio.tiny.base, None, studio.tiny.digest, 2048, "")
    with pytest.raises(ModelError, match="dir:tiny cannot score answers"):
        asyncio.run(LocalBackend(plain, engine).score([[user("a"), assistant("b")]]))
    tuned = Weights(ModelRef("run:1"), studio.tiny.base, tiny_lora, studio.tiny.digest, 2048, "")
    with pytest.raises(ModelError, match="holds no reward model: reward_head.safetensors is missing"):
        asyncio.run(LocalBackend(tuned, engine).score([[user("a"), assistant("b")]]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompts": "prefs:words@1"}, "holds no prompts"),
        ({"prompts": "prompts:nobody@1"}, "There is no snapshot"),
        ({"minibatch": 8}, "A step of 8 answers cannot be taken from 4"),
        ({"base": "echo:"}, "has no weights here that could be aligned"),
        ({"base": "run:2"}, "run:2 scores answers and gives none"),
        ({"reward": "dir:tiny"}, "dir:tiny is not a reward model"),
        ({"reward": "run:3"}, "run:3 answers and does not score"),
        ({"base": "run:4"}, "run:2 stands on another base than run:4"),
    ],
    ids=["no-prompts", "unknown", "minibatch", "no-weights", "a-scorer", "not-a-run", "no-scorer", "other-base"],
)
def test_what_cannot_be_aligned_is_refused_before_it_is_queued(studio, changes, sentence):
    prompts(studio.store, studio.root)
    facts = {"author": "ann", "base_digest": studio.tiny.digest}
    studio.store.add_model(model_row("run:2", "scorer", answers=False, scores=True, **facts))
    studio.store.add_model(model_row("run:3", "tuned", **facts))
    studio.store.add_model(model_row("run:4", "other", author="ann", base_digest="another"))
    fields = {"base": "dir:tiny", "reward": "run:2", "prompts": "prompts:words@1", "episodes": 4, "minibatch": 2}
    with pytest.raises((InputError, NotFound), match=sentence):
        Ppo.model_validate(fields | changes).check(studio.store)


def test_a_reward_model_of_another_base_is_refused_before_anything_is_loaded(studio):
    reward = studio.rewarded()
    strange = Weights(reward, Path("elsewhere"), studio.made["run:2"].adapter, "another digest", 2048, "")
    studio.made["run:2"] = strange
    with pytest.raises(RunError, match=r"run:2 scores with another base \(elsewhere\) than dir:tiny answers with"):
        practise(reward, prompts(studio.store, studio.root)).do(studio.run())


def test_prompts_longer_than_allowed_are_left_out_and_none_left_is_a_sentence(studio):
    reward = studio.rewarded()
    long = prompts(studio.store, studio.root, length=40)
    with pytest.raises(RunError, match=r"None of the \d+ prompts fits: the shortest has \d+ tokens and 32 are allowed"):
        practise(reward, long, max_prompt=32).do(studio.run())


def test_a_stopped_ppo_run_goes_on_to_the_same_policy(studio):
    reward, data = studio.rewarded(), prompts(studio.store, studio.root)
    task = practise(reward, data, iterations=4)
    whole = studio.run("whole")
    result = task.do(whole)
    stopped = studio.run("stopped", stop_after=2)
    assert task.do(stopped) == {}
    assert not (stopped.output / "model").exists()
    stopped.stop_after = None
    again = task.do(stopped)
    assert (again["best"], again["before"]) == (result["best"], result["before"])
    same = [(r.output / "model" / "adapter_model.safetensors").read_bytes() for r in (whole, stopped)]
    assert same[0] == same[1]


def test_updates_that_are_no_numbers_end_the_run_with_a_sentence(studio, monkeypatch):
    reward, data = studio.rewarded(), prompts(studio.store, studio.root)
    run = studio.run()
    real = Trainer._judge

    def poisoned(self: Trainer, roll: Any) -> None:
        real(self, roll)
        if self.state.before is not None:
            roll.advantages = torch.full_like(roll.advantages, float("nan"))

    monkeypatch.setattr(Trainer, "_judge", poisoned)
    with pytest.raises(RunError, match="5 updates in a row could not be used .*Lower the learning rate"):
        practise(reward, data, iterations=3, epochs=4).do(run)
