"""The import card of the dataset page: a file, what it seems to be, which column is what, and what came of it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from components.frame import actions, card, handler, live_dropdown, markup, notice, section, user_of
from components.picking import rows_to_read
from studio.instructions import FIELDS, ImportReport, Preview, dataset_named, import_into, name_for, preview
from studio.instructions.formats import format_named, formats
from studio.instructions.import_task import ImportRecords
from studio.instructions.importing import read_fields
from studio.instructions.shapes import shape_named
from studio.models import licence as licence_named
from studio.uploads import park
from studio.workspace import Workspace

__all__ = ["ImportCard", "build_import"]

Step = Literal["choose", "map", "result"]

_LEFT_OUT_SHOWN = 100
_CELL_LETTERS = 240
_QUICK_BYTES = 4 << 20  # a page takes this much in while somebody waits: a second or two
_LICENCES = ("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-NC-4.0")
_OPTIONAL = ("context", "category")
_WRITTEN_AS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class ImportCard:
    """What the page around it needs: show and hide `box`; `done` and `away` end the import."""

    box: gr.Column
    target: gr.Dropdown
    done: gr.Button
    away: gr.Button


def build_import(workspace: Workspace) -> ImportCard:
    """Lay out and wire the card, closed."""
    with card("Import records", visible=False, elem_classes=["import"]) as box:
        with gr.Column() as choose:
            markup(
                "<p>A spreadsheet (.xlsx, .csv, .tsv), .json, .jsonl, .parquet, or a .zip of them. dolly, Alpaca, ShareGPT, "
                "OpenAI chat and prompt/completion files are recognised; of others you say which column is what.</p>"
            )
            file = gr.File(
                label="File to import",
                show_label=False,
                file_types=sorted({suffix for form in formats().values() for suffix in form.suffixes} | {".zip"}),
                type="filepath",
                height=128,
                elem_classes=["drop"],
            )
        with gr.Column(visible=False) as mapping:
            looks = markup()
            with gr.Column() as matching:
                section("Which column is what", "guessed from the names")
                with gr.Row(elem_classes=["form-row"]):
                    columns = {field: _column_choice(field) for field in FIELDS}
            with gr.Row(elem_classes=["form-row"]):
                target = gr.Dropdown(
                    label="Into dataset",
                    info="Choose one, or write a new name.",
                    allow_custom_value=True,
                    min_width=260,
                )
                licence = gr.Dropdown(
                    label="Licence of the records",
                    info="A model made from them has to keep to it.",
                    choices=[("Not stated", ""), *((licence_named(name).name, name) for name in _LICENCES)],
                    value="",
                    allow_custom_value=True,
                    min_width=260,
                )
        with gr.Column(visible=False) as result:
            said = markup()
        with actions():
            start = gr.Button("Import", variant="primary", visible=False)
            done = gr.Button("Show the records", variant="primary", visible=False)
            again = gr.Button("Choose another file", visible=False)
            away = gr.Button("Cancel")

    steps = [choose, mapping, result, start, done, again, away]

    def look(path: str) -> list[Any]:
        seen = preview(Path(path))
        chosen = [_columns(seen, field) for field in FIELDS]
        asks = gr.Column(visible=not seen.shape)
        return [_looks(Path(path), seen), asks, *chosen, name_for(Path(path)), *_at("map")]

    def import_file(
        file: str,
        dataset: str | None,
        licence: str | None,
        instruction: str | None,
        context: str | None,
        response: str | None,
        category: str | None,
        request: gr.Request,
    ) -> list[Any]:
        chosen = dict(zip(FIELDS, (instruction or "", context or "", response or "", category or ""), strict=True))
        name, path, by = (dataset or "").strip(), Path(file), user_of(request)
        seen = preview(path)
        reading = seen.reading if seen.shape else seen.mapped(chosen)
        if path.stat().st_size > _QUICK_BYTES:
            read_fields(path, reading)  # raises for a mapping that cannot be, which no job need find out
            dataset_named(workspace.store, name, author=by, licence=licence or "")  # to be shown while it fills
            [upload] = park(workspace.path, [path])
            task = ImportRecords(dataset=name, upload=upload, reading=reading, licence=licence or "")
            job = workspace.queue(task, author=by)
            return [
                notice(f"{path.name} is large, so job {job.id} takes it in. Jobs shows how far it is."),
                *_at("result"),
            ]
        report = import_into(workspace.store, name, path, reading, author=by, licence=licence or "")
        return [_result(report, name), *_at("result")]

    file.upload(handler(look), file, [looks, matching, *columns.values(), target, *steps], api_visibility="private")
    start.click(
        handler(import_file),
        [file, target, licence, *columns.values()],
        [said, *steps],
        api_visibility="private",
    )
    gr.on(
        [file.clear, again.click, away.click, done.click],
        handler(start_over),
        None,
        [file, *steps],
        api_visibility="private",
    )
    target.change(
        handler(lambda name: _licence_of(workspace, name)),
        target,
        licence,
        show_progress="hidden",
        api_visibility="private",
    )
    return ImportCard(box, target, done, away)


def start_over() -> list[Any]:
    return [None, *_at("choose")]


def _column_choice(field: str) -> gr.Dropdown:
    info = "May stay empty." if field in _OPTIONAL else "Needed."
    return live_dropdown(label=f"{field.capitalize()} column", info=info, choices=[], min_width=160)


def _columns(seen: Preview, field: str) -> gr.Dropdown:
    none = [("(none)", "")] if field in _OPTIONAL else []
    guess = seen.mapping.get(field) or ("" if none else None)
    return gr.Dropdown(choices=[*none, *((c, c) for c in seen.columns)], value=guess)


def _at(step: Step) -> list[Any]:
    """Visibility of the card's parts, in the order of `steps`."""
    is_map, is_result = step == "map", step == "result"
    shown = [step == "choose", is_map, is_result, is_map, is_result, step != "choose", not is_result]
    parts = [gr.Column] * 3 + [gr.Button] * 4
    return [part(visible=on) for part, on in zip(parts, shown, strict=True)]


