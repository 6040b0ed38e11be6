"""Reward models: the numbers of their loss, where a score is read, and that they find a rule nobody told them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from studio.errors import ModelError, RunError
from studio.models import Weights
from studio.preferences.pairs import ranking_pairs
from studio.specs import assistant, user
from studio.training.actors import put_on
from studio.training.conversation import encode_example
from studio.training.loading import load_base
from studio.training.reward import (
    Knobs,
    Ranking,
    RewardHead,
    Trained,
    last_states,
    pair_loss,
    score_ids,
    train,
)
from tests.memory_run import MemoryRun
from tests.training.toys import one_thread  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("one_thread")
KNOBS = Knobs(rank=8, alpha=16, max_length=512, epochs=3, batch_size=8, learning_rate=1e-2, centering=0.01, seed=0)


# -- the loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 0.371101, id="plain"),
        pytest.param({"margin": torch.tensor([1 / 3])}, 0.486793, id="a small margin"),
        pytest.param({"margin": torch.tensor([1.0])}, 0.798139, id="a large margin"),
        pytest.param({"p_chosen": torch.tensor([0.7])}, 0.611101, id="a soft label"),
        pytest.param({"p_chosen": torch.tensor([1.0])}, 0.371101, id="a label that is sure"),
        pytest.param({"centering": 0.01}, 0.371101 + 0.0256, id="centered"),
    ],
)
def test_the_loss_of_a_pair_is_that_worked_by_hand(settings, expected):
    loss = pair_loss(torch.tensor([1.2]), torch.tensor([0.4]), **settings)
    assert loss.tolist() == pytest.approx([expected], abs=1e-6)


def test_four_ranked_answers_make_six_pairs_that_weigh_the_same():
    scores = {"best": 2.0, "good": 1.0, "fair": 0.5, "poor": -0.5}
    pairs = ranking_pairs([[name] for name in scores])
    winners, losers = (torch.tensor([scores[name] for name in side]) for side in zip(*pairs, strict=True))
    losses = pair_loss(winners, losers)
    assert (winners - losers).tolist() == [1, 1.5, 2.5, 0.5, 1.5, 1]
    assert losses.tolist() == pytest.approx([0.313262, 0.201413, 0.078890, 0.474077, 0.201413, 0.313262], abs=1e-6)
    assert losses.mean().item() == pytest.approx(0.263719, abs=1e-6)


@settings(deadline=None)
@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0, 1))
def test_a_soft_label_is_the_mean_of_both_answers_to_the_question(chosen, rejected, p):
    one, other = (torch.tensor([s], dtype=torch.float64) for s in (chosen, rejected))
    mixed = p * pair_loss(one, other) + (1 - p) * pair_loss(other, one)
    assert pair_loss(one, other, p_chosen=torch.full_like(one, p)).item() == pytest.approx(mixed.item(), abs=1e-9)
    assert pair_loss(one, other).item() >= 0


# -- the head ----------------------------------------------------------------------------------------------------


def test_the_head_begins_with_weights_of_the_right_size_and_no_bias():
    head = RewardHead(4095, seed=1)
    assert head.weight.std().item() == pytest.approx(1 / math.sqrt(4096), rel=0.05)
    assert (head.gain, head.bias) == (1.0, 0.0)
    assert not torch.equal(RewardHead(8, seed=1).weight, RewardHead(8, seed=2).weight)


def test_scores_are_brought_to_mean_0_and_deviation_1():
    head = RewardHead(3)
    head.normalise(torch.tensor([1.0, 2.0, 1.0, 2.0]))  # mean 1.5, deviation 0.5
    assert (head.gain, head.bias) == (pytest.approx(2), pytest.approx(-3))


def test_scores_can_be_brought_there_again_when_answers_have_changed():
    torch.manual_seed(0)
    head = RewardHead(8)
    for shift in (2, 0, 5):  # each on top of the one before
        states = torch.randn(300, 8) + shift
        head.normalise(head(states).detach())
        scores = head(states)
        assert scores.mean().item() == pytest.approx(0, abs=1e-5)
        assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scores", [[], [2.0], [2.0, 2.0, 2.0]], ids=str)
def test_scores_without_any_spread_choose_no_gain(scores):
    head = RewardHead(3)
    head.normalise(torch.tensor(scores))
    assert (head.gain, head.bias) == (1.0, 0.0)


def test_a_head_comes_back_from_its_folder_with_gain_and_bias(tmp_path):
    torch.manual_seed(0)
    head, states = RewardHead(8, seed=3), torch.randn(5, 8)
    head.gain, head.bias = 2.5, -0.75
    head.save(tmp_path)
    again = RewardHead.load(tmp_path)
    assert (again.gain, again.bias) == (2.5, -0.75)
    assert torch.equal(again(states), head(states))
    assert again(states).allclose(2.5 * states @ head.weight - 0.75, atol=1e-6)
    assert not again.weight.requires_grad


def test_scores_are_float32_whatever_the_model_computes_in():
    assert RewardHead(8)(torch.randn(2, 8).bfloat16()).dtype == torch.float32


HEAD, FACTS = "reward_head.safetensors", "reward.json"
HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "no head": (lambda f: (f / HEAD).unlink(), "holds no reward model: .* is missing. Choose a run of the recipe"),
    "no facts": (lambda f: (f / FACTS).unlink(), f"holds no reward model: {FACTS} is missing"),
    "a cut head": (lambda f: (f / HEAD).write_bytes((f / HEAD).read_bytes()[:20]), "cannot be read .*Train it again"),
    "no JSON": (lambda f: (f / FACTS).write_text("{"), "cannot be read"),
    "no bias": (lambda f: (f / FACTS).write_text('{"gain": 1}'), "cannot be read"),
    "no number": (lambda f: (f / FACTS).write_text('{"gain": null, "bias": 0}'), "cannot be read"),
}


@pytest.mark.parametrize("name", HARM)
def test_a_folder_without_a_whole_head_is_told_in_a_sentence(tmp_path, name):
    harm, sentence = HARM[name]
    RewardHead(8).save(tmp_path)
    harm(tmp_path)
    with pytest.raises(ModelError, match=sentence):
        RewardHead.load(tmp_path)


# -- where a score is read ---------------------------------------------------------------------------------------

ROWS = [[5, 6, 7, 8, 2], [9, 2], [10, 11, 12, 13, 14, 15, 16, 2], [17]]  # 2 is both the stop token and the padding


def by_hand(model: LlamaForCausalLM, head: RewardHead, row: list[int]) -> float:
    hidden = model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[-1]
    return float(hidden[0, -1] @ head.weight)


@torch.no_grad()
def test_a_score_is_read_at_the_stop_token_though_that_is_the_padding(tiny, tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == ROWS[0][-1]
    head = RewardHead(32)
    expected = [by_hand(tiny, head, row) for row in ROWS]
    assert score_ids(tiny, head, ROWS, pad=2).tolist() == pytest.approx(expected, abs=1e-5)
    before_it = [by_hand(tiny, head, row[:-1]) for row in ROWS[:3]]
    assert all(abs(a - b) > 1e-2 for a, b in zip(before_it, expected, strict=False))


@pytest.fixture
def gpt2() -> GPT2LMHeadModel:
    """Absolute positions: wrong as soon as padding shifts them."""
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 64, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=2, initializer_range=0.2)).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", "gpt2"])
@pytest.mark.parametrize("pad", [0, 2, 40])
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_a_score_depends_on_no_neighbour_and_no_padding(name, pad, left, request):
    model = request.getfixturevalue(name)
    alone = torch.cat([last_states(model, [row], pad=0) for row in ROWS])
    together = last_states(model, ROWS, pad, left)
    backwards = last_states(model, [*ROWS[::-1], list(range(3, 60))], pad, left)[: len(ROWS)].flip(0)
    for states in (together, backwards):
        torch.testing.assert_close(states, alone, rtol=1e-5, atol=1e-5)


# -- training ----------------------------------------------------------------------------------------------------

WORDS = "one two three four five six seven hello everyone room capital France answer question".split()


def has_fox(i: int) -> tuple[str, str]:
    """The better answer says "fox" somewhere."""
    rng = random.Random(i)
    better, worse = (rng.choices(WORDS, k=rng.randint(2, 6)) for _ in range(2))
    better.insert(rng.randint(0, len(better)), "fox")
    return " ".join(better), " ".join(worse)


def is_brief(i: int) -> tuple[str, str]:
    """The better answer is the shorter one."""
    rng = random.Random(i)
    size = rng.randint(1, 4)
    return tuple(" ".join(rng.choices(WORDS, k=n)) for n in (size, size + rng.randint(3, 5)))


def rankings(rule: Callable[[int], tuple[str, str]], count: int, start: int = 0) -> list[Ranking]:
    """Judgements by that rule, the better answer sometimes first and sometimes second."""
    found = []
    for i in range(start, start + count):
        better, worse = rule(i)
        answers, pair = ([better, worse], (0, 1)) if i % 2 else ([worse, better], (1, 0))
        found.append(Ranking([user(" ".join(WORDS[i % 5 : i % 5 + 3]))], answers, [pair], f"prompt {i}"))
    return found


def contrary(rankings: list[Ranking]) -> list[Ranking]:
    """As somebody sees it who prefers the other answer: the better a model learns, the worse it does on these."""
    return [replace(r, pairs=[(loser, winner) for winner, loser in r.pairs]) for r in rankings]


class Lesson:
    """A run in the workspace of the tiny model."""

    def __init__(self, weights: Weights, run: MemoryRun) -> None:
        self.weights, self.run = weights, run

    def learn(
        self,
        learned: list[Ranking],
        validation: list[Ranking] | None = None,
        held_out: list[Ranking] | None = None,
        *,
        stop_after: int | None = None,
        **knobs: Any,
    ) -> Trained:
        self.run.stop_after = stop_after
        return train(self.weights, learned, validation or [], held_out or [], replace(KNOBS, **knobs), self.run)

    @property
    def folder(self) -> Path:
        return self.run.output / "model"


@pytest.fixture
def lesson(tiny_weights, tmp_path, model_settings, model_workspace) -> Callable[..., Lesson]:
    def begin(name: str = "run", weights: Weights = tiny_weights) -> Lesson:
        (tmp_path / name).mkdir()
        return Lesson(weights, MemoryRun(tmp_path / name, settings=model_settings, workspace=model_workspace))

    return begin


@pytest.mark.parametrize("rule", [has_fox, is_brief])
def test_it_finds_the_rule_behind_the_judgements(lesson, rule):
    """Right in so many of 60 pairs it had not seen: fox .95 to .983 over four seeds, brief .95 to .983 over five, each
    with either attention. (From 64 judgements brief comes to .9 on the mean, which is the bar itself.)"""
    one = lesson()
    trained = one.learn(rankings(rule, 128), rankings(rule, 16, 1000), rankings(rule, 60, 2000))
    right = [pair.chosen > pair.rejected for pair in trained.held_out]
    assert len(right) == 60
    assert sum(right) / 60 > 0.9
    losses = one.run.values("validation_loss")
    assert len(losses) == 4
    assert trained.validation_loss == min(losses[1:]) < losses[0]
    assert trained.epoch == losses.index(min(losses[1:]))
    assert trained.new_parameters > 0


def test_shuffled_judgements_teach_nothing(lesson):
    def guess(i: int) -> tuple[str, str]:
        better, worse = has_fox(i)
        return (better, worse) if random.Random(f"{i}!").random() < 0.5 else (worse, better)

    trained = lesson().learn(rankings(guess, 128), [], rankings(has_fox, 60, 2000), epochs=1)
    assert sum(pair.chosen > pair.rejected for pair in trained.held_out) / 60 < 0.8


def test_what_it_leaves_scores_each_answer_alone_as_the_report_said(lesson, tokenizer):
    one = lesson()
    held_out = rankings(has_fox, 12, 2000)
    trained = one.learn(rankings(has_fox, 32), [], held_out, epochs=1)
    for ranking, pair in zip(held_out, trained.held_out, strict=True):
        [(winner, loser)] = ranking.pairs
        better, worse = (
            encode_example(tokenizer, [*ranking.prompt, assistant(ranking.answers[i])]) for i in (winner, loser)
        )
        assert (pair.group, pair.chosen_tokens, pair.rejected_tokens) == (ranking.group, better.learned, worse.learned)
    alone = scores_from(one, held_out, tokenizer)
    reported = torch.tensor([[pair.chosen, pair.rejected] for pair in trained.held_out])
    torch.testing.assert_close(alone, reported, rtol=0, atol=0.1)  # bf16, where the hardware has it


def scores_from(one: Lesson, rankings: list[Ranking], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """[N, 2], winner and loser, by the adapter and the head in the run's folder."""
    model, head = put_on(load_base(one.weights), one.folder, "reward").eval(), RewardHead.load(one.folder)
    rows = [
        encode_example(tokenizer, [*r.prompt, assistant(r.answers[place])]).ids
        for r in rankings
        for place in r.pairs[0]
    ]
    return score_ids(model, head, rows, tokenizer.pad_token_id).reshape(-1, 2)


