"""Reproduce files: one JSON that holds everything an answer came from, and asks for it again.

A replay is always asked alone. What shares a batch with an answer changes the order of its sums and so its last bits,
and one bit is enough to turn a greedy answer. Asked alone, greedy decoding on the same machine, weights and precision
gives the same bytes; so does sampling with the same seed.

The file says where the weights are by their digest, never by a path, and holds no address and no key of a server.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.backends import Backend
from studio.errors import InputError, NotFound, Unsupported
from studio.models.files import digest
from studio.prompts.templates import find_template
from studio.specs import Message, ModelRef, Sampling
from studio.store import Answer

if TYPE_CHECKING:
    from studio.workspace import Workspace

__all__ = ["Difference", "Environment", "Replay", "Reproduction", "read_reproduction", "replay", "reproduction"]

_FORMAT = "ladder-studio/reproduce"
_VERSION = 1
_MOST_BYTES = 32 << 20
_LOCAL = ("embedded", "dir", "run", "hf")
_PACKAGES = ("ladder-studio", "torch", "transformers", "tokenizers", "safetensors", "peft", "llguidance", "numpy")
_EXCERPT = 24


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TemplateFacts(_Frozen):
    """The template as it was; empty for a chat."""

    name: str = ""
    digest: str = ""
    body: dict[str, Any] = {}


class ModelFacts(_Frozen):
    """Which weights answered: the digests are SHA-256 of the safetensors of the base and of the adapter on it."""

    ref: ModelRef
    weights: str = ""
    adapter: str = ""


class Environment(_Frozen):
    """What the bits of an answer depend on beside the weights. Local models only; a server says none of it."""

    dtype: str = ""
    device: str = ""
    threads: int = 0
    cores: int = 0
    processor: str = ""
    platform: str = ""
    versions: dict[str, str] = {}


class Reproduction(_Frozen):
    """One answer and all that made it. `rendered` is the prompt as the model got it, '' where that is not known."""

    format: Literal["ladder-studio/reproduce"] = "ladder-studio/reproduce"
    version: Literal[1] = 1
    messages: tuple[Message, ...] = Field(min_length=1)
    rendered: str
    template: TemplateFacts = TemplateFacts()
    variables: dict[str, str] = {}
    examples: tuple[dict[str, Any], ...] = ()
    passages: tuple[dict[str, Any], ...] = ()
    model: ModelFacts
    sampling: Sampling
    environment: Environment = Field(description="Of the machine, when the file was made.")
    output: str
    output_sha256: str
    finish: Literal["stop", "length", "cancelled"]
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def asks_a_server(self) -> bool:
        """Whether a replay sends the text to a server."""
        return self.model.ref.kind == "endpoint"

    def to_json(self) -> str:
        """What the file holds; a person can read it."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was: a fact's name, its value in the file and its value now."""

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class Replay:
    """What came out when it was asked again. `differs_at` counts characters from 0 and is the length of what is equal.

    An answer that was stopped half-way is held against the beginning of the new one.
    """

    is_equal: bool
    output: str
    differs_at: int
    then: str
    now: str
    differences: tuple[Difference, ...]

    @property
    def sentence(self) -> str:
        if self.is_equal:
            return f"The same, byte for byte: {self.differs_at:,} characters."
        where = f"It differs from character {self.differs_at + 1:,} on: {self.then!r} then, {self.now!r} now."
        if not self.differences:
            return (
                f"{where} Nothing that is known of the environment differs. The answer was perhaps given in a batch "
                "with others, which changes its bits, or by a server that promises no repeats."
            )
        changed = "; ".join(
            f"{d.what} was {d.then or 'not there'}, is {d.now or 'not there'}" for d in self.differences
        )
        return f"{where} What is not as it was: {changed}."


async def reproduction(
    workspace: Workspace,
    answer: Answer,
    *,
    examples: Sequence[Mapping[str, Any]] = (),
    passages: Sequence[Mapping[str, Any]] = (),
) -> Reproduction:
    """The file for a recorded answer; `examples` and `passages` are what its prompt showed.

    The template and the environment are those of now. What counts for a replay is what was sent, and that is stored.
    """
    messages = tuple(Message(**turn) for turn in answer.messages)
    ref = ModelRef(answer.model)
    rendered, model, environment = await _standing(workspace, ref, messages)
    return Reproduction(
        messages=messages,
        rendered=rendered,
        template=_template(workspace, answer.template),
        variables=answer.variables,
        examples=tuple(dict(example) for example in examples),
        passages=tuple(dict(passage) for passage in passages),
        model=model,
        sampling=Sampling.model_validate(answer.sampling),
        environment=environment,
        output=answer.text,
        output_sha256=_sha256(answer.text),
        finish=answer.finish,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
    )


