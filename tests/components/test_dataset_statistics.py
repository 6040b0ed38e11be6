"""The page Statistics of the dataset tab: counted when it opens, and every bar leads to the records that it counts."""

from __future__ import annotations

import html
import json
import re
import time
from typing import Any

import gradio as gr
import pytest

from components.charts import Bar, Dot, bar_list, histogram, percent, scatter
from components.dataset import statistics
from components.dataset.shared import asked, shared_by_pages
from components.dataset.statistics_cards import part_and_label
from studio.example import EXAMPLE
from studio.instructions.describing import Describe, describe, description_of, figures_of
from studio.instructions.records import insertable
from studio.store import Dataset
from studio.workspace import Workspace
from tests.components.test_dataset import Desk
from tests.screen import Screen

HEAD, CARDS = "What the dataset is made of", "Statistics of the dataset"


class StatisticsDesk(Screen):
    """The page alone."""

    follows = True

    def __init__(self, workspace: Workspace, dataset: str = EXAMPLE) -> None:
        self.workspace = workspace
        with gr.Blocks() as demo:
            widgets = statistics.build(shared_by_pages(workspace))
        super().__init__(demo)
        assert widgets.refresh is not None
        self.refresh = widgets.refresh
        self.open_page(dataset)

    def open_page(self, dataset: str = "") -> None:
        """What opening the page does, and every beat."""
        if dataset:
            self.type(dataset=dataset)
        answer = self.refresh.fn(*(self.values[block._id] for block in self.refresh.inputs))
        self._take(list(self.refresh.outputs), answer)
        self.settle()

    @property
    def head(self) -> str:
        return re.sub(r"<[^>]+>", " ", self[HEAD])

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(html.unescape(key) for key in re.findall(r'data-key="([^"]*)"', self[CARDS])))

    def can_press(self, words: str) -> bool:
        (key,) = (key for key, block in self.demo.blocks.items() if getattr(block, "elem_id", "") == words)
        return bool(self.visible[key]) and self.props.get(key, {}).get("interactive", True) is not False

    def change_a_record(self, response: str = "Write to us. Next step: write.") -> None:
        store = self.workspace.store
        record = store.records(store.dataset(EXAMPLE).id)[0]
        store.edit_record(record.id, record.revision, {"response": response}, author="ann")


@pytest.fixture
def desk(project: Workspace) -> StatisticsDesk:
    return StatisticsDesk(project)


def dataset_of(workspace: Workspace, name: str = EXAMPLE) -> Dataset:
    return workspace.store.dataset(name)


def add(workspace: Workspace, name: str, rows: list[dict[str, Any]]) -> Dataset:
    made = workspace.store.create_dataset(name, author="ann")
    workspace.store.add_records(made.id, map(insertable, rows), author="ann", source="test")
    return made


def as_if_it_took(workspace: Workspace, seconds: float) -> None:
    """The example's description as if making it had taken so long."""
    file = workspace.path / "statistics" / f"{dataset_of(workspace).id}.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "seconds": seconds}), encoding="utf-8")


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_a_small_dataset_is_counted_when_the_page_opens(desk: StatisticsDesk) -> None:
    assert "264 records, 0 conversations, 23,530 words, " in desk.head
    assert f"As of {time.strftime('%H')}:" in desk.head
    for card in ("Categories", "States and splits", "Where records come from", "Lengths", "Languages", "Vocabulary"):
        assert f'<h2 class="section-title">{card} <small>' in desk[CARDS]
    assert "None of its eight categories is missing." in desk[CARDS]
    assert "No record shows any of these signs." in desk[CARDS]


def test_every_figure_says_of_how_many(desk: StatisticsDesk) -> None:
    notes = re.findall(r'<h2 class="section-title">([^<]+) <small>([^<]*)</small>', desk[CARDS])
    assert len(notes) == 9
    assert {title for title, note in notes if "264" not in note} == {"Lengths", "Tokens"}
    assert re.findall(r"<h3>(?:All text of a record|Context|Instruction|Response) <small>n = (\d+)", desk[CARDS]) == [
        "264",
        "264",
        "132",
        "264",
    ]


def test_every_bar_opens_as_many_records_as_it_says(desk: StatisticsDesk) -> None:
    workspace = desk.workspace
    dataset, found = dataset_of(workspace), description_of(workspace.path, dataset_of(workspace).id)
    assert found is not None
    figures = {f"{part} {f.label}": f.n for part, bars in figures_of(found).items() for f in bars}
    keys = [key for key in desk.keys if not key.startswith("record ")]
    assert len(keys) > 80
    for key in keys:
        desk.do("statistics_pick", key)
        where = asked(desk["Records asked for"])
        assert workspace.store.count_records(dataset.id, where) == figures[key], key


