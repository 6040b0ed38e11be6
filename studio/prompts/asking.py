"""One question to one model or several: the prompt, the stream, and the record of what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studio.backends import Backend
from studio.errors import InputError
from studio.instructions import CATEGORIES, add_record
from studio.prompts.documents import Hit, as_context, retrieve
from studio.prompts.examples import choose_examples
from studio.prompts.memory import Memory
from studio.prompts.selectors import Pick, Query, Selection, choose_with, selector
from studio.prompts.techniques import Found, Technique, technique_of
from studio.prompts.templates import Template, find_template, render
from studio.prompts.trials import example_pool
from studio.specs import Chunk, Completion, Message, ModelRef, Sampling, SnapshotRef
from studio.store import Answer, Dataset, Example, Store

__all__ = ["Composed", "Question", "answered", "composed_from", "record_answer", "to_dataset"]


@dataclass(frozen=True)
class Question:
    """What is asked, and how it is put.

    `template` is a reference (`few-shot`, `support-reply@3`); `draft`, where somebody is editing it, stands in for it.
    `examples` names a bank or a snapshot, of which `selector` takes `shots` (None: as many as the template shows).
    `passages` is how many passages of the documents go into the context. `more` fills in the template's own variables.
    """

    template: str
    instruction: str
    context: str = ""
    guidelines: str = ""
    examples: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    selector: str = "fixed"
    shots: int | None = None
    passages: int = 0
    more: Mapping[str, str] = field(default_factory=dict)
    draft: Template | None = None

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.more,
            "instruction": self.instruction,
            "context": self.context,
            "guidelines": self.guidelines,
        }

    def chosen(self, store: Store) -> Template:
        return self.draft or find_template(store, self.template)

    def messages(self, store: Store, root: Path) -> list[Message]:
        """The conversation that is sent where no selector has to ask a model; raises InputError when a variable is
        missing."""
        return composed_from(self, store, root).messages

    async def composed(self, store: Store, root: Path, backend: Backend, memory: Memory) -> Composed:
        """The prompt for this model: some selectors have it read the examples. Raises InputError as `messages` does."""
        chosen, pool, k = _ingredients(self, store, root)
        if not k or _is_spread(self):
            return composed_from(self, store, root)
        query = Query(self.instruction, self.context)
        how = selector(self.selector)
        selection = await choose_with(how, pool, query, k, self.sampling.seed, backend=backend, memory=memory)
        return Composed(self, chosen, selection, _passages(self, store))


@dataclass(frozen=True)
class Composed:
    """A question put together: what the model gets and where its parts came from."""

    question: Question
    template: Template
    selection: Selection
    hits: tuple[Hit, ...]

    @property
    def messages(self) -> list[Message]:
        return self.compose(self.selection.examples, [as_context(self.hits)] if self.hits else [])

    @property
    def documents(self) -> list[str]:
        return [as_context(self.hits)] if self.hits else []

    @property
    def sampling(self) -> Sampling:
        """With the room that written reasoning takes, and the template's schema where none was asked for."""
        return self.template.with_room(self.question.sampling)

    @property
    def technique(self) -> Technique:
        return technique_of(self.template)

    def compose(self, examples: Sequence[Example], documents: Sequence[str]) -> list[Message]:
        """The conversation with these examples and documents."""
        context = "\n\n".join(part for part in (*documents, self.question.context) if part)
        return render(self.template, {**self.question.variables, "context": context}, [e.fields for e in examples])

    def extract(self, text: str) -> Found:
        """The answer inside what the model said."""
        return self.technique.extract(text)


