"""Formats: what other programs write is read, what is broken is said, and no file can fill the memory."""

from __future__ import annotations

import datetime
import io
import json
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

from studio.errors import InputError
from studio.instructions.formats import Layout, Rejected, format_named, formats, opened
from studio.instructions.formats.base import LARGEST_CELL, LARGEST_ROW
from studio.instructions.importing import Reading, preview, read_fields

ROWS = [{"instruction": "q", "response": "a"}, {"instruction": "r", "response": "b\nc"}]
PAIRS = [("q", "a"), ("r", "b\nc")]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes | str, str], Path]:
    """Writes an uploaded file."""

    def write(content: bytes | str, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def _read(path: Path, reading: Reading | None = None) -> tuple[list[tuple[str, str]], list[tuple[int, str]]]:
    """Instruction and response of the good rows; number and reason of the bad."""
    good, bad = [], []
    for number, fields in read_fields(path, reading or Reading()):
        if isinstance(fields, Rejected):
            bad.append((number, fields.reason))
        else:
            good.append((fields["instruction"], fields["response"]))
    return good, bad


def _zip(members: dict[str, bytes | str], **options: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def _parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    made = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), made, **options)
    return made.getvalue()


# -- JSON ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps(ROWS), id="a list in one line"),
        pytest.param(json.dumps(ROWS, indent=2), id="a list over lines"),
        pytest.param(json.dumps({"data": ROWS}), id="an object with a list"),
        pytest.param(
            json.dumps({"version": "1.0", "n": 2, "data": ROWS, "more": {}}, indent=1), id="beside other things"
        ),
        pytest.param("\n".join(json.dumps(row, indent=1) for row in ROWS), id="objects over lines"),
        pytest.param(json.dumps({"tags": ["x", "y"], "rows": ROWS}), id="the first list is of texts"),
        pytest.param("\ufeff" + json.dumps(ROWS), id="BOM"),
        pytest.param(json.dumps(ROWS).encode("utf-16"), id="UTF-16"),
        pytest.param(json.dumps(ROWS)[:-1] + " , ]", id="a comma too many"),
    ],
)
def test_json_is_read_wherever_its_rows_are(file: Callable[..., Path], content: bytes | str) -> None:
    path = file(content, "rows.json")
    assert preview(path).format == "json"
    assert _read(path) == (PAIRS, [])


def test_one_object_is_one_row(file: Callable[..., Path]) -> None:
    assert _read(file(json.dumps(ROWS[0], indent=2), "row.json")) == (PAIRS[:1], [])


def test_a_list_of_turns_is_a_conversation_and_no_list_of_rows(file: Callable[..., Path]) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    for content in (json.dumps({"messages": turns}), json.dumps({"id": 1, "messages": turns}, indent=1)):
        assert _read(file(content, "chat.json")) == (PAIRS[:1], [])


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        pytest.param(
            '[{"instruction": "q", "response": "a"}, {"instruction": "r", "respo',
            PAIRS[:1],
            [(2, "The file ends in the middle of this row")],
            id="cut in a row",
        ),
        pytest.param(
            '{"data": [{"instruction": "q", "response": "a"},',
            PAIRS[:1],
            [(2, "The file ends before its list does")],
            id="cut between rows",
        ),
        pytest.param(
            '[{"instruction": "q", "response": "a"}, {"x": 1,, "y": "}"}, 7, {"instruction": "r", "response": "b\\nc"}]',
            PAIRS,
            [(2, "The row is not JSON"), (3, "not a JSON object")],
            id="broken rows between good ones",
        ),
        pytest.param(
            '[{"instruction": "q", "response": "a"}, {"instruction": "r", "response": "half \\ud83d"}]',
            PAIRS[:1],
            [(2, "not utf-8 text")],
            id="half an emoji",
        ),
        pytest.param(
            '[{"instruction": "q", "response": "a"}, {"n": ' + "9" * 5000 + "}, " + "[" * 100_000 + "]" * 100_000 + "]",
            PAIRS[:1],
            [(2, "cannot be read"), (3, "cannot be read")],
            id="JSON bombs",
        ),
    ],
)
def test_broken_json_costs_only_the_rows_that_are_broken(
    file: Callable[..., Path], content: str, good: list[tuple[str, str]], bad: list[tuple[int, str]]
) -> None:
    found, listed = _read(file(content, "rows.json"))
    assert found == good
    assert [number for number, _ in listed] == [number for number, _ in bad]
    for (_, reason), (_, expected) in zip(listed, bad, strict=True):
        assert expected in reason


