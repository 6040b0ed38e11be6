"""A tuning run and the verdict that follows it, in real worker processes, from the queue to the page's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.jobs import run_here
from studio.recipes.verdict import TEXTS, Verdict
from studio.recipes.verdict_state import Verdicts, figures, read_texts
from studio.specs import ModelRef
from tests.jobs.conftest import Shop
from tests.jobs.tiny import put_tiny, tune


def put_records(shop: Shop, test: int) -> None:
    """Records that a tiny model can learn, and some that it may not."""
    rows = [
        {
            "instruction": f"What is number {n}?",
            "context": "",
            "response": f"It is the number {n} of the day.",
            "category": "open_qa",
            "split": "test" if n < test else "validation" if n % 8 == 7 else "train",
        }
        for n in range(24 + test)
    ]
    shop.store.freeze(shop.path, "data", "gear", rows, author="ann", licence="MIT")


@pytest.mark.slow
def test_a_verdict_follows_its_run_and_leaves_figures_and_texts(shop: Shop, tiny_folder: Path):
    put_tiny(shop.path, tiny_folder)
    put_records(shop, test=20)
    run = shop.store.queue_job(tune(epochs=3, learning_rate=1e-2), author="ann")
    shop.store.follow_job(run.id, Verdict(model=ModelRef.of_run(run.id), max_tokens=12), author="ann")
    done = run_here(shop.store, shop.path, shop.settings, run.id)
    assert done.state == "done", f"{done.error}\n{shop.log(run.id)}"

    queued = shop.store.jobs()[0]
    assert (queued.kind, queued.state, queued.author) == ("verdict", "queued", "ann")
    judged = run_here(shop.store, shop.path, shop.settings, queued.id)
    assert judged.state == "done", f"{judged.error}\n{shop.log(queued.id)}"
    assert judged.result is not None
    assert judged.result["loss"]["difference"]["high"] < 0  # it has learned what the records say
    assert judged.result["test_records"] == 20
    assert judged.result["outcome"] in ("use", "not_yet", "do_not")
    assert judged.progress == 1.0
    assert (shop.folder(judged.id) / TEXTS).is_file()
    assert len(read_texts(shop.folder(judged.id))) == 20 + 60
    assert {figure.n for figure in figures(judged.result)} == {20, 60}
    newest = Verdicts(shop.store).newest(run.id)
    assert newest is not None
    assert newest.id == judged.id
