"""One attempt at a grid: what is there already, what is left, and how far it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from studio.backends import Backend
from studio.errors import EngineLost, InputError, ModelError, RunError, StudioError, Unsupported
from studio.evaluation.metrics import LabelAccuracy, ModelJudge
from studio.instructions import group_hash, question
from studio.prompts.bank import held_out
from studio.prompts.cache import Remembering, WasKnown, weights_key
from studio.prompts.examples import choose_examples
from studio.prompts.grid.columns import GridColumn, GridRow, is_snapshot, technique_for
from studio.prompts.measure import Stopped
from studio.prompts.memory import Memory
from studio.prompts.selectors import Query, choose_with
from studio.prompts.techniques import Row, Trace, label_logprobs, technique, together
from studio.prompts.templates import Template, find_template, render
from studio.prompts.trials import example_pool
from studio.specs import Message, Sampling
from studio.store import GridCell
from studio.tasks import Run

if TYPE_CHECKING:
    from studio.prompts.grid.task import Grid

__all__ = ["Work"]

_BATCH = 32  # cells between two looks at whether people want it to stop
_PAIRS = 16  # rows whose answers are compared between two such looks
_FEWEST_REFUSALS = 4  # a batch of so many rows that are all refused is no longer the rows' fault
_LOOK_SECONDS = 0.5
_FACTS = "grid.json"

T = TypeVar("T")
Places = dict[tuple[int, int, int], dict[str, float | None]]


class Work:
    """Answers column by column, then has the answers compared."""

    def __init__(self, task: Grid, run: Run, rows: Sequence[GridRow]) -> None:
        self._task, self._run, self._rows = task, run, rows
        self._there = run.store.cell_places(run.id)
        self._pairs = sum(len(task.columns) - (judge.against == "first") for judge in task.judges)
        self._per_column = len(rows) * task.repeats
        self._total = self._per_column * (len(task.columns) + self._pairs)
        self._done = len(self._there)
        references = [row.reference for row in rows]
        self._labels = {m: m.labels_of(references) for m in task.metrics if isinstance(m, LabelAccuracy)}

    # -- answers -----------------------------------------------------------------------------------------------

    async def answer(self, place: int) -> None:
        """Every cell of a column that is not there yet. Raises Stopped between and within batches."""
        column = self._task.columns[place]
        backend = Remembering(self._run.backend(column.model), self._run.store, trusts_seeds=self._task.trusts_seeds)
        try:
            desk = _Desk(column, self._run, backend)
            _keep_to_facts(self._run, place, column, desk.facts, is_begun=self._answered(place) > 0)
            for repeat, batch in self._batches(place):
                self._refuse_to_go_on_when_stopped()
                self._run.say(f"{column.title}: {self._answered(place):,} of {self._per_column:,} answers.")
                await self._fill(place, repeat, batch, desk)
        finally:
            await backend.close()

    def _batches(self, place: int) -> Iterator[tuple[int, list[GridRow]]]:
        # Repeat by repeat: the first answers to all rows are there early, and greedy repeats find theirs known.
        for repeat in range(self._task.repeats):
            left = [row for row in self._rows if (place, row.number, repeat) not in self._there]
            for start in range(0, len(left), _BATCH):
                yield repeat, left[start : start + _BATCH]

    def _answered(self, place: int) -> int:
        return sum(column == place for column, _, _ in self._there)

    async def _fill(self, place: int, repeat: int, batch: Sequence[GridRow], desk: _Desk) -> None:
        outcomes = await self._while_wanted(desk.ask(batch, repeat))
        refusals = [outcome for outcome in outcomes if isinstance(outcome, StudioError)]
        if len(refusals) == len(batch) and (len(batch) >= _FEWEST_REFUSALS or not self._answered(place)):
            raise refusals[0]
        cells = []
        for row, outcome in zip(batch, outcomes, strict=True):
            scores = {} if isinstance(outcome, StudioError) else await self._scores(row, outcome, desk)
            cells.append(_cell(place, row, repeat, desk.shown(row), outcome, scores))
        self._run.store.add_cells(self._run.id, cells)
        self._there |= {(place, row.number, repeat) for row in batch}
        self._done += len(batch)
        self._run.log(self._done, self._total)

    async def _scores(self, row: GridRow, trace: Trace, desk: _Desk) -> dict[str, float | None]:
        answer = trace.answer.text if trace.answer.parsed else ""
        scores = {m.key: m.score(answer, row.reference, row.fields) for m in self._task.metrics if not m.asks}
        for metric, labels in self._labels.items():
            likeliest = await self._while_wanted(desk.likeliest(row, labels))
            scores[metric.key] = None if likeliest is None else metric.score(likeliest, row.reference, row.fields)
        return scores

    # -- verdicts ----------------------------------------------------------------------------------------------

    async def judge(self, judge: ModelJudge) -> None:
        """Have a model compare the answers, each pair in both orders. Raises Stopped between and within batches."""
        store, job = self._run.store, self._run.id
        backend = Remembering(self._run.backend(judge.model), store, trusts_seeds=self._task.trusts_seeds)
        desk = _JudgeDesk(judge, backend)
        base = self._per_column * len(self._task.columns) + self._judged_before(judge)
        done = 0
        try:
            for start in range(0, len(self._rows), _PAIRS):
                self._refuse_to_go_on_when_stopped()
                batch = {row.number: row for row in self._rows[start : start + _PAIRS]}
                pairs = list(_pairs(judge, batch, store.cells(job, batch)))
                self._run.say(f"{judge.model} compares answers: {done:,} of {self._per_column:,}.")
                left = [pair for pair in pairs if f"{judge.key}.read" not in pair.cell.scores]
                if left:
                    store.merge_scores(job, await self._while_wanted(desk.compare(left)))
                done += len(batch) * self._task.repeats
                columns = len(self._task.columns) - (judge.against == "first")
                self._run.log(base + done * columns, self._total)
        finally:
            await backend.close()

    def _judged_before(self, judge: ModelJudge) -> int:
        before = self._task.judges[: self._task.judges.index(judge)]
        return sum(len(self._task.columns) - (j.against == "first") for j in before) * self._per_column

    # -- stopping ----------------------------------------------------------------------------------------------

    def _refuse_to_go_on_when_stopped(self) -> None:
        if self._run.stop_requested():
            raise Stopped(f"Stopped after {self._done} of {self._total} steps.")

    async def _while_wanted(self, asking: Coroutine[Any, Any, T]) -> T:
        """Wait for answers, and for nobody once people want it to stop; what came by then is remembered."""
        task = asyncio.create_task(asking)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
                self._refuse_to_go_on_when_stopped()
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@dataclass(frozen=True)
class _Prompt:
    """What a row is asked, and the examples it was shown."""

    messages: list[Message]
    examples: list[Any]


class _Desk:
    """One column, ready to ask: its template, technique, examples and model."""

    def __init__(self, column: GridColumn, run: Run, backend: Remembering) -> None:
        self.template = find_template(run.store, column.template)
        self.technique = technique_for(self.template, column)
        self._column, self._backend, self._memory = column, backend, Memory()
        self._store = run.store
        self._sampling = self.template.with_room(column.sampling)
        self._examples = _examples(column, self.template, run)
        self._prompts: dict[int, _Prompt] = {}

    @property
    def facts(self) -> dict[str, str]:
        """What the answers stand on, in digests: a resumed run must stand on the same."""
        documents = {"documents": self._store.documents_token()} if self._column.passages else {}
        return {
            "template": self.template.digest(),
            "examples": self._examples.digest,
            "model": weights_key(self._backend.inner),
            **documents,
        }

    async def ask(self, batch: Sequence[GridRow], repeat: int) -> list[Trace | StudioError]:
        """How each row was answered, or why it was not."""
        outcomes: dict[int, Trace | StudioError] = {}
        asked: list[Row] = []
        for row in batch:
            try:
                messages = (await self.prompt(row)).messages
                asked.append(Row(self.technique, messages, self._sampling, row.number, repeat))
            except InputError as error:
                outcomes[row.number] = error
        answers = await together(self._backend, asked) if asked else []
        for asked_row, outcome in zip(asked, answers, strict=True):
            if isinstance(outcome, StudioError) and not _is_about_the_row(outcome):
                raise outcome
            outcomes[asked_row.number] = outcome
        return [outcomes[row.number] for row in batch]

    async def prompt(self, row: GridRow) -> _Prompt:
        """What the row is asked; the same for every repeat."""
        if row.number not in self._prompts:
            shown, names = await self._examples.of(row, self._backend.inner, self._memory)
            messages = render(self.template, self._column.filled_in(self.template, row, self._store), shown)
            self._prompts[row.number] = _Prompt(messages, names)
        return self._prompts[row.number]

    def shown(self, row: GridRow) -> list[Any]:
        found = self._prompts.get(row.number)
        return found.examples if found is not None else []

    async def likeliest(self, row: GridRow, labels: Sequence[str]) -> str | None:
        """The label that the model finds likeliest as its answer; None where this row cannot be asked."""
        messages = (await self.prompt(row)).messages
        if "labels" in self.technique.knobs.model_fields:
            messages = self.technique.prepare(messages)
        try:
            found = await label_logprobs(self._backend, messages, labels)
        except StudioError as error:
            if not _is_about_the_row(error):
                raise
            return None
        return labels[found.index(max(found))]


def _is_about_the_row(error: StudioError) -> bool:
    """Whether other rows may do better: a prompt that is too long, say, and not an engine that died or a full disk."""
    return isinstance(error, ModelError) and not isinstance(error, Unsupported | EngineLost)


def _cell(
    place: int,
    row: GridRow,
    repeat: int,
    examples: list[Any],
    outcome: Trace | StudioError,
    scores: dict[str, float | None],
) -> GridCell:
    if isinstance(outcome, StudioError):
        return GridCell.refused(place, row.number, repeat, str(outcome), examples)
    said = outcome.completions
    return GridCell(
        column=place,
        row=row.number,
        repeat=repeat,
        output=outcome.output,
        answer=outcome.answer.text if outcome.answer.parsed else "",
        is_strict=outcome.answer.strict,
        finish="length" if outcome.was_cut else "stop",
        prompt_tokens=sum(c.prompt_tokens for c in said),
        output_tokens=sum(c.output_tokens for c in said),
        seconds=sum(c.seconds for c in said),
        calls=len(said),
        is_cached=any(isinstance(c, WasKnown) for c in said),
        scores=scores,
        examples=examples,
    )


# -- examples ------------------------------------------------------------------------------------------------


class _Examples:
    """Where a column's examples come from. None at all, unless a subclass knows better."""

    digest = ""

    async def of(self, row: GridRow, backend: Backend, memory: Memory) -> tuple[Sequence[Mapping[str, Any]], list[Any]]:
        """The examples that a row is shown, in order, and what they are called. Never the row itself."""
        return [], []


