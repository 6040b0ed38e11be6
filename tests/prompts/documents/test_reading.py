"""Reading: each format gives its text and its places; what cannot be read is one sentence with the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.documents.passages import Block
from studio.prompts.documents.readers import FORMATS
from studio.prompts.documents.source import Source, clean
from tests.prompts.documents.files import locked, pdf, word, zip_bomb

Read = Callable[[str, bytes | str], list[Block]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a file and reads it by its ending."""

    def write_and_read(name: str, content: bytes | str) -> list[Block]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(FORMATS[path.suffix[1:]](Source(path, name)))

    return write_and_read


def _texts(blocks: list[Block]) -> list[str]:
    return [block.text for block in blocks]


# -- plain text and its encodings ----------------------------------------------------------------------------

GERMAN = "Größe und Gewähr: für dich, 30 °C – dünn.\n\nZurück in 60 Tagen."
FRENCH = "Où est la crème brûlée ? Déjà là – près du four à côté."
POLISH = "Gdzie jest sklep? Sklep znajduje się w porcie, zaraz obok żółtej latarni. Zwrot jest bezpłatny, proszę pisać."
RUSSIAN = "Магазин находится в порту, рядом с маяком. Возврат в течение шестидесяти дней, пишите нам по почте."
JAPANESE = "お店は港の灯台の隣にあります。火曜日から営業しています。返品は六十日以内にお願いします。"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(GERMAN.encode(), GERMAN, id="UTF-8"),
        pytest.param(GERMAN.encode("utf-8-sig"), GERMAN, id="BOM"),
        pytest.param(GERMAN.encode("utf-16"), GERMAN, id="UTF-16"),
        pytest.param(GERMAN.encode("utf-16-le"), GERMAN, id="UTF-16 that does not say so"),
        pytest.param(GERMAN.encode("utf-16-be"), GERMAN, id="UTF-16 BE that does not say so"),
        pytest.param(GERMAN.encode("utf-32"), GERMAN, id="UTF-32"),
        pytest.param(GERMAN.encode("cp1252"), GERMAN, id="cp1252 German"),
        pytest.param(FRENCH.encode("cp1252"), FRENCH, id="cp1252 French"),
        pytest.param(POLISH.encode("cp1250"), POLISH, id="cp1250 Polish"),
        pytest.param(RUSSIAN.encode("cp1251"), RUSSIAN, id="cp1251 Russian"),
        pytest.param(JAPANESE.encode("shift_jis"), JAPANESE, id="Shift-JIS Japanese"),
        pytest.param("für dich, für".encode() + b"\xc3", "für dich, für", id="cut inside its last letter"),
        pytest.param(b"a\x00b\x07c\xe2\x80\xae d", "abc d", id="NULs and controls"),
        pytest.param("a\u00adb\u200bc\ufeff \U000e0041\U000e0042d", "abc d", id="signs that nobody sees"),
        pytest.param("नमस्ते क्‍ष 👩‍🚀".encode(), "नमस्ते क्‍ष 👩‍🚀", id="joiners that letters need"),
        pytest.param(b"a\r\nb\rc\x0cd", "a\nb\nc\nd", id="lines of other systems"),
    ],
)
def test_text_is_read_in_the_encoding_it_was_written_in(read: Read, data: bytes, text: str) -> None:
    assert "\n\n".join(_texts(read("a.txt", data))) == text


def test_paragraphs_of_plain_text_know_their_lines(read: Read) -> None:
    blocks = read("a.txt", "\nOne\ntwo\n \n\nThree  \n")
    assert [(b.text, b.unit, b.first, b.last) for b in blocks] == [("One\ntwo", "line", 2, 3), ("Three", "line", 6, 6)]


