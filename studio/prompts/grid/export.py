"""The whole grid as a file: one line for each answer, with all that made it, as CSV or JSONL.

A spreadsheet runs what looks like a formula, and a model may write one. So in CSV a text that begins like a formula
gets an apostrophe ahead, which spreadsheets take for "this is text". JSONL has every text as it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from studio.evaluation.metrics import Metric
from studio.prompts.grid.columns import GridColumn, GridRow
from studio.prompts.grid.report import grid_task
from studio.store import GridCell, Store, read_rows

__all__ = ["grid_lines"]

# OWASP's list: a tab or line break ahead is dropped by spreadsheets, and full-width signs are read like the plain ones.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def grid_lines(store: Store, root: Path, job_id: int, form: Literal["csv", "jsonl"]) -> Iterator[str]:
    """The file's lines with their ends, in the order of the rows; as many as were written by now."""
    _, task = grid_task(store, job_id)
    rows = read_rows(root, store.snapshot(task.rows))
    lines = (
        _line(GridRow.of(cell.row, rows[cell.row]), task.columns[cell.column], cell, task.metrics)
        for cell in store.all_cells(job_id)
    )
    if form == "jsonl":
        yield from (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    else:
        yield from _csv(lines, _names(task.metrics))


def _line(row: GridRow, column: GridColumn, cell: GridCell, metrics: tuple[Metric, ...]) -> dict[str, Any]:
    return {
        "row": row.number + 1,
        "column": cell.column + 1,
        "repeat": cell.repeat + 1,
        "instruction": row.instruction,
        "context": row.context,
        "reference": row.reference,
        "name": column.title,
        "template": column.template,
        "model": str(column.model),
        "output": "" if cell.is_refused else cell.output,
        "answer": cell.answer,
        "is_strict": cell.is_strict,
        "finish": cell.finish,
        "error": cell.output if cell.is_refused else "",
        **{f"score {metric.key}": cell.scores.get(metric.key) for metric in metrics},
        "prompt_tokens": cell.prompt_tokens,
        "output_tokens": cell.output_tokens,
        "seconds": cell.seconds,
        "calls": cell.calls,
        "is_cached": cell.is_cached,
        "examples": list(cell.examples),
        "sampling": column.sampling.model_dump(mode="json"),
    }


def _names(metrics: tuple[Metric, ...]) -> list[str]:
    blank = GridRow(0, "", "", None, "", {})
    column = GridColumn.model_validate({"template": "", "model": "echo:"})
    return list(_line(blank, column, GridCell.refused(0, 0, 0, ""), metrics))


def _csv(lines: Iterator[dict[str, Any]], names: list[str]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names)
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _defused(value) for name, value in line.items()})
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _defused(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
