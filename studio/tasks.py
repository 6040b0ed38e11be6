"""Tasks: what a job is told, and all that it may touch while it runs.

A task is a pydantic class with everything the work needs; each field carries title, description and bounds. From the
class come the form on the page, the API parameters, the command's flags, the docs row and the manifest. `Recipe` is a
task whose result is a model. The worker process builds the `Run` (see studio/jobs/run.py) and calls `do`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from studio.specs import ModelRef

if TYPE_CHECKING:
    from studio.backends import Backend
    from studio.models import Weights
    from studio.settings import Settings
    from studio.store import Store

__all__ = ["Lane", "Recipe", "Run", "Task"]

Lane = Literal["train", "light"]


class Task(BaseModel, ABC):
    """Everything a job needs to know. Subclasses set `kind`, `lane` and implement `do`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]  # the name in tables, commands and manifests: "lora", "evaluate"
    lane: ClassVar[Lane] = "light"

    @property
    @abstractmethod
    def title(self) -> str:
        """One line for the Jobs table: 'Tune smollm2 on brackenfold@1 (LoRA)'."""

    def check(self, store: Store) -> None:
        """Raise a StudioError when this cannot work. Called before anything is queued and again before it starts."""

    @abstractmethod
    def do(self, run: Run) -> dict[str, Any]:
        """The work. Returns the result, a small JSON object for the job's row."""


class Recipe(Task):
    """A task whose result is a model: `do` leaves an adapter or weights in `run.output / "model"`."""

    lane: ClassVar[Lane] = "train"
    base: ModelRef


class Run(ABC):
    """A job's window on the world."""

    id: int
    attempt: int
    output: Path  # runs/ID/, private to this run
    settings: Settings
    store: Store
    saves_memory: bool = False  # said by the task, for whoever explains why memory ran out

    @abstractmethod
    def backend(self, ref: ModelRef) -> Backend:
        """Where answers of that model come from."""

    @abstractmethod
    def weights(self, ref: ModelRef) -> Weights:
        """Where that model's files lie; raises NotFound with the cure when they do not."""

    @abstractmethod
    def release_engine(self) -> None:
        """Have the engine free its weights' memory for this run; the next answer loads them again."""

    @abstractmethod
    def snapshot(self, ref: str) -> list[dict[str, Any]]:
        """The rows of a frozen dataset, checked against its hash."""

    @abstractmethod
    def log(self, step: int, total: int | None = None, **metrics: float) -> None:
        """Append one row of metrics and move the progress bar."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """What is going on now, in words: the message beside the progress bar."""

    def note(self, sentence: str) -> None:
        """Something about this run that people should still find when it is over."""
        self.say(sentence)

    @abstractmethod
    def sample(self, step: int, prompt: str, **answers: str) -> None:
        """Record answers to one prompt (`base=..., tuned=...`) for people to read while the run goes on."""

    @abstractmethod
    def stop_requested(self) -> Literal["", "pause", "cancel"]:
        """Asked between steps; on anything but '' the task saves a checkpoint and returns."""

    @abstractmethod
    def checkpoint(self, step: int) -> Path:
        """A fresh temporary folder to write a checkpoint into; `publish` makes it the last one."""

    @abstractmethod
    def publish(self, folder: Path) -> None:
        """fsync and rename a finished checkpoint folder into place; older ones are removed."""

    @abstractmethod
    def last_checkpoint(self) -> Path | None:
        """The folder to resume from; None on a first attempt or when nothing was saved."""
