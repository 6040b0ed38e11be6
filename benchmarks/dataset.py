"""The dataset editor at size: a million records taken in, paged, searched, saved; the checks on dolly's size.

Records are drawn from made-up words whose frequencies fall like those of a language (Zipf), with addresses, names and
near duplicates among them. Near duplicates stand beside plain datasketch on the same records, permutations and bands.
`LADDER_BENCH_RECORDS` changes the million. `evals` wheels that lie in LADDER_BENCH_EVALS (a .whl) are read too.
"""

from __future__ import annotations

import csv
import itertools
import multiprocessing
import os
import random
import re
import resource
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.labeling import percentile
from benchmarks.report import row
from studio.errors import InputError
from studio.instructions import edit_record, page_of
from studio.instructions.checking import checks_of, run_check
from studio.instructions.checks.near_duplicates import NearDuplicates
from studio.instructions.formats import Rejected
from studio.instructions.import_task import take_in
from studio.instructions.importing import preview, read_fields
from studio.instructions.records import insertable
from studio.store import Dataset, Record, RecordFilter, Store
from tests.browser import find_browser
from tests.fixtures_journeys import start_studio, stop_studio

RECORDS = int(os.environ.get("LADDER_BENCH_RECORDS", "1000000"))
DOLLY = 15_000
TRIES = 200
SAVES = 100
NEAR = 100_000
OPENINGS = 10

_CATEGORIES = (
    "open_qa general_qa closed_qa information_extraction summarization classification brainstorming creative_writing"
).split()


class Language:
    """Made-up words, the n-th of which is 1/n as frequent as the first."""

    def __init__(self, seed: int = 0, words: int = 20_000) -> None:
        self.random = random.Random(seed)
        letters = "abcdefghijklmnoprstuvw"
        made = ("".join(self.random.choices(letters, k=self.random.randint(2, 9))) for _ in itertools.count())
        self.words = list(dict.fromkeys(itertools.islice(made, 2 * words)))[:words]
        self._shares = list(itertools.accumulate(1 / (n + 1) for n in range(words)))

    def text(self, words: int) -> str:
        said = self.random.choices(self.words, cum_weights=self._shares, k=words)
        return " ".join(w.capitalize() + "." if n % 12 == 11 else w for n, w in enumerate(said))

    def rows(self, count: int, words: int) -> Iterator[dict[str, str]]:
        for number in range(count):
            category = self.random.choice(_CATEGORIES)
            response = self.text(max(3, words - 10))
            if number % 50 == 0:
                response += f" Write to anna{number}@brackenfold.example."
            yield {"instruction": f"{self.text(10)} {number}", "response": response, "category": category}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    store = Store.in_folder(folder)
    dataset = store.create_dataset("million", author="benchmark")
    _take_in(store, dataset, folder)
    _look(store, dataset)
    _save(store, dataset)
    _save_meanwhile(store, dataset, folder)
    _near_duplicates()
    _checks(folder)
    _open(folder)
    if wheel := os.environ.get("LADDER_BENCH_EVALS"):
        _evals(Path(wheel))


# -- a million -------------------------------------------------------------------------------------------------


def _take_in(store: Store, dataset: Dataset, folder: Path) -> None:
    file = folder / "million.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["instruction", "response", "category"])
        writer.writeheader()
        writer.writerows(Language().rows(RECORDS, 40))
    edit = store.begin_edit(dataset.id, "add", "Imported million.csv", author="benchmark")
    started, busy = time.monotonic(), time.process_time()
    for told in take_in(store, dataset, file, preview(file).reading, edit, "benchmark"):
        added = told.added
    seconds, cpu = time.monotonic() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{added:,} records of {file.stat().st_size / RECORDS:.0f} bytes taken in, searchable at once:")
    print(f"  {added / seconds:,.0f} records/s ({seconds:.1f} s, of the processor {cpu:.1f} s), peak {peak:,.0f} MB")


