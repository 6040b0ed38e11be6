"""The `ladder` command: exit codes, one line on stderr, JSON for scripts."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from studio import cli
from studio.errors import StorageError
from studio.instructions import import_task
from studio.jobs import recipes
from studio.recipes.lora import Lora
from studio.specs import ModelRef, SnapshotRef
from studio.store import Store
from tests.jobs.tasks_for_tests import Count
from tests.preferences.items import BATCH, judge, put_items


class Ladder:
    """Runs `ladder --workspace FOLDER …` in this process."""

    def __init__(self, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.workspace, self._capsys = workspace, capsys
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *words: str) -> str:
        try:
            cli.main(["--workspace", str(self.workspace), *words])
            self.code = 0
        except SystemExit as stop:
            self.code = int(stop.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return self.out

    @property
    def store(self) -> Store:
        return Store.in_folder(self.workspace)


@pytest.fixture
def ladder(tmp_path, capsys, monkeypatch) -> Ladder:
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    return Ladder(tmp_path / "workspace", capsys)


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "answers.csv"
    path.write_text("question,answer\nHow wide?,Two metres.\nHow deep?,\n", encoding="utf-8")
    return path


def test_help_makes_no_workspace(ladder):
    assert "one rung at a time" in ladder("--help")
    assert not ladder.workspace.exists()


def test_the_example_comes_once(ladder):
    assert "loaded" in ladder("example")
    assert "left out" in ladder("example")
    names = {row["name"]: row["rows"] for row in json.loads(ladder("data", "list", "--json"))}
    assert names["brackenfold"] == names["data:brackenfold@1"] == 264
    assert names["eval:brackenfold@1"] == 168


def test_a_table_is_imported_and_bad_rows_are_listed(ladder, table):
    said = json.loads(ladder("data", "import", str(table), "--into", "faq", "--json"))
    assert said["added"] == 1
    assert said["rejected"][0]["row"] == 2
    assert "response is empty" in said["rejected"][0]["reason"]
    assert json.loads(ladder("data", "snapshot", "faq", "--json"))[0]["ref"] == "data:faq@1"


def test_an_import_is_undone_as_one_and_its_bad_rows_wait_to_be_mended(ladder, table, monkeypatch):
    monkeypatch.setattr(import_task, "_AT_ONCE", 1)
    table.write_text("question,answer\nHow wide?,Two metres.\nHow deep?,\nHow high?,One metre.\n", encoding="utf-8")
    ladder("data", "import", str(table), "--into", "faq", "--licence", "MIT")
    dataset = ladder.store.dataset("faq")
    assert (ladder.store.count_records(dataset.id), dataset.licence) == (2, "MIT")
    ((row,), total) = ladder.store.left_out(dataset.id)
    assert (row.row, row.cells["question"], total) == (2, "How deep?", 1)
    assert ladder.store.undo(dataset.id, author="owner").records == 2
    assert ladder.store.count_records(dataset.id) == 0


def test_an_import_lets_others_write_between_its_parts(ladder, table, monkeypatch):
    rows = "".join(f"How many are {n}?,{n}.\n" for n in range(20))
    table.write_text(f"question,answer\n{rows}", encoding="utf-8")
    monkeypatch.setattr(import_task, "_AT_ONCE", 5)
    take, seen = Store.take_rows, []

    def take_and_comment(store, dataset_id, *rest, **more):
        take(store, dataset_id, *rest, **more)
        other = Store.in_folder(ladder.workspace)
        record = other.records(dataset_id, order="newest", limit=1)[0]
        other.edit_record(record.id, 1, {"category": "seen"}, author="ben")
        seen.append(other.count_records(dataset_id))
        other.close()

    monkeypatch.setattr(Store, "take_rows", take_and_comment)
    assert json.loads(ladder("data", "import", str(table), "--into", "faq", "--json"))["added"] == 20
    assert seen == [5, 10, 15, 20]


def test_an_import_that_breaks_off_says_what_is_in(ladder, table, monkeypatch):
    monkeypatch.setattr(import_task, "_AT_ONCE", 1)
    table.write_text("question,answer\nHow wide?,Two metres.\nHow high?,One metre.\n", encoding="utf-8")
    take = Store.take_rows

    def full(store, *rest, last_row, **more):
        if last_row == 2:
            raise StorageError("The disk is full.")
        take(store, *rest, last_row=last_row, **more)

    monkeypatch.setattr(Store, "take_rows", full)
    ladder("data", "import", str(table), "--into", "faq")
    assert (ladder.code, ladder.out) == (1, "")
    assert "The disk is full. 1 record of answers.csv is in faq; Undo on its page takes it out." in ladder.err


def test_a_folder_opens_in_datasets_with_the_card_on_it(ladder, tmp_path):
    ladder("example")
    store = ladder.store
    dataset = store.dataset("brackenfold")
    rejected = store.records(dataset.id, limit=1)[0]
    store.edit_record(rejected.id, rejected.revision, {"state": "rejected"}, author="ann")
    folder = tmp_path / "gear"
    (told,) = json.loads(ladder("data", "export", "brackenfold", str(folder), "--folder", "--json"))
    assert told["records"] == told["train"] + told["validation"] + told["test"] == 263
    assert {file.name for file in folder.iterdir()} == {
        "README.md", "train.parquet", "validation.parquet", "test.parquet",
    }  # fmt: skip
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")
    again = ladder("data", "export", "brackenfold", str(folder), "--folder")
    assert (again, ladder.code, "is there already" in ladder.err) == ("", 2, True)
    ladder("data", "export", "brackenfold", str(tmp_path / "b"), "--folder", "--format", "csv")
    assert (ladder.code, "A folder holds Parquet files" in ladder.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data", "import", "nowhere.csv", "--into", "x"), "nowhere.csv cannot be read"),
        (("data", "import", "{table}", "--into", "x", "--map", "response=reply"), "has no column 'reply'"),
        (("data", "import", "{table}", "--into", "x", "--map", "nonsense"), "is not FIELD=COLUMN"),
        (("data", "snapshot", "nobody"), "There is no dataset 'nobody'"),
        (("run", "lora", "--base", "run:9", "--data", "data:x@1"), "There is no snapshot 'data:x@1'"),
        (("run", "lora", "--base", "gpt", "--data", "data:x@1"), "'gpt' is not a ModelRef"),
        (("run", "lora", "--base", "echo:", "--data", "data:x@1", "--rank", "0"), "must be 1 or more, not '0'"),
        (("models", "judge", "dir:tiny"), "dir:tiny was not tuned here"),
        (("run", "magic"), "There is no recipe 'magic'"),
        (("jobs", "show", "7"), "7"),
        (("jobs", "cancel", "7"), "7"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:3]),
)
def test_bad_input_is_one_line_and_exit_2(ladder, table, words, sentence):
    ladder(*(w.replace("{table}", str(table)) for w in words))
    assert ladder.code == 2
    assert sentence in ladder.err
    assert ladder.err.count("\n") == 1
    assert ladder.out == ""


@pytest.mark.parametrize("file", ["out.jsonl", "out.csv", "out.xlsx", "out.parquet", "out.json"])
def test_what_is_exported_comes_in_again_the_same(ladder, tmp_path, file):
    ladder("example")
    (told,) = json.loads(ladder("data", "export", "brackenfold", str(tmp_path / file), "--shape", "alpaca", "--json"))
    assert told["records"] == 264
    assert json.loads(ladder("data", "import", str(tmp_path / file), "--into", "again", "--json"))["added"] == 264
    said = [
        [(r.instruction, r.context, r.response, r.category) for r in ladder.store.all_records(d.id)]
        for d in (ladder.store.dataset("brackenfold"), ladder.store.dataset("again"))
    ]
    assert said[0] == said[1]


def test_a_dataset_is_checked_and_described_without_a_page(ladder, tmp_path):
    ladder("example")
    found = {row["check"]: row["flagged"] for row in json.loads(ladder("data", "check", "brackenfold", "--json"))}
    assert found["duplicates"] == found["secrets"] == 0
    assert found["names"] > 0
    told = json.loads(ladder("data", "stats", "brackenfold", "--json"))
    assert told["records"] == 264
    ladder("data", "check", "brackenfold", "--check", "spelling")
    assert (ladder.code, "no check 'spelling'" in ladder.err) == (2, True)
    ladder("data", "export", "brackenfold", str(tmp_path / "out.pdf"))
    assert (ladder.code, "does not say a format" in ladder.err) == (2, True)


def test_an_empty_file_changes_nothing(ladder, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    ladder("data", "import", str(tmp_path / "empty.csv"), "--into", "x")
    assert (ladder.code, "is empty" in ladder.err) == (2, True)
    assert not ladder.workspace.exists()


def test_a_snapshot_of_nothing_is_refused(ladder):
    ladder.workspace.mkdir()
    ladder.store.create_dataset("void", author="ann")
    ladder("data", "snapshot", "void")
    assert (ladder.code, "would have 0 rows" in ladder.err) == (2, True)
    assert ladder.store.snapshots() == []


def test_a_model_that_is_not_here_is_named_with_the_cure(ladder):
    ladder("example")
    ladder("run", "lora", "--base", "hf:Qwen/Qwen3-0.6B", "--data", "data:brackenfold@1")
    assert ladder.code == 1
    assert "hf:Qwen/Qwen3-0.6B is not on this machine" in ladder.err


def test_a_file_that_is_no_database_is_named(ladder):
    ladder.workspace.mkdir()
    (ladder.workspace / "studio.db").write_bytes(b"this is not a database, and long enough to be read as a page" * 40)
    ladder("jobs", "list")
    assert ladder.code == 2
    assert "is not a readable database" in ladder.err


def test_a_locked_database_is_named_and_unchanged(ladder, table, monkeypatch):
    ladder("example")
    monkeypatch.setattr("studio.store.Store.__init__.__defaults__", (0.2,), raising=False)
    before = ladder("data", "list", "--json")
    holder = sqlite3.connect(ladder.workspace / "studio.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ladder("data", "import", str(table), "--into", "brackenfold")
    assert ladder.code == 2
    assert "is locked by another program" in ladder.err
    holder.execute("ROLLBACK")
    holder.close()
    assert ladder("data", "list", "--json") == before


def test_a_workspace_that_cannot_be_made_is_named(ladder, tmp_path):
    (tmp_path / "workspace").write_text("a file stands here")
    ladder("jobs", "list")
    assert ladder.code == 2
    assert "Choose another folder with --workspace" in ladder.err


def test_detaching_needs_a_running_studio(ladder):
    ladder("example")
    ladder("run", "lora", "--base", "dir:tiny", "--data", "data:brackenfold@1", "--detach")
    assert ladder.code == 2
    assert "No studio is running" in ladder.err
    assert json.loads(ladder("jobs", "list", "--json")) == []


def test_a_run_tunes_the_tiny_model_and_jobs_tell_of_it(ladder, model_workspace):
    (ladder.workspace / "models").mkdir(parents=True)
    shutil.copytree(model_workspace / "models" / "tiny", ladder.workspace / "models" / "tiny")
    rows = "".join(f'{{"instruction": "Count to {i}", "response": "one two three"}}\n' for i in range(12))
    (ladder.workspace / "count.jsonl").write_text(rows)
    ladder("data", "import", str(ladder.workspace / "count.jsonl"), "--into", "count")
    ladder("data", "snapshot", "count")
    told = ("run", "lora", "--base", "dir:tiny", "--data", "data:count@1", "--epochs", "1", "--rank", "2")
    plan = json.loads(ladder(*told, "--plan", "--json"))
    assert plan["can_start"]
    assert ladder(*told, "--max-length", "16", "--plan").startswith("Nothing would be learned")
    assert ladder.code == 1
    missing = ladder("run", "lora", "--base", "dir:tiny", "--data", "data:nowhere@1", "--plan")
    assert missing.splitlines()[1:] == []  # one sentence, and no figures of nothing
    assert "data:nowhere@1" in missing
    assert json.loads(ladder("jobs", "list", "--json")) == []
    ladder(*told, "--json")
    assert ladder.code == 0, ladder.err
    assert "It goes through" in ladder.err
    run = json.loads(ladder.out)[0]
    assert run["state"] == "done"
    made = json.loads(ladder("models", "list", "--json"))[-1]
    assert (made["ref"], made["base"], made["snapshot"]) == (f"run:{run['id']}", "dir:tiny", "data:count@1")
    shown = json.loads(ladder("jobs", "show", str(run["id"]), "--json"))
    assert shown["figures"]["loss"] > 0
    assert shown["result"]["new_parameters"] > 0
    ladder("jobs", "log", str(run["id"]))
    assert ladder.code == 0


def test_every_knob_is_a_flag_and_a_row(ladder):
    rows = json.loads(ladder("recipes", "--json"))
    told = {kind: {row["knob"] for row in rows if row["recipe"] == kind} for kind in recipes()}
    assert told == {kind: set(recipe.model_fields) for kind, recipe in recipes().items()}
    for kind, knobs in told.items():
        help_text = ladder("run", kind, "--help")
        assert all(f"--{knob.replace('_', '-')}" in help_text for knob in knobs)


def test_a_batch_is_listed_and_its_judgements_frozen(ladder):
    ladder("example")
    put_items(ladder.store, 20)
    ladder("prefs", "snapshot", BATCH)
    assert (ladder.code, ladder.err) == (
        2,
        f"'{BATCH}' has 0 judgements. Rank some of its items under Labeling first.\n",
    )
    store = ladder.store
    ann = store.annotator("ann")
    for item in store.lease_items(BATCH, ann, 20, seconds=60):
        judge(store, item, ann)
    rows = json.loads(ladder("prefs", "list", "--json"))
    assert rows == [{"batch": BATCH, "items": 20, "judged": 20, "human": 20, "simulated": 0}]
    (frozen,) = json.loads(ladder("prefs", "snapshot", BATCH, "--json"))
    assert (frozen["ref"], frozen["rows"]) == (f"prefs:{BATCH}@1", 20)


def test_cancelling_a_waiting_job_needs_no_studio(ladder):
    ladder("example")
    store = ladder.store
    job = store.queue_job(Lora(base=ModelRef("dir:x"), data=SnapshotRef("data:brackenfold@1")), author="ann")
    ladder("jobs", "cancel", str(job.id))
    assert ladder.code == 0
    assert store.job(job.id).state == "cancelled"


# -- the queue, notes, and runs done again ----------------------------------------------------------------------


@pytest.fixture
def waiting(ladder, monkeypatch):
    """Jobs in the training queue that nobody starts."""
    monkeypatch.setenv("LADDER_EXTRA_TASKS", "tests.jobs.tasks_for_tests")
    ladder("jobs", "list")

    def add(count: int = 1) -> list[int]:
        return [ladder.store.queue_job(Count(steps=1), author="ann").id for _ in range(count)]

    return add


def test_a_queue_is_ordered_held_and_stopped_from_the_terminal(ladder, waiting):
    first, second = waiting(2)
    assert "number 1 of 2" in ladder("jobs", "move", str(second), "up")
    assert "is held" in ladder("jobs", "hold", str(first))
    assert "is queued" in ladder("jobs", "release", str(first))
    told = json.loads(ladder("jobs", "queue", "--on-failure", "stop", "--stop", "--json"))
    assert (told["stops_on_failure"], told["stopped"]) == (True, "owner stopped the queue.")
    assert [job["id"] for job in told["waiting"]] == [second, first]
    assert "It moves. It stops when a job fails." in ladder("jobs", "queue", "train", "--go-on")


def test_a_run_in_a_stopped_queue_waits_and_the_terminal_says_why(ladder, waiting):
    (first,) = waiting()
    ladder("jobs", "queue", "--stop")
    ladder("jobs", "again", str(first))
    assert ladder.code == 2
    assert "its queue is stopped: owner stopped the queue." in ladder.err
    assert "ladder jobs queue train --go-on" in ladder.err


def test_notes_are_written_and_read(ladder, waiting):
    (job,) = waiting()
    ladder("jobs", "note", str(job), "Too", "long.")
    (note,) = json.loads(ladder("jobs", "note", str(job), "--json"))
    assert (note["author"], note["text"]) == ("owner", "Too long.")


def test_a_run_is_done_again_with_changes_and_from_its_manifest(ladder, waiting, tmp_path):
    (job,) = waiting()
    (done,) = json.loads(ladder("jobs", "again", str(job), "--set", "steps=2", "--json"))
    assert (done["state"], done["progress"]) == ("done", "2/2")
    ladder("jobs", "again", str(job), "--set", "steps")
    assert (ladder.code, "is not FIELD=VALUE" in ladder.err) == (2, True)
    file = tmp_path / "manifest.json"
    file.write_text(ladder("jobs", "manifest", str(done["id"])))
    (again,) = json.loads(ladder("run", "--manifest", str(file), "--json"))
    assert (again["state"], again["progress"]) == ("done", "2/2")
    ladder("run", "--manifest", str(file), "lora")
    assert "Leave out either --manifest or the recipe" in ladder.err


def test_an_address_to_tell_is_set_shown_without_its_path_and_taken_away(ladder):
    assert "told to nobody" in ladder("jobs", "webhook")
    assert ladder("jobs", "webhook", "http://127.0.0.1:9/hook/s3cret") == (
        "Ends of training runs are told to 127.0.0.1:9.\n"
    )
    ladder("jobs", "webhook", "https://chat.example.org/hook")
    assert (ladder.code, "the studio is offline" in ladder.err) == (2, True)
    assert "told to nobody" in ladder("jobs", "webhook", "--off")
