"""Jobs: what takes longer than a page should wait, in processes of their own that survive the page."""

from studio.jobs.actions import legal_actions, perform
from studio.jobs.figures import Figures
from studio.jobs.registry import recipes, task_from, task_kinds
from studio.jobs.supervisor import (
    Deadlines,
    Supervisor,
    app_holder,
    claim_workspace,
    queue,
    resume,
    run_folder,
    run_here,
)

__all__ = [
    "Deadlines",
    "Figures",
    "Supervisor",
    "app_holder",
    "claim_workspace",
    "legal_actions",
    "perform",
    "queue",
    "recipes",
    "resume",
    "run_folder",
    "run_here",
    "task_from",
    "task_kinds",
]
