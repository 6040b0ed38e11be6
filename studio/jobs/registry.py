"""Which tasks there are: found by looking, so that a method is one file and no list has to be kept.

Looked through are every module of `studio.recipes`, the `tasks` module of the other packages that have tasks,
and the modules named in LADDER_EXTRA_TASKS (separated by commas), which is the door for tasks of your own.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from studio.errors import InputError, RunError
from studio.tasks import Recipe, Task

__all__ = ["recipes", "task_from", "task_kinds"]

_PACKAGES = ("prompts", "instructions", "evaluation", "preferences", "jobs")
_EXTRA = "LADDER_EXTRA_TASKS"


def task_kinds() -> Mapping[str, type[Task]]:
    """Every task by its kind."""
    return _found(os.environ.get(_EXTRA, ""))


def recipes() -> dict[str, type[Recipe]]:
    """Every method that makes a model, by its kind."""
    return {kind: task for kind, task in task_kinds().items() if issubclass(task, Recipe)}


def task_from(kind: str, fields: Mapping[str, Any]) -> Task:
    """Build a task from its row or manifest; raises InputError naming the kind or field that does not fit."""
    known = task_kinds()
    if kind not in known:
        raise InputError(
            f"There is no task '{kind}'. Known tasks: {', '.join(sorted(known)) or 'none'}. "
            f"A task of your own is found when its module is named in {_EXTRA}."
        )
    try:
        return known[kind].model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind
        raise InputError(f"{kind}: {where} cannot be {first['input']!r}: {first['msg']}.") from error


@cache
def _found(extra: str) -> dict[str, type[Task]]:
    found: dict[str, type[Task]] = {}
    for module in _modules(extra):
        for _, task in inspect.getmembers(module, _is_task):
            other = found.setdefault(task.kind, task)
            if other is not task:
                raise RunError(f"Two tasks are called '{task.kind}': {_path(other)} and {_path(task)}. Rename one.")
    return dict(sorted(found.items()))


def _modules(extra: str) -> Iterator[ModuleType]:
    if importlib.util.find_spec("studio.recipes") is not None:
        package = importlib.import_module("studio.recipes")
        for info in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"studio.recipes.{info.name}")
    for name in _PACKAGES:
        parent = importlib.util.find_spec(f"studio.{name}")
        if parent is not None and importlib.util.find_spec(f"studio.{name}.tasks") is not None:
            yield importlib.import_module(f"studio.{name}.tasks")
    for name in filter(None, (part.strip() for part in extra.split(","))):
        try:
            yield importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise RunError(f"{_EXTRA} names the module '{name}', which cannot be found. Mend or unset it.") from error


def _is_task(member: object) -> bool:
    return (
        inspect.isclass(member)
        and issubclass(member, Task)
        and not inspect.isabstract(member)
        and isinstance(getattr(member, "kind", None), str)
    )


def _path(task: type[Task]) -> str:
    return f"{task.__module__}.{task.__qualname__}"
