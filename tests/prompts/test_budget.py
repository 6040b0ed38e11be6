"""What a prompt takes of the window: parts that add up to the token, and what has to go when it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.backends import Backend, EchoBackend, LocalBackend
from studio.errors import InputError
from studio.prompts import render, template
from studio.prompts.budget import PARTS, Budget, budget
from studio.prompts.memory import Memory
from studio.prompts.selectors import Pick
from studio.specs import Message, Rendered, assistant, system, user
from studio.store import Example
from tests.prompts.test_selectors import example


class Narrow(EchoBackend):
    """Echo with a window of its own; counts its calls."""

    def __init__(self, window: int = 4096) -> None:
        super().__init__()
        self.window = window
        self.rendered: list[list[Message]] = []
        self.counted: list[list[str]] = []

    async def render(self, messages: Sequence[Message]) -> Rendered:
        self.rendered.append(list(messages))
        return (await super().render(messages)).model_copy(update={"window": self.window})

    async def count_tokens(self, parts: Sequence[str]) -> list[int]:
        self.counted.append(list(parts))
        return await super().count_tokens(parts)


class Words:
    """A prompt whose parts are any texts: examples as turns, or inside the question."""

    def __init__(self, head: str, asked: str, *, inside: bool = False) -> None:
        self.head, self.asked, self.inside = head, asked, inside

    def __call__(self, examples: Sequence[Example], documents: Sequence[str], /) -> list[Message]:
        head = [system(self.head)] if self.head else []
        asked = "\n\n".join([*documents, self.asked])
        if self.inside:
            shown = "".join(f"Q: {e.instruction}\nA: {e.response}\n\n" for e in examples)
            return [*head, user(shown + asked)]
        turns = [turn for e in examples for turn in (user(e.instruction), assistant(e.response))]
        return [*head, *turns, user(asked)]


def picks(*texts: str, locked: Sequence[int] = ()) -> list[Pick]:
    """Nearest last, as kNN leaves them; the example's id is its place from 1."""
    count = len(texts)
    return [Pick(example(n, text, locked=n in locked), rank=count - n) for n, text in enumerate(texts, 1)]


def made(backend: Backend, compose: Words, *args: object, room: int = 10, memory: Memory | None = None) -> Budget:
    return asyncio.run(budget(backend, compose, *args, room=room, memory=memory or Memory()))  # type: ignore[arg-type]


# -- the parts -----------------------------------------------------------------------------------------------


def test_every_part_is_told_apart() -> None:
    found = made(Narrow(100), Words("Be very brief.", "How heavy?"), picks("one two", "three"), ["a b c d", "e f"])
    assert found.parts == {
        "system": 3,
        "examples": 2 + 2 + 1 + 2,  # questions and their answers ("Answer 1")
        "documents": 6,
        "query": 2,
        "marks": 7,  # six turns' names and the last "assistant:"
        "reserve": 10,
    }
    assert (found.tokens, found.window, found.free) == (25, 100, 65)
    assert [(cost.example.id, cost.tokens, cost.is_cut) for cost in found.costs] == [(1, 4, False), (2, 3, False)]
    assert (found.fits, found.cut, found.too_long, found.advice) == (True, (), "", "")


def test_examples_inside_the_question_are_told_apart_too() -> None:
    found = made(Narrow(), Words("", "How heavy?", inside=True), picks("one two", "three"))
    assert (found.system, found.examples, found.query, found.marks) == (0, 4 + 2 + 3 + 2, 2, 2)
    assert [cost.tokens for cost in found.costs] == [6, 5]


def test_the_library_counts_as_it_renders() -> None:
    chosen = template("few-shot")

    def compose(examples: Sequence[Example], documents: Sequence[str], /) -> list[Message]:
        values = {"instruction": "How heavy?", "context": "\n".join(documents), "guidelines": "Be brief."}
        return render(chosen, values, [e.fields for e in examples])

    shown = picks("one two", "three")
    found = asyncio.run(budget(Narrow(), compose, shown, ["a b"], room=10, memory=Memory()))
    assert found.rendered.tokens == sum(found.parts.values()) - 10
    assert (found.system, found.examples, found.documents, found.query) == (2, 7, 2, 2)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda text: text.strip())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    head=st.just("") | TEXT,
    asked=TEXT,
    shown=st.lists(TEXT, max_size=5),
    documents=st.lists(TEXT, max_size=3),
    inside=st.booleans(),
    window=st.integers(2, 120),
    room=st.integers(1, 60),
    locked=st.sets(st.integers(1, 5)),
)
def test_parts_add_up_and_what_is_cut_makes_it_fit(
    head: str,
    asked: str,
    shown: list[str],
    documents: list[str],
    inside: bool,
    window: int,
    room: int,
    locked: set[int],
) -> None:
    compose, chosen = Words(head, asked, inside=inside), picks(*shown, locked=sorted(locked))
    backend = Narrow(window)
    _holds(made(backend, compose, chosen, documents, room=room), backend, compose, chosen, documents)


