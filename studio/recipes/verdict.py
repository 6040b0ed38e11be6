"""The verdict on a tuned model: held against its base on records that neither learned from, and on general questions.

On the test split of the run's own snapshot: how surprised both models are by the answers there (the loss of training, so
perplexity per learned token), and what they answer themselves, greedily, through the engine that serves them. On
assets/data/general.jsonl: what was forgotten. Every answer is remembered, so a verdict that was stopped goes on where it
was, and a second run on the same base asks that base nothing again.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.evaluation import EvaluationItem, Interval, judge, paired_difference, weighted_difference
from studio.evaluation.metrics import Metric, metric_from
from studio.evaluation.recommendation import FEWEST, TEST_RECORDS, Tally, recommend, standing, tally
from studio.instructions import conversation, group_hash, question
from studio.models.lineage import lineage
from studio.prompts.cache import Remembering, WasKnown
from studio.prompts.measure import Stopped
from studio.prompts.trials import check_set, is_about_the_row
from studio.specs import Message, ModelRef, Sampling, SnapshotRef, user
from studio.store import Job, Store
from studio.tasks import Lane, Run, Task

if TYPE_CHECKING:
    from studio.training.conversation import Example

__all__ = ["GENERAL", "TEXTS", "Verdict", "deciding_metric", "general_questions", "judge_after"]

GENERAL = Path(__file__).resolve().parents[2] / "assets" / "data" / "general.jsonl"
TEXTS = "verdict.jsonl"  # in the run's folder: what both models said

_REFERENCE_METRICS = ("exact", "f1", "rouge_l")
_SHORT = 3  # words of the middle reference up to which only the very answer counts
_MARGIN = 0.05  # scores of a graded metric no further apart are the same
_GENERAL_TOKENS = 64
_BATCH = 16
_LOOK_SECONDS = 0.5
_LOSSES = "losses.json"

T = TypeVar("T")


class Verdict(Task):
    """Hold a tuned model against its base: better or worse on held-out records, and what it forgot."""

    kind: ClassVar[str] = "verdict"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Tuned model", description="A finished tuning run, such as run:17.")
    examples: int = Field(
        60, ge=2, le=5000, title="Records", description=f"At most so many test records; below {FEWEST} none decides."
    )
    evaluation: SnapshotRef | None = Field(
        None,
        title="Evaluation set",
        description="An open set with rules, such as eval:brackenfold-development@1, whose answers then decide. Empty: "
        "the test records' own answers do.",
    )
    max_tokens: int = Field(160, ge=1, le=4096, title="Max tokens", description="Longest answer.")

    @property
    def title(self) -> str:
        return f"Judge {self.model} against its base"

    def check(self, store: Store) -> None:
        if self.model.kind != "run":
            raise InputError(f"{self.model} was not tuned here, so it has no base to be held against. Choose a run.")
        _refuse_unfinished(store, self.model)
        made = store.model(self.model)
        if not made.answers or not made.snapshot.startswith("data:"):
            raise InputError(
                f"{self.model} was not tuned on instruction records, so no test records of it are known. "
                "Choose a tuning run."
            )
        store.snapshot(made.snapshot)
        if self.evaluation is not None:
            if self.evaluation.kind != "eval":
                raise InputError(f"{self.evaluation} has no rules. Choose a set like eval:brackenfold-development@1.")
            check_set(store, self.evaluation)

    def do(self, run: Run) -> dict[str, Any]:
        base = ModelRef(run.store.model(self.model).base)
        snapshot = run.store.model(self.model).snapshot
        there = [row for row in run.snapshot(snapshot) if row.get("split") == "test"]
        unseen = _unseen(run, self.model, there)
        drawn = _drawn(unseen, self.examples)
        try:
            records = _learnable(run, self.model, drawn)
            items = self._items(run, records)
            general = general_questions()
            progress = _Progress(run, losses=2 * len(records), answers=2 * (len(items) + len(general)))
            losses = _losses(run, base, self.model, records, progress)
            sides = asyncio.run(_answered(run, (base, self.model), items, general, self.max_tokens, progress))
        except Stopped:
            return {}
        return self._found(run, records, items, general, losses, sides) | {
            "model": str(self.model),
            "base": str(base),
            "snapshot": snapshot,
            "evaluation": str(self.evaluation or ""),
            "test_records": len(unseen),
            "asked_in_training": len(there) - len(unseen),
            "left_out": len(drawn) - len(records),
        }

    def _items(self, run: Run, records: Sequence[_Record]) -> list[_Item]:
        if self.evaluation is None:
            return [_Item(r.messages[:-1], r.messages[-1].content, r.category) for r in records]
        rows = _drawn([EvaluationItem.model_validate(row) for row in run.snapshot(self.evaluation)], self.examples)
        return [_Item.of(row) for row in rows]

    def _found(
        self,
        run: Run,
        records: Sequence[_Record],
        items: Sequence[_Item],
        general: Sequence[_Item],
        losses: tuple[list[float], list[float]],
        sides: Sequence[Sequence[_Said]],
    ) -> dict[str, Any]:
        count = len(items)
        metrics = _metrics_for(items)
        pairs = [_Pair.of(i, items[i], sides[0][i], sides[1][i], metrics) for i in range(count)]
        told = [_Pair.of(i, item, sides[0][count + i], sides[1][count + i], []) for i, item in enumerate(general)]
        judged = [pair for pair in pairs if not pair.refusal]
        deciding = deciding_metric([item.reference for item in items], bool(self.evaluation))
        answers = _tally_of(judged, deciding)
        forgetting = tally(*_columns([pair for pair in told if not pair.refusal], "right"))
        loss = _loss(records, *losses)
        on = TEST_RECORDS if self.evaluation is None else "evaluation rows"
        advice = recommend(
            answers,
            forgetting,
            _interval(loss),
            held_out=len(judged),
            on=on,
            measure=metric_from(deciding).title,
        )
        _write_texts(run.output / TEXTS, pairs, told, deciding, records if self.evaluation is None else (), losses)
        return {
            **asdict(advice),
            "measure": deciding,
            "margin": _margin(deciding),
            "on": on,
            "loss": loss,
            "answers": _told(answers),
            "metrics": {m.metric: _means(m, judged) for m in metrics} if len(judged) > 1 else {},
            "general": _told(forgetting),
            "refused": len(pairs) - len(judged),
        }


def judge_after(store: Store, run: Job, *, author: str) -> None:
    """Have a run judged as soon as it is done; nothing happens when it never is, or was already when it was last seen."""
    if run.state == "done":
        return
    task = Verdict(model=ModelRef.of_run(run.id))
    try:
        store.follow_job(run.id, task, author=author)
    except Conflict:  # it became done since
        store.queue_job(task, author=author)


def deciding_metric(references: Sequence[str | None], has_rules: bool) -> str:
    """What decides which answer is better: the set's rules where there are some; else exact match where the answers are a
    few words, such as labels, and F1 over words where they are sentences."""
    if has_rules:
        return "rules"
    lengths = [len(text.split()) for text in references if text]
    return "exact" if lengths and statistics.median(lengths) <= _SHORT else "f1"


def general_questions() -> list[_Item]:
    """What tuning should leave alone: the same questions for every model."""
    lines = GENERAL.read_text(encoding="utf-8").splitlines()
    return [_Item.of(EvaluationItem.model_validate_json(line)) for line in lines]


# -- what is asked -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Record:
    """A test record, and its tokens as training would have had them."""

    messages: list[Message]
    category: str
    example: Example


@dataclass(frozen=True)
class _Item:
    """A question, and what its answer is held against: a reference, or the rules of its row."""

    messages: list[Message]
    reference: str | None
    category: str
    row: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, item: EvaluationItem) -> _Item:
        return cls([user(question(item.instruction, item.context))], None, item.category, item.model_dump(mode="json"))

    @property
    def asked(self) -> str:
        """As people read it: several turns each with who speaks."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in self.messages)

    @property
    def wanted(self) -> str:
        if self.reference is not None:
            return self.reference
        return "; ".join(rule.words for rule in EvaluationItem.model_validate(self.row).rules)


