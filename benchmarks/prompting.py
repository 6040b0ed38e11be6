"""What prompting does for the embedded model: the checks C1 to C6, each with intervals, whatever they show.

Sizes and passing conditions are written down here, before anything is run. Only C1 has a condition: that a model copies
from its context at all. The others report, and a technique that does not help is a result. Everything is generated from
seeds or written by hand for this file, so no model has seen it. `python -m benchmarks.prompting C1 --n 8` runs one check
small; `python -m benchmarks prompting` runs all at their declared size, which takes minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from studio.backends import Backend, Conversation
from studio.errors import StudioError
from studio.evaluation import Interval, mean_interval, paired_difference, wilson
from studio.evaluation.metrics import metric_from
from studio.instructions import group_hash
from studio.models import EMBEDDED, convert, resolve
from studio.prompts.fragility import orders, relabelled, width
from studio.prompts.selectors import Query, selector
from studio.prompts.techniques import (
    Row,
    Technique,
    Trace,
    calibrated,
    emptied,
    prior,
    probabilities,
    technique,
    technique_of,
    together,
)
from studio.prompts.templates import Template, template
from studio.prompts.trials import Way
from studio.settings import Settings
from studio.specs import Completion, Message, Sampling, assistant, user
from studio.store import Example
from studio.training.conversation import encode_prompt, stop_ids
from studio.training.decode import AnswerText, generate, row_seed
from studio.training.loading import best_dtype, load_base, load_tokenizer
from studio.training.packing import pack, packed

# Declared before any run.
COPIED = 100  # C1: episodes for each number of pairs
PAIRS = (0, 1, 2, 4, 8)
REVIEWS = 80  # C2 to C5: test reviews; the other 40 are the pool
SHOTS = 4
SEEDS = 10  # C5: random draws of examples that kNN is held against
PROBLEMS = 50  # C6: problems of each kind
VOTES = 5

SYMBOLS = "ABCDEFGHJK"
LABELS = ("positive", "negative")
REVIEW = Template(
    name="review",
    title="Review",
    technique="label",
    labels=LABELS,
    user="Review: {{ instruction }}\nIs this review positive or negative? Answer with one word.",
)

_ROWS = 32  # prompts in one forward pass, answers in one decoding batch


# -- the model ----------------------------------------------------------------------------------------------------


class InProcess(Backend):
    """The embedded model in this process. Calls that wait at the same time share a batch, sampled ones too: each row draws
    from its own seeded numbers."""

    def __init__(self) -> None:
        super().__init__(EMBEDDED)
        settings = Settings()
        convert(settings.cache, lambda share, message: None)
        weights = resolve(EMBEDDED, settings=settings, store=None, workspace=settings.workspace)  # type: ignore[arg-type]
        self.tokenizer = load_tokenizer(weights)
        self.model: Any = pack(load_base(weights))
        self._stops = stop_ids(self.tokenizer)
        self._waiting: list[tuple[Conversation, Sampling, asyncio.Future[Completion]]] = []

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        loop = asyncio.get_running_loop()
        replies = [loop.create_future() for _ in batch]
        if not self._waiting:
            loop.call_soon(lambda: loop.call_soon(self._answer_all))  # behind those that are about to ask
        self._waiting += [(turns, sampling, reply) for turns, reply in zip(batch, replies, strict=True)]
        return list(await asyncio.gather(*replies))

    def _answer_all(self) -> None:
        calls, self._waiting = self._waiting, []
        alike: dict[Sampling, list[Any]] = {}
        for call in calls:
            alike.setdefault(call[1].model_copy(update={"seed": 0}), []).append(call)
        for sampling, group in alike.items():
            for start in range(0, len(group), _ROWS):
                piece = group[start : start + _ROWS]
                seeds = [row_seed(asked.seed, 0) for _, asked, _ in piece]
                for (_, _, reply), answer in zip(piece, self._generate(piece, sampling, seeds), strict=True):
                    reply.set_result(answer)

    def _generate(self, calls: Sequence[Any], sampling: Sampling, seeds: Sequence[int]) -> list[Completion]:
        prompts = [encode_prompt(self.tokenizer, turns) for turns, _, _ in calls]
        texts = [AnswerText(self.tokenizer, sampling.stop) for _ in prompts]
        said = [""] * len(prompts)

        def on_token(row: int, token: int) -> bool:
            if token not in self._stops:
                said[row] += texts[row].push(token)
            return texts[row].stopped

        with packed(self.model):
            made = generate(self.model, prompts, sampling, self._stops, on_token=on_token, seeds=seeds)
        return [
            Completion(
                text=said[row] + texts[row].finish(),
                finish="stop" if one.ended or texts[row].stopped else "length",
                prompt_tokens=len(prompts[row]),
                output_tokens=len(one.ids),
            )
            for row, one in enumerate(made)
        ]

    def shares(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[list[float]]:
        """The share of each label as the answer's first token, [conversations, labels]."""
        return self._shares([encode_prompt(self.tokenizer, turns) for turns in conversations], labels)

    def shares_in_text(self, texts: Sequence[str], labels: Sequence[str]) -> list[list[float]]:
        """The share of each label as the next word of plain text, without any chat template, [texts, labels]."""
        prompts = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return self._shares(prompts, [f" {label}" for label in labels])

    @torch.inference_mode()
    def _shares(self, prompts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[list[float]]:
        """What all prompts begin with is read once: for the rows of one order of examples that is most of it."""
        spelled = [self.tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels]
        if any(len(ids) != 1 for ids in spelled):
            raise ValueError(f"Not every label is one token: {labels}.")
        shared = min(_alike(prompts), min(map(len, prompts)) - 1)
        cache = None
        if shared:
            cache = self.model(input_ids=torch.tensor([list(prompts[0][:shared])]), logits_to_keep=1).past_key_values
        # Sums in full precision: bfloat16 would put labels that are close on the same value.
        rows = self.model.lm_head.weight[[ids[0] for ids in spelled]].float()  # [labels, hidden size]
        found: list[list[float]] = []
        for start in range(0, len(prompts), _ROWS):
            rest = [prompt[shared:] for prompt in prompts[start : start + _ROWS]]
            found += (self._last(rest, cache, shared).float() @ rows.T).tolist()
        return [probabilities(row) for row in found]

    def _last(self, rest: Sequence[Sequence[int]], cache: Any, shared: int) -> torch.Tensor:
        """The state behind each row's last token, [rows, hidden size]."""
        lengths = torch.tensor([len(ids) for ids in rest])
        longest = int(lengths.max())
        # Padded on the right, where a causal model does not see it from the tokens before.
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rest])
        mask = (torch.arange(shared + longest)[None] < (shared + lengths)[:, None]).long()
        begun = None
        if cache is not None:
            begun = copy.deepcopy(cache)
            begun.batch_repeat_interleave(len(rest))
        states = self.model.model(input_ids=ids, attention_mask=mask, past_key_values=begun).last_hidden_state
        return torch.as_tensor(states[torch.arange(len(rest)), lengths - 1])


