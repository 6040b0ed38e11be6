"""What lies under the open record, as HTML. Everything that people or models wrote is escaped, or set as Markdown and
then cleaned."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt

from components.dataset.words import at, category_words, count
from components.frame import chip, notice
from studio.backends import Mark
from studio.instructions.learning import Find, Lesson, Version, talk_of, without_use
from studio.prompts import Piece, changed_fields
from studio.specs import Message
from studio.store import Comment, FlagRow, Record

__all__ = ["comments_html", "conversation_html", "finds_html", "framed", "history_html", "learned_html"]

_LETTERS_READ = 20_000  # of a text that is compared or set as Markdown
_AROUND = 60  # letters beside what a check found, or what changed
_FLAGS_SHOWN = 12  # of one check
_OTHERS_SHOWN = 3


# -- what the model will learn -------------------------------------------------------------------------------------


def framed(record_id: int, inside: str) -> str:
    """What is said of a record, with its number, so that the page knows when it is about another."""
    return f'<div class="lesson" data-record="{record_id}">{inside}</div>'


def learned_html(record: Record, found: Lesson) -> str:
    """One line that says how much is learned, the tokens, and the conversation as people read it."""
    unused = without_use(record)
    line = notice(found.sentence, "caution" if not found.fits else "" if unused else "good")
    unused = notice(unused) if unused else ""
    beyond = "" if found.fits else '<span class="beyond">too long</span>'
    legend = (
        '<p class="legend"><mark>learned</mark><span>read, not learned</span>'
        f"<kbd>the model's own sign</kbd>{beyond}</p>"
    )
    return framed(record.id, f"{line}{unused}{legend}{_tokens(found)}{conversation_html(record)}")


def _tokens(found: Lesson) -> str:
    """Every token: learned ones have a ground, the model's own signs a frame, those that are too many a line through."""
    spans = "".join(_token(mark, place >= found.longest) for place, mark in enumerate(found.marks))
    more = found.tokens - len(found.marks)
    rest = f'<p class="quiet">{count(more, "more token")} not shown.</p>' if more else ""
    words = f"Tokens of the record, {found.learned:,} of {found.tokens:,} learned"
    return f'<div class="taught" dir="auto" tabindex="0" role="group" aria-label="{words}">{spans}</div>{rest}'


def _token(mark: Mark, is_beyond: bool) -> str:
    if not mark.text:  # a part of the character that comes with a later token
        return ""
    shown = html.escape(mark.text)
    if not mark.is_special:
        shown = shown.replace("\n", "<u>⏎</u>\n")
    tag = "kbd" if mark.is_special else "mark" if mark.is_learned else "span"
    told = ["learned"] * (mark.is_learned and mark.is_special) + ["beyond"] * is_beyond
    classes = f' class="{" ".join(told)}"' if told else ""
    return f"<{tag}{classes}>{shown}</{tag}>"


def conversation_html(record: Record) -> str:
    """The conversation as a person reads it, Markdown set and nothing else trusted."""
    said = "".join(_bubble(turn) for turn in talk_of(record))
    return f'<details><summary>As a conversation</summary><div class="bubbles">{said}</div></details>'


def _bubble(turn: Message) -> str:
    return (
        f'<div class="bubble" data-role="{turn.role}"><small>{turn.role.capitalize()}</small>'
        f'<div dir="auto">{_set(turn.content)}</div></div>'
    )


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # Pictures would be fetched from wherever the text says; HTML stays text.
    return MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")


def _set(text: str) -> str:
    """Markdown as HTML that holds no script, no picture and no style, whatever was written."""
    cut = text[:_LETTERS_READ]
    rest = f'<p class="quiet">{len(text) - len(cut):,} more characters.</p>' if len(text) > len(cut) else ""
    return nh3.clean(_markdown().render(cut), tags=_TAGS, attributes={"a": {"href"}}, url_schemes=_SCHEMES) + rest


_TAGS = set("p br hr em strong code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 a table thead tbody tr th td".split())
_SCHEMES = {"http", "https", "mailto"}


# -- what checks found, as HTML --------------------------------------------------------------------------------------


def _button(key: str, words: str, tip: str = "") -> str:
    title = f' title="{html.escape(tip, quote=True)}"' if tip else ""
    return f'<button type="button" data-key="{html.escape(key, quote=True)}"{title}>{html.escape(words)}</button>'


def finds_html(record: Record, finds: Sequence[Find]) -> str:
    """Every check that found something: where, and buttons for what one press can do about it."""
    return f'<ul class="finds">{"".join(f"<li>{_one_find(record, find)}</li>" for find in finds)}</ul>'


def _one_find(record: Record, find: Find) -> str:
    flags = "".join(_flag(record, flag) for flag in find.flags[:_FLAGS_SHOWN])
    more = len(find.flags) - _FLAGS_SHOWN
    if more > 0:
        flags += f'<p class="quiet">And {count(more, "more place")}.</p>'
    old = "" if not find.is_old else (
        '<p class="quiet">The record changed since this check ran. Run it again to see whether it still holds.</p>'
    )  # fmt: skip
    buttons = "".join(_button(f"mend {find.check} {r.name}", r.title, r.explains) for r in find.remedies)
    buttons += "".join(
        _button(f"show {other}", f"Show record {other}", "Opens both in the table.")
        for other in find.others[:_OTHERS_SHOWN]
    )
    title = f'<h4 title="{html.escape(find.explains, quote=True)}">{html.escape(find.title)}</h4>'
    return f'{title}{flags}{old}<div class="presses">{buttons}</div>'


