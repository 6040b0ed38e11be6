"""The decode loop: exact, honest about probabilities, and stoppable between any two tokens."""

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from studio.errors import ModelError
from studio.specs import Sampling
from studio.training.decode import AnswerText, _penalised, generate, row_seed, warp

PROMPTS = [[5, 6, 7, 8, 9], [10], [20, 21, 22], [30, 31, 32, 33, 34, 35, 36, 37], [11]]


@pytest.fixture(scope="module")
def gpt2():
    """Absolute positions: wrong ones under left padding move its logits visibly."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=64,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(params=["llama", "gpt2"])
def model(request, tiny, gpt2):
    return {"llama": tiny, "gpt2": gpt2}[request.param]


def full_logprobs(model, prompt, answer, temperature=1.0):
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    table = (logits / temperature).log_softmax(-1)
    return table.gather(-1, torch.tensor(answer)[:, None]).squeeze(-1)


def test_a_batch_gives_the_answers_that_each_prompt_gets_alone(model):
    sampling = Sampling(max_tokens=12)
    together = generate(model, PROMPTS, sampling, stop_ids=())
    alone = [generate(model, [prompt], sampling, stop_ids=())[0] for prompt in PROMPTS]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]


def test_sampled_answers_do_not_depend_on_their_neighbours_either(model):
    sampling = Sampling(max_tokens=12, temperature=1.3, top_p=0.9, seed=4)
    together = generate(model, PROMPTS, sampling, stop_ids=())
    alone = [
        generate(model, [prompt], sampling, stop_ids=(), seeds=[row_seed(4, row)])[0]
        for row, prompt in enumerate(PROMPTS)
    ]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]


def test_what_all_prompts_begin_with_is_read_once_and_changes_no_answer(model):
    beginning = [7 + place % 40 for place in range(34)]
    prompts = [beginning + rest for rest in ([50, 51, 52], [50], [53, 54], [50])]
    sampling = Sampling(max_tokens=12)
    read = []
    watch = model.register_forward_pre_hook(
        lambda _m, _a, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    together = generate(model, prompts, sampling, stop_ids=(), logprobs=True)
    watch.remove()
    assert read[:2] == [34, 3 * 3]  # and of the two equal prompts one
    for prompt, answer in zip(prompts, together, strict=True):
        alone = generate(model, [prompt], sampling, stop_ids=())[0]
        assert answer.ids == alone.ids
        expected = full_logprobs(model, prompt, answer.ids)
        assert torch.allclose(torch.tensor(answer.logprobs), expected, atol=1e-4)


def test_a_prompt_that_another_one_begins_with_is_answered_too(model):
    beginning = [7 + place % 40 for place in range(36)]
    prompts = [beginning, [*beginning, 50, 51]]
    together = generate(model, prompts, Sampling(max_tokens=8), stop_ids=())
    alone = [generate(model, [prompt], Sampling(max_tokens=8), stop_ids=())[0] for prompt in prompts]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]


def test_greedy_answers_are_those_of_transformers(tiny):
    for prompt in PROMPTS:
        peer = tiny.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
        )[0]
        assert generate(tiny, [prompt], Sampling(max_tokens=12), stop_ids=())[0].ids == peer[len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_log_probabilities_are_those_of_a_full_forward_despite_left_padding(model, temperature):
    sampling = Sampling(max_tokens=10, temperature=temperature, top_k=5, repetition_penalty=1.2)
    answers = generate(model, PROMPTS, sampling, stop_ids=(), logprobs=True)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        expected = full_logprobs(model, prompt, answer.ids, temperature or 1.0)
        assert torch.allclose(torch.tensor(answer.logprobs), expected, atol=1e-4)


def test_the_stop_token_is_the_last_one_and_only_that_row_has_ended(tiny):
    free = generate(tiny, PROMPTS, Sampling(max_tokens=20), stop_ids=())
    stop = free[0].ids[3]
    answers = generate(tiny, PROMPTS, Sampling(max_tokens=20), stop_ids={stop})
    for before, after in zip(free, answers, strict=True):
        cut = before.ids.index(stop) + 1 if stop in before.ids else len(before.ids)
        assert after.ids == before.ids[:cut]
        assert after.ended == (stop in before.ids)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=20),
        Sampling(max_tokens=20, temperature=1.3, seed=2),
        Sampling(max_tokens=20, repetition_penalty=1.4),
    ],
    ids=["greedy", "sampled", "penalised"],
)
def test_rows_that_end_at_different_times_leave_the_others_alone(tiny, sampling):
    """Ends rows in an awkward order, so that cache, draws and seen tokens are reordered again and again."""
    ends = {0: 9, 1: 2, 2: 4, 3: 2, 4: 7}
    seen = dict.fromkeys(ends, 0)

    def on_token(row, token):
        seen[row] += 1
        return seen[row] >= ends[row]

    free = generate(tiny, PROMPTS, sampling, stop_ids=())
    cut = generate(tiny, PROMPTS, sampling, stop_ids=(), on_token=on_token)
    assert [answer.ids for answer in cut] == [answer.ids[: ends[row]] for row, answer in enumerate(free)]


def test_an_answer_longer_than_the_first_buffer_of_the_cache_stays_right(tiny):
    [answer] = generate(tiny, [[5, 6, 7]], Sampling(max_tokens=300), stop_ids=(), logprobs=True)
    assert torch.allclose(torch.tensor(answer.logprobs), full_logprobs(tiny, [5, 6, 7], answer.ids), atol=1e-4)


def test_many_samples_of_one_prompt_differ_and_come_back_with_the_same_seed(tiny):
    sampling = Sampling(max_tokens=8, temperature=1.5, seed=1)
    first = [answer.ids for answer in generate(tiny, [[5, 6]] * 6, sampling, stop_ids=())]
    again = [answer.ids for answer in generate(tiny, [[5, 6]] * 6, sampling, stop_ids=())]
    other = [
        answer.ids for answer in generate(tiny, [[5, 6]] * 6, sampling.model_copy(update={"seed": 2}), stop_ids=())
    ]
    assert first == again
    assert len({tuple(ids) for ids in first + other}) > 10


def test_a_checkpoints_own_defaults_never_leak_in(tiny):
    stubborn = copy.deepcopy(tiny)
    stubborn.generation_config.repetition_penalty = 1.9
    stubborn.generation_config.top_k = 1
    sampling = Sampling(max_tokens=10, temperature=1.0)
    assert (
        generate(stubborn, [[5, 6]], sampling, stop_ids=())[0].ids
        == generate(tiny, [[5, 6]], sampling, stop_ids=())[0].ids
    )


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.6),
        Sampling(temperature=1.0, top_k=7),
        Sampling(temperature=1.0, top_p=0.8),
        Sampling(temperature=2.0, top_p=0.999),
        Sampling(temperature=0.9, min_p=0.2),
        Sampling(temperature=1.2, top_k=50, top_p=0.9, min_p=0.05, repetition_penalty=1.3),
    ],
    ids=["temperature", "top-k", "top-p", "wide top-p", "min-p", "all"],
)
def test_filters_keep_what_transformers_keeps(sampling):
    torch.manual_seed(0)
    logits, prompts = torch.randn(4, 3000) * 3, torch.randint(0, 3000, (4, 20))
    peers = [TemperatureLogitsWarper(sampling.temperature)]
    peers += [TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    peers += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    peers += [MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []
    ours = logits
    if sampling.repetition_penalty != 1:
        peers.insert(0, RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, prompts, True)
        ours = _penalised(logits, seen, sampling.repetition_penalty)
    expected = LogitsProcessorList(peers)(prompts, logits.clone())
    assert torch.allclose(warp(ours, sampling), expected)


def test_tokens_are_drawn_as_often_as_their_probability_says(tiny):
    """Chi-square against the model's own distribution; the seed is fixed, so this cannot flicker."""
    draws, sampling = 4000, Sampling(max_tokens=1, temperature=1.0, top_k=8)
    with torch.no_grad():
        wanted = warp(tiny(torch.tensor([[5, 6]])).logits[:, -1], sampling).softmax(-1)[0]
    found = torch.zeros_like(wanted)
    for answer in generate(tiny, [[5, 6]] * draws, sampling, stop_ids=()):
        found[answer.ids[0]] += 1
    assert found[wanted == 0].sum() == 0
    expected = wanted[wanted > 0] * draws
    chi_square = ((found[wanted > 0] - expected) ** 2 / expected).sum()
    assert chi_square < 24.3  # 7 degrees of freedom, p = 0.001


