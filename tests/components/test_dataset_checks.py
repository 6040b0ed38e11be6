"""The page Checks: run, look at what was found, mend it at one stroke, take it back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components.dataset import checks
from components.dataset.shared import asked, shared_by_pages
from studio.backends import Backend, EchoBackend
from studio.errors import RunError, StudioError
from studio.example import EXAMPLE
from studio.instructions.checks import RecordCheck, check_kinds
from studio.instructions.records import insertable
from studio.jobs import task_from
from studio.models import EMBEDDED
from studio.specs import ModelRef
from studio.store import Job, RecordFilter
from studio.workspace import Workspace
from tests.components.test_dataset import Desk
from tests.fixtures_pages import open_workspace
from tests.memory_run import MemoryRun
from tests.screen import Screen

ALIKE = (
    "Rinse the tent with cold water, let it dry in the shade for two days, fold it along the seams and keep it in a "
    "cotton bag, never in the sack it came in, because the coating sticks to itself"
)
HELP: tuple[dict[str, Any], ...] = (
    {"instruction": "Where can I write to?", "response": "Write to <b>shop@brackenfold.example</b>, please."},
    {"instruction": "Who else reads it?", "response": "Ask heron@brackenfold.example or tern@brackenfold.example."},
    {"instruction": "How do I wash it?", "response": "TODO"},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
    {"instruction": "How long does it hold?", "response": "It holds for 3 years."},
    {"instruction": "How long does it hold?", "response": "It holds for 12 years, as <i>told</i>."},
    {"instruction": "How do I keep my tent at home?", "response": f"{ALIKE}."},
    {"instruction": "How do I keep my tent at home?", "response": f"{ALIKE} soon."},
    {"instruction": "May I cook inside?", "response": "No, never cook inside.", "split": "train"},
    {"instruction": "may I cook inside?", "response": "No, never cook inside a tent.", "split": "test"},
)
MOST = tuple(
    {"instruction": f"What is part {n} called?", "response": f"It is peg number {n * n}.", "category": "open_qa"}
    for n in range(89)
)


class Page(Screen):
    """The page Checks alone, with the dataset help open."""

    follows = True

    def __init__(self, workspace: Workspace, chosen: str = "help") -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.widgets = checks.build(shared_by_pages(workspace, chosen))
        super().__init__(demo)
        self.look()

    def look(self) -> list[Any]:
        """What opening the page does, and every job that changes its state."""
        refresh = self.widgets.refresh
        assert refresh is not None
        answer = refresh.fn(*(self.values[block._id] for block in refresh.inputs))
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)
        self.settle()
        return list(answer)

    def run(self, backend: Callable[[ModelRef], Backend] = EchoBackend) -> Job:
        """What a worker does with the job that waits."""
        (job,) = self.store.jobs(states=("queued",))
        claimed = self.store.claim_job("light", "desk", only=job.id)
        assert claimed is not None
        self.store.start_job(job.id, claimed.attempt, pid=1)
        self.look()
        root = self.workspace.path
        run = MemoryRun(root / "runs" / str(job.id), store=self.store, workspace=root, backend=backend)
        try:
            result = task_from(job.kind, job.task).do(run)
            self.store.finish_job(job.id, claimed.attempt, "done", result=result)
        except StudioError as error:
            self.store.finish_job(job.id, claimed.attempt, "failed", error=str(error))
        self.look()
        return self.store.job(job.id)

    def open(self, check: str) -> None:
        self.do("checks_open", check)

    @property
    def finds(self) -> str:
        return str(self["Examples of the check"])

    def buttons(self) -> list[str]:
        """What the remedies' buttons say, of those that can be pressed."""
        said = []
        for number in range(9):
            found = [fn for fn in self.demo.fns.values() if fn.api_name == f"checks_mend_{number}"]
            if found:
                (button,) = [self.demo.blocks[key] for key, _ in found[0].targets]
                props = self.props.get(button._id, {})
                if self.visible[button.parent._id] and props.get("interactive", True):
                    said.append(str(self.values[button._id]))
        return said

    def row(self, check: str) -> str:
        """What the table says about a check, without tags."""
        (row,) = re.findall(rf'<tr data-key="{check}".*?</tr>', self["Checks of the dataset"])
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row))

    @property
    def standing(self) -> str:
        return re.sub(r"<[^>]+>", "", self["Where the checks stand"])

    @property
    def said(self) -> str:
        return re.sub(r"<[^>]+>", "", self["What was mended"])

    def ids(self) -> list[int]:
        return self.store.record_ids(self.store.dataset("help").id)

    def answers(self) -> list[str]:
        return [record.response for record in self.store.all_records(self.store.dataset("help").id)]


