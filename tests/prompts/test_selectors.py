"""Which examples a prompt gets: off ones never, locked ones always, the question itself never, and always the same."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.backends import EchoBackend
from studio.errors import InputError, NotFound, Unsupported
from studio.fields import describe
from studio.instructions import group_hash
from studio.prompts.memory import Memory
from studio.prompts.selectors import Query, Selection, Selector, Vectors, choose_with, selector, selectors, vectors_of
from studio.specs import ModelRef
from studio.store import Example

TENT = Query("How heavy is the tent?")


def example(number: int, text: str = "", *, on: bool = True, locked: bool = False) -> Example:
    text = text or f"Question {number}"
    return Example(
        id=number,
        bank="House style",
        instruction=text,
        context="",
        reasoning="",
        response=f"Answer {number}",
        category="",
        group_hash=group_hash(text, ""),
        source="",
        position=float(number),
        is_on=on,
        is_locked=locked,
        author="ann",
        created_at=0.0,
        updated_at=0.0,
    )


SHOP = [
    example(1, "Where is my parcel?"),
    example(2, "How heavy is the tent bag?"),
    example(3, "Is the stove safe inside?"),
    example(4, "How heavy is the stove?"),
    example(5, "How heavy is the tent pole?"),
    example(6, "Do you repair zips?"),
]


def ids(selection: Selection) -> list[int]:
    return [found.id for found in selection.examples]


# -- every selector ------------------------------------------------------------------------------------------


def test_every_file_is_a_selector_that_says_what_it_does() -> None:
    assert list(selectors()) == ["fixed", "random", "knn", "mmr", "length"]
    for name, kind in selectors().items():
        assert kind.name == name
        assert kind.title
        assert kind.summary.endswith(".")
        assert kind.citation or kind.is_wrapper
        assert kind.is_wrapper or all(field.title and field.help for field in describe(kind))


MADE = [selector(name) for name in ("fixed", "random", "knn", "mmr")] + [
    selector({"name": "mmr", "relevance": 0.2, "nearest": "first"}),
    selector({"name": "knn", "nearest": "first"}),
    selector({"name": "length", "inner": {"name": "knn"}, "tokens": 1_000_000}),
]
# On a busy machine it takes a while until scikit-learn is loaded; that is no reason to fail.
PATIENT = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.lists(st.sampled_from("tent stove bag heavy safe zip".split()), min_size=1, max_size=4).map(" ".join)
POOLS = st.lists(st.tuples(WORDS, st.booleans(), st.booleans()), min_size=1, max_size=8, unique_by=lambda row: row[0])


@pytest.mark.parametrize("chosen", MADE, ids=lambda s: str(s.model_dump()))
@PATIENT
@given(pool=POOLS, asked=WORDS, k=st.integers(0, 9), seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
def test_what_every_selection_keeps(
    chosen: Selector,
    pool: list[tuple[str, bool, bool]],
    asked: str,
    k: int,
    seed: int,
    shuffle: random.Random,
) -> None:
    examples = [example(n, text, on=on, locked=locked) for n, (text, on, locked) in enumerate(pool, 1)]
    query, sizes = Query(asked), {e.id: 5 for e in examples}
    usable = [e for e in examples if e.is_on and e.group_hash != query.group]
    locked = [e for e in usable if e.is_locked]
    if k and not any(e.is_on for e in examples):
        with pytest.raises(InputError, match="are off"):
            chosen.choose(examples, query, k, seed, sizes=sizes)
        return
    selection = chosen.choose(examples, query, k, seed, sizes=sizes)
    found = selection.examples
    assert len(found) == len({e.id for e in found}) == max(len(locked), min(k, len(usable)))
    assert {e.id for e in locked} <= {e.id for e in found} <= {e.id for e in usable}
    assert selection.missing == max(0, k - len(found))
    assert [e.group_hash for e in selection.own] == [query.group] * len(selection.own)
    assert sorted(pick.rank for pick in selection.picks) == list(range(len(found)))
    assert all(pick.rank < len(locked) for pick in selection.picks if pick.example.is_locked)
    shuffled = shuffle.sample(examples, len(examples))
    assert chosen.choose(shuffled, query, k, seed, sizes=sizes) == selection


def test_an_example_that_asks_the_very_question_is_left_out_even_locked_and_named() -> None:
    own = example(9, "how heavy is  the tent?", locked=True)
    selection = selector("knn").choose([*SHOP, own], TENT, 3)
    assert 9 not in ids(selection)
    assert selection.own == (own,)
    assert selector("fixed").choose([own], TENT, 1).picks == ()


@pytest.mark.parametrize(
    ("pool", "said"),
    [([], "The bank is empty. Fill it"), ([example(1, on=False)], "All 1 examples of bank 'House style' are off")],
    ids=["empty", "all off"],
)
def test_a_bank_with_nothing_to_show_is_told(pool: list[Example], said: str) -> None:
    with pytest.raises(InputError, match=said):
        selector("knn").choose(pool, TENT, 2)
    assert selector("knn").choose(pool, TENT, 0).picks == ()


def test_fewer_than_none_is_refused() -> None:
    with pytest.raises(InputError, match="cannot show -1 examples"):
        selector("fixed").choose(SHOP, TENT, -1)


@pytest.mark.parametrize("chosen", MADE, ids=lambda s: str(s.model_dump()))
def test_a_selector_comes_back_from_what_was_written_of_it(chosen: Selector) -> None:
    assert selector(chosen.model_dump(mode="json")) == chosen


@pytest.mark.parametrize(
    ("made_of", "error", "said"),
    [
        ("best", NotFound, "no selector 'best'. Known selectors: fixed, random, knn, mmr, length"),
        ({"name": "mmr", "relevance": 2}, InputError, "Selector mmr: relevance cannot be 2"),
        ({"name": "fixed", "k": 2}, InputError, "Selector fixed: k cannot be 2"),
        ({"name": "length", "inner": "best"}, NotFound, "no selector 'best'"),
    ],
)
def test_a_selector_that_cannot_be_made_is_told(made_of: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        selector(made_of)  # type: ignore[arg-type]


# -- fixed ---------------------------------------------------------------------------------------------------


def test_fixed_shows_the_first_of_the_bank_and_a_locked_one_in_its_place() -> None:
    pool = [example(1), example(2, on=False), example(3), example(4), example(5, locked=True)]
    selection = selector("fixed").choose(pool, TENT, 3)
    assert (ids(selection), selection.order) == ([1, 3, 5], "as in the bank")
    assert [pick.similarity for pick in selection.picks] == [None] * 3
    moved = [replace(e, position=0.5) if e.id == 4 else e for e in pool]
    assert ids(selector("fixed").choose(moved, TENT, 3)) == [4, 1, 5]


# -- random --------------------------------------------------------------------------------------------------


def test_a_seed_draws_the_same_examples_for_every_question_and_another_seed_others() -> None:
    pool = [example(n) for n in range(1, 21)]

    def drawn(seed: int, query: Query = TENT) -> list[int]:
        return ids(selector("random").choose(pool, query, 4, seed))

    assert drawn(1) == drawn(1, Query("Something else"))
    assert len({tuple(drawn(seed)) for seed in range(10)}) > 8


def test_a_draw_hangs_on_the_words_and_not_on_ids_or_the_banks_order() -> None:
    pool = [example(n) for n in range(1, 21)]
    elsewhere = [replace(e, id=100 - e.id, position=-e.position) for e in pool]
    first, second = (selector("random").choose(p, TENT, 4, seed=3).examples for p in (pool, elsewhere))
    assert [e.instruction for e in first] == [e.instruction for e in second]


def test_one_example_less_changes_one_example_at_most() -> None:
    pool = [example(n) for n in range(1, 21)]
    before = ids(selector("random").choose(pool, TENT, 4))
    after = ids(selector("random").choose([e for e in pool if e.id != before[1]], TENT, 4))
    assert after[:3] == [before[0], *before[2:]]


def test_each_example_is_drawn_about_as_often_as_any_other() -> None:
    pool = [example(n) for n in range(1, 11)]
    draws = [ids(selector("random").choose(pool, TENT, 3, seed)) for seed in range(300)]
    counts = np.bincount(np.concatenate(draws), minlength=11)[1:]
    assert counts.sum() == 900
    assert counts.min() > 60  # 90 expected, standard deviation 8
    assert counts.max() < 120


# -- nearest -------------------------------------------------------------------------------------------------


def test_the_nearest_examples_are_chosen_and_the_nearest_one_stands_last() -> None:
    selection = selector("knn").choose(SHOP, TENT, 3)
    assert (ids(selection), selection.order) == ([4, 5, 2], "nearest last")
    near = [pick.similarity or 0.0 for pick in selection.picks]
    assert 0 < near[0] < near[1] <= near[2] < 1
    assert [pick.rank for pick in selection.picks] == [2, 1, 0]
    first = selector({"name": "knn", "nearest": "first"}).choose(SHOP, TENT, 3)
    assert (ids(first), first.order) == ([2, 5, 4], "nearest first")


def test_of_two_that_are_equally_near_the_first_of_the_bank_is_chosen() -> None:
    assert ids(selector("knn").choose(SHOP, Query("Nothing alike?!"), 2)) == [2, 1]


def test_a_locked_example_takes_one_of_the_places_and_stands_where_its_nearness_puts_it() -> None:
    pool = [replace(e, is_locked=e.id == 6) for e in SHOP]
    selection = selector("knn").choose(pool, TENT, 2)
    assert ids(selection) == [6, 2]
    assert [pick.rank for pick in selection.picks] == [0, 1]


def test_switching_an_example_off_leaves_the_others_as_near_as_they_were() -> None:
    def near(pool: list[Example]) -> dict[int, float | None]:
        return {p.example.id: p.similarity for p in selector("knn").choose(pool, TENT, 3).picks}

    before, after = near(SHOP), near([replace(e, is_on=e.id != 2) for e in SHOP])
    assert {key: after[key] for key in (4, 5)} == {key: before[key] for key in (4, 5)}


@pytest.mark.parametrize(
    ("near", "far", "asked"),
    [
        ("帐篷有多重", "包裹在哪里", "这个帐篷重吗"),
        ("Wie schwer ist das ZELT", "Wo bleibt mein Paket", "zelt?"),
        ("🔥🔥", "🙂", "🔥"),
        ("C++ code", "C# code", "c++"),
        ("word", "?! …", "Word."),
    ],
    ids=["Chinese", "case", "emoji", "signs", "punctuation"],
)
def test_words_are_found_in_any_script(near: str, far: str, asked: str) -> None:
    selection = selector("knn").choose([example(1, far), example(2, near)], Query(asked), 1)
    assert ids(selection) == [2]
    assert (selection.picks[0].similarity or 0.0) > 0


def test_a_bank_of_punctuation_is_near_to_nothing() -> None:
    assert ids(selector("mmr").choose([example(1, "?"), example(2, "...")], TENT, 2)) == [2, 1]


@pytest.mark.parametrize("asked", ["", "   ", "\n"])
def test_an_empty_question_is_near_to_nothing(asked: str) -> None:
    selection = selector("knn").choose(SHOP, Query(asked), 2)
    assert ids(selection) == [2, 1]
    assert [pick.similarity for pick in selection.picks] == [0.0, 0.0]


# -- varied --------------------------------------------------------------------------------------------------


def test_varied_examples_do_not_repeat_each_other() -> None:
    pool = [
        example(1, "heavy tent bag"),
        example(2, "heavy tent bag now"),
        example(3, "zip"),
        example(4, "parcel"),
    ]
    asked = Query("heavy tent bag with a zip")
    assert sorted(ids(selector("knn").choose(pool, asked, 2))) == [1, 2]
    assert sorted(ids(selector({"name": "mmr", "relevance": 0.5}).choose(pool, asked, 2))) == [1, 3]


def test_a_locked_example_is_not_repeated_either() -> None:
    pool = [example(1, "heavy tent bag now", locked=True), example(2, "heavy tent bag"), example(3, "zip")]
    chosen = selector({"name": "mmr", "relevance": 0.5}).choose(pool, Query("heavy tent bag with a zip"), 2)
    assert sorted(ids(chosen)) == [1, 3]


@PATIENT
@given(pool=POOLS, asked=WORDS, k=st.integers(1, 6))
def test_with_relevance_1_varied_is_nearest(pool: list[tuple[str, bool, bool]], asked: str, k: int) -> None:
    examples = [example(n, text, locked=locked) for n, (text, _, locked) in enumerate(pool, 1)]
    nearest, varied = selector("knn"), selector({"name": "mmr", "relevance": 1})
    assert varied.choose(examples, Query(asked), k) == nearest.choose(examples, Query(asked), k)


# -- by the vectors of a model -------------------------------------------------------------------------------


def test_vectors_decide_where_they_are_asked_for() -> None:
    directions = {1: (1.0, 0.0), 2: (0.6, 0.8), 3: (0.0, 1.0)}
    vectors = Vectors(np.float32([0.8, 0.6]), {key: np.float32(value) for key, value in directions.items()})
    selection = selector({"name": "knn", "by": "model"}).choose(
        [example(1), example(2), example(3)], TENT, 2, vectors=vectors
    )
    assert ids(selection) == [1, 2]
    assert [pick.similarity for pick in selection.picks] == pytest.approx([0.8, 0.96])


@pytest.mark.parametrize(
    ("vectors", "which"),
    [(None, "the question|example 1"), (Vectors(np.float32([1]), {1: np.float32([1])}), "example 2")],
    ids=["none", "one missing"],
)
def test_missing_vectors_are_told(vectors: Vectors | None, which: str) -> None:
    with pytest.raises(InputError, match=rf"no vector of ({which})\. Choose a model that makes vectors"):
        selector({"name": "knn", "by": "model"}).choose([example(1), example(2)], TENT, 1, vectors=vectors)


class Reading(EchoBackend):
    """Notes which texts it was given."""

    def __init__(self, ref: str = "echo:") -> None:
        super().__init__(ModelRef(ref))
        self.read: list[str] = []

    async def embed(self, texts):  # type: ignore[no-untyped-def]
        self.read += texts
        return await super().embed(texts)

    async def count_tokens(self, parts):  # type: ignore[no-untyped-def]
        self.read += parts
        return await super().count_tokens(parts)


@pytest.mark.anyio
async def test_a_model_reads_an_example_once() -> None:
    backend, memory, heard = Reading(), Memory(), list[tuple[int, int]]()
    pool = [example(n) for n in range(1, 101)]
    first = await vectors_of(backend, pool, TENT, memory, lambda done, of: heard.append((done, of)))
    assert (len(backend.read), heard) == (101, [(64, 100), (100, 100)])
    edited = [*pool[1:], example(1, "New words")]
    again = await vectors_of(backend, edited, TENT, memory)
    assert backend.read[101:] == ["New words"]
    assert all(np.array_equal(first.examples[e.id], again.examples[e.id]) for e in pool[1:])
    other = Reading("echo:other")
    await vectors_of(other, pool, TENT, memory)
    assert len(other.read) == 101


@pytest.mark.anyio
async def test_what_was_asked_for_longest_ago_is_forgotten_first() -> None:
    backend, memory = Reading(), Memory(counts=3)
    for texts in (["a", "b", "c"], ["a"], ["d"], ["a", "c", "d"], ["b"]):
        await memory.tokens(backend, texts)
    assert backend.read == ["a", "b", "c", "d", "b"]


@pytest.mark.anyio
async def test_with_a_backend_the_selector_gets_what_it_needs() -> None:
    inner = {"name": "knn", "by": "model"}
    alone = await choose_with(selector(inner), SHOP, TENT, 3, backend=Reading(), memory=Memory())
    assert alone.picks[-1].example.id == 2
    backend = Reading()
    short = selector({"name": "length", "inner": inner, "tokens": 16})
    selection = await choose_with(short, SHOP, TENT, 3, backend=backend, memory=Memory())
    assert ids(selection) == ids(alone)[1:]
    assert [pick.example.id for pick in selection.dropped] == ids(alone)[:1]
    assert len(backend.read) == 6 + 1 + 3  # the examples, the question, and the length of the three nearest


@pytest.mark.anyio
async def test_a_model_without_vectors_is_refused_by_name() -> None:
    class Mute(EchoBackend):
        async def embed(self, texts):  # type: ignore[no-untyped-def]
            raise self._refusal("turn texts into vectors")

    chosen = selector({"name": "knn", "by": "model"})
    with pytest.raises(Unsupported, match="echo: cannot turn texts into vectors"):
        await choose_with(chosen, SHOP, TENT, 3, backend=Mute(), memory=Memory())


# -- within a length -----------------------------------------------------------------------------------------


@PATIENT
@given(
    sizes=st.lists(st.integers(1, 30), min_size=6, max_size=6),
    most=st.integers(1, 90),
    locked=st.sets(st.integers(1, 6)),
)
def test_the_farthest_go_until_the_rest_holds(sizes: list[int], most: int, locked: set[int]) -> None:
    pool = [replace(e, is_locked=e.id in locked) for e in SHOP]
    of = {e.id: size for e, size in zip(SHOP, sizes, strict=True)}
    chosen = selector({"name": "length", "inner": "knn", "tokens": most})
    free = selector("knn").choose(pool, TENT, 5)
    if sum(of[key] for key in locked) > most:
        with pytest.raises(InputError, match=rf"The {len(locked)} locked examples have .* at most {most} are allowed"):
            chosen.choose(pool, TENT, 5, sizes=of)
        return
    selection = chosen.choose(pool, TENT, 5, sizes=of)
    total = sum(of[key] for key in ids(selection))
    assert total <= most
    assert locked <= set(ids(selection))
    assert set(selection.picks) | set(selection.dropped) == set(free.picks)
    assert [pick for pick in free.picks if pick in selection.picks] == list(selection.picks)
    if selection.dropped:
        last_dropped = min(selection.dropped, key=lambda pick: pick.rank)
        assert total + of[last_dropped.example.id] > most
        assert last_dropped.rank > max((pick.rank for pick in selection.picks), default=-1)


def test_an_example_of_unknown_length_is_told() -> None:
    with pytest.raises(InputError, match="The length of example 2 is not known"):
        selector("length").choose([example(2)], TENT, 1, sizes={1: 3})


# -- what a page needs ---------------------------------------------------------------------------------------


def test_the_bank_is_read_once_for_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    fits = []
    fit = TfidfVectorizer.fit_transform
    monkeypatch.setattr(TfidfVectorizer, "fit_transform", lambda *a, **k: (fits.append(1), fit(*a, **k))[1])
    pool = [example(n, f"Only for this test {n}") for n in range(1, 50)]
    for n in range(5):
        selector("mmr").choose(pool, Query(f"Question {n}"), 4)
    assert len(fits) == 1


def test_a_page_starts_without_the_library_that_compares_words() -> None:
    import subprocess

    code = (
        "import sys; from studio.prompts.selectors import selectors; selectors(); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