def _look(store: Store, dataset: Dataset) -> None:
    language = Language()
    pick = language.random
    pages = max(1, RECORDS // 50)
    frequent, seldom = language.words[:20], language.words[2000:]
    asked: dict[str, Callable[[], tuple[RecordFilter, int, Any]]] = {
        "a page anywhere": lambda: (RecordFilter(), pick.randint(1, pages), "oldest"),
        "sorted by length": lambda: (RecordFilter(), pick.randint(1, pages), pick.choice(["shortest", "longest"])),
        "newest first": lambda: (RecordFilter(), pick.randint(1, 20), "newest"),
        "search: a seldom word": lambda: (RecordFilter(pick.choice(seldom)), 1, "oldest"),
        "search: a frequent word": lambda: (RecordFilter(pick.choice(frequent) + " "), 1, "oldest"),
        "search: a frequent word, by length": lambda: (RecordFilter(pick.choice(frequent) + " "), 1, "longest"),
        "search: two words": lambda: (RecordFilter(f"{pick.choice(frequent)} {pick.choice(seldom)}"), 1, "oldest"),
        "search: a phrase": lambda: (RecordFilter(f'"{pick.choice(frequent)} {pick.choice(frequent)}"'), 1, "oldest"),
        "search: a word begun": lambda: (RecordFilter(pick.choice(seldom)[:3]), 1, "oldest"),
        "filter: category and split": lambda: (
            RecordFilter(category=pick.choice(_CATEGORIES), split="test"),
            1,
            "oldest",
        ),
        "filter: category, by length": lambda: (RecordFilter(category=pick.choice(_CATEGORIES)), 1, "longest"),
        "filter: length": lambda: (RecordFilter(shortest=240, longest=245), 1, "oldest"),
        "filter: a state that none is in": lambda: (RecordFilter(state="approved"), 1, "oldest"),
        "search and filter": lambda: (RecordFilter(pick.choice(seldom), pick.choice(_CATEGORIES)), 1, "oldest"),
    }

    def timed(make: Callable[[], tuple[RecordFilter, int, Any]]) -> list[float]:
        took = []
        for _ in range(TRIES // 10):
            where, number, order = make()
            started = time.perf_counter()
            page_of(store, dataset, where, number, order)
            took.append(1000 * (time.perf_counter() - started))
        return took

    every: list[float] = []
    for name, make in asked.items():
        took = timed(make)
        every += took
        print(row(name, took, "ms"))
    print(f"{'':44} all of these: p50 {percentile(every, 50):.1f} ms, p95 {percentile(every, 95):.1f} ms")
    # Who turns to the last page of so many has all of them counted.
    last = timed(lambda: (RecordFilter(pick.choice(frequent) + " "), 10**9, "oldest"))
    print(row("not among them: the last page of a frequent word", last, "ms"))


def _save_meanwhile(store: Store, dataset: Dataset, folder: Path) -> None:
    """How long somebody who saves waits for an import that goes on in another process."""
    file = folder / "more.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["instruction", "response", "category"])
        writer.writeheader()
        writer.writerows(Language(3).rows(max(1, RECORDS // 5), 40))
    importing = multiprocessing.get_context("spawn").Process(target=_take_in_more, args=(folder, file))
    importing.start()
    before = store.count_records(dataset.id)
    while importing.is_alive() and store.count_records(dataset.id) == before:
        time.sleep(0.05)
    took: list[float] = []
    while importing.is_alive():
        record = store.records(dataset.id, limit=1)[0]
        fields = {"instruction": record.instruction, "response": f"Edited {len(took)}.", "category": ""}
        started = time.perf_counter()
        edit_record(store, record.id, record.revision, fields, author="benchmark")
        took.append(1000 * (time.perf_counter() - started))
        time.sleep(0.1)
    print(row("saving one record while an import goes on", took, "ms"))
    print(f"{'':44} p95 {percentile(took, 95):.1f} ms")


def _take_in_more(folder: Path, file: Path) -> None:
    store = Store.in_folder(folder)
    dataset = store.dataset("million")
    edit = store.begin_edit(dataset.id, "add", "Imported more.csv", author="benchmark")
    for _ in take_in(store, dataset, file, preview(file).reading, edit, "benchmark"):
        pass


def _save(store: Store, dataset: Dataset) -> None:
    took = []
    for number in range(SAVES):
        record = store.records(dataset.id, offset=(number * 7919) % RECORDS, limit=1)[0]
        fields = {"instruction": record.instruction, "response": f"{record.response} Edited.", "category": ""}
        started = time.perf_counter()
        edit_record(store, record.id, record.revision, fields, author="benchmark")
        took.append(1000 * (time.perf_counter() - started))
    print(row("saving one record", took, "ms"))
    print(f"{'':44} p95 {percentile(took, 95):.1f} ms")


# -- near duplicates beside datasketch ---------------------------------------------------------------------------


def _near_duplicates() -> None:
    records = list(_near(NEAR, 30))
    with tempfile.TemporaryDirectory() as memory:
        started = time.process_time()
        ours = len(list(NearDuplicates().look(records, Path(memory))))
        first = time.process_time() - started
        started = time.process_time()
        list(NearDuplicates().look(records, Path(memory)))
        again = time.process_time() - started
    started = time.process_time()
    pairs = _datasketch(records)
    theirs = time.process_time() - started
    print(f"near duplicates in {NEAR:,} records, seconds of the processor: ours {first:.2f} ({ours:,} flagged), again ")
    print(f"  {again:.2f}, datasketch {theirs:.2f} ({pairs:,} pairs): {first / theirs:.2f} of it")


def _near(count: int, words: int) -> Iterator[Record]:
    """Records of which every twentieth nearly says what an earlier one says."""
    language = Language(1)
    made: list[Record] = []
    for number, fields in enumerate(language.rows(count, words), 1):
        record = _record(number, fields)
        if number % 20 == 0:
            earlier = made[language.random.randrange(len(made))]
            said = earlier.response.split(" ")
            said[language.random.randrange(len(said))] = "changed"
            record = replace(earlier, id=number, response=" ".join(said))
        made.append(record)
        yield record


def _record(number: int, fields: dict[str, str]) -> Record:
    row = insertable(fields)
    return Record(
        id=number, dataset_id=1, instruction=row["instruction"], context="", response=row["response"],
        category=row["category"], turns=None, licence="", state="draft", letters=0, group_hash=row["group_hash"],
        split=row["split"], source="", provenance=None, author="", revision=1, created_at=0.0, updated_at=0.0,
    )  # fmt: skip


def _datasketch(records: Sequence[Record]) -> int:
    """The usual way: a MinHash of the runs of three words of each record, looked up and put into an LSH."""
    from datasketch import MinHash, MinHashLSH

    word = re.compile(r"\w+")
    lsh, blank = MinHashLSH(num_perm=64, params=(16, 4)), MinHash(num_perm=64)
    signatures: list[Any] = []
    pairs = 0
    for record in records:
        runs: set[bytes] = set()
        for text in (record.instruction, record.response):
            words = word.findall(text.casefold())
            runs |= {" ".join(words[k : k + 3]).encode() for k in range(max(1, len(words) - 2))}
        signature = blank.copy()
        signature.update_batch(list(runs))
        pairs += sum(signature.jaccard(signatures[other]) >= 0.8 for other in lsh.query(signature))
        lsh.insert(len(signatures), signature)
        signatures.append(signature)
    return pairs


# -- dolly's size ------------------------------------------------------------------------------------------------


def _checks(folder: Path) -> None:
    small = folder / "small"
    small.mkdir()
    store = Store.in_folder(small)
    dataset = store.create_dataset("small", author="benchmark")
    store.add_records(dataset.id, map(insertable, Language(2).rows(DOLLY, 120)), author="benchmark", source="made")
    for when in ("", "again, after one edit "):
        started = time.monotonic()
        runs = [run_check(store, dataset, check, small / "checks") for check in checks_of(())]
        slowest = max(runs, key=lambda run: run.seconds)
        print(
            f"{len(runs)} checks of {DOLLY:,} records {when}{time.monotonic() - started:.1f} s "
            f"(slowest: {slowest.check}, {slowest.seconds:.1f} s)"
        )
        record = store.records(dataset.id, limit=1)[0]
        fields = {"instruction": record.instruction, "response": "Call +49 30 1234567.", "category": record.category}
        edit_record(store, record.id, record.revision, fields, author="benchmark")


def _open(folder: Path) -> None:
    """A dataset of dolly's size, from the press on its name to its first records on screen; and the whole page by its
    address, in a browser that was there before."""
    studio = start_studio(folder / "opened", folder / "r")
    try:
        store = Store.in_folder(studio.workspace)
        big = store.create_dataset("dolly-sized", author="benchmark")
        rows = map(insertable, Language(3).rows(DOLLY, 120))
        store.add_records(big.id, rows, author="benchmark", source="made")
        small = next(d.name for d in store.datasets() if d.id != big.id)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            address = f"{studio.url}/?tab=dataset&dataset={big.name}"
            page.goto(address)
            page.wait_for_function(_FIRST_SCREEN, arg=big.name, polling=20)
            pressed, opened = [], []
            for _ in range(OPENINGS):
                for name in (small, big.name):
                    started = time.monotonic()
                    page.locator(f"#datasets tr[data-key='{name}']").click()
                    page.wait_for_function(_FIRST_SCREEN, arg=name, polling=20)
                    if name == big.name:
                        pressed.append(1000 * (time.monotonic() - started))
                started = time.monotonic()
                page.goto(address)
                page.wait_for_function(_FIRST_SCREEN, arg=big.name, polling=20)
                opened.append(1000 * (time.monotonic() - started))
            browser.close()
    finally:
        stop_studio(studio)
    print(row(f"{DOLLY:,} records, from press to first screen", pressed, "ms"))
    print(row(f"{DOLLY:,} records, the whole page by its address", opened, "ms"))


# The dataset is marked as the open one, its records are listed, and one of them is in the form.
_FIRST_SCREEN = """(name) => {
  const opened = document.querySelector('#datasets tr[aria-selected="true"]')?.dataset.key;
  const first = document.querySelector('#records tr[data-key]');
  const heads = [...document.querySelectorAll('.record-column h2')];
  const shown = heads.some((h) => h.textContent.includes(`Record ${first?.dataset.key}`));
  return opened === name && first && shown && document.querySelector('#records tr[data-key][aria-selected="true"]');
}"""


# -- real files --------------------------------------------------------------------------------------------------


def _evals(wheel: Path) -> None:
    """Every JSON Lines set inside the wheel: what it is taken for, and how many of its rows can be used."""
    taken: Counter[str] = Counter()
    rows = usable = listed = 0
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(wheel) as archive:
        for number, name in enumerate(n for n in archive.namelist() if n.endswith(".jsonl")):
            file = Path(place) / f"{number}.jsonl"
            file.write_bytes(archive.read(name))
            try:
                seen = preview(file)
                found = list(read_fields(file, seen.reading))
            except InputError:
                taken["no answers to be found"] += 1
                continue
            finally:
                file.unlink()
            taken[seen.shape or "by its columns"] += 1
            rows += len(found)
            listed += sum(isinstance(fields, Rejected) for _, fields in found)
            usable += sum(not isinstance(fields, Rejected) for _, fields in found)
    print(f"{sum(taken.values())} sets of {wheel.name}: " + ", ".join(f"{n} {what}" for what, n in taken.most_common()))
    print(f"  {rows:,} rows read, {usable:,} usable, {listed:,} listed with a reason")


if __name__ == "__main__":
    main()