@pytest.fixture(scope="module")
def checked_folder(tmp_path_factory: pytest.TempPathFactory, example_folder: Path) -> Path:
    """A workspace in which every check ran over a dataset that has something for each of them."""
    folder = tmp_path_factory.mktemp("checks")
    shutil.copytree(example_folder, folder / "acme")
    workspace = open_workspace(folder)
    made = workspace.store.create_dataset("help", author="owner")
    rows = [{**insertable(row), **({"split": row["split"]} if "split" in row else {})} for row in (*HELP, *MOST)]
    workspace.store.add_records(made.id, rows, author="owner", source="sheet.csv")
    page = Page(workspace)
    page.do("checks_run_all")
    page.run()
    workspace.store.close()
    return folder / "acme"


@pytest.fixture
def fresh(project: Workspace) -> Page:
    """The example, which nobody checked yet."""
    return Page(project, EXAMPLE)


@pytest.fixture
def page(tmp_path: Path, checked_folder: Path) -> Page:
    shutil.copytree(checked_folder, tmp_path / "acme")
    return Page(open_workspace(tmp_path))


# -- running -----------------------------------------------------------------------------------------------------


def test_before_the_first_run_every_check_says_what_it_looks_for(fresh: Page) -> None:
    assert "15 checks look for what would teach a model something wrong" in fresh.standing
    assert fresh["Checks of the dataset"].count("Not run") == 15
    for kind in check_kinds().values():
        assert kind.title in fresh.row(kind.name)


def test_a_run_is_a_job_and_tells_how_far_it_is(fresh: Page) -> None:
    fresh.do("checks_run_all")
    (job,) = fresh.store.jobs()
    assert (job.kind, job.state, job.task["dataset"], job.author) == ("check", "queued", EXAMPLE, "owner")
    assert "It waits for its turn. It goes on when you close the page." in fresh.standing
    fresh.do("checks_run_all")
    assert len(fresh.store.jobs()) == 1
    claimed = fresh.store.claim_job("light", "desk", only=job.id)
    assert claimed is not None
    fresh.store.start_job(job.id, claimed.attempt, pid=1)
    fresh.store.log_metrics(job.id, claimed.attempt, 5, 15, {})
    fresh.store.say(job.id, claimed.attempt, "Near duplicates.")
    fresh.look()
    assert "5 of 15 checks" in fresh.standing
    assert "Near duplicates." in fresh.standing
    fresh.do("checks_stop")
    assert fresh.store.job(job.id).intent == "cancel"


def test_a_run_that_failed_says_why(fresh: Page) -> None:
    fresh.do("checks_run_all")
    (job,) = fresh.store.jobs()
    claimed = fresh.store.claim_job("light", "desk", only=job.id)
    assert claimed is not None
    fresh.store.start_job(job.id, claimed.attempt, pid=1)
    fresh.store.finish_job(job.id, claimed.attempt, "failed", error="The tokenizer <of> it cannot be read.")
    fresh.look()
    assert f"Job {job.id} stopped before its end. The tokenizer &lt;of&gt; it cannot be read." in fresh.standing


class Dumb(EchoBackend):
    async def count_tokens(self, parts: Sequence[str]) -> list[int]:
        raise RunError("The model does not answer.")


def test_a_model_that_does_not_answer_keeps_no_other_check_from_its_end(fresh: Page) -> None:
    fresh.type(window_in_tokens=16)
    fresh.do("checks_run_all")
    assert fresh.run(Dumb).state == "failed"
    assert "The model does not answer." in fresh.standing
    assert "Not run" in fresh.row("too_long")
    assert fresh["Checks of the dataset"].count("Not run") == 1


def test_the_table_tells_what_was_found_and_what_is_clean(page: Page) -> None:
    assert re.search(r"Checked \d\d:\d\d: 100 records\. 8 of 15 checks found something", page.standing)
    assert "2 records" in page.row("personal")
    assert "1 record" in page.row("placeholders")
    assert "✓ None" in page.row("secrets")
    assert "1 remark" in page.row("imbalance")
    assert "✓ None" in page.row("too_long")


def test_an_edit_is_counted_as_changed_since_until_the_checks_run_again(page: Page) -> None:
    page.store.edit_record(page.ids()[0], 1, {"response": "By post."}, author="ann")
    page.look()
    assert "100 records; 1 changed since. " in page.standing
    assert "1 changed since" in page.row("personal")
    page.do("checks_run_all")
    page.run()
    assert "changed since" not in page.standing
    assert "1 record" in page.row("personal")


def test_a_beat_without_news_leaves_the_page_alone(page: Page) -> None:
    page.open("personal")
    page.do("checks_tick", page.ids()[0])
    page.look()
    assert all(isinstance(value, dict) and set(value) == {"__type__"} for value in page.look())
    assert page["Records ticked"] == str(page.ids()[0])


# -- one check ---------------------------------------------------------------------------------------------------


