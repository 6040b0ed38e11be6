"""How surprised a model is by a record: the loss of training, and nothing else."""

from __future__ import annotations

import pytest
import torch

from studio.engine.shelf import Shelf
from studio.models import Weights
from studio.specs import ModelRef, assistant, user
from studio.training.conversation import MASKED, encode_example
from studio.training.perplexity import record_losses

TALKS = [
    [user("Is it dry?"), assistant("Yes, it is dry.")],
    [user("How heavy is the tent, and how many people sleep in it?"), assistant("Two.")],
    [user("Hello"), assistant("Hello to you."), user("And?"), assistant("That is all of it.")],
]


@pytest.fixture
def examples(tokenizer):
    return [encode_example(tokenizer, talk) for talk in TALKS]


def plainly(model, example) -> float:
    """By the book: logits of every place, and the labels of the learned ones."""
    ids, labels = torch.tensor([example.ids]), torch.tensor(example.labels)
    with torch.no_grad():
        table = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    chosen = [(place, int(label)) for place, label in enumerate(labels[1:]) if label != MASKED]
    return -sum(float(table[place, label]) for place, label in chosen)


def test_every_records_loss_is_that_of_the_plain_computation(tiny, examples):
    found = record_losses(tiny, examples)
    assert found == pytest.approx([plainly(tiny, example) for example in examples], rel=1e-4)


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_an_adapter_as_it_is_served_has_a_say(request, tiny, tiny_weights, examples, kind):
    folder = request.getfixturevalue(f"tiny_{kind}")
    tuned = Weights(ModelRef("run:1"), tiny_weights.base, folder, tiny_weights.digest, tiny_weights.window, "")
    shelf = Shelf(torch.device("cpu"), torch.float32)
    with shelf.model(tuned) as model:
        after = record_losses(model, examples)
    assert after != pytest.approx(record_losses(tiny, examples), rel=1e-3)


def test_reading_ends_between_two_records_when_it_is_told_to(tiny, examples):
    seen: list[int] = []
    assert record_losses(tiny, examples, lambda done: bool(seen.append(done)) or done < 2) is None
    assert seen == [1, 2]