@given(st.text())
def test_clean_text_is_clean_already(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    clean(text).encode()


# -- Markdown ------------------------------------------------------------------------------------------------


def test_markdown_keeps_its_marks_and_knows_its_headings(read: Read) -> None:
    text = (
        "Before.\n# **Care** #\nWash it.\n\n```\n# no heading\n\nx = 1\n```\n## [Otter](a.html)\n- 30 degrees\n"
        "Returns\n=======\nSixty\ndays.\n"
    )
    blocks = read("a.md", text)
    assert [(b.text, " > ".join(b.headings), b.is_heading) for b in blocks] == [
        ("Before.", "", False),
        ("# **Care** #", "Care", True),
        ("Wash it.", "Care", False),
        ("```\n# no heading\n\nx = 1\n```", "Care", False),
        ("## [Otter](a.html)", "Care > Otter", True),
        ("- 30 degrees\nReturns\n=======\nSixty\ndays.", "Care > Otter", False),  # a list goes on without an empty line
    ]


def test_an_underlined_heading_is_one_and_front_matter_and_tables_are_none(read: Read) -> None:
    blocks = read("a.md", "---\ntitle: x\n---\n\nReturns\n-------\nSixty.\n\n| a | b |\n|---|---|\n| c | d |\n")
    assert [b.text for b in blocks if b.is_heading] == ["Returns\n-------"]
    assert blocks[-1].headings == ("Returns",)


def test_scripts_and_comments_in_markdown_are_dropped_and_lines_stay(read: Read) -> None:
    (one, two) = read("a.md", "a\n<!-- hidden\nnote -->\n<script>steal()</script>\n\nb")
    assert (one.text, two.text, two.first) == ("a", "b", 6)


# -- HTML ----------------------------------------------------------------------------------------------------


def test_html_gives_the_text_that_people_would_see(read: Read) -> None:
    page = (
        "<!doctype html><html><head><title>T</title><style>p{}</style></head><body onload=x()><h1>Care &amp; use</h1>"
        "<p>Wash\n   <b>it</b> at&nbsp;30&nbsp;°C.<script>steal()</script><br>Then dry.</p><!-- hidden --><ul><li>One<li>Two</ul>"
        "<h2>Sizes</h2><table><tr><th>Name<th>Size<tr><td>Curlew<td>S, M</table><pre>a\n  b</pre>"
        "<template>no</template><noscript>no</noscript><svg><text>no</text></svg><h1>End</h1>tail"
    )
    blocks = read("a.html", page)
    assert [(b.text, " > ".join(b.headings)) for b in blocks] == [
        ("Care & use", "Care & use"),
        ("Wash it at 30 °C.\nThen dry.", "Care & use"),
        ("One", "Care & use"),
        ("Two", "Care & use"),
        ("Sizes", "Care & use > Sizes"),
        ("Name | Size", "Care & use > Sizes"),
        ("Curlew | S, M", "Care & use > Sizes"),
        ("a\n  b", "Care & use > Sizes"),
        ("End", "End"),
        ("tail", "End"),
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<p>seen<script>alert(1)",
        "<p>seen<style>p { color: red",
        "<p>seen<scr<script>ipt>alert(1)</script>",
        "<p>seen<!-- alert(1)",
        "<p>seen<iframe srcdoc='alert(1)'>alert(1)</iframe>",
        "<p>seen<img src=x onerror=alert(1)>",
        "<p>seen<svg><script>alert(1)</script></svg>",
    ],
)
def test_what_a_page_would_run_or_hide_is_no_text(read: Read, page: str) -> None:
    (block,) = read("a.html", page)
    assert block.text.startswith("seen")
    assert "color" not in block.text
    assert "alert" not in block.text or "<script>" in page[:20]


# -- PDF -----------------------------------------------------------------------------------------------------


def test_a_pdf_gives_the_text_of_each_page(read: Read) -> None:
    blocks = read("a.pdf", pdf(["Returns (60 days)\nWash it water-\nproof, non-\nSlip.", "", "Zips take ten days."]))
    assert [(b.text, b.unit, b.first) for b in blocks] == [
        ("Returns (60 days)\nWash it waterproof, non-\nSlip.", "page", 1),
        ("", "page", 2),
        ("Zips take ten days.", "page", 3),
    ]


def test_a_pdf_that_everybody_may_read_is_read_though_encrypted(read: Read) -> None:
    assert _texts(read("a.pdf", locked(pdf(["Zips take ten days."]), ""))) == ["Zips take ten days."]


# -- Word ----------------------------------------------------------------------------------------------------


def test_a_word_document_gives_headings_paragraphs_and_rows_in_their_order(tmp_path: Path) -> None:
    blocks = list(FORMATS["docx"](Source(word(tmp_path / "a.docx"), "a.docx")))
    assert [(b.text, " > ".join(b.headings), b.is_heading) for b in blocks] == [
        ("Handbook", "Handbook", True),
        ("Returns", "Handbook > Returns", True),
        ("You have sixty days.", "Handbook > Returns", False),
        ("Tents", "Handbook > Returns > Tents", True),
        ("Dry it first.\tThen fold it.", "Handbook > Returns > Tents", False),
        ("Name | Weight", "Handbook > Returns > Tents", False),
        ("Heron | 2.1 kg", "Handbook > Returns > Tents", False),
        ("Pegs cost two euros.", "Handbook > Returns > Tents", False),
        ("Repairs", "Handbook > Repairs", True),
        ("Zips take ten days.", "Handbook > Repairs", False),
        ("Signed by Maren.", "Handbook > Repairs", False),
    ]


