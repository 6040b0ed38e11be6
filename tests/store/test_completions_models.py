"""Kept answers carry everything that made them; models carry where they came from."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from studio.errors import NotFound
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import Store, model_row

ANSWER = Completion(text="You can. 🙂", finish="stop", prompt_tokens=5, output_tokens=3, seconds=0.5)


def _answer(store: Store, text: str) -> str:
    """An answer whose ticket is its text."""
    store.add_completion(
        ModelRef("echo:"),
        ANSWER.model_copy(update={"text": text}),
        ticket=text,
        template="plain",
        variables={"instruction": "Can I?"},
        messages=[user("Can I?")],
        sampling=Sampling(temperature=0.7, stop=("\n",)),
        author="ann",
    )
    return text


def test_an_answer_can_be_asked_for_again_exactly(store: Store) -> None:
    given = store.completion(_answer(store, "You can. 🙂"))
    assert (given.model, given.template, given.variables, given.author) == (
        "echo:",
        "plain",
        {"instruction": "Can I?"},
        "ann",
    )
    assert given.messages == [{"role": "user", "content": "Can I?"}]
    assert Sampling.model_validate(given.sampling) == Sampling(temperature=0.7, stop=("\n",))
    assert given.finish == "stop"
    assert (given.text, given.prompt_tokens, given.output_tokens, given.seconds) == ("You can. 🙂", 5, 3, 0.5)


def test_only_kept_answers_are_listed_the_last_kept_first_up_to_a_limit(store: Store) -> None:
    one, two, three, _ = (_answer(store, text) for text in ("one", "two", "three", "four"))
    for answer in (two, three, one):
        store.keep_completion(answer)
    assert [a.text for a in store.kept_completions()] == ["one", "three", "two"]
    assert [a.text for a in store.kept_completions(limit=2)] == ["one", "three"]


def test_keeping_an_answer_twice_changes_nothing(store: Store) -> None:
    first = store.keep_completion(_answer(store, "one"))
    assert first.kept_at is not None
    assert store.keep_completion("one") == first


def test_an_answer_that_was_never_given_cannot_be_kept(store: Store) -> None:
    with pytest.raises(NotFound, match="There is no answer here that could be kept"):
        store.keep_completion("five")


def test_a_model_is_found_by_ref_with_its_origin(store: Store) -> None:
    made = store.add_model(
        model_row(
            "run:3",
            "Gear answers",
            author="ann",
            base="embedded:smollm2-135m-instruct",
            method="lora",
            licence="Apache-2.0",
            snapshot="data:gear@1",
            new_parameters=1_000_000,
            train_seconds=60.5,
        )
    )
    assert store.model("run:3") == made
    assert isinstance(made.ref, ModelRef)
    assert (made.base, made.new_parameters, made.train_seconds) == (
        "embedded:smollm2-135m-instruct",
        1_000_000,
        60.5,
    )


def test_models_are_chosen_by_what_they_can_do(store: Store) -> None:
    store.add_model(model_row("run:1", "answers", author="ann"))
    store.add_model(model_row("run:2", "scores", author="ann", answers=False, scores=True))
    assert [m.ref for m in store.models()] == ["run:2", "run:1"]
    assert [m.ref for m in store.models(answers=True)] == ["run:1"]
    assert [m.ref for m in store.models(scores=True)] == ["run:2"]


def test_a_ref_names_one_model(store: Store) -> None:
    store.add_model(model_row("run:1", "first", author="ann"))
    with pytest.raises(sa.exc.IntegrityError):
        store.add_model(model_row("run:1", "second", author="ann"))
    assert store.model("run:1").title == "first"


def test_a_missing_model_is_told_with_the_known_ones(store: Store) -> None:
    store.add_model(model_row("run:1", "first", author="ann"))
    with pytest.raises(NotFound, match=r"'run:9' in this workspace\. Models made here: run:1\."):
        store.model("run:9")