def _drawn(rows: Sequence[T], most: int) -> list[T]:
    """A fixed draw of at most so many, in their order."""
    if len(rows) <= most:
        return list(rows)
    return [rows[place] for place in sorted(random.Random(0).sample(range(len(rows)), most))]


def _unseen(run: Run, model: ModelRef, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those whose question neither the run nor the runs behind it have learned or been checked with. A record keeps its
    split when its words are edited, so that another one may ask the same from the training split."""
    learned: set[str] = set()
    for step in lineage(run.store, str(model)):
        if step.model.snapshot.startswith("data:"):
            try:
                before = run.snapshot(step.model.snapshot)
            except StudioError as error:
                run.note(f"{error} So it is not known which questions {step.model.ref} learned from it.")
                continue
            learned |= {_asks(row) for row in before if row.get("split") != "test"}
    return [row for row in rows if _asks(row) not in learned]


def _asks(row: Mapping[str, Any]) -> str:
    return group_hash(str(row["instruction"]), str(row.get("context") or ""))


def _learnable(run: Run, model: ModelRef, rows: Sequence[Mapping[str, Any]]) -> list[_Record]:
    """Those that training could have learned: they end with an answer, hold no control token, and fit the window."""
    from studio.training.conversation import encode_example
    from studio.training.loading import load_tokenizer

    weights = run.weights(model)
    tokenizer = load_tokenizer(weights)
    found = []
    for row in rows:
        messages = conversation(row)
        try:
            example = encode_example(tokenizer, messages)
        except InputError:
            continue
        if len(example.ids) <= weights.window:
            found.append(_Record(messages, str(row.get("category") or ""), example))
    return found


# -- how surprised they are --------------------------------------------------------------------------------------


def _losses(
    run: Run, base: ModelRef, tuned: ModelRef, records: Sequence[_Record], progress: _Progress
) -> tuple[list[float], list[float]]:
    """Of each record, its loss under the base and under the tuned model, in nats. Raises Stopped."""
    kept = run.output / _LOSSES
    if kept.is_file():
        before, after = json.loads(kept.read_text(encoding="utf-8"))
        if len(before) == len(after) == len(records):
            progress.skip_losses()
            return before, after
    sides = _read_by(run, (base, tuned), records, progress) if records else ([], [])
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(sides), encoding="utf-8")
    part.replace(kept)
    return sides


def _read_by(
    run: Run, models: tuple[ModelRef, ModelRef], records: Sequence[_Record], progress: _Progress
) -> tuple[list[float], list[float]]:
    """By both models as the engine would hold them: most share a base, which is loaded once."""
    from studio.engine.shelf import Shelf
    from studio.training.loading import best_device, best_dtype, make_room
    from studio.training.perplexity import record_losses

    examples = [record.example for record in records]
    make_room(run, run.weights(models[0]))
    shelf = Shelf(best_device(), best_dtype())
    sides: list[list[float]] = []
    try:
        for ref in models:
            run.say(f"{ref} reads {len(records)} test records.")
            with shelf.model(run.weights(ref)) as model:
                found = record_losses(model, examples, lambda done: progress.read_one())
            if found is None:
                raise Stopped(f"Stopped while {ref} read the test records.")
            sides.append(found)
    finally:
        shelf.clear()
    return sides[0], sides[1]


def _loss(records: Sequence[_Record], before: Sequence[float], after: Sequence[float]) -> dict[str, Any] | None:
    """Nats per learned token, perplexity, and on how many records it fell or rose."""
    if len(records) < 2:
        return None
    learned = [float(record.example.learned) for record in records]
    means = {"before": sum(before) / sum(learned), "after": sum(after) / sum(learned)}
    stands = [standing(-b, -a) for b, a in zip(before, after, strict=True)]
    return {
        **means,
        "perplexity": {side: math.exp(min(mean, 50.0)) for side, mean in means.items()},
        "difference": asdict(weighted_difference(before, after, learned)),
        "better": stands.count("better"),
        "worse": stands.count("worse"),
        "tokens": int(sum(learned)),
    }


# -- what they answer --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """An answer, or why there is none."""

    text: str = ""
    was_cut: bool = False
    refusal: str = ""
    was_known: bool = False  # from before, so that nobody waited for it


async def _answered(
    run: Run,
    models: Sequence[ModelRef],
    items: Sequence[_Item],
    general: Sequence[_Item],
    max_tokens: int,
    progress: _Progress,
) -> list[list[_Said]]:
    """Of each model its answers to the items, then to the general questions. Raises Stopped."""
    sides = []
    for ref in models:
        backend = Remembering(run.backend(ref), run.store)
        try:
            said: list[_Said] = []
            for asked, tokens, words in (
                (items, max_tokens, "held-out questions"),
                (general, _GENERAL_TOKENS, "general questions"),
            ):
                run.say(f"{ref} answers {len(asked)} {words}.")
                said += await _ask(run, backend, asked, Sampling(max_tokens=tokens), progress)
            sides.append(said)
        finally:
            await backend.close()
    return sides


async def _ask(
    run: Run, backend: Remembering, items: Sequence[_Item], sampling: Sampling, progress: _Progress
) -> list[_Said]:
    # Batches of like length waste the least padding.
    order = sorted(range(len(items)), key=lambda i: sum(len(turn.content) for turn in items[i].messages))
    found: dict[int, _Said] = {}
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        asked = [items[place].messages for place in batch]
        said = await _while_wanted(run, _each(backend, asked, sampling))
        found |= dict(zip(batch, said, strict=True))
        progress.answer(said)
    return [found[place] for place in range(len(items))]


async def _each(backend: Remembering, asked: Sequence[list[Message]], sampling: Sampling) -> list[_Said]:
    """A question that the model refuses (too long, say) does not take the others of its batch along."""
    try:
        answers = await backend.complete(asked, sampling)
    except StudioError as error:
        if not is_about_the_row(error):
            raise
        if len(asked) == 1:
            return [_Said(refusal=str(error))]
        return [said for one in asked for said in await _each(backend, [one], sampling)]
    return [
        _Said(answer.text.strip(), answer.finish == "length", was_known=isinstance(answer, WasKnown))
        for answer in answers
    ]


async def _while_wanted(run: Run, asking: Coroutine[Any, Any, T]) -> T:
    """Wait for answers, and for nobody once people want it to stop."""
    task = asyncio.create_task(asking)
    try:
        while True:
            if run.stop_requested():
                raise Stopped("Stopped between two answers.")
            if (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
                return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Progress:
    """How far it is: records that were read count as answers do. The time left is judged by the answers that a model had
    to be asked for: they take it, and those that are known from before do not."""

    def __init__(self, run: Run, losses: int, answers: int) -> None:
        self._run, self._losses, self._answers = run, losses, answers
        self._read = self._done = self._asked = 0
        self._at = self._seconds = 0.0
        self._is_loaded = False

    def read_one(self) -> bool:
        """Whether to go on."""
        self._read += 1
        self._run.log(self._read, self._losses + self._answers)
        return not self._run.stop_requested()

    def skip_losses(self) -> None:
        self._read = self._losses

    def answer(self, said: Sequence[_Said]) -> None:
        before, self._at = self._at, time.monotonic()
        self._done += len(said)
        asked = sum(not one.was_known for one in said)
        if asked and self._is_loaded:
            self._asked += asked
            self._seconds += self._at - before
        self._is_loaded = self._is_loaded or bool(asked)  # the first batch that is asked waits for the engine, too
        left = {"seconds_left": self._seconds / self._asked * (self._answers - self._done)} if self._asked else {}
        self._run.log(self._read + self._done, self._losses + self._answers, **left)


# -- what comes of it --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Both answers to one question, with the scores of both; `right` is 1 where all rules are kept."""

    number: int
    item: _Item
    before: _Said
    after: _Said
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int, item: _Item, before: _Said, after: _Said, metrics: Sequence[Metric]) -> _Pair:
        both = before.text, after.text
        scores: dict[str, tuple[float, float]] = {}
        for metric in metrics:
            one, other = (metric.score(text, item.reference, item.row) for text in both)
            if one is not None and other is not None:
                scores[metric.metric] = one, other
        if item.row:
            rules = EvaluationItem.model_validate(item.row).rules
            one, other = (float(all(judge(rules, text))) for text in both)
            scores["right"] = one, other
        return cls(number, item, before, after, scores)

    @property
    def refusal(self) -> str:
        return self.before.refusal or self.after.refusal