# -- tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        'Name,Weight,,\nHeron,"2,1 kg",x\n\nWren,,\n',
        "Name;Weight;;\nHeron;2,1 kg;x\n;;\nWren;;\n",
        "sep=|\nName|Weight||\nHeron|2,1 kg|x\nWren|||\n",
        "Name\tWeight\t\nHeron\t2,1 kg\tx\nWren\n",
    ],
    ids=["comma", "semicolon", "as Excel says", "tab"],
)
def test_a_row_of_a_table_says_the_names_of_its_columns(read: Read, content: str) -> None:
    blocks = read("a.csv", content)
    assert [(b.text, b.unit, b.first) for b in blocks] == [
        ("Name: Heron; Weight: 2,1 kg; x", "row", 1),
        ("Name: Wren", "row", 2),
    ]


# -- what cannot be read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("a.pdf", pdf(["", ""]), "a.pdf has 2 pages and no text: pictures.*OCR.*add the result", id="scan"),
        pytest.param("a.pdf", pdf([""]), "a.pdf has 1 page and no text", id="scan of a page"),
        pytest.param(
            "a.pdf", locked(pdf(["x"]), "secret"), "a.pdf is locked with a password. Save a copy", id="locked"
        ),
        pytest.param("a.pdf", pdf(["x" * 900])[:700], "a.pdf is no whole PDF: its end is missing", id="torn PDF"),
        pytest.param("a.pdf", b"hello %%EOF", "a.pdf cannot be read: the file is damaged.*PDF viewer", id="no PDF"),
        pytest.param("a.docx", b"PK\x03\x04 torn", "a.docx cannot be read: the file is damaged.*Word", id="torn docx"),
        pytest.param("a.docx", b"\xd0\xcf\x11\xe0" * 9, "a.docx is locked with a password, or an old .doc", id="doc"),
        pytest.param("a.txt", b"\x89PNG\r\n\x1a\n" + bytes(99), "a.txt is a picture, whatever its name", id="picture"),
        pytest.param("a.txt", pdf(["x"]), "a.txt is a PDF, whatever its name says", id="PDF as text"),
        pytest.param("a.txt", bytes(range(256)) * 8, "a.txt is a binary file, not text", id="binary"),
        pytest.param("a.html", b"MZ" + bytes(200), "a.html is a binary file", id="a program"),
        pytest.param("a.html", "<div>" * 6000, "a.html has over 5000 tags inside each other", id="deep"),
        pytest.param("a.csv", "Name,Weight\n", "a.csv has a header line and no rows", id="header only"),
        pytest.param(
            "a.csv", 'Name\nok\n"open\nrow\n', "a.csv cannot be read at line 4.*Check that line's quotes", id="quote"
        ),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_what_to_do(
    read: Read, name: str, content: bytes | str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        read(name, content)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = zip_bomb(tmp_path / "a.docx")
    assert path.stat().st_size < 200_000
    with pytest.raises(InputError, match="a.docx unpacks to 81 MB; at most 64 MB are taken in"):
        FORMATS["docx"](Source(path, "a.docx"))


def test_more_text_than_a_document_may_have_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(InputError, match="a.txt has 200 MB of text; a document may have 50 MB. Split it"):
        list(FORMATS["txt"](Source(path, "a.txt")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["pdf", "docx"]), st.floats(0, 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused_with_a_sentence(
    tmp_path: Path, kind: str, share: float, noise: bytes
) -> None:
    whole = tmp_path / "whole.docx"
    data = (
        pdf(["Zips take ten days."] * 3) if kind == "pdf" else (whole if whole.exists() else word(whole)).read_bytes()
    )
    at = int(share * len(data))
    (tmp_path / f"a.{kind}").write_bytes(data[:at] + noise + data[at + len(noise) :])
    assert _refusal(Source(tmp_path / f"a.{kind}", "a"), kind)[:2] in ("", "a ")


def _refusal(source: Source, kind: str) -> str:
    try:
        list(FORMATS[kind](source))
    except InputError as error:
        return str(error)
    return ""
