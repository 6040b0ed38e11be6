"""The language of prompt templates: a small part of Jinja2, in its sandbox, that cannot run away.

`{{ name }}` fills in a declared variable, `{% if %}` and `{% for %}` decide and repeat, a few filters shape, and
`{# a note #}` is left out. All other braces are text: JSON, code, f-strings and `${{ x }}` reach the model as they are
written. What reads like a template but names nothing declared is refused, because it is nearly always a slip;
`{% raw %}{{ name }}{% endraw %}` writes it all the same.

There is no arithmetic, no call and no attribute, so nothing can grow by itself; what is left is paid for, in characters
read or written, from a purse that each rendering gets. An empty purse ends the rendering within about a second.
"""

from __future__ import annotations

import bisect
import difflib
import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["FILTERS", "Mistake", "Value", "did_you_mean", "fill", "used_names"]

Value = str | tuple[str, ...]

_MOST_SOURCE = 100_000  # characters of one part of a template
_MOST_TEXT = 2_000_000  # characters that one part, or one value on its way, may become
_PURSE = 10_000_000
_PRICE_OF_A_CALL = 50
_PRICE_OF_A_NODE = 20
_MOST_LINES = 10_000
_MOST_NODES = 5_000
_MOST_TAGS = 2_000
_DEEPEST = 30
_LONGEST_TAG = 1_000
_LARGEST_NUMBER = 1_000_000


class Mistake(ValueError):
    """What is wrong with a template, and in which of its lines; 0 where no line is to blame."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line
        self.reason = reason


def fill(source: str, values: Mapping[str, Value]) -> str:
    """The text that `source` becomes; the keys of `values` are the declared names. Raises Mistake."""
    compiled = _compiled(source, tuple(values))
    pieces: list[str] = []
    left = _MOST_TEXT
    try:
        for piece in compiled.template.generate({**values, _PURSE_NAME: _Purse()}):
            left -= len(piece)
            if left < 0:
                raise Mistake(0, f"the text would be longer than {_MOST_TEXT:,} characters. Shorten what is filled in.")
            pieces.append(piece)
    except Mistake as mistake:
        raise Mistake(mistake.line or _line_of(mistake), mistake.reason) from mistake
    except (jinja2.TemplateError, TypeError) as error:
        raise Mistake(_line_of(error), f"this cannot be rendered ({error}). Compare and fill in texts.") from error
    return "".join(pieces)


def used_names(source: str, declared: Iterable[str]) -> frozenset[str]:
    """The declared names that `source` uses. Raises Mistake where it could not be rendered."""
    return _compiled(source, tuple(declared)).names


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean 'context'?' with a space ahead, or '' when nothing known is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


@dataclass(frozen=True)
class _Compiled:
    template: jinja2.Template
    names: frozenset[str]


# A page renders at every key that is pressed, mostly from the same source.
@functools.lru_cache(maxsize=128)
def _compiled(source: str, declared: tuple[str, ...]) -> _Compiled:
    if len(source) > _MOST_SOURCE:
        raise Mistake(0, f"the template has {len(source):,} characters, more than {_MOST_SOURCE:,}. Shorten it.")
    tree = _parsed(_Scanner(source, declared).jinja())
    names = _check(tree, declared)
    _meter(tree)
    try:
        return _Compiled(_environment().from_string(tree), frozenset(names & set(declared)))
    except (SyntaxError, RecursionError, MemoryError) as error:  # Python's own limits: 20 loops in each other, ...
        raise Mistake(0, "too much is nested here. Make the template simpler.") from error


def _parsed(source: str) -> nodes.Template:
    try:
        return _environment().parse(source)
    except jinja2.TemplateSyntaxError as error:
        reason = error.message or "it cannot be read"
        raise Mistake(error.lineno, f"{reason[0].lower()}{reason[1:].rstrip('.')}.") from error
    except (RecursionError, ValueError) as error:  # brackets in brackets, or a number of thousands of digits
        raise Mistake(0, "an expression here is too large to be read. Make it simpler.") from error


# -- which braces are meant ----------------------------------------------------------------------------------

_OPENER = re.compile(r"\{+[%#]|\{{2,}")
_STRING = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\""""
_EXPRESSION = re.compile(rf"((?:[^{{}}'\"]|{_STRING}|\}}(?!\}}))*+)\}}\}}", re.S)
_TAG = re.compile(rf"[-+]?\s*([A-Za-z_]\w*)(?:[^{{}}%'\"]|{_STRING}|%(?!\}}))*+%\}}", re.S)
_OPEN_TAG = re.compile(r"[-+]?\s*([A-Za-z_]\w*)")
_NAME = re.compile(r"[-+]?\s*([A-Za-z_]\w*)\s*-?")
_LOOP = re.compile(r"\{%[-+]?\s*for\s+([A-Za-z_]\w*)\s+in\b")
_END_OF_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_F_STRING = re.compile(
    r"""\b[rR]?[fF][rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+')""", re.S
)
_WORD = re.compile(rf"{_STRING}|(?<![\w.])[A-Za-z_]\w*", re.S)