def test_a_prompt_that_leaves_no_room_says_how_long_it_may_be(tiny):
    with pytest.raises(ModelError, match="has 8 tokens, but this model reads at most 7"):
        generate(tiny, [PROMPTS[3]], Sampling(), stop_ids=(), window=8)
    [short] = generate(tiny, [PROMPTS[0]], Sampling(), stop_ids=(), window=8)
    assert len(short.ids) == 3


def test_a_model_in_train_mode_is_refused(tiny):
    training = copy.deepcopy(tiny).train()
    with pytest.raises(ModelError, match="evaluation mode"):
        generate(training, [[5]], Sampling(), stop_ids=())


def spoken(tokenizer, text, stop=()):
    """Push a text token by token; the pieces, and the last one."""
    answer = AnswerText(tokenizer, stop)
    pieces = []
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        pieces.append(answer.push(token))
        if answer.stopped:
            break
    return [*pieces, answer.finish()], answer.stopped


@pytest.mark.parametrize("text", ["Plain words.", "Grüße 👋🏽 an alle", "  two spaces\n\n", "日本語"])
def test_streamed_pieces_join_to_the_text_and_never_hold_half_a_character(tokenizer, text):
    pieces, _ = spoken(tokenizer, text)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ("two",), "one "),
        ("one two three", ("e t", "three"), "on"),
        ("one two three", ("four",), "one two three"),
        ("aab", ("ab",), "a"),
        ("no stop here: st", ("stop!",), "no stop here: st"),
    ],
)
def test_no_part_of_a_stop_string_is_shown(tokenizer, text, stop, expected):
    pieces, stopped = spoken(tokenizer, text, stop)
    assert "".join(pieces) == expected
    assert stopped == (expected != text)