def read_reproduction(file: Path) -> Reproduction:
    """The file's contents. Raises InputError for what is no such file, was changed, or is of a newer kind."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file.name} is larger than {_MOST_BYTES >> 20} MB, so it is no reproduce file.")
        found = pydantic_core.from_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}). Check its name.") from error
    except ValueError as error:
        raise InputError(f"{file.name} is not JSON ({error}). Choose a file that the studio wrote.") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise InputError(f"{file.name} is not a reproduce file. Choose one whose format is '{_FORMAT}'.")
    if found.get("version") != _VERSION:
        raise InputError(
            f"{file.name} is of version {found.get('version')!r}; this studio reads version {_VERSION}. "
            "Open it with the studio that wrote it, or a newer one."
        )
    try:
        read = Reproduction.model_validate(found)
    except ValidationError as error:
        raise InputError(_refusal(file, error)) from error
    if _sha256(read.output) != read.output_sha256:
        raise InputError(f"The output in {file.name} is not what its checksum says: it was changed. Use the original.")
    return read


async def replay(workspace: Workspace, file: Path) -> Replay:
    """Ask again, alone, and hold the answer against the one in the file. Raises StudioError when it cannot be asked."""
    before = read_reproduction(file)
    backend = workspace.backend(before.model.ref)
    try:
        [answer] = await backend.complete([before.messages], before.sampling)
    finally:
        await backend.close()
    rendered, model, environment = await _standing(workspace, before.model.ref, before.messages)
    now = before.model_copy(update={"rendered": rendered, "model": model, "environment": environment})
    said = answer.text.replace("\x00", "")  # as every recorded answer
    if before.finish == "cancelled":
        said = said[: len(before.output)]
    return _held_against(before, now, said)


def _held_against(before: Reproduction, now: Reproduction, said: str) -> Replay:
    pairs = zip(before.output, said, strict=False)
    same = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(before.output), len(said)))
    is_equal = before.output.encode() == said.encode()
    then, is_now = (text[same : same + _EXCERPT] for text in (before.output, said))
    return Replay(is_equal, said, same, then, is_now, tuple(_differences(before, now)))


def _differences(before: Reproduction, now: Reproduction) -> Iterator[Difference]:
    then_facts, now_facts = _facts(before), _facts(now)
    for what in sorted({*then_facts, *now_facts}):
        then, is_now = then_facts.get(what, ""), now_facts.get(what, "")
        if then != is_now:
            yield Difference(what, then, is_now)


def _facts(of: Reproduction) -> dict[str, str]:
    environment = of.environment.model_dump(exclude={"versions"})
    return {
        "rendered prompt": _sha256(of.rendered)[:12] if of.rendered else "",
        "weights": of.model.weights[:12],
        "adapter": of.model.adapter[:12],
        **{name: str(value or "") for name, value in environment.items()},
        **of.environment.versions,
    }


async def _standing(
    workspace: Workspace, ref: ModelRef, messages: Sequence[Message]
) -> tuple[str, ModelFacts, Environment]:
    """How the prompt is rendered now, by which weights, and where."""
    backend = workspace.backend(ref)
    try:
        rendered = await _rendered(backend, messages)
    finally:
        await backend.close()
    if ref.kind not in _LOCAL:
        return rendered, ModelFacts(ref=ref), Environment(versions=_versions(("ladder-studio",)))
    weights = workspace.weights(ref)
    adapter = digest(weights.adapter) if weights.adapter is not None else ""
    status = await workspace.engine.status()
    cores = os.cpu_count() or 1
    environment = Environment(
        dtype=status["dtype"],
        device=status["device"],
        threads=workspace.settings.threads or cores,
        cores=cores,
        processor=_processor(),
        platform=f"{platform.system()} {platform.machine()}",
        versions=_versions(_PACKAGES),
    )
    return rendered, ModelFacts(ref=ref, weights=weights.digest, adapter=adapter), environment


def _template(workspace: Workspace, ref: str) -> TemplateFacts:
    if not ref:
        return TemplateFacts()
    try:
        found = find_template(workspace.store, ref)
    except NotFound:
        return TemplateFacts(name=ref)  # it came with another studio
    return TemplateFacts(name=ref, digest=found.digest(), body=found.model_dump(mode="json"))


async def _rendered(backend: Backend, messages: Sequence[Message]) -> str:
    try:
        return (await backend.render(messages)).text
    except Unsupported:
        return ""  # a server keeps that to itself


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's own name: another one may multiply in another order."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refusal(file: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{file.name} has a field '{where}' that this studio does not know. Open it with a newer studio."
    return f"{file.name}: {where} cannot be used ({first['msg']}). Use the file as the studio wrote it."
