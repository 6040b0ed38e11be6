"""What every page shares: the header above it, its title line, its empty states, and the one way into a handler.

A page is composed like this; whatever a person does goes through `handler`:

    with page_header("tuning", "Teach a model to answer the way your records do."):
        start = gr.Button("Start tuning", variant="primary")
    start.click(handler(start_tuning), [base, data], [status])
"""

from __future__ import annotations

import functools
import html
import inspect
import logging
import secrets
import time
import typing
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import gradio as gr
from gradio.blocks import Block
from markdown_it import MarkdownIt

from components.theme import ASSETS
from studio.errors import StudioError
from studio.models import conversion
from studio.serving import Role, require
from studio.words import duration

if TYPE_CHECKING:
    from studio.store import Job
    from studio.workspace import Workspace

__all__ = [
    "EmptyState",
    "Pulse",
    "Refresh",
    "TabWidgets",
    "actions",
    "ask_twice",
    "card",
    "chip",
    "duration",
    "empty_state",
    "facts",
    "first_beat",
    "fresh_choices",
    "hand_over",
    "handler",
    "header",
    "hidden_download",
    "live_dropdown",
    "markup",
    "notice",
    "page_header",
    "progress",
    "rung_chip",
    "running_job",
    "section",
    "table",
    "untouched",
    "user_of",
]

log = logging.getLogger(__name__)

Tone = Literal["", "good", "caution", "bad", "L1", "L2", "L3"]

_TICK_SECONDS = 3.0
_IDLE_TICK_SECONDS = 5.0
_LOOK_SECONDS = 6.0  # at the figures of a run that takes steps; what starts, ends or waits is seen at the next tick
_TOAST_SECONDS = 3
_ERROR_SECONDS = 8


# -- the way into a handler ----------------------------------------------------------------------------------


def user_of(request: gr.Request) -> str:
    """Who asks, as the server saw it when the request came in."""
    return require(getattr(request, "username", None), "member")


def handler(fn: Callable[..., Any], *, role: Role = "member") -> Callable[..., Any]:
    """The error boundary and the permission check around whatever a page calls; fn may be async or a generator.

    Sentences of the studio reach the person as they are. Anything else is logged under a reference. Both need the
    queue: a listener with `queue=False` shows no toast at all, so such a handler must not raise.
    """
    name = getattr(fn, "__name__", type(fn).__name__)

    async def stream(_request: gr.Request, *args: Any) -> AsyncIterator[Any]:
        with _boundary(name):
            require(getattr(_request, "username", None), role)
            async for value in fn(*args):
                yield value

    def walk(_request: gr.Request, *args: Any) -> Iterator[Any]:
        with _boundary(name):
            require(getattr(_request, "username", None), role)
            yield from fn(*args)

    async def answer(_request: gr.Request, *args: Any) -> Any:
        with _boundary(name):
            require(getattr(_request, "username", None), role)
            return await fn(*args)

    def call(_request: gr.Request, *args: Any) -> Any:
        with _boundary(name):
            require(getattr(_request, "username", None), role)
            return fn(*args)

    kinds: tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...] = (
        (inspect.isasyncgenfunction, stream),
        (inspect.isgeneratorfunction, walk),
        (inspect.iscoroutinefunction, answer),
    )
    wrapper = next((made for is_kind, made in kinds if is_kind(fn)), call)
    return _with_request_first(wrapper, fn, name)


