"""Files as people upload them, made by the test that needs them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import docx
import pypdf

__all__ = ["locked", "pdf", "word", "zip_bomb"]


def pdf(pages: Sequence[str]) -> bytes:
    """A PDF with a page for each text; a page of '' draws a line and no letter."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for text in pages:
        lines = text.replace("(", r"\(").replace(")", r"\)").split("\n")
        shown = b"".join(b"(" + line.encode("cp1252") + b") Tj T*\n" for line in lines)
        content = b"BT /F1 11 Tf 14 TL 60 780 Td\n" + shown + b"ET" if text else b"0 0 m 100 100 l S"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    return _numbered(objects)


def _numbered(objects: Sequence[bytes]) -> bytes:
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        data
        + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (
            len(objects) + 1,
            table,
            len(objects) + 1,
            len(data),
        )
    )


def locked(data: bytes, password: str, owner: str = "owner") -> bytes:
    """The PDF, encrypted; with an empty password everybody may read it."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, owner, algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def word(path: Path) -> Path:
    """A Word document with headings, a table, a tracked change, a content control and a text after them."""
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("Returns", 1)
    document.add_paragraph("You have sixty days.")
    document.add_heading("Tents", 2)
    document.add_paragraph("Dry it first.\tThen fold it.")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        (c for row in table.rows for c in row.cells), ("Name", "Weight", "Heron", "2.1 kg"), strict=True
    ):
        cell.text = text
    paragraph = document.add_paragraph("Pegs cost ")
    for tag, inner in (("del", "<w:delText>three</w:delText>"), ("ins", "<w:t>two</w:t>")):
        paragraph._p.append(_element(f'<w:{tag} w:id="1" w:author="Pell"><w:r>{inner}</w:r></w:{tag}>'))
    paragraph.add_run(" euros.")
    document.add_heading("Repairs", 1)
    document.add_paragraph("Zips take ten days.")
    control = _element("<w:sdt><w:sdtContent><w:p><w:r><w:t>Signed by Maren.</w:t></w:r></w:p></w:sdtContent></w:sdt>")
    document.element.body.insert(len(document.element.body) - 1, control)  # the last element is the page's size
    document.save(str(path))
    return path


def _element(xml: str) -> object:
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    return parse_xml(xml.replace(">", f" {nsdecls('w')}>", 1))


def zip_bomb(path: Path, part: str = "word/document.xml", size: int = 80 << 20) -> Path:
    """A Word document of some kilobytes with a part that unpacks to `size` bytes."""
    docx.Document().save(str(path))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open(f"{part}.bin.xml", "w") as out:
        for _ in range(size >> 20):
            out.write(bytes(1 << 20))
    return path
