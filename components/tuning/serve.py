"""The page's actions for scripts, under stable names, with plain values in and out, for gradio_client."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api

from components.frame import handler, user_of
from studio.errors import StudioError
from studio.recipes.preflight import preflight
from studio.recipes.tuning_state import methods_on, ready, tuning_task
from studio.recipes.verdict import judge_after
from studio.specs import ModelRef
from studio.workspace import Workspace

__all__ = ["serve"]


def serve(workspace: Workspace) -> None:
    """`knobs` are the fields of the method's class: {"rank": 8, "learning_rate": 5e-4}; those left out keep their
    defaults."""

    def start_tuning(
        request: gr.Request,
        method: str,
        data: str,
        base: str,
        effort: str = "balanced",
        knobs: dict[str, Any] | None = None,
        use: str = "company",
        judge: bool = False,
    ) -> dict[str, Any]:
        """Queue a tuning run; refused with the reason when it cannot work or its licences do not allow the use. With
        `judge` a verdict follows when it is done."""
        task = tuning_task(method, data, base, effort, {"use": use, **(knobs or {})})
        ready(workspace.store, workspace.path, task, workspace.settings)
        job = workspace.queue(task, author=user_of(request))
        if judge:
            judge_after(workspace.store, job, author=job.author)
        return {"run": job.id}

    def plan_tuning(
        method: str,
        data: str,
        base: str,
        effort: str = "balanced",
        knobs: dict[str, Any] | None = None,
        use: str = "company",
    ) -> dict[str, Any]:
        """What a run would do and take, and what stands in its way; nothing is started."""
        task = tuning_task(method, data, base, effort, {"use": use, **(knobs or {})})
        found = preflight(workspace.store, workspace.path, task, workspace.settings)
        return {"sentence": found.sentence, "can_start": found.can_start, **asdict(found)}

    def tuning_methods(base: str) -> list[dict[str, Any]]:
        """Every way of tuning with its cost and what it adds to a model; `refusal` says why it cannot work here."""
        try:
            weights = workspace.weights(ModelRef(base), wait=False)
        except StudioError:
            weights = None
        return [asdict(line) for line in methods_on(weights)]

    for fn in (start_tuning, plan_tuning, tuning_methods):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)