_TAGS = ("if", "elif", "else", "endif", "for", "endfor", "raw", "endraw")
_FOREIGN_TAGS = frozenset(
    "autoescape block call do endautoescape endblock endcall endfilter endmacro endset endtrans endwith extends filter "
    "from import include macro set trans with".split()
)


class _Scanner:
    """Tells template code from braces that are text, and hands Jinja a source in which the latter are inside raw."""

    def __init__(self, source: str, declared: Collection[str]) -> None:
        self._source = source
        self._declared = tuple(declared)
        loops = _LOOP.findall(source)
        self._known = {*declared, *loops, *(("loop",) if loops else ())}
        code = [match.span() for match in _F_STRING.finditer(source)]
        self._open: list[tuple[str, int]] = []
        self._code_starts, self._code_ends = [start for start, _ in code], [end for _, end in code]

    def jinja(self) -> str:
        pieces: list[str] = []
        done = count = 0
        while opener := _OPENER.search(self._source, done):
            pieces.append(self._source[done : opener.start()])
            piece, done = self._piece(opener)
            pieces.append(piece)
            count += 1
            if count > _MOST_TAGS:
                self._refuse(
                    done, f"the template has more than {_MOST_TAGS:,} tags and double braces. Make it simpler."
                )
        for word, start in self._open:
            self._refuse(start, f"'{{% {word} %}}' is never closed. Add '{{% end{word} %}}'.")
        return "".join([*pieces, self._source[done:]])

    def _piece(self, opener: re.Match[str]) -> tuple[str, int]:
        """What stands for this run of braces and what belongs to it, and where the rest begins."""
        run, after = opener[0], opener.end()
        match run[-1]:
            case "%":
                end = self._end_of_tag(after)
            case "#":
                end = self._end_of_note(after)
            case _:
                end = self._end_of_expression(opener)
        if not end:
            return _as_text(run), after
        return _as_text(run[:-2]) + self._source[after - 2 : end], end

    def _end_of_tag(self, start: int) -> int:
        opened = _OPEN_TAG.match(self._source, start)
        if opened is None:
            return 0
        word = opened[1]
        closed = _TAG.match(self._source, start, start + _LONGEST_TAG)
        if word in _TAGS and not closed:
            self._refuse(start, f"'{{% {word}' is never closed. End it with '%}}'.")
        if word == "endraw":
            self._refuse(start, "'{% endraw %}' ends nothing. Put '{% raw %}' where the text begins, or remove it.")
        if closed and word == "raw":
            end = _END_OF_RAW.search(self._source, closed.end())
            return end.end() if end else self._refuse(start, "'{% raw %}' is never closed. Add '{% endraw %}'.")
        if closed and word not in _TAGS:
            self._check_foreign(word, closed, start)
            return 0
        if closed:
            self._balance(word, start)
        return closed.end() if closed else 0

    def _balance(self, word: str, start: int) -> None:
        """Jinja would blame the last line for a block that is never closed."""
        if word in ("if", "for"):
            self._open.append((word, start))
            return
        opened = self._open[-1][0] if self._open else "nothing"
        expected = {"elif": ("if",), "else": ("if", "for"), "endif": ("if",), "endfor": ("for",)}[word]
        if opened not in expected:
            self._refuse(start, f"'{{% {word} %}}' stands in {opened}. Open '{{% {expected[0]} %}}' before it.")
        if word.startswith("end"):
            self._open.pop()

    def _check_foreign(self, word: str, tag: re.Match[str], start: int) -> None:
        """A tag of the rest of Jinja, or one misspelt, is a slip; any other is text of another language."""
        near = difflib.get_close_matches(word, _TAGS, n=1, cutoff=0.75)
        if near or word in _FOREIGN_TAGS:
            hint = f"Did you mean '{near[0]}'?" if near else "Templates know 'if' and 'for'."
            self._refuse(start, f"there is no '{{% {word} %}}'. {hint} {_literally('{%' + tag[0])}")

    def _end_of_note(self, start: int) -> int:
        # '{#' alone is frequent in code (`${#list}`, `{#each}`), so a note begins with a space.
        if self._source[start : start + 1] not in (" ", "\t", "\n", "-"):
            return 0
        end = self._source.find("#}", start)
        return end + 2 if end >= 0 else self._refuse(start, "the note '{# ' is never closed. End it with '#}'.")

    def _end_of_expression(self, opener: re.Match[str]) -> int:
        start = opener.end()
        found = _EXPRESSION.match(self._source, start, start + _LONGEST_TAG)
        if found is None:
            name = _OPEN_TAG.match(self._source, start)
            if name and name[1] in self._declared:
                self._refuse(start, f"'{{{{ {name[1]}' is never closed. Write {{{{ {name[1]} }}}}.")
            return 0
        is_code = self._source[opener.start() - 1 : opener.start()] == "$" or self._is_in_f_string(start)
        return found.end() if self._is_meant(found[1], start, is_code) else 0

    def _is_meant(self, body: str, start: int, is_code: bool) -> bool:
        """Whether `{{ body }}` is to be filled in; raises where it seems so but cannot be."""
        if (name := _NAME.fullmatch(body)) and name[1] in self._known:
            return True
        whole = "{{" + body + "}}"
        words = {word for word in _WORD.findall(body) if word[0] not in "'\""}
        is_ours = not words.isdisjoint(self._known)
        try:
            tree = _parsed(whole)
        except Mistake as mistake:
            if is_ours:
                self._refuse(start, f"{_shown(whole)} cannot be read ({mistake.reason}). {_literally(whole)}")
            return False
        if is_ours:
            return True
        if is_code or all(isinstance(node, _CONSTANT) for node in _walk(tree)):
            return False
        names = [node.name for node in _walk(tree) if isinstance(node, nodes.Name)]
        if names:
            self._refuse(start, f"{_no_variable(names[0], self._declared)} {_literally(whole)}")
        _check(tree, (), self._line(start))
        return self._refuse(start, f"{_shown(whole)} fills in nothing. {_literally(whole)}")

    def _is_in_f_string(self, position: int) -> bool:
        place = bisect.bisect_left(self._code_starts, position)
        return place > 0 and position < self._code_ends[place - 1]

    def _line(self, position: int) -> int:
        return self._source.count("\n", 0, position) + 1

    def _refuse(self, position: int, reason: str) -> NoReturn:
        raise Mistake(self._line(position), reason)