def _alike(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with."""
    columns = zip(*prompts, strict=False)
    return next((place for place, column in enumerate(columns) if len(set(column)) > 1), min(map(len, prompts)))


# -- C1: copying ----------------------------------------------------------------------------------------------------


def copying(backend: InProcess, n: int = 0) -> None:
    """C1. Invented words stand for letters; is the letter of a word that was shown found?

    Control: the same prompt, but the word that is asked was not shown (its letter was), so that naming any letter of the
    prompt is not counted as copying. In plain text, and in turns as the chat template writes them: what copies in the one
    need not in the other. Passes if in plain text the paired difference at 4 and at 8 pairs is above 0.
    """
    chance = random.Random(1)
    is_passed = True
    for k in PAIRS:
        episodes = [_episode(chance, k) for _ in range(n or COPIED)]
        for form in ("text", "turns"):
            seen, control = (_found(backend, form, episodes, is_shown) for is_shown in (True, False))
            if k == 0:
                _tell(f"C1 nothing shown in {form}", _share(seen))
                continue
            _tell(f"C1 {k} pairs in {form}, the word was shown", _share(seen))
            gap = paired_difference(control, seen)
            _tell(f"C1 {k} pairs in {form}, it was not", _share(control))
            _tell(f"C1 {k} pairs in {form}, difference", gap)
            is_passed = is_passed and (form == "turns" or k < 4 or gap.low > 0)
    print(f"C1 {'passes' if is_passed else 'fails'}: in plain text it copies from its context at 4 and at 8 pairs")


@dataclass(frozen=True)
class Episode:
    """Words that stand for letters; `asked` is among the words, and `stranger` takes its place in the control."""

    words: list[str]
    letters: list[str]
    asked: str
    stranger: str
    letter: str


def _episode(chance: random.Random, k: int) -> Episode:
    *words, stranger = _invented(chance, max(1, k) + 1)
    letters = chance.sample(SYMBOLS, max(1, k))
    place = chance.randrange(len(words))
    return Episode(words[:k], letters, words[place], stranger, letters[place])


def _found(backend: InProcess, form: str, episodes: Sequence[Episode], is_shown: bool) -> list[float]:
    """1 where the right letter is the likeliest of all letters."""
    pairs = []
    for e in episodes:
        words = [word if is_shown or word != e.asked else e.stranger for word in e.words]
        pairs.append((list(zip(words, e.letters, strict=False)), e.asked))
    if form == "text":
        texts = ["".join(f"{word} {letter}\n" for word, letter in shown) + asked for shown, asked in pairs]
        shares = backend.shares_in_text(texts, SYMBOLS)
    else:
        shares = backend.shares([_turns(shown, asked) for shown, asked in pairs], SYMBOLS)
    return [float(SYMBOLS[row.index(max(row))] == e.letter) for row, e in zip(shares, episodes, strict=True)]


def _turns(shown: Sequence[tuple[str, str]], asked: str) -> list[Message]:
    return [*(turn for word, letter in shown for turn in (user(word), assistant(letter))), user(asked)]


def _invented(chance: random.Random, n: int) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < n:
        words["".join(chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(3))] = None
    return list(words)


# -- C2 to C5: reviews ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Review:
    """A sentence and what it is; `example` is the same as a bank has it."""

    text: str
    label: str
    example: Example


def reviews() -> list[Review]:
    """The sentences of reviews.txt, shuffled once."""
    lines = (Path(__file__).with_name("reviews.txt")).read_text(encoding="utf-8").splitlines()
    found = [_review(place, line[2:], LABELS[line[0] == "-"]) for place, line in enumerate(lines)]
    random.Random(2).shuffle(found)
    return found


def _review(place: int, text: str, label: str) -> Review:
    words = {"instruction": text, "context": "", "reasoning": "", "response": label, "category": label}
    rest = {"bank": "reviews", "source": "", "is_on": True, "is_locked": False, "author": ""}
    times = {"position": float(place), "created_at": 0.0, "updated_at": 0.0}
    return Review(text, label, Example(id=place, group_hash=group_hash(text, ""), **words, **rest, **times))


def _four(pool: Sequence[Review]) -> tuple[Mapping[str, str], ...]:
    """Two of each label in turn."""
    by_label = {label: [r for r in pool if r.label == label] for label in LABELS}
    return tuple(by_label[LABELS[place % 2]][place // 2].example.fields for place in range(SHOTS))


def format_effect(backend: InProcess, n: int = 0) -> None:
    """C2. Reviews with no example, with four, and with four whose labels are shuffled; the model writes its answer."""
    test, pool = _split(n)
    shown = _four(pool)
    ways = {
        "no examples": Way(REVIEW),
        f"{SHOTS} examples": Way(REVIEW, examples=shown),
        f"{SHOTS} with labels shuffled": Way(REVIEW, examples=relabelled(shown, 1)[0]),
    }
    valid: dict[str, list[float]] = {}
    right: dict[str, list[float]] = {}
    for name, way in ways.items():
        asked = [way.messages({"instruction": review.text}) for review in test]
        traces = asyncio.run(_asked(backend, technique_of(REVIEW), asked, Sampling(max_tokens=8)))
        valid[name] = [float(trace.answer.strict) for trace in traces]
        right[name] = [float(t.answer.text == r.label) for t, r in zip(traces, test, strict=True)]
        _tell(f"C2 {name}: a label and nothing else", _share(valid[name]))
        _tell(f"C2 {name}: right", _share(right[name]))
    bare, gold, shuffled = ways
    _tell("C2 examples against none: a label and nothing else", paired_difference(valid[bare], valid[gold]))
    _tell("C2 examples against none: right", paired_difference(right[bare], right[gold]))
    _tell("C2 labels shuffled against as they are: right", paired_difference(right[gold], right[shuffled]))


def order_and_calibration(backend: InProcess, n: int = 0) -> None:
    """C3 and C4. The 24 orders of four examples, labels read off; then each order calibrated on inputs without content."""
    test, pool = _split(n)
    shown = _four(pool)
    plain: list[list[float]] = []
    even: list[list[float]] = []
    lean: list[tuple[float, float]] = []  # how far the share of "positive" answers is from a half
    for order in orders(SHOTS):
        way = Way(REVIEW, examples=tuple(shown[place] for place in order))
        asked = [way.messages({"instruction": review.text}) for review in test]
        shares = backend.shares(asked, LABELS)
        bias = prior(backend.shares(emptied(asked[0], test[0].text), LABELS))
        fair = [calibrated(found, bias) for found in shares]
        plain.append(_right(shares, test))
        even.append(_right(fair, test))
        lean.append((_lean(shares), _lean(fair)))
    means = np.array(plain).mean(1)
    print(
        f"C3 24 orders: worst {means.min():.3f}, median {np.median(means):.3f}, best {means.max():.3f} (n={len(test)})"
    )
    _tell("C3 width between the orders, luck taken out", width(plain).interval)
    _tell("C4 width after calibration", width(even).interval)
    before, after = (list(side) for side in zip(*lean, strict=True))
    _tell("C4 answers away from half positive, by order", mean_interval(before))
    _tell("C4 the same, calibrated", mean_interval(after))
    _tell("C4 calibration: answers away from half positive", paired_difference(before, after))
    _tell(
        "C4 calibration: right",
        paired_difference(np.mean(plain, axis=0).tolist(), np.mean(even, axis=0).tolist()),
    )


def neighbours(backend: InProcess, n: int = 0) -> None:
    """C5. For each review its four nearest examples (TF-IDF, nearest last), against ten random draws of four."""
    test, pool = _split(n)
    bank = [review.example for review in pool]
    near = [
        selector("knn").choose(bank, Query(review.text), SHOTS).examples for review in test
    ]  # other examples for each review
    scores = [_right(_shares(backend, test, near), test)]
    for seed in range(SEEDS):
        drawn = selector("random").choose(bank, Query(""), SHOTS, seed).examples
        scores.append(_right(_shares(backend, test, [drawn] * len(test)), test))
    knn, chance = scores[0], np.mean(scores[1:], axis=0).tolist()
    spread = [float(np.mean(one)) for one in scores[1:]]
    _tell("C5 nearest examples: right", _share(knn))
    print(
        f"C5 random examples: worst {min(spread):.3f}, mean {np.mean(spread):.3f}, best {max(spread):.3f} of {SEEDS} draws"
    )
    _tell("C5 nearest against random", paired_difference(chance, knn))


def _split(n: int) -> tuple[list[Review], list[Review]]:
    found = reviews()
    return found[:REVIEWS][: n or REVIEWS], found[REVIEWS:]


def _shares(backend: InProcess, test: Sequence[Review], shown: Sequence[Sequence[Example]]) -> list[list[float]]:
    asked = [
        Way(REVIEW, examples=tuple(e.fields for e in examples)).messages({"instruction": review.text})
        for review, examples in zip(test, shown, strict=True)
    ]
    return backend.shares(asked, LABELS)


def _right(shares: Sequence[Sequence[float]], test: Sequence[Review]) -> list[float]:
    return [float(LABELS[row.index(max(row))] == r.label) for row, r in zip(map(list, shares), test, strict=True)]


def _lean(shares: Sequence[Sequence[float]]) -> float:
    return abs(float(np.mean([row[0] > row[1] for row in shares])) - 0.5)


# -- C6: reasoning --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A question with its worked answer."""

    question: str
    reasoning: str
    answer: str


_WORDS = (
    "river candle pocket winter garden hammer ladder button saddle basket copper silver violin pepper carpet magnet orange "
    "planet rocket spider tunnel velvet wallet yellow anchor bridge castle dragon engine falcon guitar harbor island jacket "
    "kettle lemon mirror needle oyster pencil quartz ribbon school ticket urchin valley walnut zipper bottle cherry donkey "
    "feather gravel helmet insect jungle kitten lantern marble napkin otter parrot rabbit sailor turtle"
).split()


def one_step(chance: random.Random) -> Problem:
    a, b = chance.randint(11, 49), chance.randint(11, 49)
    if chance.random() < 0.5:
        return Problem(f"What is {a} + {b}?", f"{a} plus {b} makes {a + b}.", str(a + b))
    a, b = max(a, b), min(a, b)
    return Problem(f"What is {a} - {b}?", f"{a} minus {b} leaves {a - b}.", str(a - b))


def two_steps(chance: random.Random) -> Problem:
    have, more, gone = chance.randint(11, 40), chance.randint(5, 30), chance.randint(2, 10)
    who, what = chance.choice(("Ada", "Ben", "Cem", "Dora")), chance.choice(("apples", "stamps", "shells", "coins"))
    question = f"{who} has {have} {what}, gets {more} more and then gives away {gone}. How many {what} has {who} now?"
    first = have + more
    return Problem(question, f"{have} + {more} = {first}. {first} - {gone} = {first - gone}.", str(first - gone))


def last_letter(chance: random.Random) -> Problem:
    word = chance.choice(_WORDS)
    spelled = ", ".join(word)
    return Problem(f'What is the last letter of the word "{word}"?', f'"{word}" is spelled {spelled}.', word[-1])


def _same_number(answer: str, wanted: str) -> float:
    return metric_from("numeric").score(answer, wanted, {}) or 0.0


def _same_letter(answer: str, wanted: str) -> float:
    """As numbers are read: the last one that stands alone."""
    alone = re.findall(r"(?<![\w'’])[a-z](?![\w'’])", answer.casefold())
    return float(bool(alone) and alone[-1] == wanted)


KINDS: tuple[
    tuple[str, Callable[[random.Random], Problem], Literal["number", "text"], Callable[[str, str], float]], ...
] = (
    ("sums of one step", one_step, "number", _same_number),
    ("sums of two steps", two_steps, "number", _same_number),
    ("last letters", last_letter, "text", _same_letter),
)


def reasoning(backend: InProcess, n: int = 0) -> None:
    """C6. The plain prompt against chain of thought (four worked examples), its zero-shot form, and five votes."""
    for name, make, reads, judged in KINDS:
        shown, problems = _problems(make, n or PROBLEMS)
        ways = _ways(reads, shown)
        plain: list[float] = []
        for title, (way, asking, sampling) in ways.items():
            asked = [way.messages({"instruction": problem.question}) for problem in problems]
            traces = asyncio.run(_asked(backend, asking, asked, sampling))
            right = [judged(t.answer.text, p.answer) for t, p in zip(traces, problems, strict=True)]
            plain = plain or right
            _tell(f"C6 {name}, {title}: right", _share(right))
            if title != "plain":
                _tell(f"C6 {name}, {title}: against plain", paired_difference(plain, right))
            print(f"   {_costs(traces)}")


def _ways(reads: str, shown: Sequence[Mapping[str, str]]) -> dict[str, tuple[Way, Technique, Sampling]]:
    short = Sampling(max_tokens=32)  # room for a whole sentence, so that the plain way is not cut off
    worked = template("chain-of-thought-examples")
    chain = Way(worked, examples=tuple(shown))
    steps = {"reads": reads, "room": 40}
    return {
        "plain": (Way(template("plain")), technique("direct"), short),
        "chain of thought": (chain, technique_of(worked, steps), short),
        "zero-shot chain of thought": (
            Way(template("plain")),
            technique("zero-shot-chain-of-thought", {**steps, "room": 64}),
            short,
        ),
        f"{VOTES} votes": (
            chain,
            technique("self-consistency", {**steps, "votes": VOTES, "temperature": 0.7}),
            short,
        ),
    }


def _problems(make: Callable[[random.Random], Problem], n: int) -> tuple[list[Mapping[str, str]], list[Problem]]:
    """Worked examples and problems, all different."""
    chance = random.Random(6)
    found: dict[str, Problem] = {}
    while len(found) < SHOTS + n:
        problem = make(chance)
        found.setdefault(problem.question, problem)
    worked, problems = list(found.values())[:SHOTS], list(found.values())[SHOTS:]
    return [{"instruction": p.question, "reasoning": p.reasoning, "response": p.answer} for p in worked], problems


def _costs(traces: Sequence[Trace]) -> str:
    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    found, cut = mean([t.answer.parsed for t in traces]), mean([t.was_cut for t in traces])
    strict = mean([t.answer.strict for t in traces])
    read = mean([sum(c.prompt_tokens for c in t.completions) for t in traces])
    wrote = mean([sum(c.output_tokens for c in t.completions) for t in traces])
    return (
        f"answer found {found:.0%}, format kept {strict:.0%}, cut off {cut:.0%}, {read:.0f} + {wrote:.0f} tokens a row"
    )


# -- running --------------------------------------------------------------------------------------------------------

CHECKS: dict[str, Callable[[InProcess, int], None]] = {
    "C1": copying,
    "C2": format_effect,
    "C3": order_and_calibration,
    "C5": neighbours,
    "C6": reasoning,
}


def main(asked: Sequence[str] = (), n: int = 0) -> None:
    backend = InProcess()
    print(f"{EMBEDDED}, dtype {best_dtype()}, {torch.get_num_threads()} threads; intervals are 95 %")
    for name in asked or CHECKS:
        started = time.perf_counter()
        CHECKS[name](backend, n)
        print(f"   {time.perf_counter() - started:.0f} s")


async def _asked(
    backend: Backend, asking: Technique, prompts: Sequence[Conversation], sampling: Sampling
) -> list[Trace]:
    rows = [Row(asking, prompt, sampling, number) for number, prompt in enumerate(prompts)]
    found = await together(backend, rows, at_once=len(rows) * VOTES)
    for one in found:
        if isinstance(one, StudioError):
            raise one
    return [one for one in found if isinstance(one, Trace)]


def _share(values: Sequence[float]) -> Interval:
    return wilson(round(sum(values)), len(values))


def _tell(what: str, interval: Interval) -> None:
    sign = "+" if "difference" in what or "against" in what or "calibration:" in what else ""
    print(f"{what:66} {interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}] n={interval.n}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompting", description="The honest checks of prompting."
    )
    parser.add_argument("checks", nargs="*", choices=[[], *CHECKS], help="C3 brings C4 along; all where none is named")
    parser.add_argument("--n", type=int, default=0, help="items instead of the declared number")
    given = parser.parse_args()
    main(given.checks, given.n)