class _boundary:
    """Lets Gradio's own errors and the end of a generator pass, and says everything else in plain words."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, StudioError):
            _say(str(error), error)
        if isinstance(error, Exception) and not isinstance(error, gr.Error | StopIteration | StopAsyncIteration):
            reference = secrets.token_hex(2)
            log.error("ref %s: %s failed", reference, self.name, exc_info=error)
            _say(f"Something failed (ref {reference}). The log of the studio has the details.", error)


def _say(sentence: str, cause: BaseException) -> NoReturn:
    raise gr.Error(sentence, duration=_ERROR_SECONDS, print_exception=False) from cause


def _with_request_first(wrapper: Callable[..., Any], fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Give the wrapper fn's signature behind a request, which is where Gradio then puts the real one."""
    inner: Any = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    hints = typing.get_type_hints(inner) if inspect.isroutine(inner) else {}
    # Without a return type, gr.api takes an endpoint for one that returns nothing.
    returned = hints.get("return", inspect.Signature.empty)
    request = inspect.Parameter("_request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    parameters = [
        p.replace(
            kind=p.POSITIONAL_OR_KEYWORD if p.kind is p.POSITIONAL_ONLY else p.kind,
            annotation=hints.get(p.name, p.annotation),
        )
        for p in inspect.signature(fn).parameters.values()
    ]
    functools.update_wrapper(wrapper, fn)
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # else Gradio would read fn's signature, without the request
    wrapper.__name__ = name
    wrapper.__signature__ = inspect.Signature([request, *parameters], return_annotation=returned)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {"_request": gr.Request, **hints}
    return wrapper


# -- pieces of a page ----------------------------------------------------------------------------------------


def page_header(tab: str, sentence: str, title: str | None = None) -> gr.Row:
    """The first line of a page: name, purpose, and "?" for its help; the primary action goes inside the `with`."""
    row = gr.Row(elem_classes=["page-header"], equal_height=False)
    with row:
        markup(
            f'<div class="page-title"><h1>{html.escape(title or tab.capitalize())}</h1>'
            f"<p>{html.escape(sentence)}</p>{_help(tab)}</div>",
        )
    return row


def markup(value: str = "", **options: Any) -> gr.HTML:
    """Our own HTML, without Gradio's styles for prose and without a script. Escape what people wrote."""
    return gr.HTML(value, apply_default_css=False, js_on_load=None, **options)


def actions() -> gr.Row:
    """Buttons side by side, as wide as their words: `with actions(): gr.Button("Keep", size="sm")`."""
    return gr.Row(elem_classes=["actions"])


def section(title: str, note: str = "") -> gr.HTML:
    """A heading inside a page, with an optional remark beside it."""
    beside = f" <small>{html.escape(note)}</small>" if note else ""
    return markup(f'<h2 class="section-title">{html.escape(title)}{beside}</h2>')


def card(title: str = "", **layout: Any) -> gr.Column:
    """A bordered surface: `with card("Prompt"): …`. Takes what gr.Column takes."""
    classes = ["card", *layout.pop("elem_classes", [])]
    column = gr.Column(elem_classes=classes, **layout)
    if title:
        with column:
            section(title)
    return column


def live_dropdown(*args: Any, **options: Any) -> gr.Dropdown:
    """A dropdown whose choices come from rows. What was chosen is checked by the studio when it is used: Gradio would
    hold it against the choices of the moment the server started, in validators and after a restart."""
    made = gr.Dropdown(*args, **options)
    # Not a subclass: Gradio writes a .pyi file beside the module of every component class it meets.
    made.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return made


def fresh_choices(choices: Sequence[Any], value: Any, otherwise: Any = None) -> gr.Dropdown:
    """New choices for a list. A value among them is left alone: since it was read, another hand may have changed it.
    One that is gone gives way to `otherwise`, or else to the first choice."""
    known = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]
    if value in known:
        return gr.Dropdown(choices=list(choices))
    return gr.Dropdown(choices=list(choices), value=otherwise if otherwise in known else next(iter(known), None))


def untouched(outputs: Sequence[Any]) -> list[Any]:
    """What a handler returns for widgets that stay as they are."""
    return [gr.skip() for _ in outputs]


