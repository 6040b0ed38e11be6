"""A colleague with a messy spreadsheet, in a real browser: import, mend, mask, approve, freeze, and see what changed.

The tests of this file stand on each other, as in test_ladder.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from studio.store import Dataset, RecordFilter, Store
from tests.fixtures_journeys import Studio, choose

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

NAME = "helpdesk"
MAIL = "maren.lindqvist@example.org"
# Semicolons, Windows' own encoding and line ends, a column nobody needs, an empty answer, a placeholder, an address.
SHEET = "\r\n".join(
    [
        "Ticket;Frage;Antwort;Art",
        "1;Wie trockne ich ein nasses Zelt?;Häng es auf, bis auch die Nähte trocken sind.;Pflege",
        "2;Kann ich die Jacke zurückgeben?;Ja, innerhalb von 30 Tagen mit Beleg.;Rückgabe",
        "3;Wo ist meine Bestellung?;;Versand",
        f"4;Wer hilft bei Reklamationen?;Schreib an {MAIL}, sie antwortet am selben Tag.;Rückgabe",
        "5;Wie wasche ich Daunen?;TODO;Pflege",
        "6;Liefert ihr nach Österreich?;Ja, in drei Werktagen.;Versand",
    ]
)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sheet") / f"{NAME}.csv"
    path.write_bytes(SHEET.encode("cp1252"))
    return path


@pytest.fixture
def store(studio: Studio) -> Store:
    return Store.in_folder(studio.workspace)


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset(NAME)


def open_tab(page: Page, name: str = "Records") -> Locator:
    """The Dataset tab with our dataset, at one of its pages."""
    page.get_by_role("tab", name="Dataset", exact=True).click()
    ours = page.locator(f"#datasets tr[data-key={NAME}]")
    ours.click()
    expect(ours).to_have_attribute("aria-selected", "true")
    return open_page(page, name)


def open_page(page: Page, name: str) -> Locator:
    page.locator("#dataset-pages").get_by_role("tab", name=name, exact=True).click()
    return page.locator("#dataset-pages [role=tabpanel]:visible").first


def rows(page: Page) -> Locator:
    return page.locator("#records tr[data-key]")


def test_1_the_sheet_is_read_mapped_and_taken_in_and_a_bad_row_is_mended(page: Page, sheet: Path, store: Store):
    page.get_by_role("tab", name="Dataset", exact=True).click()
    page.get_by_role("button", name="Import", exact=True).click()
    with page.expect_file_chooser() as chooser:
        page.locator(".drop button, .drop input[type=file]").first.click()
    chooser.value.set_files(sheet)
    expect(page.get_by_text(re.compile("reads as CSV with semicolons"))).to_be_visible()
    expect(page.get_by_text("Häng es auf", exact=False).first).to_be_visible()  # and with the right alphabet
    for label, column in (("Instruction", "Frage"), ("Response", "Antwort"), ("Category", "Art")):
        choose(page, page.get_by_label(f"{label} column", exact=True), column, exact=True)
    expect(page.get_by_label("Into dataset", exact=True)).to_have_value(NAME)
    page.get_by_role("button", name="Import", exact=True).last.click()
    expect(page.get_by_text(re.compile(f"5 records were imported into {NAME}"))).to_be_visible()

    left = page.locator("#import-leave").locator(
        "xpath=ancestor::*[contains(@class,'mending') or contains(@class,'card')][1]"
    )
    expect(left.get_by_text(re.compile("The response is empty")).first).to_be_visible()
    left.get_by_label("Response of the row", exact=True).fill("Unter Konto, Bestellungen, steht die Sendungsnummer.")
    left.get_by_role("button", name=re.compile("^Add")).click()
    expect(page.get_by_text(re.compile("is a record of helpdesk now"))).to_be_visible()
    page.get_by_role("button", name="Show the records").click()
    expect(rows(page)).to_have_count(6)
    assert store.count_records(store.dataset(NAME).id) == 6


def test_2_a_placeholder_is_found_shown_and_written_anew(page: Page, store: Store, dataset: Dataset):
    checks = open_tab(page, "Checks")
    checks.get_by_role("button", name=re.compile("Run the checks|Run again")).click()
    placeholders = page.locator("#data-checks tr[data-key=placeholders]")
    expect(placeholders).to_contain_text(re.compile(r"\b1\b"), timeout=90_000)
    expect(page.locator("#data-checks tr[data-key=personal]")).to_contain_text(re.compile(r"\b1\b"), timeout=90_000)
    placeholders.click()
    expect(page.locator("#check-examples")).to_contain_text("TODO")
    checks.get_by_role("button", name=re.compile(r"^Show 1 record")).click()
    expect(rows(page)).to_have_count(1)
    response = page.get_by_label("Response", exact=True)
    expect(response).to_have_value("TODO")
    response.fill("Kalt, mit Daunenwaschmittel, und zweimal spülen.")
    response.blur()  # nothing to press: it is saved by itself
    expect(page.locator(".record-saving")).to_have_text(re.compile(r"Saved \d\d:\d\d"))
    [mended] = store.records(dataset.id, RecordFilter(text="Daunenwaschmittel"))
    assert mended.revision == 2


def test_3_an_address_is_masked_at_one_press_and_undo_would_take_it_back(page: Page, store: Store, dataset: Dataset):
    checks = open_tab(page, "Checks")
    personal = page.locator("#data-checks tr[data-key=personal]")
    expect(personal).to_contain_text(re.compile(r"\b1\b"))
    personal.click()
    expect(page.locator("#check-examples")).to_contain_text(MAIL)
    checks.get_by_role("button", name=re.compile("^Mask")).first.click()
    expect(page.get_by_text(re.compile("Undo takes it back")).first).to_be_visible()
    assert not store.records(dataset.id, RecordFilter(text="lindqvist"))
    checks.get_by_role("button", name="Undo the remedy").click()
    expect(page.locator("#check-examples")).to_contain_text(MAIL, timeout=60_000)
    checks.get_by_role("button", name=re.compile("^Mask")).first.click()
    expect(page.locator("#data-checks tr[data-key=personal]")).not_to_contain_text(re.compile(r"\b1\b"), timeout=60_000)
    assert not store.records(dataset.id, RecordFilter(text="lindqvist"))


def test_4_the_first_snapshot_is_frozen(page: Page, store: Store):
    open_tab(page)
    page.get_by_role("button", name="Take snapshot").click()
    expect(page.get_by_text(re.compile(f"Snapshot data:{NAME}@1 with 6 records"))).to_be_visible()


def test_5_records_are_approved_by_keyboard_one_is_rejected_and_one_reworded(
    page: Page, store: Store, dataset: Dataset
):
    open_tab(page)
    rows(page).first.click()
    rows(page).first.focus()
    for key in "aaaaar":
        before = store.record_shares(dataset.id, "state").get("draft", 0)
        page.keyboard.press(key)
        page.wait_for_function(
            "(n) => [...document.querySelectorAll('#records tr[data-key]')]"
            ".filter((tr) => /Draft/.test(tr.textContent)).length < n",
            arg=before,
            polling=50,
        )
    assert store.record_shares(dataset.id, "state") == {"approved": 5, "rejected": 1}
    page.get_by_label("Search the records").press_sequentially("Beleg")
    expect(rows(page)).to_have_count(1)
    rows(page).first.click()
    response = page.get_by_label("Response", exact=True)
    expect(response).to_have_value(re.compile("30 Tagen"))
    response.fill("Ja, innerhalb von 60 Tagen mit Beleg.")
    response.press("Control+s")
    expect(page.locator(".record-saving")).to_have_text(re.compile(r"Saved \d\d:\d\d"))


def test_6_the_second_snapshot_and_what_changed_between_them(page: Page, store: Store):
    snapshots = open_tab(page, "Snapshots")
    choose(page, snapshots.get_by_label("Records to freeze"), "Approved records only")
    expect(snapshots.get_by_text(re.compile("Would hold 5 of 6 records"))).to_be_visible()
    snapshots.get_by_role("button", name="Freeze these records").click()
    expect(snapshots.get_by_text(re.compile(f"data:{NAME}@2")).first).to_be_visible()
    snapshots.get_by_role("button", name=re.compile("^Compare")).first.click()
    for label, ref in (("Compare from", f"data:{NAME}@1"), ("Compare to", f"data:{NAME}@2")):
        choose(page, snapshots.get_by_label(label, exact=True), re.compile(re.escape(ref)))
    snapshots.get_by_role("button", name=re.compile("^Compare")).last.click()
    expect(snapshots.get_by_text(re.compile("0 added, 1 removed, 1 changed"))).to_be_visible()
    changed = snapshots.locator("del, ins")
    expect(changed.filter(has_text="30")).to_have_count(1)
    expect(changed.filter(has_text="60")).to_have_count(1)


def test_7_the_statistics_open_as_filters(page: Page, store: Store, dataset: Dataset):
    statistics = open_tab(page, "Statistics")
    bar = statistics.get_by_role("button", name=re.compile("Rückgabe"))
    expect(bar.first).to_be_visible(timeout=60_000)
    bar.first.click()
    expect(rows(page)).to_have_count(2)
