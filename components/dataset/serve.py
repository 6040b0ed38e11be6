"""The tab's actions for scripts: the same under stable names, with plain values in and out, for gradio_client."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api

from components.frame import handler, user_of
from components.uploads import uploaded
from studio.instructions import FIELDS, edit_record, import_into, page_of, take_snapshot
from studio.store import RecordFilter
from studio.workspace import Workspace

__all__ = ["serve"]


def serve(workspace: Workspace) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    store = workspace.store

    def dataset_page(
        dataset: str, text: str = "", category: str = "", split: str = "", page: int = 1
    ) -> dict[str, Any]:
        """Up to 50 records of a dataset, filtered, and where they lie in it."""
        found = page_of(store, store.dataset(dataset), RecordFilter(text.strip(), category, split), page)
        rows = [{k: getattr(r, k) for k in ("id", *FIELDS, "split", "revision")} for r in found.records]
        return {
            "records": rows, "page": found.number, "pages": found.pages,
            "first": found.first, "last": found.last, "total": found.total, "is_capped": found.is_capped,
        }  # fmt: skip

    def save_record(
        request: gr.Request,
        record: int,
        revision: int,
        instruction: str,
        response: str,
        context: str = "",
        category: str = "",
    ) -> dict[str, Any]:
        """Save a record that was read at that revision; refused when somebody saved it in between."""
        fields = dict(zip(FIELDS, (instruction, context, response, category), strict=True))
        saved = edit_record(store, record, revision, fields, author=user_of(request))
        return {"record": saved.id, "revision": saved.revision, "split": saved.split}

    def import_records(
        request: gr.Request,
        file: dict[str, Any],
        dataset: str,
        instruction: str,
        response: str,
        context: str = "",
        category: str = "",
        licence: str = "",
    ) -> dict[str, Any]:
        """Add an uploaded file's rows to a dataset (made when it is new); the others name the file's columns."""
        columns = dict(zip(FIELDS, (instruction, context, response, category), strict=True))
        by = user_of(request)
        report = import_into(store, dataset, uploaded(file), columns, author=by, licence=licence)
        return {"added": report.added, "left_out": [asdict(row) for row in report.rejected]}

    def freeze_snapshot(request: gr.Request, dataset: str) -> dict[str, Any]:
        """Freeze a dataset; `is_new` is false when nothing changed since the newest snapshot."""
        taken = take_snapshot(store, workspace.path, store.dataset(dataset), author=user_of(request))
        return {"snapshot": str(taken.snapshot.ref), "rows": taken.snapshot.rows, "is_new": taken.is_new}

    for fn in (dataset_page, save_record, import_records, freeze_snapshot):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)
