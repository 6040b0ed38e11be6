"""The Checks page: three questions about a prompt, each a job; what it takes before, what it found after, and past ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest

from components.playground import checks, prompt
from components.playground.checks_pictures import whisker
from components.playground.checks_report import answers_html
from studio.backends import Backend, Conversation
from studio.errors import InputError
from studio.evaluation import Interval
from studio.jobs import run_here
from studio.prompts import Compare, find_template, save_template, template
from studio.prompts.fragility import Fragility, fragility_of, fragility_plan, fragility_words
from studio.prompts.helps import Helps, help_of, help_plan, help_verdict
from studio.prompts.search import Search, search_of, search_plan, search_verdict
from studio.prompts.told import AskedTwice, Told, asked_twice
from studio.store import Job, Store
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.prompts.trying import OPEN, RECORDS, Scripted, furnish, run_of, words_of
from tests.screen import Screen

DEVELOPMENT = "eval:brackenfold-development@1"


class Desk(Screen):
    """The Checks page of a workspace, asking echo:."""

    def __init__(self, workspace: Workspace, *, look: bool = True) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.widgets = checks.build(workspace)
        super().__init__(demo)
        if look:
            self.look()
        self.type(model_to_check_with="echo:")

    def look(self) -> list[Any]:
        """What opening the page does, and every job that changes its state."""
        refresh = self.widgets.refresh
        assert refresh is not None
        answer = refresh.fn(*(self.values[block._id] for block in refresh.inputs))
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)
        return answer

    def switch(self, question: str) -> None:
        self.type(what_to_check=question)
        self.do("switch_question")
        self.look()

    def begin(self, **typed: Any) -> Job:
        """Press Start, and give the job that waits now."""
        self.type(model_to_check_with="echo:", **typed)
        before = {job.id for job in self.store.jobs()}
        self.do("begin_check")
        self.look()
        (job,) = (job for job in self.store.jobs() if job.id not in before)
        return job

    def refused(self, **typed: Any) -> str:
        """Press Start where nothing can start; gives what is said about it."""
        self.type(**typed)
        before, values = len(self.store.jobs()), dict(self.values)
        self.do("begin_check")
        plan = self._find("What the check would take")
        assert {key: value for key, value in self.values.items() if key != plan} == {
            key: value for key, value in values.items() if key != plan
        }
        assert len(self.store.jobs()) == before
        return self.text("What the check would take")

    def work(self, job: Job) -> Job:
        """The real runner sees the job through in a process of its own; then the page is told."""
        done = run_here(self.store, self.workspace.path, self.workspace.settings, job.id)
        assert done.state == "done", done.error
        self.look()
        return done

    def open(self, job: Job | int) -> None:
        self.do("open_check", job if isinstance(job, int) else job.id)
        self.look()

    def sees(self, label: str) -> bool:
        return bool(self.visible[self._find(label)])

    def choices(self, label: str) -> list[str]:
        return [ref for _, ref in self.props[self._find(label)]["choices"]]

    def text(self, label: str) -> str:
        """A piece of HTML as it is read."""
        shown = re.sub(r"<[^>]+>", " ", str(self[label]))
        return " ".join(shown.replace("&#x27;", "'").replace("&quot;", '"').replace("&amp;", "&").split())

    @property
    def report(self) -> str:
        return self.text("Report of the check")

    @property
    def plan(self) -> str:
        self.do("plan_check")
        return self.text("What the check would take")


@pytest.fixture
def desk(project: Workspace) -> Desk:
    """The page on the example project."""
    return Desk(project)


@pytest.fixture
def scripted(workspace: Workspace) -> Workspace:
    """Sixty questions that are answered well by yes, and records to show."""
    furnish(workspace.store, workspace.path, 60)
    return workspace


def done(workspace: Workspace, task: Any, right: Callable[[Conversation, int], bool]) -> Job:
    """A finished check of a model that is right when a function says so, without a process of its own."""
    model: Backend = Scripted(right)
    run = run_of(workspace.store, workspace.path, task, model)
    result = task.do(run)
    workspace.store.log_metrics(run.id, run.attempt, *run.steps[-1], {})
    run.finish(result)
    return workspace.store.job(run.id)


def helps(**changes: Any) -> Helps:
    fields = {"model": "echo:", "template": "zero-shot", "guidelines": "Be sure.", "evaluation": OPEN}
    return Helps.model_validate(fields | changes)


def fragility(**changes: Any) -> Fragility:
    fields = {"model": "echo:", "template": "few-shot", "evaluation": OPEN, "examples": RECORDS}
    return Fragility.model_validate(fields | changes)


def search(**changes: Any) -> Search:
    fields: dict[str, Any] = {"model": "echo:", "template": "zero-shot", "evaluation": OPEN}
    return Search.model_validate(fields | {"instructions": ("Say yes.", "Say no."), "trials": 4} | changes)


# -- before anything was checked -----------------------------------------------------------------------------


def test_an_empty_workspace_offers_the_example(workspace):
    desk = Desk(workspace)
    assert not desk.shows(desk.demo.blocks[desk._find("Open set")].parent.parent)
    assert desk.report == ""
    desk.do("load_example_for_checks")
    desk.look()
    assert desk["Open set"] == DEVELOPMENT
    assert desk["Take examples from"] == "data:brackenfold@1"
    assert desk["Prompt to check"] == "few-shot"
    assert desk["Guidelines to check with"] == workspace.store.dataset("brackenfold").guidelines


def test_a_set_that_judges_is_not_offered(desk):
    assert DEVELOPMENT in desk.choices("Open set")
    assert "eval:brackenfold@1" not in desk.choices("Open set")


def test_each_question_asks_for_what_is_its_own(desk):
    own = {"helps": "Plain prompt", "fragility": "What is changed", "search": "Trials"}
    for question, label in own.items():
        desk.switch(question)
        assert [desk.sees(other) for other in own.values()] == [other == label for other in own.values()]
        assert desk.sees("Open set")


def test_what_was_chosen_stays_and_what_is_gone_does_not(desk, project):
    desk.type(prompt_to_check="zero-shot", take_examples_from="data:gone@1", guidelines_to_check_with="Mine.")
    save_template(project.store, template("plain").model_copy(update={"name": "new"}), author="ann")
    desk.look()
    assert "new@1" in desk.choices("Prompt to check")
    assert desk["Prompt to check"] == "zero-shot"
    assert desk["Model to check with"] == "echo:" or desk["Model to check with"] in desk.choices("Model to check with")
    assert desk["Take examples from"] == "data:brackenfold@1"
    assert desk["Guidelines to check with"] == "Mine."


def test_an_older_version_of_a_prompt_stays_chosen(desk, project):
    own = template("plain").model_copy(update={"name": "own"})
    for system in ("One.", "Two."):
        save_template(project.store, own.model_copy(update={"system": system}), author="ann")
        desk.look()
        desk.type(prompt_to_check="own@1")
    desk.look()
    assert desk["Prompt to check"] == "own@1"
    assert {"own@1", "own@2"} <= set(desk.choices("Prompt to check"))


# -- does it help here ---------------------------------------------------------------------------------------


def test_below_50_rows_the_page_says_so_and_decides_nothing(desk, project):
    desk.type(prompt_to_check="zero-shot", rows_to_ask=20)
    assert "At most 40 calls" in desk.plan
    job = desk.begin()
    assert (job.kind, job.author, job.task["rows"]) == ("helps", "owner", 20)
    desk.work(job)
    found = help_of(project.store, job.id)
    assert "Too few rows to tell: 20, and it takes 50." in desk.report
    assert help_verdict(found).cost in desk.report
    assert f"{found.tried.tokens:.0f} × {found.tried.tokens / found.plain.tokens:.1f}" in desk.report


def test_wins_and_losses_are_the_answers_that_the_check_got(desk, project):
    """A prompt that adds what the house rules ask for: echo: says it back."""
    polite = template("plain").model_copy(
        update={
            "name": "polite",
            "title": "Polite",
            "user": "You may ask.\n{{ instruction }}\nNext step: call you back.",
        }
    )
    save_template(project.store, polite, author="ann")
    desk.look()
    job = desk.begin(prompt_to_check="polite@1", rows_to_ask=0)
    desk.work(job)
    found = help_of(project.store, job.id)
    rows = asked_twice(project, job)
    assert len(rows) == found.difference.n == 64
    assert sum(row.gain for row in rows) / len(rows) == pytest.approx(found.difference.value)
    assert found.difference.value > 0
    assert help_verdict(found).sentence in desk.report
    desk.do("show_answers")
    shown = desk.text("Wins and losses of the check")
    better, worse = (sum(sign * row.gain > 0 for row in rows) for sign in (1, -1))
    assert f"Better on {better}, worse on {worse}, alike on {64 - better - worse} of 64 rows." in shown
    first = max(rows, key=lambda row: row.gain)
    assert " ".join(first.plain.text.split()) in shown
    assert "You may ask." in shown


@pytest.mark.parametrize(
    ("right", "tone"),
    [
        (lambda messages, n: n % 2 == 0 or "Be sure." in words_of(messages), "good"),
        (lambda messages, n: n % 2 == 0 and "Be sure." not in words_of(messages), "bad"),
        (lambda messages, n: n % 2 == 0, ""),
    ],
    ids=["helps", "hurts", "even"],
)
def test_the_verdict_is_the_cores_sentence_with_a_mark_of_its_own(scripted, right, tone):
    job = done(scripted, helps(), right)
    desk = Desk(scripted)
    assert help_verdict(help_of(scripted.store, job.id)).sentence in desk.report
    assert f'class="ruling" data-tone="{tone}"' in desk["Report of the check"]


def test_the_prompt_page_says_what_the_last_check_of_the_prompt_found(scripted):
    with gr.Blocks():
        refresh = prompt.build(scripted).refresh
    assert refresh is not None
    looks = ["", *(block.value for block in refresh.inputs[1:])]
    assert "Check" not in said(refresh.fn(gr.Request(username="owner"), *looks))
    job = done(scripted, helps(), lambda messages, n: n % 2 == 0 or "Be sure." in words_of(messages))
    sentence = help_verdict(help_of(scripted.store, job.id)).sentence
    assert f">Check {job.id}</a>, echo: on {OPEN}: {sentence}" in said(refresh.fn(gr.Request(username="owner"), *looks))


def said(update: list[Any]) -> str:
    """The pieces of HTML among what a listener sends."""
    return " ".join(part for part in update if isinstance(part, str) and "<p" in part)


def test_answers_that_are_no_longer_known_are_left_out_and_nobody_is_asked(scripted):
    job = done(scripted, helps(examples=RECORDS, template="few-shot"), lambda messages, n: len(messages) > 2)
    assert len(asked_twice(scripted, job)) == 60
    other = job.task | {"guidelines": "Never asked."}
    forgotten = Job(**{**vars(job), "task": other})
    assert asked_twice(scripted, forgotten) == []
    assert "answers of 60 rows are not known any more" in answers_html([], 60)


def test_answers_that_cannot_be_shown_are_a_sentence(scripted):
    job = done(scripted, helps(), lambda messages, n: True)
    desk = Desk(scripted)
    for part in (scripted.path / "snapshots").rglob("*gear-development*"):
        part.unlink() if part.is_file() else None
    desk.do("show_answers")
    assert "The answers themselves cannot be shown" in desk.text("Wins and losses of the check")
    assert str(job.id) == desk["Open check"]


# -- how fragile is it ---------------------------------------------------------------------------------------


def test_a_fragility_report_shows_every_way_with_the_cores_figures(desk, project):
    desk.switch("fragility")
    desk.type(prompt_to_check="few-shot", rows_to_ask=6)
    task = Fragility.model_validate(
        {
            "model": "echo:",
            "template": "few-shot",
            "evaluation": DEVELOPMENT,
            "examples": "data:brackenfold@1",
            "rows": 6,
        }
        | {"guidelines": desk["Guidelines to check with"]}
    )
    plan = fragility_plan(task, project.store, project.path)
    assert f"{sum(plan.ways.values())} ways to write it (as it is, 23 other orders, " in desk.plan
    assert f"each asked on 6 rows. At most {plan.plan.calls:,} calls" in desk.plan
    job = desk.begin()
    assert job.task == task.model_dump(mode="json")
    desk.work(job)
    found = fragility_of(project.store, job.id)
    for sentence in fragility_words(found):
        assert sentence in desk.report
    assert "Too few rows to tell: 6" in desk.report
    html = desk["Report of the check"]
    assert html.count("<tr>") == len(found.lines) == sum(plan.ways.values())
    assert html.count("<svg") >= len(found.lines)
    for line in found.lines:
        assert f"<b>{line.score.value:.2f}</b>" in html


@pytest.mark.parametrize(
    ("right", "tone", "starts"),
    [
        (lambda messages, n: n % 2 == 0, "good", "It holds on 60 rows"),
        (lambda messages, n: n % 4 == 0 or messages[-2].content in ("a0", "a3"), "bad", "It is fragile"),
    ],
    ids=["holds", "fragile"],
)
def test_one_number_with_its_spread_heads_the_report(scripted, right, tone, starts):
    job = done(scripted, fragility(rows=0, changes=("order",)), right)
    desk = Desk(scripted)
    found = fragility_of(scripted.store, job.id)
    assert found.width is not None
    size = found.width.interval
    assert f"{size.value:.2f} wide [{size.low:.2f}, {size.high:.2f}], 60 rows" in desk.report
    assert starts in desk.report
    assert f'class="ruling" data-tone="{tone}"' in desk["Report of the check"]


# -- is there a better one -----------------------------------------------------------------------------------


def test_a_search_is_planned_run_judged_once_and_its_winner_saved(desk, project):
    desk.switch("search")
    desk.type(
        prompt_to_check="zero-shot",
        instructions_to_try="You can answer in one line.\n\nNext step: call you.",
        numbers_of_examples="0-1",
        trials=5,
        rows_to_ask=8,
        guidelines_to_check_with="Be brief.",
    )
    task = Search.model_validate(
        {"model": "echo:", "template": "zero-shot", "evaluation": DEVELOPMENT, "examples": "data:brackenfold@1"}
        | {"instructions": ("You can answer in one line.", "Next step: call you."), "shots": (0, 1), "trials": 5}
        | {"rows": 8, "guidelines": "Be brief."}
    )
    plan = search_plan(task, project.store, project.path)
    assert (
        "6 prompts (the start and 5 others) on 8 development rows; then the best and the start, once, on " in desk.plan
    )
    assert f"{plan.held_out} rows held out. At most {plan.plan.calls:,} calls" in desk.plan
    job = desk.begin()
    assert job.task == task.model_dump(mode="json")
    desk.work(job)
    found = search_of(project.store, job.id)
    verdict = search_verdict(found)
    assert verdict.sentence in desk.report
    assert verdict.honesty in desk.report
    for trial in found.trials:
        assert trial.words in desk.report
        assert f"{trial.score.value:.2f} [{trial.score.low:.2f}, {trial.score.high:.2f}]" in desk.report


def _yes(messages: Conversation, n: int) -> bool:
    return n % 3 == 0 or "Say yes." in words_of(messages)


def test_a_winner_is_saved_as_a_prompt_that_can_be_found(scripted):
    job = done(scripted, search(), _yes)
    desk = Desk(scripted)
    found = search_of(scripted.store, job.id)
    assert found.best != 0
    gap = found.difference
    assert f"[+{gap.low:.2f}, +{gap.high:.2f}], {gap.n} rows held out" in desk.report
    assert desk["Name of the prompt"] == "zero-shot-found"

    desk.type(name_of_the_prompt="Not a name!")
    desk.do("keep_winner")
    assert "'Not a name!' cannot be saved" in desk.text("How far the check is")
    assert desk["Name of the prompt"] == "Not a name!"

    desk.type(name_of_the_prompt="yes-man")
    desk.do("keep_winner")
    desk.look()
    assert "Saved as yes-man@1" in desk.text("How far the check is")
    assert find_template(scripted.store, "yes-man").system == found.template.system
    assert "yes-man@1" in desk.choices("Prompt to check")


def test_examples_of_a_winner_become_a_bank(scripted):
    task = search(template="few-shot", examples=RECORDS, instructions=("Say yes.",), shots=(2,))
    done(scripted, task, lambda m, n: _yes(m, n) and len(m) > 2 and m[0].content.startswith("Say yes."))
    desk = Desk(scripted)
    desk.type(name_of_the_prompt="with-two")
    desk.do("keep_winner")
    assert "Its 2 examples are the bank with-two" in desk.text("How far the check is")
    assert len(scripted.store.bank_examples("with-two")) == 2


def test_a_start_that_nothing_beat_is_not_offered_to_be_saved(scripted):
    done(scripted, search(), lambda messages, n: "Say" not in words_of(messages) and n % 2 == 0)
    desk = Desk(scripted)
    assert "did better than the start. Keep it." in desk.report
    assert not desk.sees("Name of the prompt")


# -- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "typed", "sentence"),
    [
        ("helps", {"prompt_to_check": "plain"}, "is the plain prompt itself"),
        (
            "helps",
            {"prompt_to_check": "few-shot", "take_examples_from": ""},
            "shows 4 examples. Choose a bank or a snapshot",
        ),
        ("helps", {"rows_to_ask": -1}, "Rows to ask: must be 0 or more, not -1."),
        ("helps", {"open_set": None}, "Open set: is needed."),
        ("fragility", {"what_is_changed": []}, "What is changed: "),
        ("fragility", {"labels_to_choose_from": "yes"}, "Labels to choose from: need two or more labels"),
        ("fragility", {"prompt_to_check": "plain", "what_is_changed": ["order"]}, "only its wording can change"),
        ("search", {"trials": 0}, "Trials: must be 1 or more, not 0."),
        ("search", {"numbers_of_examples": "some"}, "Numbers of examples: 'some' is none. Write them like 0, 2, 4"),
        ("search", {"numbers_of_examples": "2 to 4"}, "'to' is none"),
        ("search", {"held-out_set": DEVELOPMENT}, "cannot choose the prompt and judge it too"),
        ("search", {"instructions_to_try": "Use {{ nothing }}."}, "“Use {{ nothing }}.” cannot be tried"),
    ],
)
def test_one_thing_named_wrong_is_answered_in_its_place_and_the_rest_is_kept(desk, question, typed, sentence):
    desk.switch(question)
    assert sentence in desk.refused(**typed)
    assert sentence in desk.plan


def test_sets_that_share_a_question_are_refused_before_a_job(desk, project):
    project.store.freeze(project.path, "eval", "twin", project.snapshot(DEVELOPMENT)[:9], author="ann")
    desk.look()
    desk.switch("search")
    said = desk.refused(**{"held-out_set": "eval:twin@1"})
    assert f"9 of the 9 questions of eval:twin@1 are in {DEVELOPMENT} too" in said


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", ()), ("0, 2 ,4", (0, 2, 4)), ("0-3", (0, 1, 2, 3)), ("0 – 2; 8", (0, 1, 2, 8)), ("3 1", (3, 1))],
)
def test_numbers_of_examples_are_read_as_people_write_them(text, numbers):
    assert checks._numbers(text) == numbers


@pytest.mark.parametrize("text", ["-1", "4-2", "1.5", "all"])
def test_what_is_no_number_of_examples_is_named(text):
    with pytest.raises(InputError, match="Write them like 0, 2, 4 or 0-4"):
        checks._numbers(text)


def test_a_double_click_starts_one_check(desk, project):
    desk.type(prompt_to_check="zero-shot")
    key = desk["Key of the next check"]
    desk.do("begin_check")
    desk.values[desk._find("Key of the next check")] = key
    desk.do("begin_check")
    assert len(project.store.jobs()) == 1


# -- while it runs, and after --------------------------------------------------------------------------------


def _running(store: Store) -> Job:
    job = store.claim_job("light", "here")
    assert job is not None
    store.start_job(job.id, job.attempt, 1)
    return job


def test_a_running_check_shows_how_far_it_is_and_can_be_cancelled(desk, project):
    job = desk.begin(prompt_to_check="zero-shot")
    assert "Waits for its turn" in desk.text("How far the check is")
    claimed = _running(project.store)
    project.store.log_metrics(job.id, claimed.attempt, 32, 128, {})
    desk.look()
    assert "32 of 128 answers" in desk.text("How far the check is")
    later = Desk(project)  # the page was closed, and is opened again
    assert later["Open check"] == str(job.id)
    call(later.demo, "cancel_check", later["Open check"])
    later.look()
    assert project.store.job(job.id).intent == "cancel"
    project.store.finish_job(job.id, claimed.attempt, "cancelled")
    later.look()
    assert "is cancelled, so it found nothing" in later.report
    assert not later.sees("Name of the prompt")


def test_a_check_that_failed_says_why(desk, project):
    job = desk.begin(prompt_to_check="zero-shot")
    claimed = _running(project.store)
    project.store.finish_job(job.id, claimed.attempt, "failed", error="The server <is> gone. Start it.")
    desk.look()
    assert "The server &lt;is&gt; gone. Start it." in desk["Report of the check"]
    assert "The server &lt;is&gt; gone. Start it." in desk["Past checks"]


@pytest.mark.parametrize("looked", [False, True], ids=["first look", "open page"])
def test_a_prompt_that_another_page_asks_about_is_in_the_form_with_no_past_check_in_its_way(scripted, looked):
    past = Desk(scripted)
    past.switch("fragility")
    past.begin(prompt_to_check="few-shot")
    scripted.store.freeze(scripted.path, "data", "newer", [{"instruction": "a", "response": "b"}], author="ann")
    desk = Desk(scripted, look=looked)
    take = desk.widgets.take
    for block, value in zip(take.outputs, take.fn(f"summary {RECORDS}", desk["Checks painted"]), strict=True):
        desk._update(block, value)
    for _ in range(2):
        desk.look()
        assert (desk["What to check"], desk["Prompt to check"], desk["Open check"]) == ("helps", "summary", "")
        assert desk["Take examples from"] == RECORDS
        assert (desk.sees("Technique to check"), desk.sees("What is changed")) == (True, False)


def test_past_checks_are_listed_newest_first_and_open_with_their_question(scripted):
    first = done(scripted, helps(), lambda messages, n: True)
    second = done(scripted, search(), _yes)
    desk = Desk(scripted)
    assert (desk["Open check"], desk["What to check"]) == (str(second.id), "search")
    listed = desk["Past checks"]
    assert listed.index(f'data-key="{second.id}"') < listed.index(f'data-key="{first.id}"')
    assert help_verdict(help_of(scripted.store, first.id)).sentence in desk.text("Past checks")
    desk.open(first)
    assert desk["What to check"] == "helps"
    assert f"Check {first.id} " in desk.report
    assert not desk.sees("Trials")
    desk.switch("search")
    assert f"Check {second.id} " in desk.report
    desk.switch("fragility")
    assert desk["Open check"] == ""
    assert "one number says how far the score moves" in desk.report


def test_a_link_opens_its_check(scripted):
    first = done(scripted, helps(), lambda messages, n: True)
    done(scripted, search(), _yes)
    desk = Desk.__new__(Desk)
    with gr.Blocks() as demo:
        desk.widgets = checks.build(scripted)
    Screen.__init__(desk, demo)
    desk.values[desk.widgets.links["check"]._id] = str(first.id)
    desk.look()
    assert desk["What to check"] == "helps"
    assert f"Check {first.id} " in desk.report


@pytest.mark.parametrize("check", ["seven", "999", "9" * 30, "1\n2"])
def test_a_link_to_no_check_says_so(desk, check):
    desk.values[desk.widgets.links["check"]._id] = check
    desk.look()
    assert 'data-tone="bad"' in desk["Report of the check"]


def test_a_job_that_is_no_check_cannot_be_opened(desk, project):
    other = {"base": "echo:", "tuned": "run:1", "evaluation": OPEN, "development": OPEN, "examples": RECORDS}

    job = project.store.queue_job(Compare.model_validate(other), author="ann")
    with pytest.raises(gr.Error, match=f"Job {job.id} is no check of a prompt"):
        desk.open(job.id)


def test_a_look_without_news_moves_nothing(scripted):
    done(scripted, search(), _yes)
    desk = Desk(scripted)
    refresh = desk.widgets.refresh
    moved = [
        block.label
        for block, value in zip(refresh.outputs, desk.look(), strict=True)
        if value != gr.skip() and getattr(block, "label", "") != "Checks painted"
    ]
    assert moved == []


def test_the_plan_knows_how_long_a_call_took(scripted):
    task = helps()
    desk = Desk(scripted)
    desk.type(prompt_to_check="zero-shot", rows_to_ask=0)
    assert "known after the first check" in desk.plan
    job = done(scripted, task, lambda messages, n: True)
    assert f"At the pace of check {job.id} that is about " in desk.plan
    assert help_plan(task, scripted.store, scripted.path).sentence.split(":")[0] in desk.plan


def test_a_result_that_cannot_be_read_does_not_break_the_page(scripted):
    job = done(scripted, helps(), lambda messages, n: True)
    other = scripted.queue(helps(rows=10), author="ann")
    claimed = _running(scripted.store)
    scripted.store.log_metrics(other.id, claimed.attempt, 60, 60, {})
    scripted.store.finish_job(other.id, claimed.attempt, "done", result={"difference": {"was": "otherwise"}})
    desk = Desk(scripted)
    assert "cannot be read by this studio" in desk.report
    desk.do("show_answers")
    assert "At most 100 calls" in desk.plan
    desk.open(job)
    assert f"Check {job.id} " in desk.report


# -- pictures and words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "rows", "side"),
    [
        ((0.2, 0.1, 0.3), 60, "good"),
        ((-0.2, -0.3, -0.1), 60, "bad"),
        ((0.0, -0.1, 0.1), 60, ""),
        ((0.2, 0.1, 0.3), 49, ""),  # too few rows decide nothing, by colour neither
    ],
)
def test_a_picture_has_a_colour_only_where_something_is_decided(interval, rows, side):
    drawn = whisker(Interval(*interval, rows), -0.5, 0.5, origin=0.0)
    assert f'data-side="{side}"' in drawn
    dot = re.search(r'<circle cx="([\d.]+)%"', drawn)
    assert dot is not None
    assert float(dot[1]) == pytest.approx(2 + 96 * (interval[0] + 0.5), abs=0.01)


def test_where_lower_is_better_a_fall_is_good():
    fall = Interval(-0.2, -0.3, -0.1, 60)
    assert 'data-side="good"' in whisker(fall, -0.5, 0.5, origin=0.0, is_up_good=False)


def test_words_of_people_and_models_are_no_markup(scripted):
    evil = "<img src=x onerror=alert(1)>"
    told = Told(evil, 1.0, False)
    assert "<img" not in answers_html([AskedTwice(evil, evil, told, told, 1.0)], 1)
    job = done(scripted, search(instructions=(f"Say yes. {evil}",)), _yes)
    desk = Desk(scripted)
    assert search_of(scripted.store, job.id).best
    assert "&lt;img" in desk["Report of the check"]
    assert "<img" not in desk["Report of the check"] + desk["Past checks"]


# -- scripts -------------------------------------------------------------------------------------------------


def test_a_script_starts_reads_and_saves(scripted):
    desk = Desk(scripted)
    fields = helps(rows=10).model_dump(mode="json")
    number = call(desk.demo, "start_prompt_check", "helps", fields)
    assert scripted.store.job(number).task == fields
    job = done(scripted, search(), _yes)
    told = call(desk.demo, "read_prompt_check", job.id)
    assert told["said"][0] == search_verdict(search_of(scripted.store, job.id)).sentence
    assert told["found"] == job.result
    assert call(desk.demo, "save_found_prompt", job.id, "mine") == "mine@1"
    with pytest.raises(gr.Error, match="Trials: must be 1 or more"):
        call(desk.demo, "start_prompt_check", "search", search().model_dump(mode="json") | {"trials": 0})
    with pytest.raises(gr.Error, match="'magic' is no check of a prompt"):
        call(desk.demo, "start_prompt_check", "magic", {})


def test_a_stranger_does_nothing(scripted):
    job = done(scripted, search(), _yes)
    desk = Desk(scripted)
    asked = (
        ("start_prompt_check", "helps", helps().model_dump(mode="json")),
        ("read_prompt_check", job.id),
        ("save_found_prompt", job.id, "mine"),
        ("keep_winner", str(job.id), "mine"),
        ("cancel_check", str(job.id)),
        ("show_answers", str(job.id)),
    )
    for name, *args in asked:
        with pytest.raises(gr.Error, match="not signed in"):
            call(desk.demo, name, *args, user=None)
    assert scripted.store.prompt_templates() == []
