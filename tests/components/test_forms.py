"""Forms: made from a class, read back as that class, complaining in words under the field that is wrong."""

from __future__ import annotations

import enum
from typing import Any, Literal

import gradio as gr
import pytest
from pydantic import BaseModel, Field, model_validator

from components.forms import Form, form, named_lines
from studio.errors import InputError
from studio.fields import describe
from studio.jobs import recipes
from studio.specs import ModelRef, Sampling


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Knobs(BaseModel):
    """One field of every kind."""

    base: ModelRef = Field(title="Which model")
    effort: Literal["quick", "thorough"] = Field("quick", title="How thorough", description="Time against quality.")
    rank: int = Field(16, ge=1, le=256, title="LoRA rank", description="Size of the update.")
    rate: float = Field(5e-4, gt=0, lt=1, title="Learning rate")
    epochs: int | None = Field(None, ge=1, title="Epochs", json_schema_extra={"unit": "passes"})
    shuffle: bool = Field(True, title="Shuffle")
    colour: Colour = Colour.RED
    size: Literal["a", "b", "c", "d", "e"] = "c"
    stop: tuple[str, ...] = Field((), title="Stop strings")
    note: str = Field("", title="Note", json_schema_extra={"lines": 4})

    @model_validator(mode="after")
    def _together(self) -> Knobs:
        if self.effort == "quick" and self.rank == 256:
            raise ValueError("A rank of 256 needs a thorough run. Choose 'thorough'.")
        return self


GOOD: dict[str, Any] = {"base": "run:17"}


@pytest.fixture
def knobs() -> Form[Knobs]:
    with gr.Blocks():
        return form(Knobs)


def values(knobs: Form[Any], **changed: Any) -> list[Any]:
    """What the widgets would send, with some of them changed by a person."""
    return [{**GOOD, **changed}.get(name, w.value) for name, w in knobs.widgets.items()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "widget"),
    [
        ("base", gr.Textbox),
        ("effort", gr.Radio),
        ("rank", gr.Number),
        ("rate", gr.Number),
        ("epochs", gr.Textbox),  # gr.Number turns an empty box into 0
        ("shuffle", gr.Checkbox),
        ("colour", gr.Radio),
        ("size", gr.Dropdown),
        ("stop", gr.Textbox),
        ("note", gr.Textbox),
    ],
)
def test_each_kind_of_field_has_its_widget(knobs: Form[Knobs], name: str, widget: type):
    assert type(knobs.widgets[name]) is widget


def test_every_widget_has_a_label_and_says_its_bounds(knobs: Form[Knobs]):
    assert [w.label for w in knobs.widgets.values()] == [f.title for f in describe(Knobs)]
    assert knobs.widgets["rank"].info == "Size of the update. (1 to 256)"
    assert knobs.widgets["rate"].info == "above 0, below 1"
    assert knobs.widgets["epochs"].info == "1 or more passes"
    assert knobs.widgets["note"].lines == 4  # type: ignore[attr-defined]


def test_an_untouched_form_gives_the_defaults(knobs: Form[Knobs]):
    assert knobs.read(values(knobs)) == Knobs(base=ModelRef("run:17"))


def test_what_people_typed_comes_back_typed(knobs: Form[Knobs]):
    got = knobs.read(values(knobs, epochs="3", stop="###\n\nUser:", colour="blue", rank=8.0, shuffle=False))
    assert (got.epochs, got.stop, got.colour, got.rank, got.shuffle) == (3, ("###", "User:"), Colour.BLUE, 8, False)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rank", 0, "Must be 1 or more, not 0."),
        ("rank", 300, "Must be 256 or less, not 300."),
        ("rank", 1.5, "Must be a whole number, not 1.5."),
        ("rank", None, "Is needed."),
        ("rate", 0, "Must be above 0, not 0."),
        ("rate", 1, "Must be below 1, not 1."),
        ("epochs", "many", "Must be a whole number, not 'many'."),
        ("epochs", "0", "Must be 1 or more, not '0'."),
        ("effort", "lazy", "Must be 'quick' or 'thorough', not 'lazy'."),
        ("base", "", "Is needed."),
        ("base", "gpt", "'gpt' is not a ModelRef. Write it like embedded:smollm2-135m-instruct or run:17."),
    ],
)
def test_a_bad_value_is_said_under_its_own_field(knobs: Form[Knobs], name: str, value: Any, words: str):
    verdicts = dict(zip(knobs.widgets, knobs.validator()(*values(knobs, **{name: value})), strict=True))
    assert {n: v["message"] for n, v in verdicts.items() if not v["is_valid"]} == {name: words}


