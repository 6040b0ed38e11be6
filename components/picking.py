"""Tables made as HTML: rows to read, and rows to pick with mouse or keyboard.

gr.Dataframe marks the cell that was clicked, not the row that is open beside it, and posts a whole column with every
click. Here a row carries a key, a click posts that key alone, and the open row can be marked from anywhere.

    records = pick_list("Records", elem_id="records")
    records.pick(handler(open_record), None, form)       # def open_record(event: gr.EventData): picked(event)
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

__all__ = ["mark_row", "pick_list", "picked", "rows_to_pick", "rows_to_read"]

# Arrow keys move between rows; Enter and the space bar pick. Selecting text in a cell is no pick.
_ON_LOAD = """
const row = (event) => event.target.closest('tr[data-key]');
const send = (tr) => trigger('pick', { key: tr.dataset.key });
element.addEventListener('click', (event) => {
  if (row(event) && !event.target.closest('a') && getSelection().isCollapsed) send(row(event));
});
element.addEventListener('keydown', (event) => {
  const tr = row(event);
  if (!tr || event.target !== tr || event.ctrlKey || event.metaKey || event.altKey) return;
  const to = { ArrowDown: tr.nextElementSibling, ArrowUp: tr.previousElementSibling }[event.key];
  if (to) to.focus();
  else if (event.key === 'Enter' || event.key === ' ') send(tr);
  else return;
  event.preventDefault();
});
"""


def pick_list(label: str, *, elem_id: str, **options: Any) -> gr.HTML:
    """A list whose rows can be picked: give it `rows_to_pick`, listen to `.pick`, read the event with `picked`."""
    return gr.HTML(
        "", label=label, elem_id=elem_id, js_on_load=_ON_LOAD, apply_default_css=False, padding=False, **options
    )


def picked(event: gr.EventData) -> str:
    """The key of the row that was picked. It comes from the page, so whoever uses it looks it up first."""
    return str((event._data or {}).get("key", ""))


def mark_row(elem_id: str) -> str:
    """JavaScript that marks the row with the given key as the open one and brings it into view."""
    return (
        "(key) => { for (const tr of document.querySelectorAll('#"
        + elem_id
        + " tr[data-key]')) { const on = tr.dataset.key === String(key); "
        "tr.setAttribute('aria-selected', on); if (on) tr.scrollIntoView({ block: 'nearest' }); } }"
    )


def rows_to_pick(
    label: str,
    headers: Sequence[str],
    rows: Iterable[tuple[str | int, Sequence[str]]],
    *,
    current: str | int | None = None,
    widths: Sequence[str] = (),
) -> str:
    """HTML of rows that can be picked: (key, cells). Cells are HTML already; escape what people wrote."""
    body = "".join(
        f'<tr data-key="{html.escape(str(key), quote=True)}" tabindex="0" '
        f'aria-selected="{"true" if str(key) == str(current) else "false"}">{_cells(cells)}</tr>'
        for key, cells in rows
    )
    return _table(label, headers, body, widths, "grid")


def rows_to_read(
    label: str, headers: Sequence[str], rows: Iterable[Sequence[str]], *, widths: Sequence[str] = ()
) -> str:
    """HTML of rows to read. Cells are HTML already; escape what people wrote."""
    return _table(label, headers, "".join(f"<tr>{_cells(cells)}</tr>" for cells in rows), widths, "table")


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _table(label: str, headers: Sequence[str], body: str, widths: Sequence[str], role: str) -> str:
    columns = "".join(f'<col style="width:{width}">' if width else "<col>" for width in widths)
    head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in headers)
    head = f"<thead><tr>{head}</tr></thead>" if headers else ""
    return (
        f'<table class="rows" role="{role}" aria-label="{html.escape(label, quote=True)}">'
        f"<colgroup>{columns}</colgroup>{head}<tbody>{body}</tbody></table>"
    )
