"""The `ladder` command: exit codes, one line on stderr, JSON for scripts."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from studio import cli
from studio.jobs import recipes
from studio.recipes.lora import Lora
from studio.specs import ModelRef, SnapshotRef
from studio.store import Store
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


def test_a_run_tunes_the_tiny_model_and_jobs_tell_of_it(ladder, model_workspace):
    (ladder.workspace / "models").mkdir(parents=True)
    shutil.copytree(model_workspace / "models" / "tiny", ladder.workspace / "models" / "tiny")
    rows = "".join(f'{{"instruction": "Count to {i}", "response": "one two three"}}\n' for i in range(12))
    (ladder.workspace / "count.jsonl").write_text(rows)
    ladder("data", "import", str(ladder.workspace / "count.jsonl"), "--into", "count")
    ladder("data", "snapshot", "count")
    ladder("run", "lora", "--base", "dir:tiny", "--data", "data:count@1", "--epochs", "1", "--rank", "2", "--json")
    assert ladder.code == 0, ladder.err
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