def _as_text(braces: str) -> str:
    return f"{{% raw %}}{braces}{{% endraw %}}" if braces else ""


def _shown(code: str) -> str:
    return code if len(code) <= 60 else f"{code[:57]}..."


def _literally(code: str) -> str:
    return f"To send it as text, write {{% raw %}}{_shown(code)}{{% endraw %}}."


def _no_variable(name: str, declared: Sequence[str]) -> str:
    meant = did_you_mean(name, declared) or f" Declared are: {', '.join(declared)}."
    return f"there is no variable '{name}'.{meant} A new one is added under Variables."


# -- what may be said ----------------------------------------------------------------------------------------

_CONSTANT = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair,
    nodes.Neg, nodes.Pos,
)  # fmt: skip
_SAYABLE = frozenset(
    (
        nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.If, nodes.For, nodes.CondExpr,
        nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand, nodes.Filter, nodes.Keyword, nodes.Tuple,
        nodes.List,
    )
)  # fmt: skip
_OF_LOOP = ("index", "index0", "first", "last", "length")
_ABOUT_LOOP = f"'loop' is used inside a loop, as {', '.join(f'loop.{word}' for word in _OF_LOOP)}."


def _check(tree: nodes.Node, declared: Collection[str], line: int = 0) -> set[str]:
    """The names that the tree uses; raises Mistake for whatever is not in the language.

    `line` is where a tree begins that was cut out of its template.
    """
    used: set[str] = set()
    waiting: list[tuple[nodes.Node, frozenset[str], int]] = [(tree, frozenset(declared), 0)]
    count = 0
    while waiting:
        node, scope, depth = waiting.pop()
        count += 1
        at = line or node.lineno
        if count > _MOST_NODES:
            raise Mistake(at, f"the template has more than {_MOST_NODES:,} parts. Make it simpler.")
        if depth > _DEEPEST:
            raise Mistake(at, f"expressions are nested more than {_DEEPEST} deep here. Make them simpler.")
        if isinstance(node, nodes.Getattr) and _is_of_loop(node, scope):
            continue
        if type(node) not in _SAYABLE:
            raise Mistake(at, _not_sayable(node))
        if isinstance(node, nodes.Name):
            _check_name(node, scope, at)
            used.add(node.name)
        _check_details(node, at)
        waiting += [(child, inner, depth + 1) for child, inner in _children(node, scope)]
    return used


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    waiting = [tree]  # not `find_all`, which recurses: this tree was not checked yet
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.iter_child_nodes()


