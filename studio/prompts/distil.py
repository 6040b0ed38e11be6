"""Distilling a prompt: what a good prompt makes a model say becomes what the bare question teaches.

Each question of a snapshot is asked with the whole prompt (template, guidelines, examples, technique). The answer, as
the technique reads it, becomes an instruction record for the question alone, so that a model tuned on these records
needs the prompt no longer (context distillation: Askell et al. 2021, arXiv 2112.00861; Snell et al. 2022, arXiv
2209.15189).

Held-out data stay held out: no question of an evaluation set is asked or shown as an example, and a record is in the
split that its question was born into. What a stopped run has added stays, and a run that starts again goes on where it
was; a question that the dataset has already is not asked.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from studio.backends import Backend
from studio.errors import EngineLost, InputError, NotFound, RunError, StudioError
from studio.evaluation import Rule, judge
from studio.instructions import CATEGORIES, group_hash, question, split_of
from studio.instructions.records import plain_fields
from studio.prompts.bank import pool_of
from studio.prompts.examples import choose_examples
from studio.prompts.memory import Memory
from studio.prompts.selectors import Query, choose_with, selector
from studio.prompts.techniques import Row, Trace, technique_of, together
from studio.prompts.templates import Template, find_template, render
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Dataset, Example, Store
from studio.tasks import Lane, Run, Task

__all__ = ["LEFT_OUT", "Distil"]

_ROWS = 64  # questions between two looks at whether somebody wants to stop
_SPLITS = ("train", "validation", "test")
_FILLED = ("instruction", "context", "guidelines")

# Why a question gave no record, in the words of the result.
LEFT_OUT = {
    "evaluation": "in an evaluation set",
    "excluded": "excluded from its dataset",
    "alike": "asked twice in the snapshot",
    "known": "in the dataset already",
    "failed": "could not be asked",
    "unread": "no answer of the right form",
    "cut": "cut at the token limit",
    "short": "too short",
    "rules": "against a rule",
}

_rule: TypeAdapter[Rule] = TypeAdapter(Rule)


class Distil(Task):
    """Ask with a good prompt and keep the answers as records for the bare question."""

    kind: ClassVar[str] = "distil"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Model", description="Who answers with the good prompt.")
    template: str = Field(title="Template", description="A library template, or NAME@VERSION of one of yours.")
    prompts: SnapshotRef = Field(title="Questions", description="The snapshot whose questions are asked.")
    dataset: str = Field(title="Dataset", description="Where the records go; made when it is not there.")
    guidelines: str = Field(
        "",
        title="Guidelines",
        description="How answers should be; the template decides whether the model is told.",
        json_schema_extra={"lines": 4},
    )
    examples: SnapshotRef | None = Field(None, title="Examples", description="Snapshot that examples are taken from.")
    bank: str = Field("", title="Example bank", description="Or the bank that a selector chooses them from.")
    selector: str = Field("fixed", title="Selector", description="How examples are chosen from the bank.")
    shots: int | None = Field(None, ge=0, le=32, title="Shots", description="Empty for as many as the template shows.")
    count: int = Field(0, ge=0, le=1_000_000, title="Questions to ask", description="0 asks them all.")
    temperature: float = Field(0.0, ge=0, le=5, title="Temperature", description="0 takes the likeliest token.")
    max_tokens: int = Field(160, ge=1, le=4096, title="Max tokens", description="Longest answer, in tokens.")
    seed: int = Field(0, ge=0, title="Seed", description="Decides examples and, when sampling, the answers.")
    reading: Literal["strict", "lenient"] = Field(
        "strict",
        title="Answers",
        description="Strict keeps those in the form that was asked for, lenient all in which one is found.",
    )
    keep_cut: bool = Field(False, title="Keep cut answers", description="Those that ran into the token limit.")
    at_least: int = Field(1, ge=1, le=100_000, title="At least", description="Characters that an answer has.")
    rules: tuple[str, ...] = Field(
        (),
        title="Rules",
        description='What every answer keeps, one a line, as evaluation sets have them: {"rule": "max_words", "value": 80}.',
    )

    @field_validator("dataset")
    @classmethod
    def _can_be_part_of_a_reference(cls, name: str) -> str:
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError("needs a name of letters, digits, '.', '-' and '_' only")
        return name

    @field_validator("examples", mode="before")
    @classmethod
    def _nothing_chosen(cls, value: Any) -> Any:
        return None if value == "" else value  # what a list or a flag says when nothing is chosen

    @field_validator("rules")
    @classmethod
    def _are_rules(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            try:
                _rule.validate_json(line)
            except ValidationError as error:
                raise ValueError(f"'{line[:60]}' is no rule ({error.errors()[0]['msg']})") from error
        return lines

    @property
    def title(self) -> str:
        return f"Distil '{self.template}' of {self.model} on {self.prompts} into {self.dataset}"

    def check(self, store: Store) -> None:
        if self.prompts.kind not in ("prompts", "data"):
            raise InputError(f"{self.prompts} holds no questions. Choose a snapshot like prompts:brackenfold@1.")
        store.snapshot(self.prompts)
        if self.model.kind == "run" and not store.model(self.model).answers:
            raise InputError(f"{self.model} scores answers and gives none. Choose a model that answers.")
        way = find_template(store, self.template)
        technique_of(way)
        missing = [name for name in way.variables if name not in _FILLED]
        if missing:
            raise InputError(
                f"Template '{way.name}' needs a value for '{missing[0]}', which the rows of {self.prompts} do not have. "
                f"Choose a template that uses {', '.join(_FILLED)} only."
            )
        if self._shots(way):
            self._check_examples(store, way)

    def _check_examples(self, store: Store, way: Template) -> None:
        if bool(self.examples) == bool(self.bank):
            raise InputError(
                f"'{way.title}' shows {self._shots(way)} examples. Choose a snapshot to take them from, or a bank."
            )
        if self.examples is not None:
            if self.examples.kind != "data":
                raise InputError(f"{self.examples} holds no answers to show. Choose one like data:brackenfold@1.")
            store.snapshot(self.examples)
        elif not store.bank_examples(self.bank):
            raise InputError(f"Bank '{self.bank}' is empty. Fill it, or take the examples from a snapshot.")
        else:
            selector(self.selector)

    def do(self, run: Run) -> dict[str, Any]:
        return asyncio.run(self._do(run))

    async def _do(self, run: Run) -> dict[str, Any]:
        held_out = _evaluation_groups(run)
        rows, left_out = self._rows(run, held_out)
        prompt = self._prompt(run, held_out)
        state = _State.read(run.last_checkpoint(), prompt.name)
        known, added = _groups(run.store, self.dataset), state.added
        backend = run.backend(self.model)
        try:
            for start in range(state.done, len(rows), _ROWS):
                if run.stop_requested():
                    break
                run.say(f"{start} of {len(rows)} questions done, {added} records added to {self.dataset}.")
                piece = rows[start : start + _ROWS]
                fresh = [row for row in piece if row.group not in known]
                sifted = self._sifted(fresh, await _asked(backend, fresh, prompt))
                self._add(run, sifted.kept, prompt.name)
                known |= {row.group for row, _ in sifted.kept}
                added += len(sifted.kept)
                gone = state.left_out + sifted.left_out + Counter({"known": len(piece) - len(fresh)})
                state = _State(start + len(piece), added, gone, prompt.name)
                state.save(run)
                run.log(state.done, len(rows))
        finally:
            await backend.close()
        left_out += state.left_out
        counts = {why: left_out[why] for why in LEFT_OUT if left_out[why]}
        return {"dataset": self.dataset, "questions": len(rows), "added": added, "left_out": counts}

    def _shots(self, way: Template) -> int:
        return way.shots if self.shots is None else self.shots

    def _rows(self, run: Run, held_out: frozenset[str]) -> tuple[list[_Row], Counter[str]]:
        """The questions that may be asked, each once, in the order of the snapshot; and why others may not."""
        found: dict[str, _Row] = {}
        left_out: Counter[str] = Counter()
        for number, row in enumerate(run.snapshot(self.prompts), 1):
            made = _Row.of(number, row)
            if held_out & {made.group, group_hash(made.instruction, made.context)}:
                left_out["evaluation"] += 1
            elif made.split not in _SPLITS:
                left_out["excluded"] += 1
            elif made.group in found:
                left_out["alike"] += 1
            else:
                found[made.group] = made
        rows = list(found.values())
        return rows[: self.count] if self.count else rows, left_out

    def _prompt(self, run: Run, held_out: frozenset[str]) -> _Prompt:
        """The good prompt, with the examples it may show."""
        way = find_template(run.store, self.template)
        sampling = Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=self.seed)
        shots = self._shots(way)
        rows: list[dict[str, Any]] = []
        pool: Sequence[Example] = ()
        if shots and self.examples is not None:
            # Shown in a prompt, an evaluation item would reach the records by way of the answers.
            rows = [row for row in run.snapshot(self.examples) if _Row.of(0, row).group not in held_out]
        elif shots:
            pool = pool_of(run.store, run.output.parents[1], self.bank).examples
        return _Prompt(
            name=_version(run.store, self.template) or way.name,
            template=way,
            sampling=way.with_room(sampling),
            guidelines=self.guidelines,
            shots=shots,
            selector=self.selector,
            source=self.examples or self.bank,
            rows=rows,
            pool=pool,
        ).named()

    def _sifted(self, rows: Sequence[_Row], traces: Sequence[Trace | StudioError]) -> _Sifted:
        kept: list[tuple[_Row, str]] = []
        left_out: Counter[str] = Counter()
        for row, trace in zip(rows, traces, strict=True):
            why = "failed" if isinstance(trace, StudioError) else self._fault(trace)
            if isinstance(trace, StudioError) or why:
                left_out[why] += 1
            else:
                kept.append((row, trace.answer.text.strip()))
        return _Sifted(kept, left_out)

    def _fault(self, trace: Trace) -> str:
        """Why an answer teaches nothing; '' for a good one."""
        answer = trace.answer
        if not answer.parsed or not answer.text.strip() or (self.reading == "strict" and not answer.strict):
            return "unread"
        if trace.was_cut and not self.keep_cut:
            return "cut"
        if len(answer.text.strip()) < self.at_least:
            return "short"
        if not all(judge([_rule.validate_json(line) for line in self.rules], answer.text)):
            return "rules"
        return ""

    def _add(self, run: Run, kept: Sequence[tuple[_Row, str]], prompt: str) -> None:
        """Append the records of one piece, and show the first to whoever watches."""
        if not kept:
            return
        author = run.store.job(run.id).author
        records = [self._record(run.id, row, answer, prompt) for row, answer in kept]
        run.store.add_records(self._into(run, author).id, records, author=author, source=f"job {run.id}")
        row, answer = kept[0]
        run.sample(row.number, question(row.instruction, row.context), answer=answer)

    def _record(self, job_id: int, row: _Row, answer: str, prompt: str) -> dict[str, Any]:
        """The bare question and the answer, in the split of the question, with where it came from."""
        fields = {
            "instruction": row.instruction,
            "context": row.context,
            "response": answer,
            "category": row.category or (CATEGORIES[2] if row.context else CATEGORIES[0]),
        }
        source = f"job {job_id}: row {row.number} of {self.prompts}, {prompt} by {self.model}, seed {self.seed}"
        return {**plain_fields(fields), "group_hash": row.group, "split": row.split, "source": source}

    def _into(self, run: Run, author: str) -> Dataset:
        """The dataset; made when the first record comes, so that a run without any leaves none."""
        try:
            return run.store.dataset(self.dataset)
        except NotFound:
            return run.store.create_dataset(
                self.dataset,
                author=author,
                description=f"Answers of {self.model} to {self.prompts} with '{self.template}', by job {run.id}.",
                guidelines=self.guidelines,
                licence=run.store.snapshot(self.prompts).licence,
            )


@dataclass(frozen=True)
class _Row:
    """One question; `number` is its place in the snapshot, from 1, and chooses its random numbers."""

    number: int
    instruction: str
    context: str
    category: str
    group: str
    split: str

    @classmethod
    def of(cls, number: int, row: Mapping[str, Any]) -> _Row:
        instruction, context = str(row["instruction"]), str(row.get("context") or "")
        # A record that was edited keeps the group and the split it was born into.
        group = str(row.get("group") or group_hash(instruction, context))
        split = str(row.get("split") or split_of(group))
        return cls(number, instruction, context, str(row.get("category") or ""), group, split)


@dataclass(frozen=True)
class _Sifted:
    kept: list[tuple[_Row, str]]
    left_out: Counter[str]


@dataclass(frozen=True)
class _Prompt:
    """The good prompt: a template and the examples it shows, taken from the rows of a snapshot or from a bank's pool."""

    name: str
    template: Template
    sampling: Sampling
    guidelines: str
    shots: int
    selector: str
    source: str
    rows: Sequence[Mapping[str, Any]]
    pool: Sequence[Example]
    memory: Memory = field(default_factory=Memory)

    def named(self) -> Self:
        """With a digest behind the name that changes with all that shapes the prompt."""
        told = self.guidelines if "guidelines" in self.template.variables else ""
        words = [(example.id, example.updated_at, example.is_on, example.is_locked) for example in self.pool]
        shown = [self.source, self.shots, self.selector, self.sampling.seed, words] if self.shots else []
        return replace(self, name=f"{self.name}#{self.template.digest(told, *shown)}")

    async def ask(self, backend: Backend, row: _Row) -> Row:
        """The question as it is put to the model."""
        variables = {"instruction": row.instruction, "context": row.context, "guidelines": self.guidelines}
        messages = render(self.template, variables, await self._examples(backend, row))
        return Row(technique_of(self.template), messages, self.sampling, row.number)

    async def _examples(self, backend: Backend, row: _Row) -> Sequence[Mapping[str, Any]]:
        """What is shown for this question: never the question itself."""
        if not self.shots:
            return []
        seed = self.sampling.seed
        if self.pool:
            query, chosen = Query(row.instruction, row.context), selector(self.selector)
            found = await choose_with(chosen, self.pool, query, self.shots, seed, backend=backend, memory=self.memory)
            return [example.fields for example in found.examples]
        shown = choose_examples(self.rows, self.shots, seed)
        if all(_Row.of(0, example).group != row.group for example in shown):
            return shown
        return choose_examples([r for r in self.rows if _Row.of(0, r).group != row.group], self.shots, seed)


