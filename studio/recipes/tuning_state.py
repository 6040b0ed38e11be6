"""Where tuning (L2) stands, as its page and its scripts tell it: the methods on a model, the runs, how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from studio.errors import InputError, RunError, StudioError
from studio.fields import fill_in
from studio.models import Weights
from studio.recipes.licensing import hold_licences
from studio.recipes.preflight import Preflight, preflight
from studio.recipes.tuning import Tuning, tuning_methods
from studio.settings import Settings
from studio.store import Job, Store
from studio.training.sizes import new_parameters, refusal

__all__ = [
    "Difference",
    "MethodLine",
    "by_effort",
    "differences",
    "gain",
    "how_it_ended",
    "how_memory_was_saved",
    "is_tuning",
    "knob_words",
    "method_named",
    "methods_on",
    "ready",
    "stated_defaults",
    "tuning_runs",
    "tuning_task",
]

NO_SUCH_KNOB = "–"


# -- the choice of method ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodLine:
    """A method as a list shows it. `new_parameters` is None where no model is known; `refusal` says why it cannot work
    on the model or this machine, '' where it can."""

    kind: str
    name: str
    cost: str
    explains: str
    new_parameters: int | None
    refusal: str


def methods_on(weights: Weights | None) -> list[MethodLine]:
    """Every method with what it adds to that model when its knobs are left alone."""
    return [_line(method, weights) for method in tuning_methods().values()]


def _line(method: type[Tuning], weights: Weights | None) -> MethodLine:
    count, why = None, ""
    if weights is not None:
        told = _untouched(method, weights.ref).method()
        try:
            why = refusal(told, weights)
            count = None if why else new_parameters(told, weights)
        except StudioError as error:
            why = str(error)
    return MethodLine(method.kind, method.name, method.cost, method.explains, count, why)


def method_named(kind: str) -> type[Tuning]:
    """The method; raises InputError naming those there are."""
    methods = tuning_methods()
    if kind not in methods:
        raise InputError(f"There is no method '{kind}'. Methods: {', '.join(methods)}.")
    return methods[kind]


def tuning_task(method: str, data: str, base: str, effort: str, knobs: Mapping[str, Any]) -> Tuning:
    """The task from what a script says. Raises InputError for a knob that the method has not."""
    kind = method_named(method)
    own = {"data": data, "base": base, "effort": effort}
    if strange := sorted(set(knobs) - (set(kind.model_fields) - set(own))):
        there = ", ".join(name for name in kind.model_fields if name not in own)
        raise InputError(f"{kind.name} has no knob '{strange[0]}'. Its knobs: {there}.")
    return fill_in(kind, {**knobs, **own})


def stated_defaults(kind: str, effort: str) -> dict[str, str]:
    """What an empty field stands for: {"learning_rate": "1e-3 for LoRA", ...}."""
    method = method_named(kind)
    found = {"learning_rate": f"{_rate(method.peak_rate)} for {method.name}"}
    if effort in _efforts():
        found["epochs"] = f"{_untouched(method, effort=effort).passes} for {effort}"
    return found


def by_effort(task: Tuning, seconds: float | None) -> dict[str, float]:
    """How long each preset would take, judged by how long this task will; empty while that is not known."""
    if seconds is None:
        return {}
    passes = {effort: _untouched(type(task), effort=effort).passes for effort in _efforts()}
    return {effort: seconds / task.passes * n for effort, n in passes.items()}


def _efforts() -> tuple[str, ...]:
    return get_args(Tuning.model_fields["effort"].annotation)


def _untouched(method: type[Tuning], base: str = "embedded:any", **told: Any) -> Tuning:
    """The method with its knobs left alone, on data that nobody reads."""
    return method.model_validate({"data": "data:any@1", "base": base, **told})


def _rate(rate: float) -> str:
    """1e-3, not 0.001: people write learning rates so."""
    digits, _, power = f"{rate:e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


# -- the runs ------------------------------------------------------------------------------------------------


def tuning_runs(store: Store, limit: int = 50) -> list[Job]:
    """Runs of every method, newest first."""
    return store.jobs(limit=limit, kinds=set(tuning_methods()))


def is_tuning(job: Job) -> bool:
    """Whether a job is a run of one of the methods."""
    return job.kind in tuning_methods()


def gain(job: Job) -> tuple[float | None, float | None]:
    """Validation loss before and after a finished run; None where there were no validation records."""
    result = job.result or {}
    return result.get("validation_loss_before"), result.get("validation_loss")


def how_it_ended(job: Job) -> str:
    """Which step's parameters were kept, and whether it stopped before its last one; '' while it goes on."""
    result = job.result or {}
    best, steps = result.get("best_step"), job.total
    if best is None:
        return ""
    at = f"Kept: step {best}" if best else "Kept: the model as it was, since no step did better"
    if result.get("stopped_early"):
        patience = job.task.get("patience")
        looks = f" after {patience} looks without a better loss" if patience else ""
        return f"{at}. It stopped early{looks}."
    return f"{at}, the best of {steps} steps." if steps and best else f"{at}."


def how_memory_was_saved(job: Job) -> str:
    """Whether a finished run computed activations again, and who decided it; '' where it did not."""
    if not (job.result or {}).get("saved_memory"):
        return ""
    by_itself = job.task.get("saves_memory", "auto") == "auto"
    return "Yes, since little was free when it started" if by_itself else "Yes, as it was told"


@dataclass(frozen=True)
class Difference:
    """A knob that was not the same for all: its title, and each run's value in words."""

    title: str
    values: tuple[str, ...]


def differences(jobs: Sequence[Job]) -> list[Difference]:
    """The knobs in which runs differ, in the order of the form; nothing that they share."""
    names = [method_named(job.kind).name for job in jobs]
    rows = [Difference("Method", tuple(names))]
    titles: dict[str, str] = {}
    for job in jobs:
        titles |= {name: str(f.title or name) for name, f in method_named(job.kind).model_fields.items()}
    for name, title in titles.items():
        rows.append(Difference(title, tuple(knob_words(job, name) for job in jobs)))
    return [row for row in rows if len(set(row.values)) > 1]


def knob_words(job: Job, name: str) -> str:
    """A run's value of a knob in words: what an empty one stood for, and a dash for a knob that its method has not."""
    fields = method_named(job.kind).model_fields
    if name not in fields:
        return NO_SUCH_KNOB
    value = job.task.get(name, fields[name].get_default())
    if value is None:
        return stated_defaults(job.kind, str(job.task.get("effort", ""))).get(name, "empty")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return _rate(value) if name == "learning_rate" else str(value)


# -- the start -----------------------------------------------------------------------------------------------


def ready(store: Store, root: Path, task: Tuning, settings: Settings) -> Preflight:
    """Look at a run that is about to start. Raises RunError with what cannot work and the cure, InputError
    with licences that do not allow the use. What nobody knows of a licence stops no run, and is never called allowed."""
    found = preflight(store, root, task, settings)
    if found.blocks:
        raise RunError(found.refusal)
    hold_licences(found.licence)
    return found