def test_scores_of_the_answers_it_knows_have_mean_0_and_deviation_1(lesson, tokenizer):
    one, learned = lesson(), rankings(has_fox, 32)
    trained = one.learn(learned, epochs=1)
    scores = scores_from(one, learned, tokenizer)
    assert scores.mean().item() == pytest.approx(0, abs=0.05)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=0.05)
    facts = json.loads((one.folder / "reward.json").read_text())
    assert facts == {"gain": trained.gain, "bias": trained.bias}
    assert trained.gain != 1


@pytest.mark.parametrize("stop_after", [3, 5, 8], ids=["first-epoch", "between-epochs", "second-epoch"])
def test_a_stopped_run_takes_the_same_steps(lesson, stop_after):
    # The first epoch is the best one: a run that goes on in the second must know it still.
    data = rankings(has_fox, 18), contrary(rankings(has_fox, 6, 1000)), rankings(has_fox, 4, 2000)
    whole, parts = lesson("whole"), lesson("parts")
    expected = whole.learn(*data, batch_size=4)
    stopped = parts.learn(*data, batch_size=4, stop_after=stop_after)
    assert stopped == Trained(False)
    assert not parts.folder.exists()
    assert max(step for step, _ in parts.run.logged) == stop_after
    assert parts.learn(*data, batch_size=4) == expected
    assert expected.epoch == 1
    assert figures(parts) == figures(whole)
    files = {p.name: p.read_bytes() for p in whole.folder.iterdir()}
    assert {"adapter_model.safetensors", HEAD, FACTS} <= files.keys()
    assert {p.name: p.read_bytes() for p in parts.folder.iterdir()} == files