def test_reading_names_every_bad_field_at_once(knobs: Form[Knobs]):
    with pytest.raises(InputError) as refused:
        knobs.read(values(knobs, rank=0, rate=2))
    assert "LoRA rank: must be 1 or more, not 0." in str(refused.value)
    assert "Learning rate: must be below 1, not 2." in str(refused.value)


def test_what_is_wrong_with_the_whole_is_said_by_reading_it(knobs: Form[Knobs]):
    together = values(knobs, rank=256)
    assert all(v["is_valid"] for v in knobs.validator()(*together))
    with pytest.raises(InputError, match="needs a thorough run"):
        knobs.read(together)


def test_inputs_after_the_form_are_left_alone(knobs: Form[Knobs]):
    verdicts = knobs.validator()(*values(knobs), "something else", 7)
    assert len(verdicts) == len(knobs.inputs) + 2
    assert all(v["is_valid"] for v in verdicts)


def test_a_given_widget_belongs_to_the_form():
    with gr.Blocks():
        chooser = gr.Dropdown(["run:17"])
        knobs = form(Knobs, given={"base": chooser})
    assert knobs.inputs[0] is chooser
    assert [w.label for w in knobs.inputs].count("Which model") == 0


def test_a_skipped_field_is_given_as_a_fixed_value():
    with gr.Blocks():
        knobs = form(Knobs, skip={"base"})
    assert "base" not in knobs.widgets
    assert knobs.read(values(knobs), base="run:3").base == "run:3"
    assert all(v["is_valid"] for v in knobs.validator(base="run:3")(*values(knobs)))


def test_folded_fields_complain_where_they_are_seen():
    with gr.Blocks() as demo:
        knobs = form(Knobs, first=("base", "effort"), more="More knobs")
    (fold,) = [b for b in demo.blocks.values() if isinstance(b, gr.Accordion)]
    assert (fold.label, fold.open) == ("More knobs", False)
    assert list(knobs.widgets) == list(Knobs.model_fields)
    assert all(v["is_valid"] for v in knobs.validator()(*values(knobs, rank=0)))
    with pytest.raises(InputError, match="LoRA rank"):
        knobs.read(values(knobs, rank=0))


def test_a_record_is_shown_in_its_widgets(knobs: Form[Knobs]):
    shown = dict(zip(knobs.widgets, knobs.show(Knobs(base=ModelRef("run:2"), stop=("a", "b"), epochs=4)), strict=True))
    assert (shown["base"], shown["stop"], shown["epochs"], shown["effort"]) == ("run:2", "a\nb", "4", "quick")
    assert knobs.read(list(shown.values())).epochs == 4


def test_a_form_that_cannot_be_checked_does_not_show_why(knobs: Form[Knobs]):
    class Broken(BaseModel):
        x: str = ""

        @model_validator(mode="before")
        @classmethod
        def _fail(cls, data: Any) -> Any:
            raise RuntimeError("inside")

    with gr.Blocks():
        broken = form(Broken)
    assert broken.validator()("x") == [gr.validate(True, "")]


@pytest.mark.parametrize("model", [Sampling, *recipes().values()], ids=lambda m: m.__name__)
def test_everything_the_studio_asks_for_can_be_a_form(model: type[BaseModel]):
    with gr.Blocks():
        made = form(model)
    assert list(made.widgets) == list(model.model_fields)
    assert all(f.title and f.help for f in describe(model))


def test_a_field_that_no_form_can_ask_for_is_refused_when_it_is_written():
    class Odd(BaseModel):
        x: dict[str, int] = {}

    with gr.Blocks(), pytest.raises(TypeError, match="cannot ask for"):
        form(Odd)


def test_named_lines_keep_their_numbers_and_a_line_without_a_name_is_a_sentence():
    assert named_lines("tone: kind: very\n\n votes : 5 ", "other settings") == {
        "tone": (1, "kind: very"),
        "votes": (3, "5"),
    }
    with pytest.raises(InputError, match=r"Line 2 of the other settings is ': 5'\. Write it as 'name: value'\."):
        named_lines("tone: kind\n: 5", "other settings")
