"""Kept answers carry everything that made them; models carry where they came from."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from studio.errors import NotFound
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import Store, model_row

ANSWER = Completion(text="You can. 🙂", finish="stop", prompt_tokens=5, output_tokens=3, seconds=0.5)


def _keep(store: Store, text: str) -> int:
    return store.keep_completion(
        ModelRef("echo:"),
        ANSWER.model_copy(update={"text": text}),
        template="plain",
        variables={"instruction": "Can I?"},
        messages=[user("Can I?")],
        sampling=Sampling(temperature=0.7, stop=("\n",)),
        author="ann",
    )


def test_a_kept_answer_can_be_asked_for_again_exactly(store: Store) -> None:
    _keep(store, "You can. 🙂")
    (kept,) = store.completions()
    assert (kept.model, kept.template, kept.variables, kept.author) == (
        "echo:",
        "plain",
        {"instruction": "Can I?"},
        "ann",
    )
    assert kept.messages == [{"role": "user", "content": "Can I?"}]
    assert Sampling.model_validate(kept.sampling) == Sampling(temperature=0.7, stop=("\n",))
    assert (kept.text, kept.prompt_tokens, kept.output_tokens, kept.seconds) == ("You can. 🙂", 5, 3, 0.5)


def test_kept_answers_are_listed_newest_first_up_to_a_limit(store: Store) -> None:
    keys = [_keep(store, text) for text in ("one", "two", "three")]
    assert [c.text for c in store.completions(limit=2)] == ["three", "two"]
    assert keys == sorted(set(keys))


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