def _holds(found: Budget, backend: Backend, compose: Words, chosen: Sequence[Pick], documents: Sequence[str]) -> None:
    """The promise of a budget, held against what the backend renders."""

    def tokens(cut: Sequence[int]) -> int:
        kept = [pick.example for pick in chosen if pick.example.id not in cut]
        return asyncio.run(backend.render(compose(kept, documents))).tokens

    room, window = found.reserve, found.window
    assert found.tokens == tokens([]) == sum(found.parts[part] for part in PARTS if part != "reserve")
    assert min(found.parts.values()) >= 0
    assert found.fits == (found.tokens + room <= window)
    assert {cost.example.id for cost in found.costs if cost.is_cut} == set(found.cut)
    assert found.tokens_after == tokens(found.cut)
    if found.fits:
        assert (found.cut, found.too_long, found.advice) == ((), "", "")
        return
    assert found.advice
    order = sorted(chosen, key=lambda pick: (pick.example.is_locked, -pick.rank))
    assert list(found.cut) == [pick.example.id for pick in order][: len(found.cut)]
    if found.too_long:
        assert tokens(found.cut) + room > window
        assert len(found.cut) == len(chosen)
    else:
        assert tokens(found.cut) + room <= window
        assert tokens(found.cut[:-1]) + room > window  # not one more than needed


# -- what has to go ------------------------------------------------------------------------------------------


def test_the_farthest_goes_first_and_a_locked_one_last() -> None:
    shown = picks("a " * 10, "b " * 10, "c " * 10, "d " * 10, locked=[1])
    whole = made(Narrow(4096), Words("", "q"), shown).tokens
    one = made(Narrow(whole + 9), Words("", "q"), shown)
    assert (one.cut, one.advice) == (
        (2,),
        f"Prompt and answer need {whole + 10} tokens; echo: has {whole + 9}. Leave out 1 example, and it fits.",
    )
    assert made(Narrow(50), Words("", "q"), shown).cut == (2, 3)
    assert made(Narrow(15), Words("", "q"), shown).cut == (2, 3, 4, 1)


@pytest.mark.parametrize(
    ("compose", "documents", "room", "part", "said"),
    [
        (Words("s" + " s" * 59, "q"), [], 10, "system", "The system part takes most (60). Shorten it."),
        (Words("s", "q" + " q" * 59), [], 10, "query", "The question takes most (60). Shorten it."),
        (
            Words("s", "q"),
            ["d " * 60],
            10,
            "documents",
            "The documents take most (60). Show fewer or shorter passages.",
        ),
        (Words("s", "q"), [], 60, "reserve", "The reserve for the answer takes most (60). Allow a shorter answer."),
    ],
    ids=["system", "query", "documents", "reserve"],
)
def test_when_no_example_is_left_to_cut_the_longest_part_is_named(
    compose: Words, documents: list[str], room: int, part: str, said: str
) -> None:
    found = made(Narrow(50), compose, picks("a " * 200, "b"), documents, room=room)
    assert (found.too_long, found.cut) == (part, (1, 2))
    assert "Even without examples they need " in found.advice
    assert found.advice.endswith(said)


def test_an_answer_needs_room() -> None:
    with pytest.raises(InputError, match="An answer of 0 tokens says nothing"):
        made(Narrow(), Words("", "q"), room=0)


def test_parts_add_up_even_where_a_template_leaves_a_turn_out() -> None:
    class Deaf(Narrow):
        async def render(self, messages: Sequence[Message]) -> Rendered:
            return await super().render([turn for turn in messages if turn.role != "system"])

    found = made(Deaf(), Words("Be brief, be kind.", "How heavy?"))
    assert (found.tokens, found.system, found.query, found.marks) == (4, 2, 2, 0)


# -- quick enough for a key ----------------------------------------------------------------------------------


def test_a_key_costs_two_calls_and_counts_the_new_text_only() -> None:
    backend, memory = Narrow(), Memory()
    shown, documents = picks(*(f"Question {n} of many" for n in range(1, 17))), ["a passage"]
    made(backend, Words("Be brief.", "How heav"), shown, documents, memory=memory)
    backend.counted, backend.rendered = [], []
    made(backend, Words("Be brief.", "How heavy"), shown, documents, memory=memory)
    assert len(backend.rendered) == 1
    assert backend.counted == [["a passage\n\nHow heavy", "How heavy"]]
    made(backend, Words("Be brief.", "How heavy"), shown, documents, memory=memory)
    assert len(backend.counted) == 1


def test_even_a_prompt_that_is_too_long_costs_a_handful_of_calls() -> None:
    backend = Narrow(60)
    found = made(backend, Words("", "q"), picks(*(f"{'x ' * 20}{n}" for n in range(32))))
    assert len(found.cut) > 20
    assert len(backend.rendered) <= 7


# -- the engine ----------------------------------------------------------------------------------------------


@pytest.mark.anyio
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    head=st.just("") | TEXT,
    asked=TEXT,
    shown=st.lists(TEXT, max_size=4),
    documents=st.lists(TEXT, max_size=2),
    inside=st.booleans(),
    room=st.sampled_from([1, 100, 1900, 1990, 2040, 3000]),
)
async def test_the_engine_counts_every_part(
    engine,  # type: ignore[no-untyped-def]
    tiny_weights,
    head: str,
    asked: str,
    shown: list[str],
    documents: list[str],
    inside: bool,
    room: int,
) -> None:
    backend, compose, chosen = LocalBackend(tiny_weights, engine), Words(head, asked, inside=inside), picks(*shown)
    found = await budget(backend, compose, chosen, documents, room=room, memory=Memory())
    whole = await backend.render(compose([pick.example for pick in chosen], documents))
    assert found.rendered == whole
    assert whole.tokens == sum(found.parts[part] for part in PARTS if part != "reserve")
    assert min(found.parts.values()) >= 0
    if not found.fits:
        kept = [pick.example for pick in chosen if pick.example.id not in found.cut]
        rest = (await backend.render(compose(kept, documents))).tokens
        assert rest == found.tokens_after
        assert (rest + room <= whole.window) != bool(found.too_long)