def ask_twice(ask: gr.Button, do: gr.Button) -> None:
    """What cannot be undone is asked twice: the second button comes out when the first is pressed."""
    ask.click(
        handler(lambda: gr.Button(visible=True)),
        None,
        do,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def hidden_download() -> gr.DownloadButton:
    """Where a listener puts a file that a person asked for with a button of the page; `hand_over` gives it to them.

    A download button that is pressed itself gives the file it held before the press, which is none or the last one.
    """
    return gr.DownloadButton("File", visible="hidden")


def hand_over(made: Any, file: gr.DownloadButton) -> None:
    """After a listener has filled the hidden download button, save its file in the browser."""
    made.success(None, file, None, js=_SAVE, api_visibility="private")


_SAVE = """(file) => {
  const link = Object.assign(document.createElement('a'), { href: file.url, download: file.orig_name ?? '' });
  link.click();
}"""


@dataclass(frozen=True)
class EmptyState:
    """What stands where a list would be. Show and hide `box`."""

    box: gr.Column
    action: gr.Button
    example: gr.Button | None


def empty_state(sentence: str, action: str, example: str = "", *, visible: bool = True) -> EmptyState:
    """One sentence, one button, and maybe "Try it with the example"."""
    with gr.Column(elem_classes=["empty-state"], visible=visible) as box:
        markup(f"<p>{html.escape(sentence)}</p>")
        with actions():
            button = gr.Button(action, variant="primary", min_width=0, scale=0)
            other = gr.Button(example, min_width=0, scale=0) if example else None
    return EmptyState(box, button, other)


def table(
    headers: Sequence[str],
    *,
    label: str,
    widths: Sequence[str] | None = None,
    types: Sequence[str] | Literal["auto"] | None = None,
    rows: Sequence[Sequence[Any]] | None = None,
    max_height: int = 520,
    wrap: bool = False,
    **options: Any,
) -> gr.Dataframe:
    """A read-only table of at most a page of rows. Listen to `.select` without the table among the inputs."""
    return gr.Dataframe(
        value=[list(row) for row in rows] if rows else None,
        headers=list(headers),
        datatype=list(types) if types else "str",  # type: ignore[arg-type]
        column_count=len(headers),
        column_widths=list(widths) if widths else None,
        type="array",
        interactive=False,
        label=label,
        show_label=False,
        max_height=max_height,
        wrap=wrap,
        buttons=[],
        elem_classes=["table", *options.pop("elem_classes", [])],
        **options,
    )


def chip(text: str, tone: Tone = "", title: str = "") -> str:
    """A small label as HTML. The tone never stands alone: the text says it too."""
    tip = f' title="{html.escape(title, quote=True)}"' if title else ""
    return f'<span class="chip"{tip} data-tone="{tone}">{html.escape(text)}</span>'


def rung_chip(rung: str) -> str:
    """L1, L2 or L3 in its hue, with the word for it on hover."""
    words = {"L1": "prompted", "L2": "tuned", "L3": "aligned"}
    return chip(rung, typing.cast(Tone, rung) if rung in words else "", words.get(rung, ""))


def notice(sentence: str, tone: Literal["", "good", "caution", "bad"] = "") -> str:
    """A sentence that stays on the page, as HTML; the mark before it says how it is meant."""
    mark = {"good": "✓", "caution": "!", "bad": "✕"}.get(tone, "i")
    return (
        f'<div class="notice" data-tone="{tone}" role="status">'
        f'<span aria-hidden="true">{mark}</span><span>{html.escape(sentence)}</span></div>'
    )


def facts(rows: Mapping[str, str]) -> str:
    """Names and values below each other, as HTML."""
    items = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows.items())
    return f'<dl class="facts">{items}</dl>'


def progress(share: float | None, words: str) -> str:
    """A bar with words beside it, as HTML; a share of None moves without promising an end."""
    known = f' value="{min(max(share, 0.0), 1.0):.4f}"' if share is not None else ""
    return f'<div class="progress"><progress max="1"{known}></progress><span>{html.escape(words)}</span></div>'


def _help(tab: str) -> str:
    """The "?" and the panel it opens: both plain HTML, so that help costs no request and works while a job hogs."""
    path = ASSETS / "help" / f"{tab}.md"
    if not path.is_file():
        return ""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(path.read_text(encoding="utf-8"))
    return (
        f'<button type="button" class="round" popovertarget="help-{tab}" aria-label="Help for this page">?</button>'
        f'<aside id="help-{tab}" class="drawer" popover aria-label="Help">'
        f'<button type="button" class="round" popovertarget="help-{tab}" popovertargetaction="hide" '
        f'aria-label="Close help">✕</button>{body}</aside>'
    )