def test_a_pick_opens_the_records_on_their_page(project: Workspace) -> None:
    desk = Desk(project)
    desk.values[desk._find("Open page of dataset")] = "statistics"
    desk.look()
    found = description_of(project.path, dataset_of(project).id)
    assert found is not None
    for key in ("splits validation", "categories summarization", "licences "):
        part, label = part_and_label(key)
        n = next(figure.n for figure in figures_of(found)[part] if figure.label == label)
        desk.do("statistics_pick", key)
        assert f"of {n}" in desk.html


def test_a_typical_record_opens_alone(desk: StatisticsDesk) -> None:
    key = next(key for key in desk.keys if key.startswith("record "))
    desk.do("statistics_pick", key)
    assert asked(desk["Records asked for"]).ids == (int(key.removeprefix("record ")),)


def test_a_bar_that_is_gone_is_named(desk: StatisticsDesk) -> None:
    with pytest.raises(gr.Error, match="no records under 'poetry'"):
        desk.do("statistics_pick", "categories poetry")


def test_missing_categories_and_what_is_not_defined_are_said(workspace: Workspace) -> None:
    add(workspace, "tiny", [{"instruction": "Hi?", "response": "TODO", "category": "open_qa"}])
    desk = StatisticsDesk(workspace, "tiny")
    assert "1 record, 0 conversations" in desk.head
    assert "Missing here: " in desk[CARDS]
    assert "No record has one, so its lengths are not defined." in desk[CARDS]
    assert "Topics need at least 8 records, and there are 1" in desk[CARDS]
    assert "stands where an answer should." in desk[CARDS]


def test_an_empty_dataset_says_so_and_offers_no_count(workspace: Workspace) -> None:
    add(workspace, "empty", [])
    desk = StatisticsDesk(workspace, "empty")
    assert "empty has no records yet" in desk.head
    assert desk[CARDS] == ""
    assert not desk.can_press("statistics-again")
    assert not desk.can_press("statistics-tokens")


def test_what_people_wrote_cannot_become_markup(workspace: Workspace) -> None:
    strange = '<img src=x onerror="alert(1)">'
    rows = [{"instruction": f"{strange} tent {n}?", "response": "TODO", "category": strange} for n in range(12)]
    add(workspace, "strange", rows)
    desk = StatisticsDesk(workspace, "strange")
    assert "<img" not in desk[CARDS] + desk[HEAD]
    assert f"categories {strange}" in desk.keys


# -- as of when ------------------------------------------------------------------------------------------------------


def test_a_changed_dataset_is_counted_again_while_that_is_quick(desk: StatisticsDesk) -> None:
    as_if_it_took(desk.workspace, 0.0)
    desk.change_a_record("Short. Next step: write.")
    desk.open_page()
    found = description_of(desk.workspace.path, dataset_of(desk.workspace).id)
    assert found is not None
    assert found.change == dataset_of(desk.workspace).change
    assert "since" not in desk.head


def test_one_that_takes_long_says_how_old_it_is_and_can_be_brought_up_to_date(desk: StatisticsDesk) -> None:
    as_if_it_took(desk.workspace, 60.0)
    desk.change_a_record()
    desk.open_page()
    assert "1 change since" in desk.head
    assert desk.can_press("statistics-again")
    desk.do("statistics_again")
    assert "since" not in desk.head
    assert not desk.can_press("statistics-again")


def test_a_large_dataset_is_counted_by_a_job_when_somebody_asks(
    desk: StatisticsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "AT_ONCE", 100)
    monkeypatch.setattr(statistics, "is_worth_a_wait", lambda records, found: False)
    workspace = desk.workspace
    desk.change_a_record()
    desk.open_page()
    assert "1 change since" in desk.head
    desk.do("statistics_again")
    (job,) = workspace.store.jobs(kinds={"describe"})
    assert (job.task["dataset"], job.author) == (EXAMPLE, "owner")
    assert f"Job {job.id}" in desk.head
    assert "Waits for its turn." in desk.head
    assert not desk.can_press("statistics-again")
    with pytest.raises(gr.Error, match=f"Job {job.id} counts brackenfold already"):
        desk.do("statistics_again")

    # The job ends; the next beat shows what it left.
    store = workspace.store
    claimed = store.claim_job("light", "desk", only=job.id)
    assert claimed is not None
    store.start_job(job.id, claimed.attempt, pid=1)
    describe(store, workspace.path, dataset_of(workspace))
    store.finish_job(job.id, claimed.attempt, "done", result={})
    desk.open_page()
    assert "since" not in desk.head
    assert f"Job {job.id}" not in desk.head


