"""What the checks found, as HTML: the table of all checks, and examples of one with the finds marked in their text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from components.dataset.words import category_words, count, when
from components.frame import chip, notice, progress
from components.picking import rows_to_pick
from studio.instructions.checks import Remedy, TooLong
from studio.instructions.findings import MOST_CHANGED, CheckState, Example, Found
from studio.prompts import word_diff
from studio.store import FlagRow, Job, Record

__all__ = [
    "ON_LOAD",
    "checks_html",
    "examples_html",
    "going_html",
    "head_html",
    "remedy_words",
    "standing_html",
]

# A record's number opens it on the Records page; what is ticked is told as ids with spaces between.
ON_LOAD = """
element.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-record]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger('follow', { key: link.dataset.record });
});
element.addEventListener('change', () => {
  const ticked = [...element.querySelectorAll('input[data-record]:checked')];
  trigger('tick', { key: ticked.map((box) => box.dataset.record).join(' ') });
});
// A row may be kept and given another record when the list is drawn anew; a tick was for the one before.
watch('value', () => requestAnimationFrame(() => {
  for (const box of element.querySelectorAll('input[data-record]')) box.checked = box.hasAttribute('checked');
}));
"""

_AROUND = 90  # letters of a text to both sides of a find
_SPANS = 3  # finds of a record that are shown one by one
_LETTERS = 700  # of a text that is shown whole
_FIELDS = {"instruction": "Instruction", "context": "Context", "response": "Response", "category": "Category"}


# -- where the checks stand -----------------------------------------------------------------------------------------


def going_html(job: Job) -> str:
    """A run of the checks that is not over."""
    words = f"{job.step:,} of {job.total:,} checks" if job.total else job.state.capitalize()
    said = "It waits for its turn." if job.is_waiting else job.message
    return (
        f'<p class="running-title"><b>{html.escape(job.title)}</b> <a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a></p>'
        f'{progress(job.progress, words)}<p class="quiet">{html.escape(said)} It goes on when you close the page.</p>'
    )


def standing_html(states: Sequence[CheckState], job: Job | None, records: int) -> str:
    """When the records were looked at, what changed since, and why the last run did not come to its end."""
    runs = [state for state in states if state.run]
    if not runs:
        if not records:
            return '<p class="quiet">This dataset has no records yet. Import a file, or add one.</p>'
        never = f"{len(states)} checks look for what would teach a model something wrong. Looking changes nothing."
        return f"{_ended(job)}<p>{never}</p>"
    # What is too long is looked for only with a model, so it may be long ago.
    often = [state for state in runs if state.kind is not TooLong] or runs
    oldest = min(often, key=lambda state: state.run.until if state.run else 0.0)
    assert oldest.run is not None
    found = sum(state.has_found for state in states)
    told = f"{found} of {len(runs)} checks found something." if found else f"{len(runs)} checks found nothing."
    again = (
        '<p class="quiet">Run again looks only at those; checks that compare records with each other look at all.</p>'
        if oldest.changed
        else ""
    )
    changed = f"; {_changed(oldest.changed)} changed since" if oldest.changed else ""
    return (
        f"{_ended(job)}<p><b>Checked {when(oldest.run.ended_at)}: {count(oldest.run.records)}{changed}.</b> {told}</p>"
        f"{again}"
    )


def _ended(job: Job | None) -> str:
    """Why the newest run has no end, if it has none."""
    link = f"Job {job.id}" if job else ""
    rest = "The checks it had finished are up to date, the others as before."
    match job.state if job else "done":
        case "failed" | "lost":
            said = job.error.strip().splitlines()[-1] if job and job.error.strip() else "It says no reason."
            return notice(f"{link} stopped before its end. {said} {rest}", "bad")
        case "cancelled" | "paused":
            return notice(f"{link} was stopped. {rest}")
        case _:
            return ""


def _changed(n: int) -> str:
    return f"more than {MOST_CHANGED}" if n > MOST_CHANGED else f"{n:,}"


def checks_html(states: Sequence[CheckState], current: str) -> str:
    """The table of all checks."""
    rows = [(state.kind.name, (_title(state), _found(state), _looked(state))) for state in states]
    listed = rows_to_pick("Checks", ("Check", "Found", "Looked"), rows, current=current, widths=("", "104px", "132px"))
    return f'<div class="framed">{listed}</div>'


def _title(state: CheckState) -> str:
    return f'<b>{html.escape(state.kind.title)}</b><span class="clamp quiet">{html.escape(state.kind.explains)}</span>'


def _found(state: CheckState) -> str:
    if state.run is None:
        return '<span class="quiet">Not run</span>'
    if not state.has_found:
        return chip("✓ None", "good")
    parts = [count(state.records)] if state.records else []
    parts += [count(state.remarks, "remark")] if state.remarks else []
    return chip(", ".join(parts), "caution")


def _looked(state: CheckState) -> str:
    if state.run is None:
        return ""
    since = f'<span class="since quiet">{_changed(state.changed)} changed since</span>' if state.changed else ""
    return f"{when(state.run.ended_at)} {since}"


# -- one check ------------------------------------------------------------------------------------------------------


def head_html(state: CheckState, remarks: Sequence[FlagRow], is_masking: bool) -> str:
    """What the open check looks for, where it stands, and what it says of the dataset as a whole."""
    kind = state.kind
    told = [f'<h2 class="section-title">{html.escape(kind.title)}</h2><p>{html.escape(kind.explains)}</p>']
    told.append(f'<p class="quiet">{_standing(state)}</p>')
    told += [notice(flag.note, "caution") for flag in remarks]
    if state.has_found and state.must_run_again and kind.remedies:
        told.append(
            notice(
                "Records changed after this check ran, and it compares records with each other. "
                "Run it again, then mend.",
                "caution",
            )
        )
    if is_masking and state.has_found:
        told.append(
            '<p class="quiet">A remedy changes the records from now on. Snapshots taken before still hold the text; '
            "Purge on the page Snapshots takes it out of them too.</p>"
        )
    return f'<div class="check-head">{"".join(told)}</div>'


def _standing(state: CheckState) -> str:
    run = state.run
    if run is None:
        return "It has not run over this dataset yet."
    since = f" {_changed(state.changed)} changed since." if state.changed else ""
    found = f"found something in {count(state.records)}" if state.records else "found nothing in single records"
    if not state.has_found:
        found = "found nothing"
    return f"Looked at {count(run.records)} at {when(run.ended_at)} and {found}.{since}"


def remedy_words(remedy: Remedy, state: CheckState, ticked: int, would: Mapping[str, int | None]) -> str:
    """What a remedy's button says: 'Mask in 12 records', 'Remove 3 ticked'."""
    if ticked:
        return f"{remedy.title}: {ticked:,} ticked"
    n = would.get(remedy.name)
    many = f"up to {count(state.records)}" if n is None else count(n)
    return f"{remedy.title}: {many}"


