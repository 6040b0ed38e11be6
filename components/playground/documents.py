"""Documents: the company's own texts, taken in, looked through, and searched as a prompt searches them.

A few small files are read while one waits; more is a job that goes on when the page is closed. The page keeps ids and a
token of the list that was painted; while a job reads, one timer asks how far it is.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    card,
    chip,
    empty_state,
    facts,
    fresh_choices,
    handler,
    live_dropdown,
    markup,
    notice,
    progress,
    section,
    untouched,
    user_of,
)
from components.picking import mark_row, pick_list, picked, rows_to_pick
from components.uploads import uploaded
from studio.errors import InputError, StudioError
from studio.example import EXAMPLE, load_example
from studio.jobs import perform
from studio.prompts.documents import (
    ENDINGS,
    Coverage,
    Hit,
    ImportDocuments,
    ImportReport,
    coverage,
    import_documents,
    is_quick,
    retrieve,
)
from studio.store import Document, Job, Passage
from studio.uploads import park
from studio.workspace import Workspace

__all__ = ["DocumentsWidgets", "build"]

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_PASSAGES_A_PAGE = 40
_SAID_SHOWN = 12
_FORMATS = ", ".join(dict.fromkeys(ENDINGS.values()))


@dataclass(frozen=True, kw_only=True)
class DocumentsWidgets(TabWidgets):
    """`document` holds the number of the open document."""

    document: gr.Textbox


def build(workspace: Workspace) -> DocumentsWidgets:
    """Lay out the page and wire it."""
    page = _Page(workspace)
    _wire_intake(page)
    _wire_reading(page)
    gr.on(
        [page.question.change, page.many.change, page.within.input],  # `input` tells of keys, not of what was pasted
        handler(page.find),
        [page.question, page.many, page.within],
        page.found,
        trigger_mode="always_last",
        api_name="find_passages",
        **_QUIET,
    )
    _serve(workspace)
    return DocumentsWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"document": page.document},
        document=page.document,
    )


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Row(elem_classes=["off-screen"]):
            self.document, self.read, self.painted, self.watched = (
                gr.Textbox("", label=label, visible="hidden")
                for label in ("Document", "Document on screen", "Documents painted", "Import watched")
            )
            self.first = gr.Number(0, label="First passage", precision=0, visible="hidden")
        # Ticks only while a job reads: on this page steps matter, and the pulse tells of states alone.
        self.timer = gr.Timer(_TICK_SECONDS, active=False)
        with gr.Row(elem_classes=["columns", "intake"]):
            self._lay_out_intake()
            with gr.Column(scale=1, min_width=320, elem_classes=["coverage"]):
                section("What there is to answer from")
                self.covered = markup(label="Coverage")
        self.empty = empty_state(
            "There are no documents yet. Add some, and prompts can answer from them.",
            "Try it with the example",
            visible=False,
        )
        with gr.Row(elem_classes=["columns", "documents-columns"], visible=False) as self.body:
            with gr.Column(scale=1, min_width=320, elem_classes=["sheet"]):
                self.rows = pick_list("Documents", elem_id="documents")
                self._lay_out_search()
            self._lay_out_reading()
        with gr.Accordion("Removed documents", open=False, elem_classes=["more"], visible=False) as self.gone:
            self.removed = pick_list("Documents that were removed", elem_id="removed-documents")

    def _lay_out_intake(self) -> None:
        with gr.Column(scale=0, min_width=320, elem_classes=["intake-side"]):
            self.files = gr.File(
                label="Documents to add",
                show_label=False,
                file_count="multiple",
                type="filepath",
                height=132,
                elem_classes=["drop"],
                elem_id="add-documents",
            )
            markup(f'<p class="quiet">{_FORMATS}. Text only: pictures in them are not read.</p>')
            with gr.Row(elem_classes=["import-going"], visible=False) as self.going:
                self.how_far = markup(label="How far the import is")
                self.cancel = gr.Button("Cancel", variant="stop", min_width=80, scale=0, elem_id="cancel-import")
            self.said = markup(label="What became of the files", elem_classes=["said-here"])

    def _lay_out_search(self) -> None:
        with card("Search", elem_classes=["search-card"]):
            with gr.Row(elem_classes=["form-row", "search-row"]):
                self.question = gr.Textbox(
                    "",
                    label="Question",
                    max_lines=2,
                    placeholder="How long may I return a tent?",
                    scale=1,
                    min_width=220,
                    elem_id="search-documents",
                )
                self.within = live_dropdown([("All documents", "")], value="", label="In", scale=0, min_width=180)
                self.many = gr.Number(4, label="Passages", precision=0, scale=0, min_width=88)
            self.found = markup(_NOTHING_ASKED, label="Passages found", elem_id="passages-found")

    def _lay_out_reading(self) -> None:
        with card(scale=0, min_width=320, elem_classes=["record", "reading"]):
            self.about = markup(label="The open document")
            with actions():
                self.remove = gr.Button("Remove", min_width=0, scale=0, visible=False, elem_id="remove-document")
                self.restore = gr.Button("Bring back", min_width=0, scale=0, visible=False, elem_id="restore-document")
            self.passages = markup(label="Its passages", elem_id="passages")
            with gr.Row(elem_classes=["pager"], visible=False) as self.pager:
                self.back = gr.Button("Previous", size="sm", min_width=0, scale=0)
                self.range = markup()
                self.forth = gr.Button("Next", size="sm", min_width=0, scale=0)

    # -- what handlers read and write ----------------------------------------------------------------------------

    @property
    def reading(self) -> list[Any]:
        """Outputs of `_reading`."""
        shown = [self.about, self.remove, self.restore, self.passages, self.pager, self.range, self.back, self.forth]
        return [self.document, self.read, self.first, *shown]

    @property
    def progressed(self) -> list[Any]:
        """Outputs of `_progressed`."""
        return [self.watched, self.timer, self.going, self.how_far, self.said]

    @property
    def listed(self) -> list[Any]:
        """Outputs of `_listed`."""
        return [self.painted, self.covered, self.rows, self.within, self.empty.box, self.empty.action, self.body,
                self.gone, self.removed]  # fmt: skip

    @property
    def look_inputs(self) -> list[Any]:
        return [self.document, self.read, self.painted, self.watched, self.within]

    @property
    def look_outputs(self) -> list[Any]:
        return [*self.progressed, *self.listed, *self.reading]

    # -- what is shown -------------------------------------------------------------------------------------------

    def look(self, document: str, read: str, painted: str, watched: str, within: str) -> list[Any]:
        """The page as the database has it now. Runs outside the queue: never raises."""
        try:
            listed = self._listed(document, painted, within)
            return [*self._progressed(watched), *listed, *self._open(document, read)]
        except StudioError as error:
            log.warning("The documents could not be brought up to date: %s", error)
            return untouched(self.look_outputs)

    def _progressed(self, watched: str) -> list[Any]:
        """The import that goes on, or what became of the one that was watched."""
        job = next(iter(self.store.jobs(limit=1, kinds={ImportDocuments.kind})), None)
        if job is not None and not job.is_over:
            return [str(job.id), gr.Timer(active=True), gr.Row(visible=True), _going(job), gr.skip()]
        said = _ended(self.store.job(int(watched))) if watched.isdecimal() else gr.skip()
        return ["", gr.Timer(active=False), gr.Row(visible=False), "", said]

    def _listed(self, document: str, painted: str, within: str) -> list[Any]:
        """The list and the coverage, or nothing if that is what was painted."""
        token = self.store.documents_token()
        if token == painted:
            return untouched(self.listed)
        found, removed = coverage(self.store), self.store.documents(removed=True)
        known = {str(s.document.id): s.document.name for s in found.documents}
        choices = [("All documents", ""), *((name, key) for key, name in known.items())]
        return [
            token,
            _coverage_html(found),
            _documents_html(found, document),
            fresh_choices(choices, within, ""),
            gr.Column(visible=not found.documents),
            gr.Button(visible=self._has_example and not removed),
            gr.Row(visible=bool(found.documents or removed)),
            gr.Accordion(visible=bool(removed), label=f"Removed documents ({len(removed):,})"),
            _removed_html(removed, document),
        ]

    @property
    def _has_example(self) -> bool:
        names = {dataset.name for dataset in self.store.datasets()}
        return not names or EXAMPLE in names

    def _open(self, document: str, read: str) -> list[Any]:
        """The document that the address names; while none is open, the first one."""
        if document and document == read:
            return untouched(self.reading)
        known = [*self.store.documents(), *self.store.documents(removed=True)]
        return self._reading(next((d for d in known if str(d.id) == document), next(iter(known), None)))

    def _reading(self, document: Document | None, first: int = 0) -> list[Any]:
        """A document on the right, from one of its passages on."""
        if document is None:
            buttons = [gr.Button(visible=False)] * 2
            return [
                "",
                "",
                0,
                _NOTHING_OPEN,
                *buttons,
                "",
                gr.Row(visible=False),
                "",
                *untouched([self.back, self.forth]),
            ]
        passages = self.store.passages(document.id)
        first = max(0, min(first, (len(passages) - 1) // _PASSAGES_A_PAGE * _PASSAGES_A_PAGE))
        shown = passages[first : first + _PASSAGES_A_PAGE]
        last = first + len(shown)
        is_in_use = document.removed_at is None
        return [
            str(document.id),
            str(document.id),
            first,
            _about(document),
            gr.Button(visible=is_in_use),
            gr.Button(visible=not is_in_use),
            _passages_html(shown, self._twins(shown)),
            gr.Row(visible=len(passages) > _PASSAGES_A_PAGE),
            f'<span aria-live="polite">{first + 1:,}–{last:,} of {len(passages):,}</span>',
            gr.Button(interactive=first > 0),
            gr.Button(interactive=last < len(passages)),
        ]

    def _twins(self, passages: Sequence[Passage]) -> dict[int, str]:
        """Where the earlier passages stand that these say again, by id; those in use."""
        earlier = self.store.live_passages_of({p.near_id for p in passages if p.near_id is not None})
        names = {d.id: d.name for d in self.store.documents()}
        return {p.id: f"{names[p.document_id]}, {p.place}".rstrip(", ") for p in earlier if p.document_id in names}

    # -- what a person does --------------------------------------------------------------------------------------

    def add(self, files: Sequence[str] | None, request: gr.Request) -> list[Any]:
        """Take the files in, or queue a job that does; the drop zone is free again."""
        paths = [Path(file) for file in files or ()]
        said, job = _taken_in(self.workspace, paths, user_of(request))
        return [None, said if job is None else "", str(job.id) if job else gr.skip()]

    def load_example(self) -> str:
        load_example(self.store, self.workspace.path)
        many = len(self.store.documents())
        return notice(f"The example's {many} documents are in.", "good")

    def stop(self, watched: str, request: gr.Request) -> None:
        if watched.isdecimal():
            perform(self.store, self.workspace.path, int(watched), "cancel", by=user_of(request))

    def open_document(self, event: gr.EventData) -> list[Any]:
        return self._reading(self.store.document(_number(picked(event))))

    def turn(self, by: int, document: str, first: float) -> list[Any]:
        return self._reading(self.store.document(_number(document)), int(first) + by * _PASSAGES_A_PAGE)

    def remove_document(self, document: str) -> list[Any]:
        gone = self.store.remove_document(_number(document))
        said = notice(f"{gone.name} is out of use: no prompt gets its passages any more. It can be brought back.")
        return [said, *self._reading(gone)]

    def restore_document(self, document: str) -> list[Any]:
        back = self.store.restore_document(_number(document))
        return [notice(f"{back.name} is back in use.", "good"), *self._reading(back)]

    def find(self, question: str, many: float | None, within: str | None) -> str:
        """The passages that a prompt would get for a question."""
        if not (question or "").strip():
            return _NOTHING_ASKED
        documents = {_number(within)} if within else None
        hits = retrieve(self.store, question, max(1, min(int(many or 1), 20)), documents)
        return _hits_html(hits)


# -- wiring ----------------------------------------------------------------------------------------------------

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _wire_intake(page: _Page) -> None:
    look: dict[str, Any] = {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs}
    # `then`, not `success`: when the disk refuses half-way, what is in by then shows.
    page.files.upload(
        handler(page.add), page.files, [page.files, page.said, page.watched], api_name="take_in", **_QUIET
    ).then(**look, **_QUIET)
    page.empty.action.click(
        handler(page.load_example), None, page.said, api_name="load_example_documents", api_visibility="private"
    ).then(**look, **_QUIET)
    page.cancel.click(handler(page.stop), page.watched, None, api_name="cancel_import", **_QUIET).then(**look, **_QUIET)
    page.timer.tick(**look, queue=False, trigger_mode="once", **_QUIET)


def _wire_reading(page: _Page) -> None:
    look: dict[str, Any] = {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs}
    for rows, name in ((page.rows, "open_document"), (page.removed, "open_removed_document")):
        rows.pick(handler(page.open_document), None, page.reading, trigger_mode="always_last", api_name=name, **_QUIET)
    page.document.change(None, page.document, None, js=mark_row("documents"), api_visibility="private")
    page.document.change(None, page.document, None, js=mark_row("removed-documents"), api_visibility="private")
    for button, by, name in ((page.back, -1, "back"), (page.forth, 1, "forth")):
        button.click(
            handler(_turning(page, by)), [page.document, page.first], page.reading, api_name=f"turn_{name}", **_QUIET
        )
    for button, fn, name in (
        (page.remove, page.remove_document, "remove_open_document"),
        (page.restore, page.restore_document, "restore_open_document"),
    ):
        button.click(handler(fn), page.document, [page.said, *page.reading], api_name=name, **_QUIET).then(
            **look, **_QUIET
        )


def _turning(page: _Page, by: int) -> Any:
    def turn(document: str, first: float) -> list[Any]:
        return page.turn(by, document, first)

    return turn


# -- for scripts -----------------------------------------------------------------------------------------------


def _serve(workspace: Workspace) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    store = workspace.store

    def add_documents(request: gr.Request, files: list[dict[str, Any]]) -> dict[str, Any]:
        """Take in uploaded files: what happened to each, or the number of the job that reads them."""
        report, job = _take_in(workspace, [uploaded(file) for file in files], user_of(request))
        return {
            "said": [i.sentence for i in report.imported] if report else [],
            "refused": [asdict(r) for r in report.refused] if report else [],
            "job": job.id if job else None,
        }

    def list_documents() -> dict[str, Any]:
        """The documents in use with what they are about, and all of them in one sentence."""
        found = coverage(store)
        rows = [
            {
                **{k: getattr(s.document, k) for k in ("id", "name", "format", "language", "passages")},
                "words": s.words, "terms": list(s.terms), "near": s.near,
            }
            for s in found.documents
        ]  # fmt: skip
        return {"documents": rows, "said": found.sentence}

    def search_documents(question: str, k: int = 4, documents: list[int] | None = None) -> list[dict[str, Any]]:
        """The passages that a prompt would get, best first."""
        return [{"label": hit.label, **asdict(hit)} for hit in retrieve(store, question, k, documents)]

    def read_document(document: int) -> list[dict[str, Any]]:
        """The passages of a document, in its order."""
        return [asdict(passage) for passage in store.passages(store.document(document).id)]

    def remove_document(document: int) -> str:
        """Take a document out of use."""
        return store.remove_document(document).name

    def restore_document(document: int) -> str:
        """Bring a removed document back into use."""
        return store.restore_document(document).name

    for fn in (add_documents, list_documents, search_documents, read_document, remove_document, restore_document):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)


def _take_in(workspace: Workspace, files: Sequence[Path], author: str) -> tuple[ImportReport | None, Job | None]:
    """What became of a few small files, or the job that takes in more."""
    if is_quick(files):
        report = import_documents(workspace.store, workspace.path, files, author=author, settings=workspace.settings)
        return report, None
    task = ImportDocuments(files=park(workspace.path, files))
    return None, workspace.queue(task, author=author)


def _taken_in(workspace: Workspace, files: Sequence[Path], author: str) -> tuple[str, Job | None]:
    report, job = _take_in(workspace, files, author)
    if report is None:
        return "", job
    refused = [{"name": r.name, "reason": r.reason} for r in report.refused]
    return _sentences([i.sentence for i in report.imported], refused), None


# -- words and small parts -------------------------------------------------------------------------------------

_NOTHING_ASKED = '<p class="quiet">The passages that a prompt would get appear here as you type, best first.</p>'
_NOTHING_OPEN = '<p class="quiet">Choose a document to read its passages.</p>'
_HEADS = ("Document", "Format", "Passages", "Language", "What it is about", "Said before")
_WIDTHS = ("28%", "68px", "80px", "84px", "", "100px")


def _coverage_html(found: Coverage) -> str:
    return f"<p>{html.escape(found.sentence)}</p>{_languages_html(found.languages)}"


def _languages_html(languages: Mapping[str, float]) -> str:
    """How the passages divide among languages, as a bar; the sentence above it says the same in words."""
    if len(languages) < 2:
        return ""
    parts = "".join(
        f'<i style="flex-grow:{share:.4f}" title="{html.escape(code or "unknown")} {share:.0%}"></i>'
        for code, share in languages.items()
    )
    return f'<div class="languages" aria-hidden="true">{parts}</div>'


def _documents_html(found: Coverage, current: str) -> str:
    if not found.documents:
        return '<p class="quiet">All documents were removed. Bring one back below, or add others.</p>'
    rows = [
        (
            s.document.id,
            (
                f"<b>{html.escape(s.document.name)}</b>",
                html.escape(s.document.format),
                f"{s.document.passages:,}",
                html.escape(s.document.language or "unknown"),
                f'<span class="clamp">{html.escape(", ".join(s.terms)) or "–"}</span>',
                f"{s.near:,} of {s.document.passages:,}" if s.near else "none",
            ),
        )
        for s in found.documents
    ]
    listed = rows_to_pick("Documents", _HEADS, rows, current=current, widths=_WIDTHS)
    return f'<div class="records documents">{listed}</div>'


def _removed_html(removed: Sequence[Document], current: str) -> str:
    rows = [(d.id, (html.escape(d.name), d.format, f"{d.passages:,} passages")) for d in removed]
    return (
        f'<div class="framed">{rows_to_pick("Documents that were removed", (), rows, current=current)}</div>'
        if rows
        else ""
    )


def _about(document: Document) -> str:
    told = {
        "Format": document.format,
        "Language": document.language or "unknown",
        "Length": f"{document.characters:,} characters, {document.passages:,} passages",
        "Added by": document.author,
    }
    mark = "" if document.removed_at is None else f" {chip('removed', 'caution')}"
    return f'<h2 class="section-title">{html.escape(document.name)}{mark}</h2>{facts(told)}'


def _passages_html(passages: Sequence[Passage], twins: Mapping[int, str]) -> str:
    shown = "".join(
        f"<article><header><span>{html.escape(p.place) or f'Passage {p.position + 1}'}</span>"
        f'{_said_before(p, twins)}</header><p dir="auto">{html.escape(p.text)}</p></article>'
        for p in passages
    )
    return f'<div class="passages" tabindex="0" role="group" aria-label="Passages">{shown}</div>'


def _said_before(passage: Passage, twins: Mapping[int, str]) -> str:
    if passage.near_id is None or passage.near_id not in twins:
        return ""
    return chip("said before", "caution", f"Nearly the same as {twins[passage.near_id]}")


def _hits_html(hits: Sequence[Hit]) -> str:
    """The passages as a prompt shows them, each under the label that an answer cites."""
    if not hits:
        return '<p class="quiet" role="status">No passage shares a word with this question. Ask in the documents\' words.</p>'
    shown = "".join(
        f"<article><header><span><b>[{number}]</b> {html.escape(hit.label)}</span>"
        f'<span class="score" title="BM25 score">{hit.score:.2f}</span></header>'
        f'<p dir="auto">{html.escape(hit.text)}</p>{_also(hit)}</article>'
        for number, hit in enumerate(hits, 1)
    )
    return f'<div class="passages found">{shown}</div>'


def _also(hit: Hit) -> str:
    return f'<p class="quiet">Said as well in {html.escape("; ".join(hit.also))}.</p>' if hit.also else ""


def _going(job: Job) -> str:
    words = f"{job.step} of {job.total} documents" if job.total else job.state.capitalize()
    said = "Waits for its turn." if job.is_waiting else job.message
    return (
        f'{progress(job.progress, words)}<p class="quiet"><a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a> '
        f"goes on when you close the page. {html.escape(said)}</p>"
    )


def _ended(job: Job) -> str:
    """What became of the files of a job."""
    found = job.result or {}
    trouble = notice(job.error, "bad" if job.state in ("failed", "lost") else "caution") if job.error else ""
    if job.state == "cancelled":
        trouble = trouble or notice("The import was cancelled. What was in by then stays.", "caution")
    return trouble + _sentences(found.get("said", ()), found.get("refused", ()))


def _sentences(said: Sequence[str], refused: Sequence[Mapping[str, str]]) -> str:
    """A sentence per file: first those that were left out, then the others, of many only the first."""
    wrong = "".join(notice(row["reason"], "caution") for row in refused)
    good = "".join(notice(sentence, "good") for sentence in said[:_SAID_SHOWN])
    more = notice(f"And {len(said) - _SAID_SHOWN:,} more are in.", "good") if len(said) > _SAID_SHOWN else ""
    return wrong + good + more


def _number(key: Any) -> int:
    if not str(key).strip().isdecimal():
        raise InputError(f"'{key}' is not the number of a document. The list shows them all.")
    return int(key)