def figures(one: Lesson) -> list[tuple[int, dict[str, float]]]:
    return [(step, {n: v for n, v in found.items() if n != "seconds_left"}) for step, found in one.run.logged]


def test_a_run_that_is_stopped_again_at_once_keeps_what_it_had(lesson):
    one = lesson()
    for _ in range(2):
        assert not one.learn(rankings(has_fox, 12), batch_size=4, stop_after=2).finished
    assert one.run.last_checkpoint().name == "step-2"
    assert one.learn(rankings(has_fox, 12), batch_size=4).finished


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda f: (f / "training.safetensors").write_bytes((f / "training.safetensors").read_bytes()[:200]),
    "no tensors": lambda f: (f / "training.safetensors").unlink(),
    "no JSON": lambda f: (f / "state.json").write_text("{"),
    "another state": lambda f: (f / "state.json").write_text('{"iteration": 3}'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_named(lesson, name):
    one = lesson()
    one.learn(rankings(has_fox, 12), batch_size=4, stop_after=2)
    DAMAGE[name](one.run.last_checkpoint())
    with pytest.raises(RunError, match="checkpoint step-2 of run 1 cannot be read.*Start the run again"):
        one.learn(rankings(has_fox, 12), batch_size=4)


def test_the_best_epoch_is_kept_and_not_the_last(lesson, tokenizer):
    one, validation = lesson(), contrary(rankings(has_fox, 12, 1000))
    trained = one.learn(rankings(has_fox, 24), validation, batch_size=4)
    first, *later = one.run.values("validation_loss")[1:]
    assert min(later) > first + 0.1
    assert (trained.epoch, trained.validation_loss) == (1, first)
    raw = (scores_from(one, validation, tokenizer) - trained.bias) / trained.gain
    assert pair_loss(*raw.T).mean().item() == pytest.approx(first, abs=0.05)


def test_rankings_longer_than_the_window_are_left_out_whole_and_counted(lesson):
    wordy = Ranking([user("one")], ["two", " ".join(WORDS * 9)], [(0, 1)], "wordy")
    fitting = rankings(has_fox, 12)
    one, other = lesson("with"), lesson("without")
    knobs = {"epochs": 1, "max_length": 64}
    trained = one.learn([wordy, *fitting], [wordy], [wordy, *rankings(has_fox, 3, 2000)], **knobs)
    expected = other.learn(fitting, [], rankings(has_fox, 3, 2000), **knobs)
    assert (trained.left_out, expected.left_out) == (3, 0)
    assert replace(trained, left_out=0) == expected
    with pytest.raises(RunError, match="from 1 judgements: all are longer than 64 tokens"):
        lesson("nothing").learn([wordy], **knobs)


def test_a_window_shorter_than_the_longest_conversation_counts(lesson, tiny_weights):
    short = replace(tiny_weights, window=12)
    with pytest.raises(RunError, match="all are longer than 12 tokens"):
        lesson("short", short).learn(rankings(has_fox, 4))


def test_only_ties_are_told_in_a_sentence(lesson):
    tie = Ranking([user("one")], ["two", "three"], [], "tie")
    with pytest.raises(RunError, match="from 2 judgements: there are only ties. Judge more items"):
        lesson().learn([tie, tie])


def test_a_tie_is_no_lesson_but_no_harm_either(lesson):
    tie = Ranking([user("one")], ["two", "three"], [], "tie")
    learned = rankings(has_fox, 8)
    one, other = lesson("with"), lesson("without")
    trained = one.learn([tie, *learned], [tie], [tie], epochs=1)
    assert trained == other.learn(learned, epochs=1)
    assert trained.held_out == []


def test_a_loss_that_is_no_number_ends_the_run(lesson):
    with pytest.raises(RunError, match=r"loss became nan at step \d+.*Lower the learning rate"):
        lesson().learn(rankings(has_fox, 16), learning_rate=1e30, batch_size=4)


@pytest.fixture
def seen_tokens() -> Iterator[list[Tensor]]:
    """All that any model reads, as it reads it."""
    found: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Embedding):
            found.append(inputs[0])

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    yield found
    handle.remove()