class _FromSnapshot(_Examples):
    """The same training rows for every question, as the Playground shows them; what is held out anywhere is left out."""

    def __init__(self, column: GridColumn, k: int, run: Run) -> None:
        rows = run.snapshot(column.bank)
        groups = [row.get("group") or group_hash(row["instruction"], row.get("context") or "") for row in rows]
        held = held_out(run.store, run.output.parents[1]).among(dict.fromkeys(groups))
        self._pool = [
            {**row, "group": group, "called": f"{column.bank}#{number}"}
            for number, (row, group) in enumerate(zip(rows, groups, strict=True), 1)
            if group not in held and row.get("split", "train") == "train"
        ]
        self._k, self._seed = k, column.seed
        self._shown = choose_examples(self._pool, k, column.seed)
        self.digest = _digest([row["called"] for row in self._pool])  # the rows themselves never change

    async def of(self, row: GridRow, backend: Backend, memory: Memory) -> tuple[Sequence[Mapping[str, Any]], list[Any]]:
        shown = self._shown
        if any(example["group"] == row.group for example in shown):
            others = [example for example in self._pool if example["group"] != row.group]
            shown = choose_examples(others, min(self._k, len(others)), self._seed)
        return shown, [example["called"] for example in shown]


class _Chosen(_Examples):
    """What the column's selector chooses for each question, called by their ids in the bank (or row numbers)."""

    def __init__(self, column: GridColumn, k: int, run: Run) -> None:
        self._pool = example_pool(run.store, run.output.parents[1], column.bank, 1)
        self._column, self._k = column, k
        self.digest = _digest([[e.id, e.position, e.is_locked, e.fields] for e in self._pool])

    async def of(self, row: GridRow, backend: Backend, memory: Memory) -> tuple[Sequence[Mapping[str, Any]], list[Any]]:
        column, asked = self._column, Query(row.instruction, row.context)
        selection = await choose_with(
            column.selector, self._pool, asked, self._k, column.seed, backend=backend, memory=memory
        )
        called = f"{column.bank}#" if is_snapshot(column.bank) else ""
        shown = selection.examples
        return [e.fields for e in shown], [f"{called}{e.id}" if called else e.id for e in shown]


