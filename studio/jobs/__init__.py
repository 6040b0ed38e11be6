"""Jobs: what takes longer than a page should wait, in processes of their own that survive the page."""

from studio.jobs.actions import legal_actions, perform
from studio.jobs.figures import Figures
from studio.jobs.manifest import Manifest
from studio.jobs.registry import recipes, task_from, task_kinds
from studio.jobs.repeating import again, manifest_of, read_manifest, repeat
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
from studio.jobs.telling import set_webhook

__all__ = [
    "Deadlines",
    "Figures",
    "Manifest",
    "Supervisor",
    "again",
    "app_holder",
    "claim_workspace",
    "legal_actions",
    "manifest_of",
    "perform",
    "queue",
    "read_manifest",
    "recipes",
    "repeat",
    "resume",
    "run_folder",
    "run_here",
    "set_webhook",
    "task_from",
    "task_kinds",
]