def test_every_ranked_answer_is_read_once_however_many_pairs_it_is_in(lesson, tokenizer, seen_tokens):
    [fox] = tokenizer(" fox", add_special_tokens=False)["input_ids"]
    answers = [f"{word} fox {word}" for word in WORDS[:4]]
    pairs = ranking_pairs([[0], [1], [2], [3]])
    assert len(pairs) == 6
    learned = [Ranking([user(word)], answers, pairs, word) for word in WORDS[:5]]
    lesson().learn(learned, epochs=2, batch_size=2)
    read = sum(int((ids == fox).sum()) for ids in seen_tokens)
    found_out = 2 * 4  # whether this model reads answers behind a shared prompt as it reads them alone
    assert read == found_out + (2 + 1) * 5 * 4  # two epochs, and once more for mean and deviation


def test_a_prompt_weighs_as_much_as_another_however_many_pairs_its_answers_make(lesson):
    def first_loss(name: str, pairs: list[tuple[int, int]]) -> float:
        one = lesson(name)
        many = Ranking([user("one")], ["two fox", "three"], pairs, "many")
        one.learn([many, *rankings(has_fox, 3)], epochs=1, batch_size=4)
        return one.run.values("loss")[0]

    assert first_loss("once", [(0, 1)]) == pytest.approx(first_loss("thrice", [(0, 1)] * 3), rel=1e-6)


def test_a_model_whose_sight_is_short_is_trained_as_it_will_score(lesson, tiny_weights, tokenizer, tmp_path):
    """Only the longest answers are beyond its sliding window, so a look at a short one would not tell."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = MistralConfig(
        **size, **ids, vocab_size=len(tokenizer), num_key_value_heads=2, sliding_window=40, initializer_range=0.4
    )
    MistralForCausalLM(config).save_pretrained(tmp_path / "short-sighted")
    tokenizer.save_pretrained(tmp_path / "short-sighted")
    one = lesson("run", replace(tiny_weights, base=tmp_path / "short-sighted"))
    long = [
        Ranking(r.prompt, [" ".join([a] * 5) for a in r.answers], r.pairs, r.group) for r in rankings(has_fox, 8, 2000)
    ]
    trained = one.learn([*rankings(is_brief, 8), *long], [], long, epochs=1)
    reported = torch.tensor([[pair.chosen, pair.rejected] for pair in trained.held_out])
    torch.testing.assert_close(scores_from(one, long, tokenizer), reported, rtol=0, atol=0.1)
