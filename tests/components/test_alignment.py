"""The alignment page: four steps in their real state, and what each of its buttons starts."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
import pytest

from components import alignment
from components.alignment_cards import report_card, result
from studio.preferences import RULE
from studio.recipes.ppo import Ppo
from studio.store import Store
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.preferences.items import judge
from tests.recipes.lines import TUNED, add_batch, add_prompts, add_tuned, ppo_run, report, reward_run

KEY = "key-of-this-click"
REWARD = (TUNED, 3, 4, 2e-4, 16, 32, 0.01, 1024, 0)


class Shown:
    """The page as a browser keeps it: what was skipped stays as it was."""

    def __init__(self, project: Workspace) -> None:
        with gr.Blocks() as self.demo:
            self.widgets = alignment.build(project)
        self.values: dict[Any, Any] = {block: block.value for block in self._refresh.inputs}
        self.visible: dict[Any, bool] = {}

    @property
    def _refresh(self) -> Any:
        return self.widgets.refresh

    def look(self, run: str | None = None, batch: str | None = None) -> Shown:
        if run is not None:
            self.values[self.widgets.links["run"]] = run
        if batch is not None:
            self.values[self.widgets.links["run"]], self.values[self.widgets.batch] = "", batch
        self.last = self._refresh.fn(*(self.values[block] for block in self._refresh.inputs))
        assert set(self.last) <= set(self._refresh.outputs)
        for block, value in self.last.items():
            changes = value._constructor_args[0] if isinstance(value, gr.blocks.Block) else {"value": value}
            if "value" in changes:
                self.values[block] = changes["value"]
            if "visible" in changes:
                self.visible[block] = changes["visible"]
        return self

    def __getitem__(self, label: str) -> Any:
        (found,) = (block for block in self._refresh.outputs if getattr(block, "label", None) == label)
        return self.values[found]

    def is_updated(self, label: str) -> bool:
        return any(getattr(block, "label", None) == label for block in self.last)

    def shows(self, elem_id: str) -> bool:
        (found,) = (block for block in self._refresh.outputs if getattr(block, "elem_id", None) == elem_id)
        return self.visible[found]

    @property
    def html(self) -> str:
        return " ".join(value for value in self.values.values() if isinstance(value, str))


@pytest.fixture
def store(project: Workspace) -> Store:
    add_tuned(project.store)
    return project.store


@pytest.fixture
def page(project: Workspace) -> gr.Blocks:
    with gr.Blocks() as demo:
        alignment.build(project)
    return demo


@pytest.fixture
def shown(project: Workspace, store: Store) -> Shown:
    return Shown(project)


def ppo_form(number: int, **change: Any) -> list[Any]:
    """The values of the form, in the order of its fields."""
    given = {"base": TUNED, "reward": f"run:{number}", "prompts": "prompts:brackenfold@1", **change}
    return [given.get(name, field.default) for name, field in Ppo.model_fields.items()]


# -- where the steps are -------------------------------------------------------------------------------------


def test_without_labels_there_is_one_sentence_and_one_button(shown):
    shown.look()
    boxes = [shown.visible[block] for block in shown.last if isinstance(block, gr.Column)][:2]
    assert boxes == [True, False]
    assert "needs 20 judgements" in shown["Steps"]


def test_the_first_step_that_can_be_acted_on_is_the_current_one(shown, store, project):
    add_batch(store, people=30)
    shown.look()
    assert 'data-state="ready" aria-current="step"' in shown["Steps"]
    assert 'data-current="true"' in shown["Step 2"]
    assert 'data-current="false"' in shown["Step 3"]
    assert "needs a reward model" in shown["Step 3"]
    assert "Usually" in shown["Step 3"]  # what a step will cost is said before it can start
    assert "judgements 3 times" in shown["What training would do"]


def test_labels_say_how_many_by_whom_and_carry_the_simulated_mark(shown, store):
    add_batch(store, items=60, people=25, rule=10)
    shown.look()
    assert "25 by people · 10 by a stated rule" in shown["Labels"]
    assert "10 of 35 judgements come from a rule, not from people." in shown["Step 1"]
    add_batch(store, "clean", people=25)
    assert "simulated" not in shown.look(batch="clean")["Step 1"]


def test_a_link_opens_a_run_in_its_line(shown, store, project):
    add_batch(store, people=30)
    old, new = reward_run(store, project.path), reward_run(store, project.path)
    ppo = ppo_run(store, old, add_prompts(store, project.path))
    shown.look(run=str(ppo.id))
    assert f"run:{ppo.id}" in shown["Before and after"]
    assert f'data-key="{ppo.id}" tabindex="0" aria-selected="true"' in shown["Runs"]
    assert shown["Aligned run"] == str(ppo.id)
    shown.look(run=str(new.id))
    assert shown["Aligned run"] == ""
    assert "needs an aligned model" in shown["Steps"]


def test_a_link_to_nothing_is_a_sentence_and_the_newest_line_is_shown(shown, store):
    add_batch(store, people=30)
    shown.look(run="999")
    assert "There is no run 999" in shown["What went wrong"]
    assert "30 judgements" in shown["Steps"]


def test_lists_and_runs_are_left_alone_until_there_is_something_new(shown, store, project):
    add_batch(store, people=30)
    reward = reward_run(store, project.path)
    assert shown.look().is_updated("Batch")
    assert shown.is_updated("Report card")
    shown.look()
    assert not shown.is_updated("Batch")
    assert not shown.is_updated("Report card")
    add_batch(store, "summer")
    assert shown.look(run=str(reward.id)).is_updated("Batch")


def test_what_a_person_chose_stays_while_the_line_does(shown, store, project):
    add_batch(store, people=30)
    reward_run(store, project.path)
    shown.look()
    reward_list = next(b for b in shown.values if getattr(b, "elem_id", "") == "reward-base")
    assert shown.values[reward_list] == TUNED
    shown.values[reward_list] = "embedded:smollm2-135m-instruct"
    add_batch(store, "summer")
    shown.look()
    assert shown.values[reward_list] == "embedded:smollm2-135m-instruct"
    shown.look(batch="summer")
    assert shown.values[reward_list] == TUNED


def test_every_page_that_opens_gets_a_key_of_its_own(project, store):
    keys = {Shown(project).look()["Key of the next start"] for _ in range(3)}
    assert len(keys) == 3


def test_a_step_of_a_run_does_not_fold_a_form_that_somebody_opened(shown, store, project):
    add_batch(store, people=30)
    job = reward_run(store, project.path, "running")
    (form,) = (block for block in shown.look().last if getattr(block, "label", "") == "Train a reward model")
    assert shown.last[form]._constructor_args[0]["open"] is False
    store.log_metrics(job.id, 1, 41, 100, {"loss": 0.5})
    assert "open" not in shown.look().last[form]._constructor_args[0]


def test_a_failing_database_is_a_sentence_on_the_page(shown, store, project):
    add_batch(store, people=30)
    shown.look()
    store.close()
    (project.path / "studio.db").write_bytes(b"no database")
    shown.look()
    assert "data-tone" in shown["What went wrong"]


# -- what is shown of runs -----------------------------------------------------------------------------------


def test_a_reward_model_at_work_shows_its_loss_and_its_buttons(shown, store, project):
    add_batch(store, people=30)
    job = reward_run(store, project.path, "running")
    store.log_metrics(job.id, 1, 41, 100, {"loss": 0.512, "accuracy": 0.74, "seconds_left": 125.0})
    shown.look()
    assert "step 41 of 100" in shown.html
    assert "2 min left" in shown.html
    assert "0.512" in shown["Report card"]
    assert "74 %" in shown["Report card"]
    assert [shown.shows(f"{name}-reward") for name in ("pause", "cancel", "resume")] == [True, True, False]
    assert list(shown["Loss per pair"]["loss"]) == [0.512]


def test_the_report_card_stands_beside_the_longer_answer(shown, store, project):
    add_batch(store, people=30)
    reward_run(store, project.path)
    card = shown.look()["Report card"]
    for part in ("48 held-out pairs of 16 prompts", "79 %", "69 to 89", "56 %", "75 % of 12 pairs", "0.07", "0.17"):
        assert part in card


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "not defined"),
        (report(0.55, 0.40), "hardly more than guessing"),
        (report(0.96, 0.40), "more than people agree"),
        (report(0.7, 0.8), "longer answer agrees as often (80 %)"),
        (report(length_matched=None), "not defined: no such pair"),
    ],
    ids=["nothing-held-out", "poor", "too-good", "length", "no-like-length"],
)
def test_report_cards_warn_in_words(card, said):
    assert said in report_card({"report": card})


def test_what_is_not_defined_is_no_number():
    assert "%" not in report_card({"report": None}).replace("95 % interval", "")


def test_results_of_simulated_judgements_say_so_at_every_step(shown, store, project):
    add_batch(store, rule=30)
    reward = reward_run(store, project.path, simulated=30)
    ppo_run(store, reward, add_prompts(store, project.path), simulated=30)
    shown.look()
    for step in ("Step 1", "Step 2", "Step 4"):
        assert "simulated" in shown[step]


def test_practice_shows_curves_figures_and_answers_without_trusting_them(shown, store, project):
    add_batch(store, people=30)
    job = ppo_run(store, reward_run(store, project.path), add_prompts(store, project.path), "running")
    values = {"reward/score": -0.25, "kl/seq": 2.5, "len/response_mean": 61.0, "reward/ended_rate": 0.9}
    store.log_metrics(job.id, 1, 41, 100, {**values, "perf/episodes_s": 0.8, "memory_gb": 2.4})
    store.log_metrics(job.id, 1, 41, 100, {"eval/score": 0.5, "eval/kl": 2.0})
    said = {"reference": "<img src=x onerror=alert(1)>", "policy": "<b>better</b>"}
    for step in (30, 40):
        store.add_event(job.id, 1, "sample", {"step": step, "prompt": "<i>Dry?</i>", "answers": said})
    shown.look()
    assert "iteration 41 of 100" in shown.html
    for part in ("−0.25", "2.50 nats", "61 tokens", "90 %", "0.80", "2.4 GB"):
        assert part in shown["Last iteration"]
    assert sorted(shown["Score"]["measured on"]) == ["training", "validation"]
    assert list(shown["Tokens per answer"]["value"]) == [61.0]
    answers = shown["Sample answers"]
    assert "At iteration 40" in answers
    assert "At iteration 30" not in answers
    for tag in ("<img", "<b>", "<i>"):
        assert tag not in answers
    assert [shown.shows(f"{name}-ppo") for name in ("pause", "cancel", "resume")] == [True, True, False]


def test_the_result_says_before_and_after_and_what_was_odd(store, project):
    add_batch(store, people=30)
    reward, prompts = reward_run(store, project.path), add_prompts(store, project.path)
    shown = result(ppo_run(store, reward, prompts, halted="Stopped at iteration 14.", skipped=2))
    for part in ("−0.12", "+0.94", "5.3 nats", "iteration 20", "Stopped at iteration 14.", "2 updates were skipped"):
        assert part in shown
    assert "not defined" in result(ppo_run(store, reward, prompts, before=None, best=None))
    assert result(ppo_run(store, reward, prompts, "failed")) == ""


# -- what a person starts ------------------------------------------------------------------------------------


def test_training_freezes_the_batch_and_queues_one_run_for_a_double_click(page, store):
    add_batch(store, people=30)
    next_key, run = call(page, "train_reward", KEY, "gear", *REWARD)
    call(page, "train_reward", KEY, "gear", *REWARD)
    (job,) = store.jobs()
    assert (job.kind, job.state, job.author, run) == ("reward", "queued", "owner", str(job.id))
    assert (job.task["data"], job.task["base"], job.task["epochs"]) == ("prefs:gear@1", TUNED, 3)
    assert store.snapshot("prefs:gear@1").rows == 30
    call(page, "train_reward", next_key, "gear", *REWARD)
    assert len(store.jobs()) == 2
    assert len(store.snapshots("prefs")) == 1  # the same judgements are the same snapshot


@pytest.mark.parametrize(
    ("people", "batch", "change", "sentence"),
    [
        (7, "gear", {}, "has 7 judgements; a snapshot needs 20 or more"),
        (0, "gear", {}, "has 0 judgements"),
        (30, "nobody", {}, "no batch 'nobody'"),
        (30, None, {}, "no batch ''"),
        (30, "gear", {0: "echo:"}, "has no weights here"),
        (30, "gear", {1: 0}, "must be 1 or more"),
    ],
    ids=["few", "none", "batch", "no-batch", "base", "epochs"],
)
def test_training_that_cannot_work_is_a_sentence_and_starts_nothing(page, store, people, batch, change, sentence):
    add_batch(store, people=people)
    values = [change.get(place, value) for place, value in enumerate(REWARD)]
    with pytest.raises(gr.Error, match=sentence):
        call(page, "train_reward", KEY, batch, *values)
    assert store.jobs() == []


def test_ties_alone_teach_nothing(page, store):
    add_batch(store)
    ann = store.annotator("ann")
    for item in store.lease_items("gear", ann, 25, seconds=60):
        judge(store, item, ann, [[key for key, _ in item.answers]])
    with pytest.raises(gr.Error, match="All 25 judgements of 'gear' are ties"):
        call(page, "train_reward", KEY, "gear", *REWARD)


def test_aligning_queues_one_run_for_a_double_click(page, store, project):
    add_batch(store, people=30)
    reward = reward_run(store, project.path)
    for _ in range(2):
        _, run = call(page, "align_ppo", KEY, *ppo_form(reward.id))
    (job,) = store.jobs(kinds={"ppo"})
    assert (job.state, job.author, run) == ("queued", "owner", str(job.id))
    assert (job.task["base"], job.task["reward"]) == (TUNED, f"run:{reward.id}")
    assert (job.task["prompts"], job.task["iterations"]) == ("prompts:brackenfold@1", 30)


def test_one_key_starts_each_kind_of_run_once(page, store, project):
    add_batch(store, people=30)
    reward = reward_run(store, project.path)
    call(page, "train_reward", KEY, "gear", *REWARD)
    call(page, "align_ppo", KEY, *ppo_form(reward.id))
    call(page, "simulate_labels", KEY, "gear")
    assert sorted(job.kind for job in store.jobs(states=("queued",))) == ["ppo", "reward", "simulate"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"base": "run:901"}, "stands on another base than run:901"),
        ({"reward": TUNED}, "answers and does not score"),
        ({"prompts": "prompts:nobody@1"}, "no snapshot 'prompts:nobody@1'"),
        ({"minibatch": 32}, "A step of 32 answers"),
        ({"iterations": 0}, "must be 1 or more"),
    ],
    ids=["other-base", "no-scorer", "prompts", "minibatch", "iterations"],
)
def test_aligning_that_cannot_work_is_a_sentence_and_starts_nothing(page, store, project, change, sentence):
    add_batch(store, people=30)
    add_tuned(store, "run:901", digest="another base")
    reward = reward_run(store, project.path)
    with pytest.raises(gr.Error, match=sentence):
        call(page, "align_ppo", KEY, *ppo_form(reward.id, **change))
    assert store.jobs(kinds={"ppo"}) == []


def test_the_rule_is_read_before_it_labels_and_queues_one_job(page, shown, store):
    add_batch(store, items=30, people=3)
    shown.look()
    assert RULE in html.unescape(" ".join(str(getattr(block, "value", "")) for block in page.blocks.values()))
    for _ in range(2):
        call(page, "simulate_labels", KEY, "gear")
    (job,) = store.jobs()
    assert (job.kind, job.task["batch"], job.author) == ("simulate", "gear", "owner")
    shown.look()
    assert "waiting" in shown["Steps"]
    assert "(simulated)" in shown["Labels"]


def test_the_rule_is_offered_only_while_something_is_unjudged(shown, store):
    add_batch(store, items=25, people=3)
    accordion = next(b for b in shown.look().last if getattr(b, "label", "") == "Try it without people")
    assert shown.visible[accordion]
    add_batch(store, "full", items=25, people=25)
    shown.look(batch="full")
    assert not shown.visible[accordion]


def test_a_stranger_does_nothing(page, store, project):
    add_batch(store, people=30)
    reward = reward_run(store, project.path)
    for name, *given in (
        ("train_reward", KEY, "gear", *REWARD),
        ("align_ppo", KEY, *ppo_form(reward.id)),
        ("simulate_labels", KEY, "gear"),
        ("cancel_reward", f"{reward.id}.1.done"),
    ):
        with pytest.raises(gr.Error, match="not signed in"):
            call(page, name, *given, user=None)
    assert len(store.jobs()) == 1


def test_runs_are_paused_cancelled_and_resumed_from_their_step(page, store, project):
    add_batch(store, people=30)
    job = reward_run(store, project.path, "running")
    call(page, "pause_reward", f"{job.id}.3.running")
    assert store.job(job.id).intent == "pause"
    call(page, "cancel_reward", f"{job.id}.4.stopping")
    assert store.job(job.id).intent == "cancel"
    with pytest.raises(gr.Error, match="No run is chosen"):
        call(page, "cancel_ppo", "-")


def test_another_reward_model_brings_the_model_it_can_score(project, store):
    add_batch(store, people=30)
    reward = reward_run(store, project.path)
    with gr.Blocks() as demo:
        alignment.build(project)
    assert call(demo, "follow_reward", f"run:{reward.id}") == TUNED