def test_a_find_is_marked_in_its_text_and_untrusted_text_stays_text(page: Page) -> None:
    page.open("personal")
    assert "Write to &lt;b&gt;<mark>shop@brackenfold.example</mark>&lt;/b&gt;" in page.finds
    assert "An e-mail address. " in page.finds
    assert "<b>shop" not in page.finds
    page.do("checks_follow", page.ids()[0])
    assert asked(page["Records asked for"]) == RecordFilter(ids=(page.ids()[0],))


def test_a_find_in_a_record_that_changed_since_is_not_marked_at_a_place_that_moved(page: Page) -> None:
    page.store.edit_record(page.ids()[0], 1, {"response": "By post to Mr. Heron in Tarn Street."}, author="ann")
    page.open("personal")
    assert "By post to Mr. Heron in Tarn Street." in page.finds
    assert page.finds.count("changed since") == 1
    assert page.finds.count("<mark>") == 2


def test_copies_are_shown_beside_the_one_that_stays_with_the_words_that_differ(page: Page) -> None:
    ids = page.ids()
    page.open("duplicates")
    assert f"Record {ids[3]}</a> stays" in page.finds
    assert f'aria-label="Tick record {ids[4]}"' in page.finds
    assert "Word for word the same" in page.finds
    page.open("near_duplicates")
    assert f"Record {ids[7]}</a> stays" in page.finds
    assert "<ins> soon</ins>" in page.finds


def test_answers_that_conflict_stand_under_their_question(page: Page) -> None:
    page.open("conflicts")
    (asked_once,) = re.findall(r'<p class="asked"[^>]*>(.*?)</p>', page.finds)[:1]
    assert "How long does it hold?" in page.finds
    assert asked_once
    assert "It holds for 3 years." in page.finds
    assert "It holds for 12 years, as &lt;i&gt;told&lt;/i&gt;." in page.finds


def test_a_leak_is_shown_beside_the_training_record_and_taken_out_of_the_test(page: Page) -> None:
    train, test = page.ids()[9:11]
    page.open("leakage")
    assert f'In training <a href="?tab=dataset&amp;record={train}"' in page.finds
    assert "Take out of validation and test: 1 record" in page.buttons()
    page.do("checks_mend_0")
    assert page.store.record(test).split == "excluded"
    assert page.store.record(train).split == "train"


def test_what_is_true_of_the_whole_dataset_is_a_sentence_without_remedies(page: Page) -> None:
    page.open("imbalance")
    assert "No category" in page["The open check"] or "Category &#x27;open_qa&#x27;" in page["The open check"]
    assert page.buttons() == []
    assert page.finds == ""


def test_a_check_without_a_form_shows_no_settings_and_the_others_theirs(page: Page) -> None:
    settings = next(b for b in page.demo.blocks.values() if getattr(b, "label", "") == "Settings of this check")
    page.open("placeholders")
    assert not page.shows(settings)
    page.open("near_duplicates")
    assert page.shows(settings)
    assert page["How alike records are"] == 0.8


# -- mending -----------------------------------------------------------------------------------------------------


def test_a_remedy_says_how_many_records_it_changes_and_is_taken_back_at_one_press(page: Page) -> None:
    before = page.answers()
    page.open("personal")
    assert page.buttons() == ["Mask: 2 records", "Reject: 2 records", "Remove: 2 records"]
    page.do("checks_mend_0")
    assert page.answers()[:2] == ["Write to <b>[EMAIL]</b>, please.", "Ask [EMAIL 1] or [EMAIL 2]."]
    assert "Mask: personal data: 2 records changed. Undo takes it back." in page.said
    assert "✓ None" in page.row("personal")
    assert page.buttons() == []
    page.do("checks_undo")
    assert page.answers() == before
    assert "Undone: Mask: personal data, 2 records." in page.said
    assert "2 records" in page.row("personal")


def test_ticked_records_are_mended_alone(page: Page) -> None:
    page.open("personal")
    page.do("checks_tick", page.ids()[1])
    assert page.buttons()[0] == "Mask: 1 ticked"
    page.do("checks_mend_0")
    assert page.answers()[:2] == ["Write to <b>shop@brackenfold.example</b>, please.", "Ask [EMAIL 1] or [EMAIL 2]."]
    assert page["Records ticked"] == ""
    assert page.buttons()[0] == "Mask: 1 record"


def test_undo_of_a_remedy_takes_back_nothing_else(page: Page) -> None:
    page.open("personal")
    page.do("checks_mend_0")
    page.store.edit_record(page.ids()[5], 1, {"response": "For good."}, author="owner")
    with pytest.raises(gr.Error, match=r"not your last stroke here: 'Changed record \d+' came after it"):
        page.do("checks_undo")
    assert page.answers()[5] == "For good."


def test_a_remedy_that_would_change_nothing_cannot_be_pressed(page: Page) -> None:
    page.open("placeholders")
    assert page.buttons() == ["Reject: 1 record", "Remove: 1 record"]