def test_json_rows_are_whole_wherever_a_piece_that_is_read_ends(file: Callable[..., Path]) -> None:
    rows = [{"instruction": f"q{n}", "response": 'é"\\' * (n * 37 % 4001)} for n in range(1, 400)]
    good, bad = _read(file(json.dumps(rows, ensure_ascii=False), "rows.json"))
    assert (good, bad) == ([(r["instruction"], r["response"]) for r in rows], [])


def test_a_json_file_without_rows_is_refused(file: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"rows\.json has no rows"):
        preview(file("[]", "rows.json"))
    with pytest.raises(InputError, match=r"has no rows that can be read\. Row 1: The row is not a JSON object"):
        preview(file("[1, 2]", "rows.json"))


def test_a_cut_line_is_listed_and_those_before_it_come_in(file: Callable[..., Path]) -> None:
    good, ((number, reason),) = _read(file(LINES[:-9], "rows.jsonl"))
    assert (good, number) == (PAIRS[:1], 2)
    assert "not JSON" in reason


# -- Parquet -------------------------------------------------------------------------------------------------


def test_parquet_is_read_with_its_lists_and_numbers(file: Callable[..., Path]) -> None:
    rows = [{"instruction": 7, "response": ["a", "b"]}, {"instruction": 8, "response": None}]
    path = file(_parquet(rows), "rows.parquet")
    assert preview(path).columns == ("instruction", "response")
    good, bad = _read(path)
    assert good == [("7", '["a", "b"]')]
    assert bad == [(2, "The response is empty. Write one, or leave the record out.")]


def test_bytes_in_parquet_are_text_or_listed(file: Callable[..., Path]) -> None:
    rows = [{"instruction": "q", "response": b"a"}, {"instruction": "r", "response": b"\xff\xd8picture"}]
    good, ((number, reason),) = _read(file(_parquet(rows), "rows.parquet"))
    assert (good, number) == (PAIRS[:1], 2)
    assert "bytes that are not text" in reason