def test_a_job_that_failed_says_why(desk: StatisticsDesk) -> None:
    store = desk.workspace.store
    job = desk.workspace.queue(Describe(dataset=EXAMPLE), author="ann")
    claimed = store.claim_job("light", "desk", only=job.id)
    assert claimed is not None
    store.start_job(job.id, claimed.attempt, pid=1)
    store.finish_job(job.id, claimed.attempt, "failed", error="The disk is full. Free some space.")
    desk.open_page()
    assert f"Job {job.id}: The disk is full. Free some space." in desk.head


def test_tokens_are_counted_by_a_job_with_the_model_that_was_chosen(desk: StatisticsDesk) -> None:
    desk.type(tokenizer_that_counts="")
    with pytest.raises(gr.Error, match="No model is chosen"):
        desk.do("statistics_tokens")
    desk.type(tokenizer_that_counts="echo:")
    desk.do("statistics_tokens")
    (job,) = desk.workspace.store.jobs(kinds={"describe"})
    assert job.task["model"] == "echo:"


def test_tokens_show_their_window_and_what_is_beyond_it(desk: StatisticsDesk) -> None:
    workspace = desk.workspace

    def words(texts: Any) -> list[int]:
        return [len(text.split()) for text in texts]

    found = describe(workspace.store, workspace.path, dataset_of(workspace), count=words, model="echo:", window=100)
    assert found is not None
    assert found.tokens is not None
    assert found.tokens.beyond is not None
    desk.open_page()
    assert f"{found.tokens.lengths.total:,} tokens of echo:" in desk.head
    assert "window 100" in desk[CARDS]
    assert "tokens more than 100" in desk.keys
    desk.do("statistics_pick", "tokens more than 100")
    where = asked(desk["Records asked for"])
    assert workspace.store.count_records(dataset_of(workspace).id, where) == found.tokens.beyond.n > 0


def test_a_beat_without_news_leaves_the_page_alone(desk: StatisticsDesk) -> None:
    desk.values[desk._find(CARDS)] = "where the reader is"
    desk.open_page()
    assert desk[CARDS] == "where the reader is"


def test_another_dataset_does_not_show_the_figures_of_the_last_one(desk: StatisticsDesk) -> None:
    add(desk.workspace, "other", [{"instruction": f"Question {n}?", "response": "Yes."} for n in range(9)])
    desk.open_page("other")
    assert "9 records" in desk.head
    assert "categories summarization" not in desk.keys


# -- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0 %"), (0.001, "<1 %"), (0.5, "50 %"), (0.999, ">99 %"), (1, "100 %")]
)
def test_a_share_that_is_there_is_not_called_nothing_and_one_that_is_not_whole_not_all(
    share: float, words: str
) -> None:
    assert percent(share) == words


def test_bars_can_be_reached_by_keyboard_and_tell_their_numbers() -> None:
    drawn = histogram("Letters", [Bar("0 to 9", 0, 0.0), Bar("10 to 19", 7, 1.0, "lengths 10 to 19")], "letters")
    assert drawn.count("<button") == 1
    assert 'aria-label="10 to 19 letters: 7 (100 %)" tabindex="0"' in drawn
    listed = bar_list("Splits", [Bar("Train", 7, 0.7, "splits train", beside=0.5), Bar("Test", 0, 0.0)])
    assert listed.count("<button") == 1
    assert ">7</span>" in listed
    assert "70 %" in listed


def test_names_on_a_map_do_not_cover_each_other() -> None:
    groups = [Bar(f"tent, pack, stove {n}", 9, 0.1, f"topics {n}") for n in range(12)]
    drawn = scatter("Topics", [Dot(n / 100, n / 100, n % 12) for n in range(120)], groups)
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="(\d+)" y="(\d+)"', drawn)]
    assert len(places) == 12
    for i, (x, y) in enumerate(places):
        assert 0 < y < 380
        for other_x, other_y in places[:i]:
            assert abs(y - other_y) >= 19 or abs(x - other_x) >= 140
    assert scatter("Nothing", [], []).count("<circle") == 0