@dataclass(frozen=True)
class _State:
    """How far a run is, in a checkpoint; `prompt` names the prompt that it asked with."""

    done: int
    added: int
    left_out: Counter[str]
    prompt: str

    @classmethod
    def read(cls, folder: Path | None, prompt: str) -> _State:
        if folder is None:
            return cls(0, 0, Counter(), prompt)
        found = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        if found["prompt"] != prompt:
            raise RunError(
                f"This run began with the prompt {found['prompt']}, which is {prompt} now. "
                "Start a new run; records that are there stay."
            )
        return cls(found["done"], found["added"], Counter(found["left_out"]), prompt)

    def save(self, run: Run) -> None:
        folder = run.checkpoint(self.done)
        (folder / "progress.json").write_text(json.dumps(vars(self)), encoding="utf-8")
        run.publish(folder)


async def _asked(backend: Backend, rows: Sequence[_Row], prompt: _Prompt) -> list[Trace | StudioError]:
    """What came of each question. Raises what went wrong when none of them could be asked."""
    traces = await together(backend, [await prompt.ask(backend, row) for row in rows])
    errors = [trace for trace in traces if isinstance(trace, StudioError)]
    if errors and (len(errors) == len(traces) or any(isinstance(error, EngineLost) for error in errors)):
        raise errors[0]
    return traces


def _version(store: Store, ref: str) -> str:
    """`support-reply@3` for `support-reply` whose newest version is 3; '' for a template of the library."""
    try:
        name, _, number = ref.partition("@")
        return store.template_version(name, int(number) if number else None).ref
    except NotFound:
        return ""


def _groups(store: Store, dataset: str) -> set[str]:
    """The questions that a dataset has; none when it is not there yet."""
    try:
        return {record.group_hash for record in store.all_records(store.dataset(dataset).id)}
    except NotFound:
        return set()


def _evaluation_groups(run: Run) -> frozenset[str]:
    """Every question of every evaluation set."""
    items = (row for snapshot in run.store.snapshots("eval") for row in run.snapshot(snapshot.ref))
    return frozenset(group_hash(str(item["instruction"]), str(item.get("context") or "")) for item in items)
