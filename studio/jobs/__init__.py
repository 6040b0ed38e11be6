"""Jobs: what takes longer than a page should wait, in processes of their own that survive the page."""

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
    "Supervisor",
    "app_holder",
    "claim_workspace",
    "queue",
    "recipes",
    "resume",
    "run_folder",
    "run_here",
    "task_from",
    "task_kinds",
]
