"""The verdict task: both models on records that neither learned from, resumable, and said in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import studio.evaluation.statistics as statistics
from studio.errors import InputError, ModelError, NotFound, StorageError
from studio.instructions import conversation
from studio.jobs import task_from
from studio.models import Weights, resolve
from studio.recipes.lora import Lora
from studio.recipes.ppo import Ppo
from studio.recipes.verdict import Verdict, _unseen, deciding_metric, general_questions, judge_after
from studio.recipes.verdict_state import Verdicts, figures, forgotten, outcome_of, read_texts, sift
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Job, Store, model_row
from studio.tasks import Recipe
from studio.training.conversation import encode_example
from studio.training.loading import load_tokenizer
from tests.prompts.desk import Answering, DeskRun, stopping_after
from tests.training.toys import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

BASE, DATA = "dir:tiny", "data:gear@1"
Says = Callable[[str], str]


def rows(test: int, train: int = 8) -> list[dict[str, Any]]:
    def row(n: int, split: str) -> dict[str, Any]:
        return {
            "instruction": f"What is item {n}?",
            "context": "",
            "response": f"Item {n} is the green tent by the door.",
            "category": "open_qa",
            "split": split,
        }

    return [row(n, "train") for n in range(train)] + [row(100 + n, "test") for n in range(test)]


def right(asked: str) -> str:
    return f"Item {asked.split()[-1].rstrip('?')} is the green tent by the door."


def wrong(asked: str) -> str:
    return "I cannot say anything about that."


class Place:
    """A workspace with a tuned model in it, and models that say what a test wants."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.root = store, root
        self.models = {BASE: Answering(ModelRef(BASE), lambda m: "")}

    def freeze(self, test: int) -> None:
        self.store.freeze(self.root, "data", "gear", rows(test), author="ann")

    def tuned(self, adapter: Path, task: Recipe | None = None, **facts: Any) -> Job:
        job = self.store.queue_job(task or Lora(base=BASE, data=DATA), author="ann")
        claimed = self.store.claim_job("train", "desk", only=job.id)
        assert claimed is not None
        self.store.start_job(job.id, 1, 1)
        shutil.copytree(adapter, self.root / "runs" / str(job.id) / "model")
        told = {"base": BASE, "snapshot": DATA, "method": "lora", "path": f"runs/{job.id}/model", **facts}
        row = model_row(f"run:{job.id}", job.title, author="ann", **told)
        return self.store.finish_job(job.id, 1, "done", result={}, model=row)

    def run(self, task: Verdict, before: Says, after: Says) -> DeskRun:
        """`before` and `after` answer the last question they are asked."""
        for ref, says in ((BASE, before), (str(task.model), after)):
            self.models[ref] = Answering(ModelRef(ref), lambda m, says=says: says(m[-1].content))
        run = DeskRun(self.store, self.root, task, dict(self.models))
        run.output.mkdir(parents=True, exist_ok=True)
        return run

    def judged(self, task: Verdict, before: Says, after: Says) -> dict[str, Any]:
        run = self.run(task, before, after)
        result = task.do(run)
        run.finish(result)
        return result


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are held to their word elsewhere."""
    monkeypatch.setattr(statistics, "_RESAMPLES", 199)


@pytest.fixture
def place(tmp_path: Path, sqlite_store: Store, tiny_folder: Path) -> Place:
    shutil.copytree(tiny_folder, tmp_path / "models" / "tiny")
    return Place(sqlite_store, tmp_path)


@pytest.fixture
def verdict(place: Place, tiny_lora: Path) -> Verdict:
    """Of a tuned model with 24 test records."""
    place.freeze(24)
    return Verdict(model=ModelRef.of_run(place.tuned(tiny_lora).id))


def run_weights(place: Place) -> Weights:
    return resolve(ModelRef(BASE), settings=Settings(), store=place.store, workspace=place.root)


# -- what it says ----------------------------------------------------------------------------------------------


def test_a_model_that_answers_better_is_recommended_with_the_texts_that_show_it(place, verdict):
    result = place.judged(
        verdict, wrong, lambda asked: right(asked) if asked.endswith(tuple("01234567?")) else wrong(asked)
    )
    assert (result["outcome"], result["measure"], result["on"]) == ("use", "f1", "test records")
    assert result["sentence"] == "Use it: better on 24 of 24 test records, worse on 0."
    assert result["answers"]["difference"]["low"] > 0.5
    texts = read_texts(place.root / "runs" / "2")
    assert len(sift(texts, "better")) == 24
    first = sift(texts, "better")[0]
    assert (first.before, first.after) == (wrong(""), first.wanted)


def test_only_the_test_split_is_asked_and_nothing_that_was_learned_from(place, verdict):
    place.judged(verdict, wrong, right)
    asked = [m[-1].content for m in place.models[BASE].asked if m[-1].content.startswith("What is item")]
    assert sorted(asked) == sorted(f"What is item {100 + n}?" for n in range(24))


def test_a_test_record_that_asks_what_a_training_record_asks_stays_out(place, tiny_lora):
    edited = {**rows(0, train=1)[0], "instruction": "what is  ITEM 105?"}  # its split stayed when its words changed
    place.store.freeze(place.root, "data", "gear", [*rows(24), edited], author="ann")
    result = place.judged(Verdict(model=ModelRef.of_run(place.tuned(tiny_lora).id)), wrong, right)
    assert (result["test_records"], result["asked_in_training"], result["answers"]["n"]) == (23, 1, 23)
    assert not any("105" in said.question for said in read_texts(place.root / "runs" / "2") if said.part == "answers")


def test_what_the_runs_behind_a_run_learned_stays_out_as_well(place, tiny_lora):
    older = place.store.freeze(place.root, "data", "older", [{**rows(24)[-1], "split": "validation"}], author="ann")
    place.freeze(24)
    first = place.tuned(tiny_lora, snapshot=str(older.ref))
    second = ModelRef.of_run(place.tuned(tiny_lora, base=f"run:{first.id}").id)
    run = place.run(Verdict(model=second), wrong, right)
    test = [row for row in rows(24) if row["split"] == "test"]
    assert _unseen(run, second, test) == test[:-1]
    (place.root / older.path).unlink()
    assert _unseen(run, second, test) == test
    assert f"it is not known which questions run:{first.id} learned" in run.said[-1]


def test_losses_are_per_learned_token_and_those_of_both_models(place, verdict):
    result = place.judged(verdict, wrong, right)
    loss = result["loss"]
    assert loss["perplexity"]["before"] != loss["perplexity"]["after"]
    assert loss["difference"]["value"] == pytest.approx(loss["after"] - loss["before"])
    assert loss["difference"]["n"] == 24 == loss["better"] + loss["worse"]
    tokenizer = load_tokenizer(run_weights(place))
    learned = sum(encode_example(tokenizer, conversation(row)).learned for row in rows(24) if row["split"] == "test")
    assert loss["tokens"] == learned


def test_what_was_known_and_is_lost_counts_against_it(place, verdict):
    def knows(asked: str) -> str:
        return everything() if not asked.startswith("What is item") else wrong(asked)

    result = place.judged(verdict, knows, right)
    assert result["outcome"] == "do_not"
    assert "it forgot" in result["sentence"]
    lost, gained = forgotten(read_texts(place.root / "runs" / "2"))
    assert len(lost) == result["general"]["worse"] >= 20
    assert len(gained) == result["general"]["better"]
    assert lost[0].wanted


def test_too_few_test_records_decide_nothing_and_none_at_all_say_what_to_do(place, tiny_lora):
    place.freeze(12)
    task = Verdict(model=ModelRef.of_run(place.tuned(tiny_lora).id))
    assert place.judged(task, wrong, right)["sentence"] == "Cannot tell: 12 test records are too few."


def test_a_snapshot_without_test_records_is_told_and_general_questions_are_asked_all_the_same(place, tiny_lora):
    place.freeze(0)
    task = Verdict(model=ModelRef.of_run(place.tuned(tiny_lora).id))
    result = place.judged(task, wrong, wrong)
    assert result["sentence"] == "Cannot tell: there are no test records."
    assert (result["loss"], result["answers"], result["metrics"]) == (None, None, {})
    assert result["general"]["n"] == 60


def test_an_open_evaluation_set_decides_by_its_rules(place, verdict):
    items = [
        {"instruction": f"Is item {n} open?", "rules": [{"rule": "contains_all", "values": ["yes"]}]} for n in range(30)
    ]
    place.store.freeze(place.root, "eval", "gear-development", items, author="ann")
    task = verdict.model_copy(update={"evaluation": "eval:gear-development@1"})
    task = Verdict.model_validate(task.model_dump())
    task.check(place.store)
    result = place.judged(task, wrong, lambda asked: "Yes.")
    assert (result["measure"], result["on"]) == ("rules", "evaluation rows")
    assert result["sentence"].startswith("Use it: better on 30 of 30 evaluation rows")


def test_a_cap_draws_the_same_records_each_time(place, verdict):
    task = Verdict(model=verdict.model, examples=20)
    numbers = []
    for _ in range(2):
        place.judged(task, wrong, right)
        newest = place.store.jobs()[0].id
        numbers.append([t.question for t in read_texts(place.root / "runs" / str(newest)) if t.part == "answers"])
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) == 20


def test_a_question_that_a_model_refuses_does_not_take_the_others_along(place, verdict):
    def refuses(asked: str) -> str:
        if asked == "What is item 105?":
            raise ModelError("The conversation is too long.")
        return wrong(asked)

    result = place.judged(verdict, refuses, right)
    assert result["refused"] == 1
    assert result["answers"]["n"] == 23


# -- stopping --------------------------------------------------------------------------------------------------


def test_a_verdict_that_was_stopped_goes_on_where_it_was(place, verdict):
    run = place.run(verdict, wrong, right)
    with stopping_after(run, 48 + 3):
        assert verdict.do(run) == {}
    before = len(place.models[BASE].asked)
    assert 0 < before < 84
    result = verdict.do(run)
    assert result["outcome"] == "use"
    assert len(place.models[BASE].asked) == 84  # 24 records and 60 questions, none of them twice
    assert max(step for step, _ in run.logged) == 2 * (24 + 24 + 60)


def test_it_stops_between_two_records_as_well(place, verdict):
    run = place.run(verdict, wrong, right)
    with stopping_after(run, 5):
        assert verdict.do(run) == {}
    assert place.models[BASE].asked == []


def test_a_second_run_on_the_same_base_asks_that_base_nothing_again(place, verdict, tiny_lora):
    place.judged(verdict, wrong, right)
    place.judged(Verdict(model=ModelRef.of_run(place.tuned(tiny_lora).id)), wrong, right)
    assert place.models[BASE].asked == []


def test_answers_that_are_known_from_before_say_nothing_about_the_time_that_is_left(place, verdict, tiny_lora):
    place.judged(verdict, wrong, right)
    run = place.run(Verdict(model=ModelRef.of_run(place.tuned(tiny_lora).id)), wrong, right)
    Verdict(model=ModelRef("run:3")).do(run)
    of_the_base = 2 * 24 + 24 + 60
    timed = [step for step, metrics in run.logged if "seconds_left" in metrics]
    assert timed
    assert min(timed) > of_the_base


# -- what is refused -------------------------------------------------------------------------------------------


def test_what_cannot_be_judged_is_refused_with_the_reason(place, tiny_lora):
    place.freeze(4)
    queued = place.store.queue_job(Lora(base=BASE, data=DATA), author="ann")
    cases = {
        BASE: "was not tuned here",
        f"run:{queued.id}": "is queued, so there is nothing to judge yet",
    }
    for ref, words in cases.items():
        with pytest.raises(InputError, match=words):
            Verdict(model=ModelRef(ref)).check(place.store)
    with pytest.raises(NotFound, match="run:99"):
        Verdict(model=ModelRef("run:99")).check(place.store)
    practised = Ppo(base=ModelRef(BASE), reward=ModelRef("run:7"), prompts="prompts:gear@1")
    aligned = place.tuned(tiny_lora, practised, snapshot="prompts:gear@1", method="ppo")
    with pytest.raises(InputError, match="was not tuned on instruction records"):
        Verdict(model=ModelRef.of_run(aligned.id)).check(place.store)


def test_a_frozen_evaluation_set_does_not_choose_between_runs(place, verdict):
    items = [{"instruction": "Is it open?", "rules": [{"rule": "max_words", "value": 5}]}]
    for name in ("gear", "gear-development"):
        place.store.freeze(place.root, "eval", name, items, author="ann")
    task = Verdict.model_validate({**verdict.model_dump(), "evaluation": "eval:gear@1"})
    with pytest.raises(InputError, match="is a frozen set"):
        task.check(place.store)


def test_it_can_be_started_by_its_kind(verdict):
    assert task_from("verdict", verdict.model_dump(mode="json")) == verdict
    assert verdict.lane == "light"


# -- what a page reads -----------------------------------------------------------------------------------------


def test_the_newest_finished_verdict_of_a_run_stays_while_another_is_on_its_way(place, verdict):
    verdicts, run = Verdicts(place.store), int(verdict.model.name)
    assert verdicts.newest(run) is verdicts.judged(run) is None
    place.judged(verdict, wrong, right)
    first = verdicts.newest(run)
    assert first is not None
    assert outcome_of(first) == "use"
    assert verdicts.outcomes() == {verdict.model.name: "use"}
    second = place.store.queue_job(verdict, author="ann")
    assert [verdicts.newest(run).id, verdicts.judged(run).id] == [second.id, first.id]
    place.store.request_job(second.id, "cancel")
    assert verdicts.newest(run).id == first.id


def test_figures_say_what_decides(place, verdict):
    found = {figure.name: figure for figure in figures(place.judged(verdict, wrong, right))}
    assert [name for name, figure in found.items() if figure.decides] == ["F1 over words"]
    assert found["Loss per learned token, in nats"].lower_is_better
    assert found["General questions right"].n == 60


def test_texts_that_are_gone_are_named(tmp_path):
    with pytest.raises(StorageError, match="Judge the run again"):
        read_texts(tmp_path)


def test_a_verdict_follows_a_run_that_is_not_done_yet(place):
    place.freeze(4)
    job = place.store.queue_job(Lora(base=BASE, data=DATA), author="ann")
    judge_after(place.store, job, author="ben")
    assert place.store.followers(job.id) == ["verdict"]


def test_a_run_that_became_done_meanwhile_is_judged_at_once(place):
    place.freeze(4)
    seen = place.store.queue_job(Lora(base=BASE, data=DATA), author="ann")
    claimed = place.store.claim_job("train", "here")
    place.store.start_job(seen.id, claimed.attempt, pid=1)
    place.store.finish_job(seen.id, claimed.attempt, "done")
    judge_after(place.store, seen, author="ben")
    assert [job.kind for job in place.store.waiting_jobs("light")] == ["verdict"]


def test_short_references_are_held_to_the_letter_and_sentences_by_their_words():
    assert deciding_metric(["Refund", "Exchange of size", "Repair"], False) == "exact"
    assert deciding_metric(["It is the green tent by the door."], False) == "f1"
    assert deciding_metric([None], True) == "rules"


# -- the general questions -------------------------------------------------------------------------------------


def test_the_general_questions_are_sixty_different_ones_of_six_kinds():
    asked = general_questions()
    assert len({item.asked for item in asked}) == 60
    assert {item.category for item in asked} == {"arithmetic", "facts", "language", "format", "manners", "code"}
    assert all(item.wanted for item in asked)


def everything() -> str:
    """All words that the rules want, one answer for every question."""
    values = [v for item in general_questions() for rule in item.row["rules"] for v in rule.get("values", ())]
    return " ".join(dict.fromkeys(values))