def test_copies_are_not_mended_after_an_edit_until_the_check_ran_again(page: Page) -> None:
    page.store.edit_record(page.ids()[3], 1, {"response": "No longer the same."}, author="ann")
    page.open("duplicates")
    assert page.buttons() == []
    assert "Run it again, then mend" in page["The open check"]
    page.do("checks_run_only")
    assert page.run().task["checks"] == ["duplicates"]
    assert "✓ None" in page.row("duplicates")


def test_after_copies_are_removed_a_job_looks_again_with_the_same_settings(page: Page) -> None:
    page.open("near_duplicates")
    page.type(how_alike_records_are=0.7)
    page.do("checks_run_only")
    page.run()
    page.do("checks_mend_1")
    assert len(page.ids()) == len(HELP) + len(MOST) - 1
    (job,) = page.store.jobs(states=("queued",))
    assert (job.task["checks"], job.task["settings"]) == (["near_duplicates"], ["near_duplicates.threshold=0.7"])
    assert f"Job {job.id} looks again" in page.said
    page.run()
    assert "✓ None" in page.row("near_duplicates")


def test_what_was_found_is_shown_among_the_records(page: Page) -> None:
    page.open("personal")
    page.do("checks_show")
    assert asked(page["Records asked for"]) == RecordFilter(flag="personal")


# -- settings ----------------------------------------------------------------------------------------------------


def test_settings_are_kept_with_the_run_and_come_back_with_the_dataset(page: Page) -> None:
    page.open("personal")
    page.type(what_to_look_for="phone\ncard")
    page.do("checks_run_only")
    page.run()
    assert "✓ None" in page.row("personal")
    again = Page(page.workspace)
    assert again["What to look for"] == "phone\ncard"
    assert again["How alike records are"] == 0.8


def test_a_setting_that_cannot_be_is_named_and_nothing_is_queued(page: Page) -> None:
    page.type(how_alike_records_are=2)
    page.do("checks_run_all")
    assert "Near duplicates: How alike records are: must be 1 or less, not 2" in page.standing
    assert page.store.jobs(states=("queued",)) == []


def test_too_long_is_counted_with_the_chosen_model_in_the_chosen_window(page: Page) -> None:
    assert (page["Model that counts tokens"], page["Window in tokens"]) == (str(EMBEDDED), 1024)
    page.open("too_long")
    page.type(model_that_counts_tokens="")
    page.do("checks_run_only")
    assert "counts with a model's tokenizer. Choose one" in page.standing.replace("&#x27;", "'")
    page.type(model_that_counts_tokens="echo:", window_in_tokens=40)
    page.do("checks_run_only")
    page.run()
    assert "2 records" in page.row("too_long")
    assert "more than fit the window" in page.finds


# -- in the tab, and checks of one's own -------------------------------------------------------------------------


def test_the_page_asks_the_tab_for_the_records_it_names(tmp_path: Path, checked_folder: Path) -> None:
    shutil.copytree(checked_folder, tmp_path / "acme")
    desk = Desk(open_workspace(tmp_path))
    desk.do("open_dataset", "help")
    desk.do("checks_open", "placeholders")
    first = next(iter(desk.workspace.store.all_records(desk.workspace.store.dataset("help").id)))
    desk.do("checks_follow", first.id)
    assert re.findall(r'<tr data-key="(\d+)"', desk["Records"]) == [str(first.id)]


@pytest.fixture
def own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "our_checks.py").write_text(
        "from studio.instructions.checks import Finding, record_check\n\n\n"
        "@record_check(name='shouting', title='Shouting', explains='Answers in capitals. They teach to shout.')\n"
        "def shouting(record):\n"
        "    if record.response.isupper():\n"
        "        yield Finding('response', 'All of it is in capital letters.', 0, len(record.response))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LADDER_EXTRA_CHECKS", "our_checks")
    check_kinds.cache_clear()
    yield
    monkeypatch.undo()
    check_kinds.cache_clear()


@pytest.mark.usefixtures("own_check")
def test_a_check_of_ones_own_is_run_listed_and_mended_like_the_others(project: Workspace) -> None:
    assert issubclass(check_kinds()["shouting"], RecordCheck)
    made = project.store.create_dataset("help", author="owner")
    rows = [{"instruction": "Is it warm?", "response": "YES IT IS"}, {"instruction": "Is it dry?", "response": "Yes."}]
    project.store.add_records(made.id, map(insertable, rows), author="owner", source="sheet.csv")
    page = Page(project)
    page.open("shouting")
    page.do("checks_run_only")
    page.run()
    assert "1 record" in page.row("shouting")
    assert "<mark>YES IT IS</mark>" in page.finds
    page.do("checks_mend_1")
    assert page.answers() == ["Yes."]