def test_half_a_parquet_file_is_refused(file: Callable[..., Path]) -> None:
    whole = _parquet(ROWS * 500)
    with pytest.raises(
        InputError, match=r"half\.parquet begins as a Parquet file but cannot be read .*upload it again"
    ):
        preview(file(whole[: len(whole) // 2], "half.parquet"))


def test_damage_within_a_parquet_file_costs_its_row_group(file: Callable[..., Path]) -> None:
    rows = [{"instruction": f"q{n}", "response": f"{n * 7919 % 10_007}" * 40} for n in range(3000)]
    whole = bytearray(_parquet(rows, row_group_size=1000, compression="zstd", use_dictionary=False))
    middle = pq.ParquetFile(io.BytesIO(bytes(whole))).metadata.row_group(1).column(1).data_page_offset
    whole[middle + 40 : middle + 400] = b"\x00" * 360
    good, ((number, reason),) = _read(file(bytes(whole), "rows.parquet"))
    whole_rows = [(r["instruction"], r["response"]) for r in rows]
    assert good == whole_rows[: number - 1] + whole_rows[2000:]
    assert number > 1000
    assert f"Rows {number:,} to 2,000 are damaged" in reason


# -- Excel: workbooks of other programs are read as people see them, and ours open there ----------------------

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., Path]:
    """A workbook as openpyxl writes it."""

    def write(*rows: list[object], name: str = "book.xlsx") -> Path:
        made = Workbook()
        for row in rows:
            made.active.append(row)
        made.save(tmp_path / name)
        return tmp_path / name

    return write


def _rewritten(path: Path, part: str, change: Callable[[str], str]) -> Path:
    """The workbook with one of its parts changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            xml = old.read(name).decode()
            new.writestr(name, change(xml) if name == part else xml)
    path.write_bytes(made.getvalue())
    return path


def _as_excel_writes(path: Path, answers: list[str]) -> Path:
    """A workbook whose texts stand apart from its sheet, as Excel's do; answers are the XML of their items."""
    cells = "".join(f'<row><c t="s"><v>2</v></c><c t="s"><v>{n}</v></c></row>' for n in range(3, 3 + len(answers)))
    head = '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>'
    items = "".join(f"<si>{item}</si>" for item in ("<t>instruction</t>", "<t>response</t>", "<t>q</t>", *answers))
    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts = {
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{rels}"><sheets><sheet name="S" r:id="a"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>"
        f'<Relationship Id="a" Type="{rels}/worksheet" Target="/xl/worksheets/one.xml"/>'
        f'<Relationship Id="b" Type="{rels}/sharedStrings" Target="texts.xml"/></Relationships>',
        "xl/worksheets/one.xml": f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData>'
        + (head + cells).replace("<", "<x:").replace("<x:/", "</x:")
        + "</x:sheetData></x:worksheet>",
        "xl/texts.xml": f'<sst xmlns="{MAIN}">{items}</sst>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, xml in parts.items():
            archive.writestr(name, xml)
    return path


def _answers(path: Path, reading: Reading | None = None) -> list[str]:
    found = read_fields(path, reading or Reading())
    return [fields.reason if isinstance(fields, Rejected) else fields["response"] for _, fields in found]


def test_cells_are_read_as_people_see_them(book: Callable[..., Path]) -> None:
    values: list[object] = [
        *("text", 3, 3.0, 0.1, -2.5e-7, True),
        *(datetime.datetime(2026, 3, 1), datetime.datetime(2026, 3, 1, 14, 30), datetime.time(9, 5)),
        *("#N/A", "two\nlines", "  kept inside  the text ", "עברית 🧵", "_x000D_", "x005F_"),
        CellRichText("plain, ", TextBlock(InlineFont(b=True), "bold")),
    ]
    path = book(["instruction", "response"], *(["q", value] for value in values))
    assert _answers(path) == [
        *("text", "3", "3", "0.1", "-2.5e-07", "TRUE"),
        *("2026-03-01", "2026-03-01 14:30:00", "09:05:00"),
        # openpyxl does not escape what looks escaped, so that to Excel too this is a carriage return.
        *(
            "#N/A",
            "two\nlines",
            "kept inside  the text",
            "עברית 🧵",
            "The response is empty. Write one, or leave the record out.",
        ),
        *("x005F_", "plain, bold"),
    ]


def test_what_excel_wrote_is_read_as_it_was_meant(tmp_path: Path) -> None:
    answers = {
        "<t>plain</t>": "plain",
        "<t>literal _x005F_x000D_ and _x0007_bell</t>": "literal _x000D_ and \x07bell",
        "<r><t>in </t></r><r><rPr><b/></rPr><t xml:space='preserve'>two parts</t></r>": "in two parts",
        "<t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh>": "東京",
    }
    assert _answers(_as_excel_writes(tmp_path / "book.xlsx", list(answers))) == list(answers.values())


def test_a_text_that_is_missing_costs_what_lies_behind_it(tmp_path: Path) -> None:
    path = _as_excel_writes(tmp_path / "book.xlsx", ["<t>a</t>"] * 3)
    _rewritten(path, "xl/texts.xml", lambda xml: xml.replace("<si><t>a</t></si></sst>", "</sst>"))
    *good, last = _answers(path)
    assert good == ["a", "a"]
    assert "From here on the sheet is damaged (text 5 is missing)" in last


def test_a_formula_is_read_as_its_last_result(book: Callable[..., Path]) -> None:
    path = book(["instruction", "response"], ["q", "=1+1"])
    _rewritten(path, "xl/worksheets/sheet1.xml", lambda xml: re.sub(r"<v ?/>|<v></v>", "<v>2</v>", xml))
    assert _answers(path) == ["2"]


def test_rows_keep_the_distance_to_the_header_and_empty_ones_are_skipped(book: Callable[..., Path]) -> None:
    path = book([], ["instruction", "response"], ["q", "a"], [], ["r", None], ["s", "b", None, "far right"])
    rows = list(read_fields(path, Reading()))
    assert [number for number, _ in rows] == [1, 3, 4]
    assert [row.column for _, row in rows if isinstance(row, Rejected)] == ["response", "response"]
    assert "text to the right of the header's last column" in rows[2][1].reason  # type: ignore[union-attr]


def test_a_sheet_can_be_chosen_and_the_first_with_rows_is_proposed(tmp_path: Path) -> None:
    made = Workbook()
    made.active.title = "Empty"
    for title, answer in (("Gear", "a"), ("Boats", "b")):
        sheet = made.create_sheet(title)
        sheet.append(["instruction", "response"])
        sheet.append(["q", answer])
    path = tmp_path / "sheets.xlsx"
    made.save(path)
    seen = preview(path)
    assert (seen.sheet, seen.sheets) == ("Gear", ("Empty", "Gear", "Boats"))
    assert _answers(path, preview(path, wanted=Layout(sheet="Boats")).reading) == ["b"]
    with pytest.raises(InputError, match=r"has no sheet 'Planes'\. It has: Empty, Gear, Boats"):
        preview(path, wanted=Layout(sheet="Planes"))


def test_a_workbook_in_a_zip_is_read(book: Callable[..., Path], tmp_path: Path) -> None:
    path = book(["instruction", "response"], ["q", "a"])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(path, "folder/book.xlsx")
    assert preview(tmp_path / "all.zip").member == "folder/book.xlsx"
    assert _answers(tmp_path / "all.zip") == ["a"]


def test_what_we_write_is_text_to_other_programs_and_never_a_formula(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "#N/A", "1", "true", "<&>\"'", "two\nlines", " spaces ", "🧵"]
    path = tmp_path / "ours.xlsx"
    format_named("excel").write(path, [{"a": text, "b": "x"} for text in texts], {"a": (), "b": ()})
    sheet = load_workbook(path)["records"]
    assert [cell.value for cell in sheet["A"]][1:] == texts
    assert {cell.data_type for cell in sheet["A"]} == {"s"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            lambda xml: xml.replace('r="B30"', 'r="ZZZZ30"'), "there is no column ZZZZ", id="a column too far"
        ),
        pytest.param(lambda xml: xml[: len(xml) * 3 // 4], "From here on the sheet is damaged", id="cut"),
    ],
)
def test_a_damaged_sheet_costs_what_lies_behind_the_damage(
    book: Callable[..., Path], change: Callable[[str], str], reason: str
) -> None:
    path = book(["instruction", "response"], *(["q", f"a{n}"] for n in range(50)))
    _rewritten(path, "xl/worksheets/sheet1.xml", change)
    *good, last = _answers(path)
    assert good == [f"a{n}" for n in range(len(good))]
    assert len(good) > 20
    assert reason in last


def test_an_old_or_locked_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 100)
    with pytest.raises(InputError, match=r"before 2007, or locked with a password\. Save it as \.xlsx"):
        preview(path)


def test_entities_that_blow_up_are_refused(book: Callable[..., Path]) -> None:
    path = book(["instruction", "response"], ["q", "a"])
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    _rewritten(path, "xl/workbook.xml", lambda xml: bomb + xml)
    with pytest.raises(InputError, match=r"cannot be read \(it declares a document type\)"):
        preview(path)


def test_two_columns_of_one_name_are_refused(book: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"two columns named 'a'"):
        preview(book(["a", "a"], ["x", "y"]))


def test_a_title_above_the_table_is_passed_over(book: Callable[..., Path]) -> None:
    path = book(["Support export Q3"], [], ["as of", None], ["instruction", "response"], ["Is it dry?", "Not yet."])
    assert preview(path).columns == ("instruction", "response")
    [(number, fields)] = read_fields(path, preview(path).reading)
    assert (number, fields["instruction"], fields["response"]) == (1, "Is it dry?", "Not yet.")


def test_a_workbook_without_a_row_is_refused(book: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"book\.xlsx is empty"):
        preview(book())
    with pytest.raises(InputError, match=r"book\.xlsx has no rows"):
        preview(book(["a", "b"]))


# -- zip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("rows.csv", 'instruction,response\nq,a\nr,"b\nc"\n', id="CSV"),
        pytest.param("in/a/folder/rows.jsonl", LINES, id="JSON Lines"),
        pytest.param("rows.json", json.dumps(ROWS), id="JSON"),
        pytest.param("rows.parquet", _parquet(ROWS), id="Parquet"),
        pytest.param("../../etc/rows.csv", "instruction,response\nq,a\nr,'b\nc'\n".replace("'", '"'), id="odd path"),
    ],
)
def test_a_zipped_table_is_read_as_the_table(file: Callable[..., Path], name: str, content: bytes | str) -> None:
    path = file(_zip({"readme.md": "hello", "__MACOSX/._rows.csv": "x", name: content}), "rows.zip")
    seen = preview(path)
    assert (seen.member, seen.members) == (name, (name,))
    assert _read(path, seen.reading) == (PAIRS, [])