def examples_html(examples: Sequence[Example], records: int) -> str:
    """Examples of what a check found, to read and to tick."""
    if not examples:
        return ""
    shown = len({found.record.id for example in examples for found in example.members})
    more = f"{shown:,} of {records:,} records" if shown < records else f"All {count(records)}" if records > 1 else ""
    made = "".join(_example(example) for example in examples)
    hint = "Tick some to mend those alone."
    if examples[0].kind == "answers":
        hint = "Tick the answers that are wrong. Without a tick, a remedy takes all answers that differ."
    return (
        f'<h3 class="section-title">What was found <small>{more}</small></h3>'
        f'<p class="quiet">{hint}</p><div class="finds">{made}</div>'
    )


def _example(example: Example) -> str:
    match example.kind:
        case "answers":
            return _answers(example)
        case "copies" | "leak":
            return _beside(example) if example.beside else "".join(_alone(found) for found in example.members)
        case _:
            return "".join(_alone(found) for found in example.members)


def _alone(found: Found) -> str:
    """One record: its finds marked in the text around them, or, where the whole of it is meant, what it says."""
    spans = [flag for flag in found.flags if flag.start is not None and flag.end is not None and _text(found, flag)]
    body = [_marked(found, flag) for flag in spans[:_SPANS]] if not found.has_changed else []
    whole = list(dict.fromkeys(flag.note for flag in found.flags if flag not in spans or found.has_changed))
    body += [f'<p class="note">{html.escape(note)}</p>' for note in whole[:_SPANS]]
    if more := max(0, len(spans) - _SPANS) if not found.has_changed else 0:
        body.append(f'<p class="quiet">And {more:,} more in this record.</p>')
    if found.has_changed or not spans:
        body.append(_question_and_answer(found.record))
    return f'<article class="find">{_line(found)}{"".join(body)}</article>'


def _line(found: Found, note: str = "") -> str:
    """A box to tick, the record's number, and what is to be known about it."""
    record = found.record
    changed = chip("changed since", "caution") if found.has_changed else ""
    rejected = chip("rejected") if record.state == "rejected" else ""
    about = " · ".join(part for part in (category_words(record.category), record.split) if part)
    return (
        f'<header><input type="checkbox" data-record="{record.id}" aria-label="Tick record {record.id}">'
        f'{_link(record)}<span class="quiet">{html.escape(note or about)}</span>{changed}{rejected}</header>'
    )


def _link(record: Record) -> str:
    return f'<a href="?tab=dataset&amp;record={record.id}" data-record="{record.id}">Record {record.id}</a>'