# -- the header and its pulse --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refresh:
    """How a tab reads its rows again: called when the tab opens, and while it is open whenever a job changes its state
    (or takes a step, for the tabs that show steps).

    It runs outside the queue, where no toast can be shown: `fn` returns what to show and does not raise.

    `is_plain`: every value is what the page has (texts, numbers, HTML, the values of lists), so that Gradio need not convert
    it. It does so in a thread of its own for each value, which costs more than most looks themselves.
    """

    fn: Callable[..., Any]
    inputs: Sequence[gr.components.Component] = ()
    outputs: Sequence[Block] = ()
    is_plain: bool = False


@dataclass(frozen=True, kw_only=True)
class TabWidgets:
    """What every `build(workspace)` returns at least; tabs add the widgets that others need.

    `links` are hidden boxes that a deep link fills: {"run": box} makes `?tab=tuning&run=17` put 17 there.
    """

    refresh: Refresh | None = None
    links: Mapping[str, gr.components.Component] = field(default_factory=dict)


@dataclass(frozen=True)
class Pulse:
    """The one timer of a page. It asks for the change token and touches a page only when that moved.

    `beats` holds one hidden box per tab: a new value there means "your rows moved". Only the open tab's box beats, for
    every step of a job on the tabs in `every_step`, and elsewhere only when a job starts, ends or waits: a page that
    lists models has nothing new to say for each of a run's thousand steps.
    """

    timer: gr.Timer
    seen: gr.Textbox
    open_tab: gr.Textbox
    status: gr.HTML
    beats: Mapping[str, gr.Textbox]
    every_step: frozenset[str] = frozenset()

    @property
    def outputs(self) -> list[Any]:
        """What a beat writes to, in the order of `_beat`."""
        return [self.seen, self.status, self.timer, *self.beats.values()]


def header(workspace: Workspace, tabs: Sequence[str], every_step: Collection[str] = ()) -> Pulse:
    """The bar on top: mark and workspace | running job | engine | theme and user; and the timer behind it."""
    with gr.Row(elem_id="frame", equal_height=True):
        markup(_brand(workspace))
        status = markup(_status(None, "off"), elem_id="status")
        markup(_TOOLS)
    with gr.Row(elem_classes=["off-screen"]):
        seen = gr.Textbox("", label="Last change seen", visible="hidden")
        open_tab = gr.Textbox(tabs[0], label="Open tab", visible="hidden")
        beats = {tab: gr.Textbox("", label=f"Beat of {tab}", visible="hidden") for tab in tabs}
    timer = gr.Timer(_TICK_SECONDS)
    pulse = Pulse(timer, seen, open_tab, status, beats, frozenset(every_step))

    timer.tick(
        handler(lambda last, tab: _beat(workspace, pulse, last, tab)),
        [seen, open_tab],
        pulse.outputs,
        queue=False,
        preprocess=False,
        postprocess=False,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once",
    )
    return pulse


def first_beat(workspace: Workspace, pulse: Pulse, tab: str) -> list[Any]:
    """What a page that just opened shows: the outputs of a beat, none of them skipped."""
    beat = _beat(workspace, pulse, "", tab)
    return beat if isinstance(beat, list) else [gr.skip()] * len(pulse.outputs)


def _beat(workspace: Workspace, pulse: Pulse, last: str, tab: str) -> Any:
    """Nothing at all unless something moved. Runs outside the queue, where no toast is shown, so it does not raise."""
    try:
        engine = _preparing(workspace) or workspace.engine.state()
        token = f"{workspace.store.change_token()}-{engine}"
        last_token, _, last_look = last.partition("|")
        if token == last_token:
            return gr.skip()
        state = workspace.store.state_token()
        # Nobody reads a curve that grows twice a second, and twenty open pages that each ask for it cost a core: where
        # only steps were taken, a page looks again at the next look of the clock. `seen` stays, so that it does.
        look = f"{state}-{engine}|{time.monotonic() // _LOOK_SECONDS:.0f}"
        if look == last_look:
            return gr.skip()
        job = running_job(workspace)
        moved = token if tab in pulse.every_step else str(state)
    except StudioError as error:
        log.warning("The header could not be brought up to date: %s", error)
        return gr.skip()
    pace = gr.Timer(_TICK_SECONDS if job or engine not in ("off", "ready") else _IDLE_TICK_SECONDS)
    return [f"{token}|{look}", _status(job, engine), pace, *(moved if t == tab else gr.skip() for t in pulse.beats)]


