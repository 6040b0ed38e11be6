"""Whether a model says the same in the studio and outside it: in plain transformers + peft, and as merged weights.

The studio's side is what the engine serves with: its shelf, its way to write a prompt, its decoding. All of that runs in
the task's own process, because the engine serves in the machine's fastest precision (bfloat16 where the processor has
it) and tells texts, while equality is a matter of tokens in float32. Outside means folders as `ladder models export`
writes them, loaded by plain libraries. One side is in memory at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from studio.errors import InputError, StudioError
from studio.instructions import conversation, question
from studio.models.exporting import Form, export_weights, merge_refusal
from studio.specs import Message, ModelRef, assistant, system, user
from studio.store import Store
from studio.tasks import Lane, Run, Task

if TYPE_CHECKING:
    from studio.engine.round_trip import Difference, Side, Token
    from studio.models import Weights

__all__ = ["RoundTrip"]

_TIE = 1e-3  # between log-probabilities; float32 was seen to round some 1e-4 of them away

# Asked where a snapshot holds too few: plain questions, turns before the last one, a system message, other scripts.
_GENERAL: tuple[list[Message], ...] = (
    [user("What can you help me with?")],
    [user("Explain in two sentences why the sky is blue.")],
    [user("Write a polite reply to a customer whose parcel is late.")],
    [user("List three things to check before a long drive.")],
    [user("What is 17 times 23?")],
    [user("Hello!"), assistant("Hello. What can I do for you?"), user("Tell me a short story about a lighthouse.")],
    [system("You answer in one sentence."), user("What is a contract?")],
    [user("Summarise: The meeting was moved from Monday to Thursday because the hall is being painted.")],
    [user("Translate into French: Good morning, where is the station?")],
    [user("Wie koche ich Reis?")],
    [user('Give me a JSON object with the keys "name" and "age".')],
    [user("Which is heavier, a kilogram of feathers or a kilogram of iron?")],
    [user("Write a Python function that reverses a list.")],
    [user("What should a first-aid kit contain?")],
    [user("Is it a good idea to water plants at noon?"), assistant("Rather not."), user("Why?")],
    [user("Name a river in South America and the sea it flows into.")],
    [user("Rewrite more formally: we can't make it on friday, sorry!!")],
    [user("Was ist der Unterschied zwischen Wetter und Klima? Antworte kurz – in höchstens 20 Wörtern.")],
    [user("How do I remove a coffee stain from a white shirt?")],
    [user("Thank you. Goodbye.")],
)


class RoundTrip(Task):
    """Check that a model answers the same in the studio, in plain libraries and as merged weights."""

    kind: ClassVar[str] = "round_trip"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Model", description="A finished run, or any model with weights on this machine.")
    prompts: int = Field(20, ge=1, le=200, title="Prompts", description="From the run's test and validation records.")
    new_tokens: int = Field(48, ge=1, le=512, title="Tokens of an answer", description="At most so many are compared.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        title="Precision",
        description="In float32 the answers must be equal; bfloat16 shows where rounding first tells.",
    )

    @property
    def title(self) -> str:
        return f"Check that {self.model} answers the same outside the studio ({self.dtype})"

    def check(self, store: Store) -> None:
        if self.model.kind in ("echo", "endpoint", "hf"):
            raise InputError(
                f"{self.model} has no weights here that could be exported. Choose a model on this machine."
            )
        if self.model.kind == "run" and not store.model(self.model).answers:
            raise InputError(f"{self.model} scores answers and gives none. Choose a model that answers.")

    def do(self, run: Run) -> dict[str, Any]:
        # Imported here, since the page reads this class for its form and must never load torch.
        from studio.training.loading import make_room

        weights = run.weights(self.model)
        run.say("Choosing the prompts.")
        asked, where = _conversations(run, self.model)
        chosen = self._fitting(weights, asked)
        make_room(run, weights)
        sides = _Sides(self, run, weights, chosen).ask()
        if sides is None:
            return {}
        refusal = merge_refusal(weights)
        return {
            "model": str(self.model),
            "dtype": self.dtype,
            "prompts": len(chosen),
            "new_tokens": self.new_tokens,
            "prompts_from": where,
            "same": all(side.is_same for side in sides),
            "same_prompts": all(side.has_same_prompts for side in sides),
            "sentence": _sentence(sides, len(chosen), self.dtype),
            "not_merged": refusal,
            "sides": [asdict(side) for side in sides],
        }

    def _fitting(self, weights: Weights, asked: Sequence[list[Message]]) -> list[list[Message]]:
        from studio.engine.round_trip import fitting

        if chosen := fitting(weights, asked, self.prompts, self.new_tokens):
            return chosen
        raise InputError(
            f"{self.model} reads {weights.window} tokens, and no prompt leaves room for {self.new_tokens} more. "
            "Lower the tokens of an answer."
        )


def _conversations(run: Run, ref: ModelRef) -> tuple[list[list[Message]], str]:
    """What to ask, best first, and in words where it is from."""
    rows, where = _rows(run, ref)
    found = [_question(row) for split in ("test", "validation") for row in rows if row.get("split") == split]
    unique = {tuple((turn.role, turn.content) for turn in one): one for one in found if one}
    own = "general questions of the studio's own"
    return [*unique.values(), *_GENERAL], f"{where}, then {own}" if unique else own


def _rows(run: Run, ref: ModelRef) -> tuple[list[dict[str, Any]], str]:
    if ref.kind != "run" or not (snapshot := run.store.model(ref).snapshot):
        return [], ""
    try:
        return run.snapshot(snapshot), f"test and validation records of {snapshot}"
    except StudioError as error:  # deleted, changed or purged since: what is checked is the model
        run.note(f"{error} General questions are asked instead.")
        return [], ""


def _question(row: dict[str, Any]) -> list[Message]:
    if row.get("response") or row.get("turns"):
        return conversation(row)[:-1]
    return [user(question(row["instruction"], row.get("context") or ""))] if row.get("instruction") else []


class _Sides:
    """The studio and the folders that leave it, one after the other."""

    def __init__(self, task: RoundTrip, run: Run, weights: Weights, conversations: Sequence[list[Message]]) -> None:
        self._task, self._run, self._weights, self._conversations = task, run, weights, conversations
        self._merges = weights.adapter is not None and not merge_refusal(weights)
        self._total = len(conversations) * (3 if self._merges else 2)
        self._done = 0

    def ask(self) -> list[Side] | None:
        """None when somebody stopped it."""
        from studio.engine.round_trip import compared, of_plain_libraries, of_the_studio

        task, weights = self._task, self._weights
        self._run.say("Asking the studio.")
        ours = of_the_studio(weights, self._conversations, task.new_tokens, task.dtype, self._asked)
        found = []
        for name, form in self._forms():
            if self._run.stop_requested():
                return None
            folder = self._run.output / "export"
            try:
                self._run.say(f"Exporting for {name}.")
                self._export(folder, form)
                self._run.say(f"Asking {name}.")
                theirs = of_plain_libraries(folder, self._conversations, ours, task.new_tokens, task.dtype, self._asked)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if self._run.stop_requested():
                return None
            found.append(compared(name, ours, theirs, weights))
        return found

    def _forms(self) -> Iterator[tuple[str, Form]]:
        is_adapter = self._weights.adapter is not None
        yield f"plain transformers{' + peft' * is_adapter}", Form("with-base", links=True)
        if self._merges:
            yield "merged weights", Form("merged", links=True)

    def _export(self, folder: Path, form: Form) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was ended
        workspace = self._run.output.parents[1]
        export_weights(self._weights, folder, form, store=self._run.store, workspace=workspace)

    def _asked(self) -> bool:
        """One more answer is there; True when no other should be asked for."""
        self._done += 1
        self._run.log(self._done, self._total)
        return bool(self._run.stop_requested())


# -- in words -------------------------------------------------------------------------------------------------------


def _sentence(sides: Sequence[Side], prompts: int, dtype: str) -> str:
    """What was found. In float32 equality is the promise; in other precisions the gap is told as well."""
    same = [side.name for side in sides if side.is_same]
    told = []
    if same:
        all_of_them = f"All {prompts} answers are" if prompts > 1 else "The answer is"
        told.append(
            f"{all_of_them} the same, token for token, {_listed(['in the studio', *map(_from, same)])} ({dtype})."
        )
    told += [_parting(side, dtype) for side in sides if not side.is_same]
    if dtype != "float32":
        gaps = [f"{side.largest_gap:.2g} {_from(side.name)}" for side in sides if side.largest_gap is not None]
        if gaps:
            told.append(f"Largest gap between log-probabilities of the same token: {_listed(gaps)}.")
        if len(same) < len(sides) and all(side.has_same_prompts for side in sides):
            told.append(f"Rounding to {dtype} alone does that; whether the model is the same, float32 tells.")
    return " ".join(told)


def _parting(side: Side, dtype: str) -> str:
    first = side.first
    assert first is not None
    if first.what == "refusal":
        return f"The chat template of the export cannot write prompt {first.prompt} for {side.name}: {first.refusal}."
    if first.what == "prompt":
        return (
            f"Prompt {first.prompt} is another one {_from(side.name)}: its token {first.position} is {_spelled(first.theirs)} "
            f"there and {_spelled(first.ours)} in the studio. The chat template or the tokenizer of the export is not the "
            "studio's."
        )
    return (
        f"{side.same} of {side.answers} answers are the same {_from(side.name)} ({dtype}). Answer {first.prompt} goes apart at "
        f"token {first.position}: the studio says {_spelled(first.ours)}, {side.name} {_spelled(first.theirs)}"
        f"{_beside(first)}."
    )


def _beside(first: Difference) -> str:
    """How likely the other side finds the studio's token."""
    if first.ours_there is None or first.theirs is None or first.theirs.logprob is None:
        return ""
    is_tie = abs(first.theirs.logprob - first.ours_there) < _TIE
    tie = "; the two are as good as tied, and rounding decides" if is_tie else ""
    return f", where the studio's token has {first.ours_there:.4f}{tie}"


def _spelled(token: Token | None) -> str:
    if token is None or token.id is None:
        return "nothing more"
    likely = f" (log-probability {token.logprob:.4f})" if token.logprob is not None else ""
    return f"{token.text!r}{likely}"


def _from(name: str) -> str:
    return f"from {name}" if name == "merged weights" else f"in {name}"


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
