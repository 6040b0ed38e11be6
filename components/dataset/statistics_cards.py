"""What a dataset is made of, as HTML: cards of bars that open the records behind them.

A key is the part and the label of a bar ("splits train"); studio.instructions.describing finds its records.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from components.charts import Bar, Dot, bar_list, compact, histogram, percent, scatter
from components.dataset.words import category_words, clamped, count, when
from components.frame import facts
from components.picking import rows_to_pick
from studio.evaluation import Interval
from studio.instructions.describing import Description, TokenCount, TopicMap
from studio.instructions.statistics import MOST_IDS, PARTS, CategoryShare, Figure, Lengths, Shares, Summary
from studio.store import Record

__all__ = ["cards", "first_line", "part_and_label"]

_FIRST = 8  # bars before the others are folded away
_FIELDS: Mapping[str, str] = {
    "": "All text of a record",
    "instruction": "Instruction",
    "context": "Context",
    "response": "Response",
}
_QUANTILES = {5: "5 %", 25: "25 %", 50: "Half", 75: "75 %", 95: "95 %", 99: "99 %"}
_Words = Callable[[str], str]


def part_and_label(key: str) -> tuple[str, str]:
    """What a key means."""
    part, _, label = key.partition(" ")
    return part, label


def first_line(found: Description) -> str:
    """The dataset in one line, as text."""
    s = found.summary
    said = [count(s.records), count(s.conversations, "conversation"), count(s.words, "word")]
    tokens = found.tokens
    if tokens and tokens.change == found.change:
        said.append(f"{count(tokens.lengths.total, 'token')} of {tokens.model}")
    else:
        said.append(count(s.characters, "character"))
    return f"{', '.join(said)}."


def cards(found: Description, texts: Sequence[Record]) -> str:
    """All cards. `texts` are the records that are shown in words, as far as they are still there."""
    by_id = {record.id: record for record in texts}
    s = found.summary
    left = [_categories(s), _states_and_splits(s), _sources(s), _vocabulary(s)]
    right = [_lengths(s), _tokens(found), _languages(s)]
    return (
        f'<div class="stat-columns"><div>{"".join(left)}</div><div>{"".join(right)}</div></div>'
        f"{_topics(found.topics, found.why_no_topics, by_id)}{_quality(found, by_id)}"
    )


# -- one card each ---------------------------------------------------------------------------------------------------


def _categories(s: Summary) -> str:
    expected: dict[str, CategoryShare] = {c.category: c for c in s.coverage.categories}
    bars = [
        _bar(
            "categories",
            figure,
            _category,
            beside=expected[figure.label].expected if figure.label in expected else None,
        )
        for figure in s.categories.bars
    ]
    bars += [Bar(_category(c), 0, 0.0, beside=expected[c].expected) for c in s.coverage.missing]
    missing = ", ".join(map(_category, s.coverage.missing))
    apart = s.coverage.distance
    said = ["The line across a bar is the category's share in databricks-dolly-15k (15,011 records)."]
    if apart is None:
        said.append("How far the shares are from its is not defined without records.")
    elif apart < 0.005:
        said.append("The shares are those of databricks-dolly-15k.")
    else:
        said.append(f"{percent(apart)} of the records would need another category to have the same shares.")
    if s.coverage.elsewhere:
        many = s.coverage.elsewhere
        said.append(f"{count(many)} {'is' if many == 1 else 'are'} of none of its eight categories.")
    said.append(f"Missing here: {missing}." if missing else "None of its eight categories is missing.")
    return _card("Categories", _n(s.records), _folded("Categories", bars, s.categories.others) + _quiet(" ".join(said)))


def _states_and_splits(s: Summary) -> str:
    states = _list("states", "States", s.states, str.capitalize)
    return _card("States and splits", _n(s.records), states + _list("splits", "Splits", s.splits, str.capitalize))


def _sources(s: Summary) -> str:
    lists = [
        _list("sources", "Sources", s.sources, lambda source: source or "No source stated"),
        _list("authors", "Authors", s.authors, lambda author: author or "No author stated"),
        _list("licences", "Licences of single records", s.licences, lambda one: one or "As the dataset says"),
    ]
    return _card("Where records come from", _n(s.records), "".join(lists))


def _lengths(s: Summary) -> str:
    parts = []
    for of, title in _FIELDS.items():
        lengths = s.lengths.get(of)
        if lengths is None or not lengths.n:
            parts.append(_sub(title, "") + _quiet("No record has one, so its lengths are not defined."))
            continue
        part = f"lengths.{of}".removesuffix(".")
        bars = [_bar(part, figure, str) for figure in lengths.bars]
        drawn = histogram(f"{title}, characters", bars, "characters")
        parts.append(f"{_sub(title, _n(lengths.n))}{drawn}{_quantiles(lengths)}")
    return _card("Lengths", "in characters", "".join(parts))


def _tokens(found: Description) -> str:
    tokens = found.tokens
    if tokens is None:
        return _card("Tokens", "not counted", _quiet("Choose a model above, and count with its tokenizer."))
    lengths = tokens.lengths
    if not lengths.n:
        return _card("Tokens", tokens.model, _quiet("There were no records, so their tokens are not defined."))
    bars = [_bar("tokens", figure, str) for figure in lengths.bars]
    drawn = histogram("Tokens of a record", bars, "tokens", mark=_window_mark(tokens))
    total = f"{lengths.total:,} tokens in all, {lengths.mean:,.0f} a record on average. " if lengths.mean else ""
    said = f"{total}The text alone: a chat template adds a few to each turn."
    older = found.change - tokens.change
    before = f", {count(older, 'change')} before the other figures" if older else ""
    at = f"Counted {when(tokens.at)}{before}."
    body = f"{drawn}{_quantiles(lengths)}{_window(tokens)}{_quiet(said)}{_quiet(at)}"
    return _card("Tokens", f"{tokens.model}, {_n(lengths.n)}", body)


def _window_mark(tokens: TokenCount) -> tuple[float, str] | None:
    """Where the window ends among the bars of equal width; None where it is beyond them or unknown."""
    lengths = tokens.lengths
    reach = lengths.width * sum(not figure.label.endswith("and more") for figure in lengths.bars)
    if not tokens.window or not reach or tokens.window > reach:
        return None
    return tokens.window / (lengths.width * len(lengths.bars)), f"window {tokens.window:,}"


def _window(tokens: TokenCount) -> str:
    if tokens.window is None:
        return _quiet("How much this model reads at once is not known.")
    beyond = tokens.beyond
    if beyond is None or not beyond.n:
        return _quiet(f"Every record fits into the window of {tokens.window:,} tokens.")
    bar = _bar("tokens", beyond, lambda _: "Beyond the window")
    return bar_list(f"Longer than the window of {tokens.window:,} tokens", [bar])


def _languages(s: Summary) -> str:
    found = s.languages
    bars = [_bar("languages", f, _language, note=_interval(f.interval)) for f in found.bars]
    note = f"of a sample of {found.n:,}" if found.n < s.records else _n(found.n)
    said = "ISO 639-1 codes, judged by the first 1,000 characters of a record."
    if bars and found.n < s.records:
        first = found.bars[0]
        said += f" {_language(first.label)}: {_interval(first.interval)}."
    return _card("Languages", note, _folded("Languages", bars, 0) + _quiet(said))


def _vocabulary(s: Summary) -> str:
    v = s.vocabulary
    told = {
        "Words": f"{v.words:,}",
        "Different words": f"{v.distinct:,}" + (f" (± {100 * v.error:.1f} %, estimated)" if v.error else ""),
        "Different per word": f"{v.distinct / v.words:.3f} (type-token ratio)"
        if v.words
        else "not defined without words",
        "Seen once": f"{percent(v.once)} of the different words" if v.once is not None else "not defined without words",
    }
    words = "".join(_word(figure) for figure in s.telling.bars)
    listed = f'<div class="telling" data-roving role="group" aria-label="Telling words">{words}</div>' if words else ""
    sample = f"of a sample of {s.telling.n:,}" if s.telling.n < s.records else _n(s.telling.n)
    nothing = "" if words else _quiet("No word is in several records but not in all.")
    return _card("Vocabulary", _n(s.records), f"{facts(told)}{_sub('Most telling words', sample)}{listed}{nothing}")


def _word(figure: Figure) -> str:
    word, n = html.escape(figure.label), f"<small>{figure.n:,}</small>"
    key = _key("telling", figure)
    if not key:
        return f"<span>{word} {n}</span>"
    said = html.escape(f"{figure.label}: {count(figure.n)}", quote=True)
    return f'<button type="button" data-key="{html.escape(key, quote=True)}" aria-label="{said}">{word} {n}</button>'


def _topics(found: TopicMap | None, why: str, by_id: Mapping[int, Record]) -> str:
    if found is None:
        return _card("Topics", "none found", _quiet(why))
    bars = [Bar(t.name, t.n, t.share, _key("topics", Figure(t.name, t.n, t.share, t.where))) for t in found.topics]
    drawn = scatter("Topics of the questions", [Dot(p.x, p.y, p.topic) for p in found.points], bars)
    listed = "".join(
        _topic(bar, number, [by_id[key] for key in topic.typical if key in by_id])
        for number, (bar, topic) in enumerate(zip(bars, found.topics, strict=True))
    )
    said = "Questions that share words lie near each other. Names are the words that set a topic apart."
    if found.fitted < found.n:
        said += f" Found on a sample of {found.fitted:,}; the others are in the nearest topic."
    if found.unnamed:
        said += f" {count(found.unnamed)} {'is' if found.unnamed == 1 else 'are'} in no topic."
    body = f'{_quiet(said)}{drawn}<div class="topics">{listed}</div>'
    return _card("Topics", _n(found.n), body)


def _topic(bar: Bar, number: int, typical: Iterable[Record]) -> str:
    rows = "".join(
        f'<li><button type="button" data-key="record {record.id}">{clamped(record.instruction)}</button></li>'
        for record in typical
    )
    head = bar_list(f"Topic {number + 1}", [bar])
    return f'<section class="topic" style="--hue:{number * 137.508 % 360:.0f}">{head}<ul class="typical">{rows}</ul></section>'


def _quality(found: Description, by_id: Mapping[int, Record]) -> str:
    q = found.quality
    mean = f"{q.mean:.0f} of 100 points on average" if q.mean is not None else "not defined without records"
    bars = [_bar("quality", figure, str) for figure in q.bars]
    drawn = histogram("Points of a record", bars, "points")
    reasons = [_bar("reasons", figure, _reason) for figure in q.reasons]
    signs = _sub("What points were taken off for", _n(q.n)) + bar_list("Signs", reasons) if reasons else ""
    said = (
        "Points are taken off for signs that can be counted: answers that break off, repeat themselves, echo the question "
        "or were never written. The weights are set by hand, so the points put records in an order to look at, and "
        "measure nothing."
    )
    rows = [
        (f"record {weak.record}", _weak_row(by_id[weak.record], weak.points, weak.reasons))
        for weak in found.weakest
        if weak.record in by_id
    ]
    if rows:
        head, widths = ("No.", "Points", "Instruction", "Why"), ("64px", "64px", "", "")
        table = rows_to_pick("Records with the fewest points", head, rows, widths=widths)
        lowest = f'{_sub("Fewest points", f"the first {len(rows)}")}<div class="scroll" data-roving>{table}</div>'
    else:
        lowest = _quiet("No record shows any of these signs.")
    return _card("Quality score", f"{mean}, {_n(q.n)}", f"{_quiet(said)}{drawn}{signs}{lowest}")


def _weak_row(record: Record, points: int, reasons: Sequence[str]) -> tuple[str, ...]:
    why = "<br>".join(html.escape(sentence) for sentence in reasons)
    return (str(record.id), str(points), clamped(record.instruction), why)


# -- small parts -----------------------------------------------------------------------------------------------------


def _key(part: str, figure: Figure) -> str:
    return f"{part} {figure.label}" if figure.n and figure.where is not None else ""


def _bar(part: str, figure: Figure, words: _Words, **more: Any) -> Bar:
    note = more.pop("note", "")
    if figure.n > MOST_IDS and figure.where and "ids" in figure.where:
        note = f"{note} Opens the first {MOST_IDS:,} of them.".strip()
    return Bar(words(figure.label), figure.n, figure.share, _key(part, figure), note=note, **more)


def _list(part: str, title: str, shares: Shares, words: _Words) -> str:
    bars = [_bar(part, figure, words) for figure in shares.bars]
    return _sub(title, "") + _folded(title, bars, shares.others)


def _folded(title: str, bars: Sequence[Bar], others: int) -> str:
    """The first bars; the others on demand, and how many records have a value for which there is no bar."""
    first, rest = bars[:_FIRST], bars[_FIRST:]
    if len(rest) == 1:
        first, rest = bars, ()
    shown = bar_list(title, first)
    if rest:
        shown += f"<details><summary>{len(rest)} more</summary>{bar_list(title, rest)}</details>"
    return shown + (_quiet(f"{count(others)} have values beyond the first {len(bars)}.") if others else "")


def _quantiles(lengths: Lengths) -> str:
    """The nearest lengths that so many texts do not exceed."""
    cells = "".join(
        f"<div><dt>{_QUANTILES[percents]}</dt><dd>{_figure(length)}</dd></div>"
        for percents, length in lengths.quantiles.items()
    )
    longest = f"<div><dt>Longest</dt><dd>{_figure(lengths.longest)}</dd></div>"
    return f'<dl class="quantiles" title="So many texts are at most so long">{cells}{longest}</dl>'


def _figure(length: int) -> str:
    return f"{length:,}" if length < 100_000 else compact(length)


def _category(category: str) -> str:
    return category_words(category) or "No category"


def _language(code: str) -> str:
    return code or "Too short or mixed to tell"


def _reason(part: str) -> str:
    return next((sentence for name, (sentence, _) in PARTS.items() if name == part), part).rstrip(".")


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} % of all records, 95 times in 100"


def _n(n: int) -> str:
    return f"n = {n:,}"


def _card(title: str, note: str, body: str) -> str:
    return (
        f'<section class="card stat-card"><h2 class="section-title">{html.escape(title)} '
        f"<small>{html.escape(note)}</small></h2>{body}</section>"
    )


def _sub(title: str, note: str) -> str:
    beside = f" <small>{html.escape(note)}</small>" if note else ""
    return f"<h3>{html.escape(title)}{beside}</h3>"


def _quiet(words: str) -> str:
    return f'<p class="quiet">{html.escape(words)}</p>'
