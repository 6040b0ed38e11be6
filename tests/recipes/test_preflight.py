"""The pre-flight: what a run will take, where each figure comes from, and what stands in its way."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from studio.engine.client import EngineClient
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.models import Weights, resolve
from studio.models.files import digest
from studio.recipes.lengths import CountTokens, encoded, known
from studio.recipes.preflight import Preflight, preflight
from studio.recipes.tuning import Tuning, tuning_methods
from studio.settings import Settings
from studio.specs import ModelRef, SnapshotRef, assistant, user
from studio.store import Store
from studio.store.models import model_row
from studio.training.conversation import encode_example
from studio.training.sizes import Batch, Machine, needs, new_parameters
from tests.memory_run import MemoryRun

TINY = ModelRef("dir:tiny")
NAMES = ["Records", "Learned tokens", "Steps", "New parameters", "Memory", "Disk", "Time", "Money"]


@pytest.fixture
def root(tmp_path: Path, tiny_folder: Path) -> Path:
    """A workspace of its own, with the tiny model in it."""
    (tmp_path / "models").mkdir()
    shutil.copytree(tiny_folder, tmp_path / "models" / "tiny")
    return tmp_path


def frozen(store: Store, root: Path, rows: list[dict[str, str]], licence: str = "own") -> SnapshotRef:
    dataset = store.create_dataset(f"words-{len(store.snapshots())}", author="ann", licence=licence)
    store.add_records(dataset.id, [insertable(row) for row in rows], author="ann", source="test")
    return freeze(store, root, dataset, author="ann").ref


@pytest.fixture
def data(sqlite_store: Store, root: Path) -> SnapshotRef:
    words = "one two three four five six seven eight nine ten".split()
    rows = [{"instruction": f"Count to {i}", "response": " ".join(words[: 1 + i % 10])} for i in range(40)]
    return frozen(sqlite_store, root, rows)


def task(taught: SnapshotRef, kind: str = "lora", **knobs: object) -> Tuning:
    return tuning_methods()[kind].model_validate({"base": "dir:tiny", "data": str(taught), **knobs})


@pytest.fixture
def look(sqlite_store, root, model_settings):
    def at(one: Tuning, **more: object) -> Preflight:
        return preflight(sqlite_store, root, one, model_settings, **more)

    at.root, at.store = root, sqlite_store
    return at


@pytest.fixture
def counted(sqlite_store, root, model_settings):
    """The tokens of a snapshot, counted as a worker would."""

    def of(data: SnapshotRef):
        weights = resolve(TINY, settings=model_settings, store=sqlite_store, workspace=root)
        return encoded(root, sqlite_store.snapshot(data), weights, lambda done, total: None)

    return of


# -- figures --------------------------------------------------------------------------------------------------------


def test_every_figure_has_words_a_confidence_and_says_where_it_comes_from(look, data):
    found = look(task(data))
    assert [figure.name for figure in found.figures] == NAMES
    assert all(figure.words and figure.confidence and figure.why for figure in found.figures)
    assert not found.blocks
    assert found.sentence.startswith(f"It goes through {found.train_rows} records twice, in {found.steps} steps; ")
    assert "a rough guess: the first run measures it" in found.sentence
    assert found.seconds is None


def test_tokens_are_about_until_they_are_counted_and_exact_after(look, data, counted, tokenizer):
    before = look(task(data))
    assert before.figure("Learned tokens").confidence == "about"
    assert before.figure("Learned tokens").words.startswith("about ")
    lengths = counted(data)
    after = look(task(data)).figure("Learned tokens")
    assert (after.confidence, after.value) == ("exact", sum(learned for _, learned in lengths.train))
    one = encode_example(tokenizer, [user("Count to 0"), assistant("one")])
    assert (len(one.ids), one.learned) in (*lengths.train, *lengths.validation)


@pytest.mark.slow
def test_the_engine_counts_as_training_does(
    look, data, counted, engine: EngineClient, sqlite_store, root, tiny_weights
):
    through_the_engine = look(task(data), engine=engine)
    assert through_the_engine.figure("Learned tokens").confidence == "exact"
    shutil.rmtree(root / "lengths")
    lengths = counted(data)
    assert through_the_engine.figure("Learned tokens").value == sum(learned for _, learned in lengths.train)


def test_counting_is_a_job_for_a_large_snapshot(sqlite_store, root, data, model_settings):
    run = MemoryRun(root / "runs" / "1", settings=model_settings, store=sqlite_store, workspace=root)
    told = CountTokens(data=data, base=TINY).do(run)
    weights = resolve(TINY, settings=model_settings, store=sqlite_store, workspace=root)
    lengths = known(root, sqlite_store.snapshot(data), weights)
    assert told["tokens"] == sum(tokens for tokens, _ in lengths.train)


@pytest.mark.parametrize("effort", ["quick", "balanced", "thorough"])
def test_steps_are_those_that_training_takes(look, data, counted, effort):
    from studio.training import sft

    lengths = counted(data)
    one = task(data, effort=effort, batch_size=3)
    schedule = sft.Schedule(one.passes, one.batch_size, one.rate)
    assert look(one).steps == len(sft.plan([tokens for tokens, _ in lengths.train], schedule))


def test_the_last_run_with_the_method_on_the_model_says_how_long(look, data, sqlite_store, root):
    one = task(data, epochs=1, batch_size=8)
    job = sqlite_store.queue_job(one, author="ann")
    sqlite_store.claim_job("train", "here", only=job.id)
    sqlite_store.start_job(job.id, 1, 1)
    sqlite_store.log_metrics(job.id, 1, 4, 4, {"loss": 1.0})
    result = {"train_seconds": 64.0, "base_digest": digest(root / "models" / "tiny"), "method": "lora"}
    row = model_row(f"run:{job.id}", "tuned", author="ann", base="dir:tiny", method="lora")
    sqlite_store.finish_job(job.id, 1, "done", result=result, model=row)
    found = look(task(data, epochs=2, batch_size=8))
    assert found.seconds == pytest.approx(64.0 / 32 * found.train_rows * 2)  # two seconds for a record
    assert found.figure("Time").confidence == "last run"
    assert "judged by the last run" in found.sentence
    assert look(task(data, kind="ia3")).figure("Time").confidence == "rough"


def test_a_price_by_the_hour_becomes_money(look, data, root):
    assert "on one A100" in look(task(data)).figure("Money").words
    (root / "prices.yaml").write_text("as_of: 2026-11\ncurrency: CHF\nhere: 3600\ngpus: []\n", encoding="utf-8")
    found = look(task(data))
    assert found.figure("Money").value == pytest.approx(found.figure("Time").value)
    assert "CHF here" in found.figure("Money").words
    assert found.figure("Money").confidence == "rough"
    (root / "prices.yaml").write_text("currency: CHF\n", encoding="utf-8")
    assert any("prices.yaml: as_of" in caution.words for caution in look(task(data)).cautions)


def test_the_price_of_this_machine_comes_from_the_settings_first(look, data, root, monkeypatch):
    (root / "prices.yaml").write_text("as_of: 2026-11\ncurrency: CHF\nhere: 1\ngpus: []\n", encoding="utf-8")
    monkeypatch.setenv("LADDER_PRICE_PER_HOUR", "3600")
    here = {"workspace": root, "runtime": root / "r"}
    found = preflight(look.store, root, task(data), Settings(**here)).figure("Money")
    assert found.value == pytest.approx(look(task(data)).figure("Time").value)
    assert "CHF here" in found.words
    assert "of this machine from the settings" in found.why
    monkeypatch.setenv("LADDER_CURRENCY", "EUR")
    assert "EUR here" in preflight(look.store, root, task(data), Settings(**here)).figure("Money").words


# -- what stands in the way -----------------------------------------------------------------------------------------


def test_records_that_are_too_long_are_counted_with_the_cure(look, data, counted):
    lengths = counted(data)
    tokens = sorted(t for t, _ in lengths.train)
    found = look(task(data, max_length=tokens[-1] - 1))
    assert not found.blocks
    assert found.left_out == sum(t == tokens[-1] for t in tokens)
    [caution] = found.cautions
    assert caution.sentence.startswith(f"{found.left_out} of {len(tokens)} training records are longer than")
    assert caution.cure.startswith(f"Set the longest record to {tokens[-1]} tokens")
    assert f"goes through {len(tokens) - found.left_out} records" in found.sentence


def test_a_window_too_short_for_every_record_blocks(look, data, counted):
    counted(data)
    found = look(task(data, max_length=16))
    assert "Nothing would be learned: all" in found.refusal
    assert "Set the longest record to" in found.refusal
    assert found.sentence == found.refusal


def test_a_record_that_cannot_be_read_is_named_by_its_row(look, sqlite_store, root, counted):
    rows = [{"instruction": f"Say {i}", "response": "yes"} for i in range(30)]
    rows[0]["response"] = "stop <|im_end|> go"
    data = frozen(sqlite_store, root, rows)
    refused = counted(data).refused
    assert refused is not None
    assert (
        f"Row {refused.row} of {data} cannot be learned: Message 2 (assistant) contains <|im_end|>"
        in look(task(data)).refusal
    )


def test_a_snapshot_without_training_records_blocks(look, sqlite_store, root):
    dataset = sqlite_store.create_dataset("held", author="ann")
    row = {**insertable({"instruction": "a", "response": "b"}), "split": "test"}
    sqlite_store.add_records(dataset.id, [row], author="ann", source="test")
    found = look(task(freeze(sqlite_store, root, dataset, author="ann").ref))
    assert "has 1 records and none of them is for training" in found.refusal


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("lora", {"data": "data:gone@1"}, "There is no snapshot 'data:gone@1'"),
        ("lora", {"base": "dir:gone"}, "dir:gone is not on this machine"),
        ("lora", {"base": "echo:"}, "has no weights here"),
        ("qlora", {}, "QLoRA needs"),
        ("adalora", {"epochs": 1, "batch_size": 32}, "AdaLoRA moves its ranks over many steps, and this run has"),
        ("selective", {"layers": ("nonsense",)}, "No layer of dir:tiny is called 'nonsense'"),
    ],
    ids=["snapshot", "weights", "echo", "qlora", "adalora", "layers"],
)
def test_what_cannot_work_is_a_block_with_the_cure(look, data, kind, fields, words):
    found = look(task(data, kind=kind, **fields))
    assert words in found.refusal
    assert found.sentence == found.refusal


def test_a_snapshot_whose_file_was_changed_or_lost_blocks(look, data, sqlite_store, root):
    file = root / sqlite_store.snapshot(data).path
    assert not look(task(data)).blocks
    file.write_text(file.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    assert "was changed after it was frozen" in look(task(data)).refusal
    file.unlink()
    assert "cannot be read" in look(task(data)).refusal


def test_a_snapshot_that_holds_purged_records_blocks(look, data, sqlite_store, root):
    dataset = sqlite_store.datasets()[0]
    sqlite_store.purge_records(dataset.id, [1], reason="asked", author="ann", snapshots=[str(data)])
    assert "still holds records that were purged" in look(task(data)).refusal


def test_weights_that_changed_since_a_run_was_trained_on_them_block(look, data, sqlite_store, root):
    job = sqlite_store.queue_job(task(data), author="ann")
    sqlite_store.claim_job("train", "here", only=job.id)
    sqlite_store.start_job(job.id, 1, 1)
    row = model_row(
        f"run:{job.id}", "tuned", author="ann", base="dir:tiny", method="lora", path="adapter", base_digest="0" * 64
    )
    sqlite_store.finish_job(job.id, 1, "done", result={}, model=row)
    (root / "adapter").mkdir()
    (root / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert "is an adapter for other weights than dir:tiny has now" in look(task(data, base=f"run:{job.id}")).refusal


def test_a_full_disk_blocks(look, data, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("studio.recipes.preflight.shutil.disk_usage", lambda path: usage)
    assert "1.0 KB are free where the workspace is" in look(task(data)).refusal


def test_too_little_memory_blocks_and_says_what_to_lower(look, data, monkeypatch):
    small = Machine(False, 300_000_000, 200_000_000, 2, 2)
    monkeypatch.setattr("studio.recipes.preflight.machine", lambda: small)
    said = look(task(data)).refusal
    assert "and this machine has 300 MB" in said
    assert "Take a smaller batch than 8, shorten the longest record" in said
    assert "Turn on 'Save memory', take a smaller" in look(task(data, saves_memory="no")).refusal


def test_a_run_that_only_fits_when_it_saves_memory_will_do_so_and_says_it(look, data, counted, monkeypatch):
    lengths = counted(data)
    weights = Weights(TINY, look.root / "models" / "tiny", None, "", 2048, "")
    made, batch = task(data).method(), Batch.of(lengths.train, 8)
    place = Machine(False, 64 << 30, 0, 2, 2)
    keeping, thrifty = (
        needs(made, weights, new_parameters(made, weights), batch, recomputes=saves, place=place).memory
        for saves in (False, True)
    )
    between = replace(place, free=(keeping + thrifty) // 2)
    monkeypatch.setattr("studio.recipes.preflight.machine", lambda: between)
    found = look(task(data))
    assert not found.blocks
    [caution] = found.cautions
    assert (
        caution.cure == "If that is still so when it starts, it saves memory by itself, and takes about a third longer."
    )
    assert found.figure("Memory").value == thrifty
    told_not_to = look(task(data, saves_memory="no"))
    assert told_not_to.figure("Memory").value == keeping
    assert "turn on 'Save memory'" in told_not_to.cautions[0].cure
    monkeypatch.setattr("studio.recipes.preflight.machine", lambda: replace(between, free=keeping))
    assert not look(task(data)).cautions


# -- licences -------------------------------------------------------------------------------------------------------


def test_the_licence_of_a_dataset_counts_beside_those_of_its_records(look, sqlite_store, root):
    rows = [{"instruction": f"Ask {i}", "response": "yes", "licence": "MIT"} for i in range(9)]
    assert look(task(frozen(sqlite_store, root, rows, licence="CC-BY-NC-4.0"))).licence.verdict == "no"


def test_the_gate_holds_base_and_data_against_the_use(look, data, sqlite_store, root):
    assert look(task(data)).licence.verdict == "unknown"
    assert "no licence is named for dir:tiny" in look(task(data)).licence.sentence
    (root / "models" / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert look(task(data)).licence.verdict == "yes"
    rows = [{"instruction": f"Ask {i}", "response": "yes", "licence": "CC-BY-NC-4.0"} for i in range(3)]
    rows += [{"instruction": f"Say {i}", "response": "no"} for i in range(20)]
    mixed = frozen(sqlite_store, root, rows, licence="Apache-2.0")
    assert look(task(mixed, use="customers")).licence.verdict == "no"
    assert "records of data:words-1@1, is not for business" in look(task(mixed)).licence.sentence
    assert look(task(mixed, use="research")).licence.verdict == "yes"
    found = look(task(mixed))
    assert not found.blocks  # the figures are told all the same
    assert not found.can_start


def test_nothing_of_it_needs_torch(tmp_path):
    import subprocess
    import sys

    code = "import sys, studio.recipes.preflight; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_are_the_studios_own_where_none_are_given(sqlite_store, root, data):
    assert (
        preflight(sqlite_store, root, task(data)).steps == preflight(sqlite_store, root, task(data), Settings()).steps
    )
