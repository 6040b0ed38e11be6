"""One question to one model or several: the prompt, the stream, and the record of what was answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from studio.errors import InputError
from studio.instructions import CATEGORIES, add_record
from studio.prompts.examples import choose_examples
from studio.prompts.templates import extract, render, template
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import Answer, Dataset, Store, read_rows

__all__ = ["Question", "record_answer", "to_dataset"]


@dataclass(frozen=True)
class Question:
    """A template with its variables filled in; `examples` names the snapshot that few-shot prompts take rows from."""

    template: str
    instruction: str
    context: str = ""
    guidelines: str = ""
    examples: str = ""
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def variables(self) -> dict[str, str]:
        return {"instruction": self.instruction, "context": self.context, "guidelines": self.guidelines}

    def messages(self, store: Store, root: Path) -> list[Message]:
        """The conversation that is sent; raises InputError when a variable is missing."""
        chosen = template(self.template)
        if chosen.shots and not self.examples:
            raise InputError(f"'{chosen.title}' shows {chosen.shots} examples. Choose a snapshot to take them from.")
        rows = read_rows(root, store.snapshot(self.examples)) if chosen.shots else []
        shown = choose_examples(rows, chosen.shots, self.sampling.seed)
        return render(chosen, self.variables, shown)


def record_answer(
    store: Store,
    model: ModelRef,
    question: Question,
    messages: list[Message],
    completion: Completion,
    *,
    ticket: str,
    author: str,
) -> int:
    """Append the answer with all that made it, under the ticket that was given out for it; returns its id."""
    return store.add_completion(
        model,
        completion,
        ticket=ticket,
        template=question.template,
        variables={**question.variables, "examples": question.examples},
        messages=messages,
        sampling=question.sampling,
        author=author,
    )


def to_dataset(store: Store, answer: Answer, dataset: Dataset, text: str, *, author: str) -> None:
    """Keep the answer and add it, as `text` has it (edited or not), to an instruction dataset."""
    instruction, context = answer.variables["instruction"], answer.variables.get("context", "")
    fields = {
        "instruction": instruction,
        "context": context,
        "response": extract(template(answer.template), text).text,
        "category": CATEGORIES[2] if context else CATEGORIES[0],
    }
    add_record(store, dataset, fields, author=author, source=f"answer {answer.id} of {answer.model}")
    store.keep_completion(answer.ticket)
