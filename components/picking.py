"""Tables made as HTML: rows to read, and rows to pick with mouse or keyboard.

gr.Dataframe marks the cell that was clicked, not the row that is open beside it, and posts a whole column with every
click. Here a row carries a key, a click posts that key alone, and the open row can be marked from anywhere.

    records = pick_list("Records", elem_id="records")
    records.pick(handler(open_record), None, form)       # def open_record(event: gr.EventData): picked(event)

A row may hold buttons of its own (`data-do`, `data-key`): `records.act`, and `pressed(event)` says which.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

__all__ = ["mark_row", "pick_list", "picked", "pressable", "pressed", "rows_to_pick", "rows_to_read"]

# Arrow keys move between rows; Enter and the space bar pick. Selecting text in a cell is no pick.
_ON_LOAD = """
const row = (event) => event.target.closest('tr[data-key]');
const send = (tr) => trigger('pick', { key: tr.dataset.key });
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button) trigger('act', { do: button.dataset.do, key: button.dataset.key });
  else if (row(event) && !event.target.closest('a') && getSelection().isCollapsed) send(row(event));
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


def pressable(label: str, events: Sequence[str], **options: Any) -> gr.HTML:
    """HTML with buttons that have a tooltip, or are drawn anew: `<button data-do="undo">` sets off the event `undo`,
    and `picked` reads its `data-key`. (gr.Button has no tooltip, and its number is fixed when the page is built.)"""
    names = ", ".join(f"'{name}'" for name in events)
    script = f"""element.addEventListener('click', (event) => {{
      const button = event.target.closest('[data-do]');
      if (button && !button.disabled && [{names}].includes(button.dataset.do))
        trigger(button.dataset.do, {{ key: button.dataset.key ?? '' }});
    }});"""
    return gr.HTML("", label=label, js_on_load=script, apply_default_css=False, padding=False, **options)


def pressed(event: gr.EventData) -> tuple[str, str]:
    """Which button of a row was pressed, and on what. Both come from the page, so whoever uses them checks them."""
    return str((event._data or {}).get("do", "")), picked(event)


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
    can_tick: bool = False,
) -> str:
    """HTML of rows that can be picked: (key, cells). Cells are HTML already; escape what people wrote.

    With `can_tick` each row, and the head for all of them, has a box before it; what ticks mean is up to the script of
    the list (assets/records.js).
    """
    body = "".join(
        f'<tr data-key="{html.escape(str(key), quote=True)}" tabindex="0" '
        f'aria-selected="{"true" if str(key) == str(current) else "false"}">'
        f"{_tick(f'Tick {key}') if can_tick else ''}{_cells(cells)}</tr>"
        for key, cells in rows
    )
    if not can_tick:
        return _table(label, headers, body, widths, "grid")
    return _table(label, headers, body, (_TICK_WIDTH, *widths), "grid", '<th class="tick">' + _TICK_ALL + "</th>")


_TICK_WIDTH = "34px"
_TICK_ALL = '<input type="checkbox" aria-label="Tick all rows of this page" title="Tick all rows of this page">'


def _tick(label: str) -> str:
    return f'<td class="tick"><input type="checkbox" tabindex="-1" aria-label="{html.escape(label, quote=True)}"></td>'


def rows_to_read(
    label: str, headers: Sequence[str], rows: Iterable[Sequence[str]], *, widths: Sequence[str] = ()
) -> str:
    """HTML of rows to read. Cells are HTML already; escape what people wrote."""
    return _table(label, headers, "".join(f"<tr>{_cells(cells)}</tr>" for cells in rows), widths, "table")


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _table(
    label: str, headers: Sequence[str], body: str, widths: Sequence[str], role: str, first_head: str = ""
) -> str:
    columns = "".join(f'<col style="width:{width}">' if width else "<col>" for width in widths)
    head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in headers)
    head = f"<thead><tr>{first_head}{head}</tr></thead>" if headers else ""
    return (
        f'<table class="rows" role="{role}" aria-label="{html.escape(label, quote=True)}">'
        f"<colgroup>{columns}</colgroup>{head}<tbody>{body}</tbody></table>"
    )