def _examples(column: GridColumn, chosen: Template, run: Run) -> _Examples:
    k = column.shots(chosen)
    if not k:
        return _Examples()
    if is_snapshot(column.bank) and column.selector.name == "fixed":
        return _FromSnapshot(column, k, run)
    return _Chosen(column, k, run)


# -- verdicts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """An answer and what it is held against."""

    cell: GridCell
    asked: str
    answer: str
    other: str

    @property
    def place(self) -> tuple[int, int, int]:
        return self.cell.column, self.cell.row, self.cell.repeat


class _JudgeDesk:
    """A judge, ready to be asked."""

    def __init__(self, judge: ModelJudge, backend: Backend) -> None:
        self._judge, self._backend = judge, backend
        self._sampling = Sampling(max_tokens=judge.max_tokens)

    async def compare(self, pairs: Sequence[_Pair]) -> Places:
        """The scores of each pair's cell: the verdict, and what each order gave the answer."""
        differing = [pair for pair in pairs if pair.answer.strip() != pair.other.strip()]
        orders = [(pair.answer, pair.other) for pair in differing], [(pair.other, pair.answer) for pair in differing]
        told = await self._verdicts([pair.asked for pair in differing] * 2, [*orders[0], *orders[1]])
        found = {pair.place: self._scores(0.5, None, None, 2) for pair in pairs}  # equal answers tie unasked
        for pair, ahead, behind in zip(differing, told, told[len(differing) :], strict=False):
            first = self._judge.points(self._judge.verdict(ahead), "first")
            second = self._judge.points(self._judge.verdict(behind), "second")
            read = (first is not None) + (second is not None)
            found[pair.place] = self._scores(self._judge.settled(first, second), first, second, read)
        return found

    async def _verdicts(self, asked: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
        rows = [
            Row(technique("direct"), self._judge.messages(about, *pair), self._sampling, number)
            for number, (about, pair) in enumerate(zip(asked, pairs, strict=True))
        ]
        outcomes = await together(self._backend, rows) if rows else []
        refusals = [outcome for outcome in outcomes if isinstance(outcome, StudioError)]
        for error in refusals:
            if not _is_about_the_row(error) or len(refusals) == len(outcomes):
                raise error
        return ["" if isinstance(outcome, StudioError) else outcome.output for outcome in outcomes]

    def _scores(
        self, score: float | None, first: float | None, second: float | None, read: int
    ) -> dict[str, float | None]:
        key = self._judge.key
        return {key: score, f"{key}.first": first, f"{key}.second": second, f"{key}.read": float(read)}


def _pairs(judge: ModelJudge, rows: Mapping[int, GridRow], cells: Sequence[GridCell]) -> Iterator[_Pair]:
    """The answers of these rows with what each is held against; a refused one is held against nothing."""
    given = [cell for cell in cells if not cell.is_refused]
    firsts = {(cell.row, cell.repeat): _said(cell) for cell in given if cell.column == 0}
    for cell in given:
        row = rows[cell.row]
        if judge.against == "reference":
            other = row.reference
        else:
            other = firsts.get((cell.row, cell.repeat)) if cell.column else None
        if other is not None:
            yield _Pair(cell, question(row.instruction, row.context), _said(cell), other)


def _said(cell: GridCell) -> str:
    return cell.answer or cell.output


# -- what a resumed run must stand on ------------------------------------------------------------------------


def _keep_to_facts(run: Run, place: int, column: GridColumn, facts: Mapping[str, str], *, is_begun: bool) -> None:
    """Write down what a column stands on; raises RunError where its first answers stood on something else."""
    file = run.output / _FACTS
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    before = known.get(str(place), facts) if is_begun else facts
    changed = [name for name in facts if before.get(name) != facts[name]]
    if changed:
        raise RunError(
            f"The {' and the '.join(changed)} of '{column.title}' changed since this grid began. "
            "Start a new grid: what is the same is not asked again."
        )
    part = file.with_suffix(f".{os.getpid()}.part")
    run.output.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps({**known, str(place): dict(facts)}, indent=2), encoding="utf-8")
    part.replace(file)


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
