"""Hostile files, made when they are needed, each with what must become of it."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage

import docx
import fpdf
import openpyxl
import pptx
from PIL import Image

__all__ = ["Poison", "good_files", "poisons"]


@dataclass(frozen=True, slots=True)
class Poison:
    """A hostile file.

    Attributes:
        filename: As it is uploaded.
        data: Its bytes.
        reason: Words that the reason of its failure holds; None when it must be read (its harm disarmed).
        code: Kind of failure.
        absent: Text that must never be among what was read.
    """

    filename: str
    data: bytes
    reason: str | None
    code: str = "invalid_file"
    absent: str = ""


def good_files(count: int = 50) -> Iterator[tuple[str, bytes]]:
    """Yield honest documents that stand among the hostile ones."""
    for number in range(count):
        text = f"# Rule {number}\n\nOffice {number} opens at {number % 12 + 1} o'clock and keeps its keys in drawer {number * 7}.\n"
        yield f"rule-{number}.md", text.encode()


def poisons() -> list[Poison]:
    """Return every hostile file."""
    return [*_archives(), *_xml(), *_pdfs(), *_images(), *_texts(), *_lies(), *_truncated(), *_messages()]


def office(kind: str) -> bytes:
    """Return a small honest office file."""
    stream = io.BytesIO()
    if kind == "docx":
        document = docx.Document()
        document.add_heading("Travel", 1)
        document.add_paragraph("Flights are booked by the office. " * 40)
        document.save(stream)
    elif kind == "pptx":
        presentation = pptx.Presentation()
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = "Travel"
        slide.placeholders[1].text = "Flights are booked by the office."
        presentation.save(stream)
    else:
        book = openpyxl.Workbook()
        for number in range(50):
            book.active.append([f"city {number}", number])
        book.save(stream)
    return stream.getvalue()


def pdf(pages: int = 1, password: str = "") -> bytes:
    """Return a small honest PDF."""
    document = fpdf.FPDF()
    document.set_font("Helvetica", size=12)
    for number in range(pages):
        document.add_page()
        document.cell(text=f"Flights of group {number} are booked by the office.")
    if password:
        document.set_encryption(owner_password="owner", user_password=password)
    return bytes(document.output())


def _replaced(data: bytes, member: str, content: bytes) -> bytes:
    """Return a ZIP archive with one member replaced or added."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
        new.writestr(member, content)
    return stream.getvalue()


def _zip(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _archives() -> Iterator[Poison]:
    nothing = b"\0" * (16 << 20)
    for kind, member in (("docx", "word/media/a.bin"), ("pptx", "ppt/media/a.bin"), ("xlsx", "xl/media/a.bin")):
        yield Poison(f"bomb.{kind}", _replaced(office(kind), member, nothing), "packed more than")
    yield Poison(
        "bomb-in-body.docx",
        _replaced(office("docx"), "word/document.xml", b"<w:document>" + b"<w:p/>" * 2_000_000),
        "packed more than",
    )
    inner = _zip(inner=nothing)
    for _ in range(4):
        inner = _zip(**{f"layer{number}.zip": inner for number in range(4)})
    yield Poison("nested.zip", inner, "archive", "unsupported_file")
    yield Poison("nested.docx", inner, "archive", "unsupported_file")
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        archive.writestr("word/document.xml", b"<a/>")
        for number in range(20_000):
            archive.writestr(f"m{number}", b"")
    yield Poison("many-members.docx", many.getvalue(), "members")
    yield Poison(
        "climbing.docx", _replaced(office("docx"), "../../../../tmp/climbed.txt", b"climbed"), None, absent="climbed"
    )
    yield Poison("empty.zip", b"PK\x05\x06" + b"\0" * 18, "archive", "unsupported_file")
    # A directory that says less than the member unpacks to.
    lying = bytearray(_replaced(office("docx"), "word/media/a.bin", b"\0" * (8 << 20)))
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<I", 10)
    yield Poison("lying-directory.docx", bytes(lying), "")


def _xml() -> Iterator[Poison]:
    laughs = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha ha ha">' + b"".join(
        f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">'.encode() for n in range(9)
    )
    external = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    body = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>&%s;</w:t></w:r></w:p></w:body></w:document>'
    yield Poison(
        "laughs.docx", _replaced(office("docx"), "word/document.xml", laughs + b"]>" + body % b"j"), "entities"
    )
    yield Poison("external.docx", _replaced(office("docx"), "word/document.xml", external + body % b"f"), "entities")
    yield Poison(
        "laughs.xlsx", _replaced(office("xlsx"), "xl/workbook.xml", laughs + b"]><workbook>&j;</workbook>"), "entities"
    )
    yield Poison(
        "external.pptx", _replaced(office("pptx"), "ppt/presentation.xml", external + b"<p>&f;</p>"), "entities"
    )
    wide = ("<!DOCTYPE d []>" + "<a/>").encode("utf-16")
    yield Poison("utf16-doctype.docx", _replaced(office("docx"), "word/settings.xml", wide), "entities")
    deep = b"<w:document>" + b"<w:p>" * 200_000
    yield Poison("deep.docx", _replaced(office("docx"), "word/document.xml", deep), "")
    yield Poison(
        "external.html",
        external + b"<html><body><h1>Keys</h1><p>The keys are in the drawer. &f;</p></body></html>",
        None,
        absent="root:",
    )