def test_a_member_of_a_zip_can_be_chosen(file: Callable[..., Path]) -> None:
    path = file(
        _zip({"notes.txt": "a,b\nc,d", "one.jsonl": LINES, "two.csv": "instruction,response\nx,y\n"}), "all.zip"
    )
    assert preview(path).members == ("one.jsonl", "two.csv", "notes.txt")
    two = preview(path, wanted=Layout(member="two.csv"))
    assert (two.format, _read(path, two.reading)) == ("csv", ([("x", "y")], []))
    with pytest.raises(InputError, match=r"all\.zip has no member 'three\.csv'\. It has: one\.jsonl, two\.csv"):
        preview(path, wanted=Layout(member="three.csv"))


def _overlapping_bomb() -> bytes:
    """Many members that are one and the same megabyte, each with the whole of it declared as its own."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.csv", b"a," * (1 << 20))
        for number in range(1, 300):
            twin = zipfile.ZipInfo(f"{number}.csv")
            first = archive.infolist()[0]
            for part in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(twin, part, getattr(first, part))
            archive.filelist.append(twin)
    return made.getvalue()


def _many_members() -> bytes:
    """A zip that says that its list of members has a gigabyte."""
    whole = bytearray(_zip({"a.csv": "x,y\n1,2\n"}))
    struct.pack_into("<I", whole, len(whole) - 22 + 12, 1 << 30)
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(_zip({"a.csv": b"\x00" * (100 << 20)}), "as a zip bomb does", id="zeros"),
        pytest.param(_overlapping_bomb(), "as a zip bomb does", id="overlapping members"),
        pytest.param(_zip({"a.zip": _zip({"a.csv": "x"})}), "holds a zip within a zip", id="nested"),
        pytest.param(_zip({"a.png": "x"}), "holds no table", id="no table"),
        pytest.param(_zip({}), "holds no table", id="empty"),
        pytest.param(_many_members(), "lists too many members", id="endless list"),
        pytest.param(_zip({"a.csv": LINES * 99})[:200], "is no whole zip file", id="half a zip"),
        pytest.param(_zip({"word/document.xml": "x"}), "is a Word document, not a table", id="Word"),
        pytest.param(
            _zip({"META-INF/manifest.xml": "x", "content.xml": "y"}), "an OpenDocument file", id="OpenDocument"
        ),
    ],
)
def test_a_zip_that_holds_no_table_or_would_burst_is_refused(
    file: Callable[..., Path], content: bytes, sentence: str
) -> None:
    path = file(content, "rows.zip")
    with pytest.raises(InputError, match=rf"rows\.zip .*{sentence}"):
        preview(path)


def test_a_locked_zip_is_refused(file: Callable[..., Path]) -> None:
    locked = bytearray(_zip({"a.csv": "instruction,response\nq,a\n"}))
    locked[6] |= 1
    locked[locked.rfind(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match=r"locked with a password\. Unpack it first"):
        preview(file(bytes(locked), "rows.zip"))


def test_damage_in_a_member_costs_what_lies_behind_it(file: Callable[..., Path]) -> None:
    rows = "".join(
        json.dumps({"instruction": f"q{n}", "response": f"{zlib.crc32(b'%d' % n)}" * 9}) + "\n" for n in range(9000)
    )
    whole = bytearray(_zip({"rows.jsonl": rows}))
    whole[len(whole) // 2 : len(whole) // 2 + 200] = b"\xff" * 200
    good, bad = _read(file(bytes(whole), "rows.zip"))
    assert good[0][0] == "q0"
    assert 1000 < len(good) < 9000
    assert "From here on rows.jsonl in rows.zip is damaged" in bad[-1][1]


# -- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_a_large_file_is_read_in_little_memory(file: Callable[..., Path], suffix: str) -> None:
    row = {"instruction": "q", "response": "a" * 1000}
    content = {
        "csv": "instruction,response\n" + f"q,{row['response']}\n" * 12_000,
        "jsonl": (json.dumps(row) + "\n") * 12_000,
        "json": "[" + ",".join([json.dumps(row)] * 12_000) + "]",
    }[suffix]
    path = file(content, f"large.{suffix}")
    del content
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_fields(path, Reading())) == 12_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20  # of 12 MB


def test_a_cell_of_ten_megabytes_comes_in_and_a_larger_one_is_listed(file: Callable[..., Path]) -> None:
    fits, bursts = "a" * (10 << 20), "b" * (LARGEST_CELL + 1)
    good, bad = _read(file(f"instruction,response\nq,{fits}\nr,{bursts}\ns,c\n", "rows.csv"))
    assert good == [("q", fits), ("s", "c")]
    assert [number for number, _ in bad] == [2]
    lines = "".join(json.dumps({"instruction": "q", "response": text}) + "\n" for text in (fits, bursts, "c"))
    good, bad = _read(file(lines, "rows.jsonl"))
    assert good == [("q", fits), ("q", "c")]
    assert bad == [(2, "The record is longer than 16 million characters. Shorten it.")]


def test_a_line_that_does_not_end_is_skipped(file: Callable[..., Path]) -> None:
    endless = "x" * (LARGEST_ROW + 10)
    good, bad = _read(file(f"instruction,response\nq,a\n{endless}\nr,b\n", "rows.csv"))
    assert (good, [n for n, _ in bad]) == ([("q", "a"), ("r", "b")], [2])
    good, bad = _read(file(f'{json.dumps(ROWS[0])}\n{{"x": "{endless}"}}\n{json.dumps(ROWS[1])}\n', "rows.jsonl"))
    assert (good, [n for n, _ in bad]) == (PAIRS, [2])


def test_a_header_of_thousands_of_columns_is_refused(file: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"has 5,000 columns; 1,000 can be read"):
        preview(file(",".join(f"c{n}" for n in range(5000)) + "\nx\n", "rows.csv"))


# -- all of them ---------------------------------------------------------------------------------------------


def test_a_format_can_be_told_and_an_unknown_one_is_refused(file: Callable[..., Path]) -> None:
    path = file(LINES, "rows.data")
    assert opened(path, Layout(format="jsonl")).layout.format == "jsonl"
    with pytest.raises(InputError, match=r"cannot be read as Parquet"):
        opened(path, Layout(format="parquet"))
    with pytest.raises(InputError, match=r"There is no format 'doc'\. Known formats: csv, excel, json, jsonl"):
        opened(path, Layout(format="doc"))


def test_every_format_is_found_by_itself() -> None:
    assert list(formats()) == ["parquet", "excel", "jsonl", "json", "csv", "tsv", "zip"]