async def answered(composed: Composed, backend: Backend) -> AsyncIterator[Chunk]:
    """The answer as it grows. Where the technique takes several calls, all of them are seen as they come, and the last
    piece replaces them by what the technique makes of them."""
    technique = composed.technique
    if technique.calls == 1:
        async for chunk in backend.stream(technique.prepare(composed.messages), technique.sampling(composed.sampling)):
            yield chunk
        return
    news: asyncio.Queue[Chunk | None] = asyncio.Queue()

    async def ask(messages: Sequence[Message], sampling: Sampling) -> Completion:
        text, last = "", Chunk(text="")
        async for chunk in backend.stream(messages, sampling):
            text, last = text + chunk.text, chunk
            news.put_nowait(Chunk(text=chunk.text))
        news.put_nowait(Chunk(text="\n\n"))
        return Completion(
            text=text,
            finish=last.finish or "stop",
            prompt_tokens=last.prompt_tokens,
            output_tokens=last.output_tokens,
        )

    work = asyncio.create_task(technique.answer(ask, composed.messages, composed.sampling))
    work.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (piece := await news.get()) is not None:
            yield piece
        trace = await work
        yield Chunk(
            text=trace.output,
            replaces=True,
            finish="length" if trace.was_cut else "stop",
            prompt_tokens=sum(c.prompt_tokens for c in trace.completions),
            output_tokens=sum(c.output_tokens for c in trace.completions),
        )
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def composed_from(question: Question, store: Store, root: Path) -> Composed:
    """Put a question together without asking a model anything."""
    chosen, pool, k = _ingredients(question, store, root)
    query = Query(question.instruction, question.context)
    if not k:
        selection = Selection((), "as in the bank", 0)
    elif _is_spread(question):
        rows = [{**e.fields, "example": e} for e in pool if e.is_on and e.group_hash != query.group]
        shown = [row["example"] for row in choose_examples(rows, k, question.sampling.seed)]
        selection = Selection(tuple(Pick(e, rank) for rank, e in enumerate(shown)), "by seed", k)
    else:
        selection = selector(question.selector).choose(pool, query, k, question.sampling.seed)
    return Composed(question, chosen, selection, _passages(question, store))


def _ingredients(question: Question, store: Store, root: Path) -> tuple[Template, Sequence[Example], int]:
    chosen = question.chosen(store)
    k = chosen.shots if question.shots is None else question.shots
    if not k:
        return chosen, (), 0
    if not question.examples:
        raise InputError(f"'{chosen.title}' shows {k} examples. Choose a snapshot or a bank to take them from.")
    return chosen, example_pool(store, root, question.examples, k), k


def _is_spread(question: Question) -> bool:
    """A snapshot has no order that anybody chose: its rows come from as many categories as there are."""
    return question.selector == "fixed" and SnapshotRef.pattern.fullmatch(question.examples) is not None


def _passages(question: Question, store: Store) -> tuple[Hit, ...]:
    return tuple(retrieve(store, question.instruction, question.passages)) if question.passages else ()


def record_answer(
    store: Store,
    model: ModelRef,
    question: Question,
    messages: Sequence[Message],
    completion: Completion,
    *,
    ticket: str,
    author: str,
    composed: Composed | None = None,
) -> int:
    """Append the answer with all that made it, under the ticket that was given out for it; returns its id.

    With `composed`, the examples and passages that the prompt showed are recorded too.
    """
    shown = {"examples": question.examples}
    if composed is not None and composed.selection.picks:
        shown["shown"] = ", ".join(str(pick.example.id) for pick in composed.selection.picks)
        shown["selector"] = question.selector
    if composed is not None and composed.hits:
        shown["passages"] = ", ".join(hit.label for hit in composed.hits)
    if question.draft is not None:
        shown["draft"] = question.draft.digest()
    return store.add_completion(
        model,
        completion,
        ticket=ticket,
        template=question.template,
        variables={**question.variables, **shown},
        messages=list(messages),
        sampling=question.sampling,
        author=author,
    )


def to_dataset(store: Store, answer: Answer, dataset: Dataset, text: str, *, author: str) -> None:
    """Keep the answer and add it, as `text` has it (edited or not), to an instruction dataset."""
    instruction, context = answer.variables["instruction"], answer.variables.get("context", "")
    found = technique_of(find_template(store, answer.template)).extract(text)
    fields = {
        "instruction": instruction,
        "context": context,
        "response": found.text if found.parsed else text.strip(),
        "category": CATEGORIES[2] if context else CATEGORIES[0],
    }
    add_record(store, dataset, fields, author=author, source=f"answer {answer.id} of {answer.model}")
    store.keep_completion(answer.ticket)