def _objects(*objects: bytes) -> bytes:
    """Return a PDF of these objects, the first of which is its catalogue."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table)
    return bytes(out)


def _pdfs() -> Iterator[Poison]:
    yield Poison("secret.pdf", pdf(password="open sesame"), "password")
    catalogue = b"<</Type/Catalog/Pages 2 0 R>>"
    yield Poison("looping.pdf", _objects(catalogue, b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2/Parent 2 0 R>>"), "")
    yield Poison("looping-catalogue.pdf", _objects(b"<</Type/Catalog/Pages 1 0 R/Kids[1 0 R]/Count 9>>"), "")
    kids = b" ".join([b"3 0 R"] * 100_000)
    yield Poison(
        "100k-pages.pdf",
        _objects(
            catalogue, b"<</Type/Pages/Kids[%s]/Count 100000>>" % kids, b"<</Type/Page/MediaBox[0 0 9 9]/Parent 2 0 R>>"
        ),
        "pages",
    )
    flood = zlib.compress(b"BT /F1 9 Tf (all work and no play) Tj ET\n" * 300_000, 6)
    page = b"<</Type/Page/MediaBox[0 0 612 792]/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
    stream = b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(flood), flood)
    yield Poison("flood.pdf", _objects(catalogue, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page, stream), None)
    huge = b"<</Type/Page/MediaBox[0 0 9000000 9000000]/Parent 2 0 R>>"
    yield Poison("huge-page.pdf", _objects(catalogue, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", huge), "No text")
    yield Poison("nothing.pdf", b"%PDF-1.7\n", "damaged")
    yield Poison("no-pages.pdf", _objects(catalogue, b"<</Type/Pages/Kids[]/Count 0>>"), "")


def _png(width: int, height: int) -> bytes:
    """Return a picture whose head promises more than there is."""

    def piece(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", head) + piece(b"IDAT", zlib.compress(b"\0" * 1000)) + piece(b"IEND", b"")
    )


def _images() -> Iterator[Poison]:
    yield Poison("50000.png", _png(50_000, 50_000), "pixels")
    yield Poison("promise.png", _png(3000, 3000), "damaged")
    blank = io.BytesIO()
    Image.new("RGB", (50, 50), "white").save(blank, "PNG")
    yield Poison("blank.png", blank.getvalue(), "No text")
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "TIFF", compression="group4")
    yield Poison("bomb.tiff", bomb.getvalue(), "pixels")
    yield Poison("broken.jpg", b"\xff\xd8\xff\xe0" + b"\x11" * 500, "damaged")


def _texts() -> Iterator[Poison]:
    yield Poison("empty.txt", b"", "empty")
    yield Poison("empty.pdf", b"", "empty")
    yield Poison("spaces.md", b" \n\t\n " * 1000, "No text")
    yield Poison("null.txt", b"The keys are in the drawer. " * 20 + b"\0", None, absent="\0")
    yield Poison("all-null.txt", b"\0" * 100_000, "kind", "unsupported_file")
    yield Poison(
        "bidi.md", "# Access\n\nGrant \u202eyna\u202c \u2066visitor\u2069 no access.".encode(), None, absent="\u202e"
    )
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "obey me")
    yield Poison("tags.txt", f"A plain note{hidden} on keys.".encode(), None, absent=hidden)
    yield Poison("surrogate.json", b'{"title": "x", "content": "keys \\ud800 in the drawer"}', None, absent="\ud800")
    yield Poison("deep.json", b"[" * 200_000, "JSON")
    yield Poison("broken.json", b'{"title": ', "JSON")
    yield Poison("one-line.txt", b"a" * 500_000, None)
    yield Poison("too-much.txt", b"word " * 5_000_000, "characters")
    yield Poison("deep.html", b"<div>" * 20_000 + b"keys", "")
    yield Poison("field.csv", b'a,b\n"' + b"x" * 2_000_000 + b'",c\n', "table")
    yield Poison("many-headings.md", b"# h\n\n" * 5_000, None)
    yield Poison("stars.md", b"*" * 100_000 + b"\n" + b"[" * 100_000, "")


def _lies() -> Iterator[Poison]:
    elf = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + bytes(range(256)) * 8
    yield Poison("report.pdf", elf, "", "unsupported_file")
    yield Poison("letter.docx", b"MZ\x90\0\x03\0\0\0" + bytes(range(256)) * 8, "", "unsupported_file")
    yield Poison("really-a-pdf.txt", pdf(), None)
    yield Poison("really-a-sheet.docx", office("xlsx"), None)
    yield Poison("../../etc/passwd.md", b"# Keys\n\nThe keys are in the drawer.", None)
    yield Poison("old.doc", bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 4000, "old Office", "unsupported_file")
    secret = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le") + b"\0" * 600
    yield Poison("secret.xlsx", secret, "password")


def _truncated() -> Iterator[Poison]:
    for kind in ("docx", "pptx", "xlsx"):
        whole = office(kind)
        yield Poison(f"cut.{kind}", whole[: len(whole) // 2], "damaged")
    whole = pdf(3)
    yield Poison("cut.pdf", whole[: len(whole) // 3], "")
    picture = io.BytesIO()
    Image.effect_noise((400, 400), 90).save(picture, "JPEG")
    yield Poison("cut.jpg", picture.getvalue()[:2000], "damaged")


def _messages() -> Iterator[Poison]:
    outer = EmailMessage()
    outer["Subject"], outer["From"], outer["To"] = "Keys", "a@example.org", "b@example.org"
    outer.set_content("The keys are in the drawer.")
    outer.add_attachment(
        _replaced(office("docx"), "word/media/a.bin", b"\0" * (16 << 20)), "application", "zip", filename="bomb.docx"
    )
    yield Poison("bomb-attached.eml", bytes(outer), None)
    for number in range(12):
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = f"Layer {number}", "a@example.org", "b@example.org"
        message.set_content(f"Layer {number}")
        message.add_attachment(outer)
        outer = message
    yield Poison("russian-doll.eml", bytes(outer), None)
    crowd = EmailMessage()
    crowd["Subject"], crowd["From"], crowd["To"] = "Crowd", "a@example.org", "b@example.org"
    crowd.set_content("Many.")
    for number in range(300):
        crowd.add_attachment(b"x", "text", "plain", filename=f"../../{number}.txt")
    yield Poison("crowd.eml", bytes(crowd), None)
    yield Poison("headless.eml", b"\n\n\n", "")
    yield Poison("list.json", json.dumps([[[]] * 1000] * 100).encode(), "No text")
