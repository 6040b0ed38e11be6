"""Columns and rows of a grid: what one answer is made of, and whether it can be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

from studio.errors import InputError, StudioError
from studio.instructions import group_hash
from studio.prompts.asking import Question
from studio.prompts.documents import as_context, retrieve
from studio.prompts.selectors import Selector, selector
from studio.prompts.techniques import Technique, technique, technique_of
from studio.prompts.templates import Template, find_template
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Store

__all__ = [
    "GridColumn",
    "GridRow",
    "asked_like",
    "check_column",
    "check_model",
    "is_snapshot",
    "pinned",
    "technique_for",
]


_MOST_EXAMPLES = 64
_STANDARD = ("instruction", "context", "guidelines")
_OF_ROWS = ("category",)  # what rows have beside question and answer


def _named_selector(value: Any) -> Any:
    try:
        return value if isinstance(value, Selector) else selector(value)
    except StudioError as error:
        raise ValueError(str(error)) from error


AnySelector = Annotated[SerializeAsAny[Selector], BeforeValidator(_named_selector)]


class GridColumn(BaseModel):
    """One way to answer: a template, a model, a sampling, and what the prompt is filled in with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str = Field(title="Prompt", description="A template: plain, or support-reply@3.")
    model: ModelRef = Field(title="Model", description="Who answers.")
    sampling: Sampling = Field(default_factory=Sampling, title="Sampling", description="How it decodes.")
    label: str = Field(
        "", max_length=80, title="Name", description="What the column is called. Empty: prompt and model."
    )
    technique: str = Field("", title="Technique", description="How it is asked and read. Empty: the template's own.")
    knobs: dict[str, Any] = Field(
        default_factory=dict, title="Technique's settings", description="What is left out is as it comes."
    )
    guidelines: str = Field("", title="Guidelines", description="How answers should be; many templates say it.")
    variables: dict[str, str] = Field(
        default_factory=dict, title="Variables", description="What else the template declares."
    )
    bank: str = Field("", title="Examples", description="A bank, or a snapshot such as data:brackenfold@1.")
    k: int | None = Field(
        None, ge=0, le=_MOST_EXAMPLES, title="Number of examples", description="Empty: what the template shows."
    )
    selector: AnySelector = Field(
        default_factory=lambda: selector("fixed"), title="Selector", description="Which examples a question gets."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Decides which examples are drawn at random.")
    passages: int = Field(
        0, ge=0, le=20, title="Passages", description="How many passages of the documents go into the context."
    )

    @property
    def title(self) -> str:
        return self.label or f"{self.template} · {self.model}"

    def shots(self, chosen: Template) -> int:
        """How many examples the prompt shows."""
        return chosen.shots if self.k is None else self.k

    def filled_in(self, chosen: Template, row: GridRow, store: Store) -> dict[str, str]:
        """What the template's variables stand for in this row. The row's answer is never among them."""
        found = as_context(retrieve(store, row.instruction, self.passages)) if self.passages else ""
        context = "\n\n".join(part for part in (found, row.context) if part)
        own = {name: str(row.fields.get(name) or "") for name in _OF_ROWS if name in chosen.declares}
        standard = {"instruction": row.instruction, "context": context, "guidelines": self.guidelines}
        return {**own, **self.variables, **standard}


@dataclass(frozen=True)
class GridRow:
    """One row of the set. `number` is its place in the snapshot, from 0; `reference` is the answer it comes with."""

    number: int
    instruction: str
    context: str
    reference: str | None
    group: str
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, number: int, row: Mapping[str, Any]) -> GridRow:
        instruction, context = str(row["instruction"]), str(row.get("context") or "")
        reference = str(row.get("response") or "").strip() or None
        return cls(number, instruction, context, reference, group_hash(instruction, context), row)


def asked_like(question: Question, model: ModelRef, store: Store) -> GridColumn:
    """The column that asks every row the way one question is asked. Raises InputError for what rows cannot be asked."""
    if question.draft is not None:
        raise InputError(
            f"An evaluation asks saved prompts, and your edits of '{question.template}' are not saved. "
            "Save or revert them first."
        )
    if (question.shots or 0) > _MOST_EXAMPLES:
        raise InputError(f"An evaluation shows at most {_MOST_EXAMPLES} examples, not {question.shots}. Show fewer.")
    declared = set(find_template(store, question.template).declares) - {*_STANDARD, *_OF_ROWS}
    column = GridColumn(
        template=question.template,
        model=model,
        sampling=question.sampling,
        guidelines=question.guidelines,
        variables={name: value for name, value in question.more.items() if name in declared},
        k=question.shots,
        selector=selector(question.selector),
        seed=question.sampling.seed,
        passages=question.passages,
    )
    if column.shots(find_template(store, column.template)):
        column = column.model_copy(update={"bank": question.examples})
    check_column(store, column)
    return column


def technique_for(chosen: Template, column: GridColumn) -> Technique:
    """The technique that a column asks by: its own, or the one that the template was written for."""
    return technique(column.technique, column.knobs) if column.technique else technique_of(chosen, column.knobs)


def check_column(store: Store, column: GridColumn) -> None:
    chosen = find_template(store, column.template)
    technique_for(chosen, column)
    check_model(store, column.model)
    shots = column.shots(chosen)
    if shots and not column.bank:
        raise InputError(f"'{chosen.title}' shows {shots} examples. Choose a bank or a snapshot to take them from.")
    if shots and is_snapshot(column.bank):
        store.snapshot(column.bank)
    elif shots and not store.bank_examples(column.bank):
        raise InputError(f"Bank '{column.bank}' is empty. Fill it from a snapshot, or choose another one.")
    given = {*_STANDARD, *_OF_ROWS, *column.variables}
    missing = next((name for name in chosen.variables if name not in given), None)
    if missing is not None:
        raise InputError(
            f"Template '{chosen.name}' needs a value for '{missing}'. Fill it in, or leave it empty on purpose."
        )


def check_model(store: Store, model: ModelRef) -> None:
    if model.kind == "run" and not store.model(model).answers:
        raise InputError(f"{model} scores answers and gives none. Choose a model that answers.")


def is_snapshot(name: str) -> bool:
    return SnapshotRef.pattern.fullmatch(name) is not None


def pinned(store: Store, ref: str) -> str:
    chosen = find_template(store, ref)
    newest = next((t for t in store.prompt_templates(archived=True) if t.name == chosen.name == ref), None)
    return newest.ref if newest is not None else ref