def _licence_of(workspace: Workspace, name: str | None) -> gr.Dropdown:
    """A dataset that exists has a licence; only a new one needs to be told."""
    known = {d.name: d.licence for d in workspace.store.datasets()}
    is_new = (name or "").strip() not in known
    return gr.Dropdown(value=known.get((name or "").strip(), ""), interactive=is_new, allow_custom_value=True)


def _looks(path: Path, seen: Preview) -> str:
    kind = format_named(seen.format).title
    if seen.delimiter:
        kind += f" with {_WRITTEN_AS.get(seen.delimiter, seen.delimiter)}"
    where = f" ({seen.member or seen.sheet})" if seen.member or seen.sheet else ""
    known = f", in the shape of {shape_named(seen.shape).title}" if seen.shape else ""
    shown = f"The first {len(seen.rows)} rows" if len(seen.rows) > 1 else "The first row"
    encoding = f", {seen.encoding.upper().removesuffix('-SIG')}" if seen.encoding else ""
    words = f"{path.name}{where} reads as {kind}{encoding}{known}. {shown}:"
    if seen.omitted:
        words = f"{seen.omitted:,} values of these rows have no place in a record. {words}"
    rows = ([_short(row.get(column, "")) for column in seen.columns] for row in seen.rows)
    return f"<p>{html.escape(words)}</p>" + _scrolling(rows_to_read("First rows", seen.columns, rows))


def _result(report: ImportReport, dataset: str) -> str:
    """What came of it, and the rows that were left out with their reasons."""
    many = report.left_out
    left = f" {many:,} row{' was' if many == 1 else 's were'} left out:" if many else ""
    one = report.added == 1
    sentence = f"{report.added:,} record{' was' if one else 's were'} imported into {dataset}.{left}"
    if not report.rejected:
        return notice(sentence, "good")
    rows = [(f"{r.row:,}", _short(r.column), html.escape(r.reason)) for r in report.rejected[:_LEFT_OUT_SHOWN]]
    listed = rows_to_read("Rows left out", ("Row", "Column", "Reason"), rows, widths=("80px", "20%", ""))
    more = f"<p>And {many - len(rows):,} more.</p>" if many > len(rows) else ""
    return notice(sentence, "caution") + _scrolling(listed) + more


def _scrolling(inner: str) -> str:
    return f'<div class="scroll" tabindex="0">{inner}</div>'


def _short(text: str) -> str:
    cut = text if len(text) <= _CELL_LETTERS else f"{text[:_CELL_LETTERS]}…"
    return f'<span class="clamp">{html.escape(cut)}</span>'