def _metrics_for(items: Sequence[_Item]) -> list[Metric]:
    has_rules = bool(items) and bool(items[0].row)
    return [metric_from("rules")] if has_rules else [metric_from(name) for name in _REFERENCE_METRICS]


def _margin(measure: str) -> float:
    return 0.0 if measure in ("exact", "rules", "right") else _MARGIN


def _columns(pairs: Sequence[_Pair], measure: str) -> tuple[list[float], list[float]]:
    scored = [pair.scores[measure] for pair in pairs if measure in pair.scores]
    return [one for one, _ in scored], [other for _, other in scored]


def _tally_of(pairs: Sequence[_Pair], measure: str) -> Tally | None:
    return tally(*_columns(pairs, measure), _margin(measure))


def _means(metric: Metric, pairs: Sequence[_Pair]) -> dict[str, Any]:
    before, after = _columns(pairs, metric.metric)
    if len(before) < 2:
        return {"title": metric.title, "before": None, "after": None, "difference": None}
    return {
        "title": metric.title,
        "before": statistics.fmean(before),
        "after": statistics.fmean(after),
        "difference": asdict(paired_difference(before, after)),
    }


def _told(found: Tally | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), "n": found.n, "p": found.p}


def _interval(loss: Mapping[str, Any] | None) -> Interval | None:
    return Interval(**loss["difference"]) if loss else None


