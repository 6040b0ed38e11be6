"""Tokens as people read them: training's own, and spelled to the letter."""

import pytest

from studio.engine.marks import marks, spelled
from studio.specs import assistant, system, user
from studio.training.conversation import MASKED, encode_example, render

CONVERSATIONS = [
    pytest.param([user("What is the capital of France?"), assistant("Paris.")], id="one turn"),
    pytest.param([system("Be short."), user("1"), assistant("2"), user("3"), assistant("4")], id="several turns"),
    pytest.param(
        [user("Grüße 👋"), assistant("Schöne Grüße 👋🏽 👩‍👩‍👧 東京 שלום")], id="characters of several tokens"
    ),
    pytest.param([user("What is this: \ufffd\ufffd?"), assistant("\ufffd")], id="signs that were lost before"),
    pytest.param([user("Hello"), assistant("a\ufffd" + "\ufffd" * 99 + "👋" * 30 + "b")], id="many of them in a row"),
    pytest.param([user("Write  it"), assistant("  indented\n\n\ttwice  " * 20)], id="white space"),
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_the_marks_are_the_labels_of_training(tokenizer, messages):
    example = encode_example(tokenizer, messages)
    told = marks(tokenizer, messages, 4096)
    assert [learned for _, learned, _ in told["marks"]] == [label != MASKED for label in example.labels]
    assert (told["tokens"], told["learned"]) == (len(example.ids), example.learned)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_the_texts_of_all_tokens_are_the_conversation_to_the_letter(tokenizer, messages):
    told = marks(tokenizer, messages, 4096)
    assert "".join(text for text, _, _ in told["marks"]) + "\n" == render(
        tokenizer, messages, add_generation_prompt=False
    )


def test_a_character_of_several_tokens_stands_with_its_last(tokenizer):
    ids = tokenizer("a👋b", add_special_tokens=False)["input_ids"]
    texts = spelled(tokenizer, ids)
    assert texts == ["a", *[""] * (len(ids) - 3), "👋", "b"]


def test_the_models_own_signs_are_told_apart(tokenizer):
    told = marks(tokenizer, [user("Hello"), assistant("Hi")], 4096)
    assert {text for text, _, special in told["marks"] if special} == {"<|im_start|>", "<|im_end|>"}


def test_the_embedded_models_tokens_are_spelled_to_the_letter(embedded):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded.folder)
    messages = [user("Grüße 👋"), assistant("Schöne Grüße 👋🏽, 東京!")]
    text = render(tokenizer, messages, add_generation_prompt=False)
    told = marks(tokenizer, messages, 4096)
    assert text.startswith("".join(text for text, _, _ in told["marks"]))
