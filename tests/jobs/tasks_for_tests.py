"""Tasks that a real worker process can load by LADDER_EXTRA_TASKS: small, and bad in known ways."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

from studio.errors import ModelError
from studio.recipes.lora import Lora
from studio.specs import ModelRef
from studio.tasks import Lane, Recipe, Run, Task

TICK = 0.02


class Count(Task):
    """Counts, one metric a step, a checkpoint every fifth."""

    kind: ClassVar[str] = "count"
    lane: ClassVar[Lane] = "train"
    steps: int = 5
    gate: str = ""  # goes past the first step only once this file is there
    ignores_stop: bool = False

    @property
    def title(self) -> str:
        return f"Count to {self.steps}"

    def do(self, run: Run) -> dict[str, Any]:
        begin = _counted(run.last_checkpoint())
        for step in range(begin + 1, self.steps + 1):
            run.log(step, self.steps, loss=1 / step)
            while self.gate and not Path(self.gate).exists() and not self._stops(run):
                time.sleep(TICK)
            if self._stops(run):
                self._save(run, step)
                return {}
            if step % 5 == 0:
                self._save(run, step)
        return {"counted": self.steps, "began_at": begin}

    def _stops(self, run: Run) -> bool:
        return bool(run.stop_requested()) and not self.ignores_stop

    def _save(self, run: Run, step: int) -> None:
        folder = run.checkpoint(step)
        (folder / "count.json").write_text(json.dumps(step))
        run.publish(folder)


class LightCount(Count):
    """The same in the other lane."""

    kind: ClassVar[str] = "light-count"
    lane: ClassVar[Lane] = "light"


class Trouble(Task):
    """Ends badly in the way that it is told to."""

    kind: ClassVar[str] = "trouble"
    how: Literal["sentence", "bug", "exit", "full-disk", "noise"]

    @property
    def title(self) -> str:
        return f"Trouble ({self.how})"

    def do(self, run: Run) -> dict[str, Any]:
        match self.how:
            case "sentence":
                raise ModelError("The model has no chat template. Choose another base.")
            case "bug":
                return {"answer": len(None)}  # type: ignore[arg-type]
            case "exit":
                os._exit(7)
            case "noise":
                sys.stderr.write("x" * (1 << 20))
            case "full-disk":
                good = run.checkpoint(4)
                (good / "count.json").write_text("4")
                run.publish(good)
                (run.checkpoint(8) / "count.json").symlink_to("/dev/full")
                (run.output / "checkpoints" / ".step-8.part" / "count.json").write_text("8")
        return {}


class Hungry(Recipe):
    """Takes more memory than there is, at its third step."""

    kind: ClassVar[str] = "hungry"
    base: ModelRef = ModelRef("echo:")
    how: Literal["python", "torch", "gpu"] = "python"
    batch_size: int = 8
    max_length: int = 1024
    saves_memory: bool = False

    @property
    def title(self) -> str:
        return f"Eat all memory ({self.how})"

    def do(self, run: Run) -> dict[str, Any]:
        folder = run.checkpoint(1)
        (folder / "count.json").write_text("1")
        run.publish(folder)
        run.log(2, 9, loss=1.0)
        if self.how == "python":
            raise MemoryError
        import torch

        if self.how == "gpu":  # what CUDA's allocator raises
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        torch.empty(2**58)
        return {}


class LoraOnAFullDisk(Lora):
    """LoRA whose disk has room for the checkpoint that it finds and for none after it."""

    kind: ClassVar[str] = "lora-on-a-full-disk"

    def do(self, run: Run) -> dict[str, Any]:
        begin = run.checkpoint

        def full(step: int) -> Path:
            folder = begin(step)
            (folder / "state.json").symlink_to("/dev/full")
            return folder

        if run.last_checkpoint():
            run.checkpoint = full  # type: ignore[method-assign]
        return super().do(run)


class MakeModel(Recipe):
    """A recipe: leaves something where the model belongs, unless told not to."""

    kind: ClassVar[str] = "make-model"
    base: ModelRef
    seed: int = 7
    leaves_it_out: bool = False

    @property
    def title(self) -> str:
        return f"Make a model of {self.base}"

    def do(self, run: Run) -> dict[str, Any]:
        if not self.leaves_it_out:
            (run.output / "model").mkdir()
            (run.output / "model" / "adapter_config.json").write_text("{}")
        return {"new_parameters": 12, "train_seconds": 0.5, "licence": "Apache-2.0", "method": "lora"}


def _counted(checkpoint: Path | None) -> int:
    return json.loads((checkpoint / "count.json").read_text()) if checkpoint else 0