def _preparing(workspace: Workspace) -> str:
    """How far the one-time conversion of the embedded model is; '' when nobody converts."""
    try:
        state = conversion(workspace.settings.cache)
    except StudioError:  # its package is not there: the page that offers the model says so, with the cure
        return ""
    return f"being prepared, {100 * state.fraction:.0f} %" if state else ""


def running_job(workspace: Workspace) -> Job | None:
    """The job the header tells of: a training run before light work, the older one first."""
    active = workspace.store.jobs(limit=20, states=("starting", "running", "stopping"))
    return min(active, key=lambda j: (j.lane != "train", j.id), default=None)


def _brand(workspace: Workspace) -> str:
    mark = (ASSETS / "logo.svg").read_text(encoding="utf-8")
    return f'<div class="brand">{mark}<strong>Ladder Studio</strong><span>{html.escape(workspace.name)}</span></div>'


def _status(job: Job | None, engine: str) -> str:
    """The middle of the header. `data-title` is what the browser's title says (see assets/head.html)."""
    title = html.escape(_browser_title(job), quote=True)
    return f'<div class="status" data-title="{title}">{_job_chip(job)}{_engine(engine)}</div>'


def _job_chip(job: Job | None) -> str:
    if job is None:
        return ""
    words = html.escape(" · ".join(part for part in (_percent(job), _time_left(job)) if part))
    share = job.progress
    bar = f'<progress max="1" value="{share:.4f}"></progress>' if share is not None else ""
    return (
        '<button type="button" class="job-chip" data-open-tab="jobs" aria-label="Open the job that runs now">'
        f'<span class="what">{html.escape(job.title)}</span>{bar}<span class="how-far">{words}</span></button>'
    )


def _engine(state: str) -> str:
    words = {"off": "asleep", "loading": "loading", "ready": "ready", "busy": "answering"}
    tips = {
        "off": "No weights are in memory. The first question loads them.",
        "loading": "The weights are being loaded.",
        "ready": "The weights are in memory.",
        "busy": "The model is answering.",
    }
    tip = tips.get(state, "The model that comes with the studio is being converted, once.")
    return (
        f'<span class="engine" data-state="{state if state in words else "loading"}" title="{tip}"><i aria-hidden="true"></i>'
        f"<span>Model {words.get(state, state)}</span></span>"
    )


def _browser_title(job: Job | None) -> str:
    if job is None:
        return ""
    return f"{_percent(job) or job.state.capitalize()} · run {job.id}"


def _percent(job: Job) -> str:
    if job.state == "stopping":
        return "stopping"
    return f"{job.progress:.0%}".replace("%", " %") if job.progress is not None else job.state


def _time_left(job: Job) -> str:
    # A resumed run starts in the middle, so its own pace is not known from where it stands.
    if not job.progress or not job.seconds or job.state != "running" or job.attempt > 1:
        return ""
    spent = job.seconds
    return f"{duration(spent / job.progress - spent)} left"


_TOOLS = (
    '<div class="tools"><button type="button" class="round" data-toggle-theme aria-label="Switch between light and dark">'
    '<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><circle cx="8" cy="8" r="6.25" fill="none" '
    'stroke="currentColor" stroke-width="1.5"/><path d="M8 1.75a6.25 6.25 0 0 1 0 12.5z" fill="currentColor"/></svg>'
    '</button><span class="who" title="Single-user mode: whoever opens the page is the owner">owner</span></div>'
)