def _flag(record: Record, flag: FlagRow) -> str:
    """The check's sentence, and the place it is about with the words around it."""
    text, start, end = _text_of(record, flag.field), flag.start, flag.end
    note = f"<p>{html.escape(flag.note)}</p>"
    if start is None or end is None or not 0 <= start < end <= len(text):
        return note
    stop = min(end, start + 4 * _AROUND)
    before, after = _ends(text[:start], False, True), _ends(text[stop:], True, False)
    return (
        f'{note}<p class="excerpt" dir="auto"><small>{html.escape(_field(record, flag.field))}</small> '
        f"{html.escape(before)}<mark>{html.escape(text[start:stop])}</mark>{html.escape(after)}</p>"
    )


def _text_of(record: Record, field: str) -> str:
    name, _, place = field.partition(".")
    if name == "turns" and place.isdecimal() and record.turns and int(place) < len(record.turns):
        return record.turns[int(place)]["content"]
    return str(getattr(record, name, "") or "") if name in ("instruction", "context", "response", "category") else ""


def _field(record: Record, field: str) -> str:
    name, _, place = field.partition(".")
    if name == "turns" and place.isdecimal():
        role = record.turns[int(place)]["role"] if record.turns and int(place) < len(record.turns) else ""
        return f"Turn {int(place) + 1}, {role}"
    return field.capitalize()


# -- comments and history -------------------------------------------------------------------------------------------


def comments_html(said: Sequence[Comment]) -> str:
    """Who said what and when, the oldest first."""
    if not said:
        return '<p class="quiet">No comments yet.</p>'
    items = "".join(
        f'<li><small><b>{html.escape(c.author)}</b>, {at(c.created_at)}</small><p dir="auto">{html.escape(c.text)}</p></li>'
        for c in said
    )
    return f'<ol class="comments">{items}</ol>'


def history_html(versions: Sequence[Version], record: Record, came: str, shown: int, step: int) -> str:
    """Versions, the newest first, each with what it changed; of the first one, where the record came from."""
    pairs = zip(versions, [*versions[1:], None], strict=True)
    items = "".join(_version(version, before, record, came) for version, before in list(pairs)[:shown])
    left = len(versions) - shown
    more = ""
    if left > 0:
        more = f'<p class="quiet">{html.escape(came)}</p>'
        more += f'<div class="presses">{_button("more", f"Show {min(left, step)} earlier")}</div>'
    return f'<ol class="versions">{items}</ol>{more}'


def _version(version: Version, before: Version | None, record: Record, came: str) -> str:
    head = f"<b>Version {version.number}</b>{chip('now') if version.is_current else ''}"
    who = f'<p class="quiet">{html.escape(version.author)}, {at(version.at)}</p>'
    back = f"The same as version {version.same_as}." if version.same_as is not None else ""
    stroke = html.escape((version.title or back) if before else came)
    change = _change(before, version) if before else ""
    again = ""
    if not version.is_current and not version.is_removed:
        tip = "Makes it the newest version. The others stay, and undo takes it back."
        again = _button(f"restore {version.number} {record.revision}", "Restore this version", tip)
        again = f'<div class="presses">{again}</div>'
    return f"<li>{head}{who}{f'<p>{stroke}</p>' if stroke else ''}{change}{again}</li>"


def _change(before: Version, after: Version) -> str:
    """What is different, by field: the words of a text, or one choice and the other."""
    as_talk = before.has_turns or after.has_turns
    old, new = before.texts(as_talk), after.texts(as_talk)
    changed = changed_fields(_cut(old), _cut(new))
    parts = "".join(
        f"<dt>{html.escape(name.capitalize())}</dt>"
        + (_choice(name, old[name], new[name]) if name in _CHOICES else _words(pieces))
        for name, pieces in changed.items()
    )
    return f'<div class="changes"><dl>{parts}</dl></div>' if parts else ""


_CHOICES = ("category", "licence", "state", "split")


def _choice(name: str, old: str, new: str) -> str:
    said = [html.escape(category_words(value) if name == "category" else value) or "none" for value in (old, new)]
    return f'<dd class="diff"><del>{said[0]}</del> → <ins>{said[1]}</ins></dd>'


def _words(pieces: Sequence[Piece]) -> str:
    tags = {"same": "span", "added": "ins", "removed": "del"}
    last = len(pieces) - 1
    shown = "".join(
        f"<{tags[p.kind]}>{html.escape(_ends(p.text, place > 0, place < last) if p.kind == 'same' else p.text)}"
        f"</{tags[p.kind]}>"
        for place, p in enumerate(pieces)
    )
    return f'<dd class="diff" dir="auto">{shown}</dd>'


def _cut(texts: Mapping[str, str]) -> dict[str, str]:
    """Long texts are compared as far as they can be read."""
    more = "… (the rest is not compared here)"
    return {n: x if len(x) <= _LETTERS_READ else x[:_LETTERS_READ] + more for n, x in texts.items()}


def _ends(text: str, follows: bool, goes_on: bool) -> str:
    """Of a long stretch, the words beside what comes before it and after it."""
    if len(text) <= 2 * _AROUND:
        return text
    left = text[:_AROUND].rpartition(" ")[0] if follows else ""
    right = text[-_AROUND:].partition(" ")[2] if goes_on else ""
    return f"{left}{' ' if left else ''}…{' ' if right else ''}{right}"