def _marked(found: Found, flag: FlagRow) -> str:
    text, start, end = _text(found, flag), flag.start or 0, flag.end or 0
    first, last = max(0, start - _AROUND), min(len(text), end + _AROUND)
    middle = text[start:end] if end - start <= _LETTERS else f"{text[start : start + _LETTERS]}…"
    before = f"{'…' if first else ''}{text[first:start]}"
    after = f"{text[end:last]}{'…' if last < len(text) else ''}"
    return (
        f'<p class="note">{html.escape(flag.note)} <span class="quiet">{_field(flag.field)}</span></p>'
        f'<p class="passage" dir="auto">{html.escape(before)}<mark>{html.escape(middle)}</mark>{html.escape(after)}</p>'
    )


def _question_and_answer(record: Record) -> str:
    return "".join(
        f'<p class="passage" dir="auto"><span class="quiet">{name}</span> {html.escape(_cut(text, 240))}</p>'
        for name, text in (("Asks", record.instruction), ("Answers", record.response))
        if text
    )


def _beside(example: Example) -> str:
    """What stays at the left, and beside it who says the same, with the words that differ."""
    kept = example.beside
    assert kept is not None
    if example.kind == "leak":
        head = f"In training {_link(kept)}"
    else:
        head = f'{_link(kept)} stays <span class="quiet">of {example.size:,} alike</span>'
    twins = "".join(
        f'<section class="twin">{_line(found, found.flags[0].note)}{_differences(kept, found.record)}</section>'
        for found in example.members
    )
    hidden = example.size - 1 - len(example.members)
    more = f'<p class="quiet">And {hidden:,} more.</p>' if example.kind == "copies" and hidden > 0 else ""
    return (
        f'<article class="find side-by-side"><section><header>{head}</header>{_whole(kept)}</section>'
        f"<div>{twins}{more}</div></article>"
    )


def _answers(example: Example) -> str:
    """A question, and beside each other what answers it."""
    asked = example.members[0].record
    cells = "".join(
        f'<section class="twin">{_line(found)}'
        f'<p class="passage" dir="auto">{html.escape(_cut(found.record.response))}</p></section>'
        for found in example.members
    )
    hidden = example.size - len(example.members)
    more = f'<p class="quiet">And {hidden:,} more.</p>' if hidden > 0 else ""
    return (
        f'<article class="find"><p class="asked" dir="auto">{html.escape(_cut(_prompt(asked), 400))}</p>'
        f'<div class="answers">{cells}</div>{more}</article>'
    )


def _differences(kept: Record, record: Record) -> str:
    """The record's texts with the words that `kept` has otherwise."""
    before, tags = dict(_texts(kept)), {"same": "span", "added": "ins", "removed": "del"}
    shown: list[str] = []
    if before == dict(_texts(record)):
        return '<p class="quiet">Word for word the same.</p>'
    for name, text in _texts(record):
        if before.get(name) == text:
            shown.append(f'<p class="passage"><span class="quiet">{name}: the same</span></p>')
            continue
        pieces = word_diff(_cut(before.get(name, "")), _cut(text))
        words = "".join(f"<{tags[p.kind]}>{html.escape(p.text)}</{tags[p.kind]}>" for p in pieces)
        shown.append(f'<p class="passage" dir="auto"><span class="quiet">{name}</span> {words}</p>')
    return "".join(shown)


def _whole(record: Record) -> str:
    return "".join(
        f'<p class="passage" dir="auto"><span class="quiet">{name}</span> {html.escape(_cut(text))}</p>'
        for name, text in _texts(record)
    )


def _texts(record: Record) -> list[tuple[str, str]]:
    """The texts of a record under the names that people read."""
    if record.turns is None:
        named = [(words, getattr(record, name)) for name, words in _FIELDS.items() if name != "category"]
    else:
        named = [(f"{n} {turn['role']}", turn["content"]) for n, turn in enumerate(record.turns, start=1)]
    return [(name, text) for name, text in named if text]


def _prompt(record: Record) -> str:
    return "\n".join(part for part in (record.instruction, record.context) if part)


def _text(found: Found, flag: FlagRow) -> str:
    """The text that a flag is about; '' when it is about none."""
    if (turn := _turn(flag.field)) is not None:
        turns = found.record.turns or []
        return turns[turn]["content"] if turn < len(turns) else ""
    return str(getattr(found.record, flag.field)) if flag.field in _FIELDS else ""


def _field(name: str) -> str:
    turn = _turn(name)
    return _FIELDS.get(name, "") if turn is None else f"Turn {turn + 1}"


def _turn(field: str) -> int | None:
    number = field.removeprefix("turns.")
    return int(number) if number != field and number.isdecimal() else None


def _cut(text: str, letters: int = _LETTERS) -> str:
    return text if len(text) <= letters else f"{text[:letters].rstrip()}…"