def _write_texts(
    path: Path,
    pairs: Sequence[_Pair],
    general: Sequence[_Pair],
    deciding: str,
    records: Sequence[_Record],
    losses: tuple[list[float], list[float]],
) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for line in (*_lines(pairs, "answers", deciding, records, losses), *_lines(general, "general", "right")):
            file.write(json.dumps(line) + "\n")
    part.replace(path)


def _lines(
    pairs: Sequence[_Pair],
    part: str,
    measure: str,
    records: Sequence[_Record] = (),
    losses: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        scores = None if pair.refusal else pair.scores.get(measure)
        line: dict[str, Any] = {
            "part": part,
            "number": pair.number + 1,
            "category": pair.item.category,
            "question": pair.item.asked,
            "wanted": pair.item.wanted,
            "before": pair.before.text,
            "after": pair.after.text,
            "before_cut": pair.before.was_cut,
            "after_cut": pair.after.was_cut,
            "before_score": scores[0] if scores else None,
            "after_score": scores[1] if scores else None,
            "standing": standing(*scores, _margin(measure)) if scores else "",
            "refusal": pair.refusal,
        }
        if records:
            learned = records[pair.number].example.learned
            line["before_loss"], line["after_loss"] = (side[pair.number] / learned for side in losses)
        yield line


def _refuse_unfinished(store: Store, model: ModelRef) -> None:
    try:
        job = store.job(int(model.name))
    except NotFound:
        return  # brought from another workspace, or not there, which its row says
    if job.state != "done":
        raise InputError(f"{model} is {job.state}, so there is nothing to judge yet. Wait until it is done.")