def _children(node: nodes.Node, scope: frozenset[str]) -> Iterator[tuple[nodes.Node, frozenset[str]]]:
    if not isinstance(node, nodes.For):
        yield from ((child, scope) for child in node.iter_child_nodes())
        return
    inside = scope | {_target(node), "loop"}
    yield node.iter, scope
    yield from ((child, inside) for child in node.body)
    yield from ((child, scope) for child in node.else_)
    if node.test is not None:
        yield node.test, scope | {_target(node)}


def _target(node: nodes.For) -> str:
    if not isinstance(node.target, nodes.Name):
        raise Mistake(node.lineno, "a loop has one name. Write {% for label in labels %}.")
    return node.target.name


def _is_of_loop(node: nodes.Getattr, scope: frozenset[str]) -> bool:
    is_loop = isinstance(node.node, nodes.Name) and node.node.name == "loop" and "loop" in scope
    return is_loop and node.attr in _OF_LOOP


def _check_name(node: nodes.Name, scope: frozenset[str], line: int) -> None:
    if node.name == "loop":
        raise Mistake(line, _ABOUT_LOOP)
    if node.name not in scope:
        raise Mistake(line, _no_variable(node.name, sorted(scope - {"loop"})))


def _check_details(node: nodes.Node, line: int) -> None:
    match node:
        case nodes.For() if node.recursive:
            raise Mistake(line, "a loop cannot be recursive. Remove the word.")
        case nodes.For() if _target(node).startswith("_"):
            raise Mistake(line, f"a loop's name begins with a letter, and '{_target(node)}' does not.")
        case nodes.Filter() if node.name not in FILTERS:
            meant = did_you_mean(node.name, FILTERS) or f" There are: {', '.join(FILTERS)}."
            raise Mistake(line, f"there is no filter '{node.name}'.{meant}")
        case nodes.Filter() if node.dyn_args or node.dyn_kwargs:
            raise Mistake(line, f"'{node.name}' takes its values one by one. Remove the asterisks.")
        case nodes.Const() if isinstance(node.value, int | float) and not abs(node.value) <= _LARGEST_NUMBER:
            raise Mistake(line, f"a number here is larger than {_LARGEST_NUMBER:,}. Take a smaller one.")
        case nodes.Const() if isinstance(node.value, str) and not _is_storable(node.value):
            raise Mistake(line, "a text here holds a character that is none. Write it without that escape.")


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _not_sayable(node: nodes.Node) -> str:
    match node:
        case nodes.Getattr(node=nodes.Name(name="loop")):
            return _ABOUT_LOOP
        case nodes.Getattr():
            return f"a template cannot look inside a value ('.{node.attr}'). Declare a variable for what you need."
        case nodes.Getitem():
            return "a template cannot look inside a value ('[...]'). Use a filter such as first or truncate."
        case nodes.Call():
            return "a template cannot call anything. Use a filter, such as {{ context | trim }}."
        case nodes.Concat():
            return "'~' joins nothing here. Write the values side by side."
        case nodes.BinExpr() | nodes.UnaryExpr():
            return f"a template cannot calculate ('{node.operator}'). Declare a variable for the result."
        case nodes.Test():
            return f"'is {node.name}' is not known here. A variable without text is false: {{% if context %}}."
        case _:
            return f"'{type(node).__name__.lower()}' is not known here. Templates fill in, decide and repeat."


# -- what it costs -------------------------------------------------------------------------------------------

_PURSE_NAME = "_purse"


class _Purse:
    """What a rendering may still read and write, in characters."""

    def __init__(self) -> None:
        self._left = _PURSE

    def pay(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise Mistake(0, "this would take too long. Repeat less, or fill in shorter texts.")


def _meter(tree: nodes.Template) -> None:
    """Put a meter before every loop and comparison; filters pay by themselves, and output is counted as it comes."""
    for loop in list(tree.find_all(nodes.For)):
        price = _PRICE_OF_A_NODE * sum(1 for _ in loop.find_all(nodes.Node))
        loop.iter = _filter(loop.iter, "_rounds", nodes.Const(price))
    for comparison in list(tree.find_all(nodes.Compare)):
        for operand in comparison.ops:
            operand.expr = _filter(operand.expr, "_weighed")
    for choice in tree.find_all(nodes.CondExpr):
        choice.expr2 = choice.expr2 or nodes.Const("")
    tree.set_environment(_environment())


def _filter(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _priced(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
    @jinja2.pass_context
    @functools.wraps(change)
    def paying(context: Context, *args: Any, **kwargs: Any) -> Any:
        purse: _Purse = context[_PURSE_NAME]
        purse.pay(_PRICE_OF_A_CALL + sum(map(_size, (*args, *kwargs.values()))))
        try:
            return change(*args, **kwargs)
        except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise Mistake(0, f"'{name}' cannot use what it is given ({error}). Give it something else.") from error

    return paying


@jinja2.pass_context
def _rounds(context: Context, values: Any, price: int) -> tuple[Any, ...]:
    if not isinstance(values, tuple | list):
        raise Mistake(0, "a loop goes through labels or lines. Write {% for line in context | lines %}.")
    context[_PURSE_NAME].pay(price * len(values))
    return tuple(values)


def _weighed(value: Any) -> Any:
    return value


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(map(len, map(str, value))) + len(value) if isinstance(value, tuple | list) else 1


# -- filters -------------------------------------------------------------------------------------------------


def _of_text(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def checked(text: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(text, str):
            raise Mistake(0, f"'{name}' changes a text. Join the list first: {{{{ labels | join(', ') | {name} }}}}.")
        return change(text, *args, **kwargs)

    return checked


def _bounded(size: int) -> None:
    if size > _MOST_TEXT:
        raise Mistake(0, f"a filter would make more than {_MOST_TEXT:,} characters. Fill in shorter texts.")


def _replace(text: str, old: str, new: str) -> str:
    _bounded(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _indent(text: str, width: int = 4, first: bool = False) -> str:
    _bounded(len(text) + (text.count("\n") + 1) * max(0, width))
    gap = " " * width
    lines = [gap + line if line else line for line in text.split("\n")]
    return "\n".join(lines) if first else "\n".join(lines).removeprefix(gap)


def _truncate(text: str, length: int = 255, end: str = "...") -> str:
    """At most `length` characters, cut between two words."""
    if len(text) <= length:
        return text
    room = max(0, length - len(end))
    return text[:room].rsplit(" ", 1)[0].rstrip() + end


def _join(values: Any, separator: str = "") -> str:
    if isinstance(values, str):
        raise Mistake(0, "'join' joins labels or lines, and this is a text. Remove the filter.")
    words = [str(value) for value in values]
    _bounded(sum(map(len, words)) + len(separator) * len(words))
    return separator.join(words)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(text: str) -> tuple[str, ...]:
    if text.count("\n") > _MOST_LINES:
        raise Mistake(0, f"the text has more than {_MOST_LINES:,} lines. Fill in a shorter one.")
    return tuple(line.strip() for line in text.split("\n") if line.strip())


# By name, in the order of the alphabet, as the page lists them.
FILTERS: dict[str, Callable[..., Any]] = {
    "capitalize": _of_text("capitalize", str.capitalize),
    "default": lambda value, other: value or other,  # for empty values: a declared name is always defined
    "first": lambda values: values[0] if values else "",
    "indent": _of_text("indent", _indent),
    "join": _join,
    "last": lambda values: values[-1] if values else "",
    "length": len,
    "lines": _of_text("lines", _lines),
    "lower": _of_text("lower", str.lower),
    "replace": _of_text("replace", _replace),
    "title": _of_text("title", str.title),
    "tojson": _as_json,
    "trim": _of_text("trim", str.strip),
    "truncate": _of_text("truncate", _truncate),
    "upper": _of_text("upper", str.upper),
    "wordcount": _of_text("wordcount", lambda text: len(text.split())),
}


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, optimized=False, finalize=_written
    )
    made.globals.clear()
    made.tests.clear()
    made.filters = {name: _priced(name, change) for name, change in FILTERS.items()}
    made.filters |= {"_rounds": _rounds, "_weighed": _priced("_weighed", _weighed)}
    return made


def _written(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else value


def _line_of(error: BaseException) -> int:
    """The line of the template where a rendering failed: Jinja puts its own lines into the traceback."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
