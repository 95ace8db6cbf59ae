"""Every kind of file comes out as text with places, exact chunks, and a title."""

import io
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import docx
import fpdf
import openpyxl
import pptx
import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw, ImageFont

from services.ingestion.backends.sandbox import SandboxedReader
from services.ingestion.domain.boxes import decode_boxes, words_between
from services.ingestion.domain.limits import Limits
from services.ingestion.domain.text import Chunking, FailureCode, ParsedDocument, Unreadable


@pytest.fixture
async def reader() -> AsyncIterator[SandboxedReader]:
    made = SandboxedReader()
    yield made
    await made.close()


async def read(reader: SandboxedReader, folder: Path, filename: str, data: bytes | str) -> ParsedDocument:
    path = folder / "upload"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    document = await reader.read(path, filename=filename, chunking=Chunking())
    for chunk in document.chunks:
        assert document.text[chunk.start : chunk.end].strip()
    return document


def headings(document: ParsedDocument, words: str) -> tuple[str, ...]:
    """The heading path of the section that holds some words."""
    at = document.text.index(words)
    return next(s.locator.heading_path for s in document.sections if s.start <= at < s.end)


async def test_markdown(reader: SandboxedReader, tmp_path: Path) -> None:
    text = (
        "---\ntitle: Travel rules\n---\nIntro.\n\n# Flights\n\nBook early.\n\n## [Upgrades](x.html)\n\nNone.\n\n"
        "```\n# no heading\n```\n\nTrains\n------\n\nFirst class is for managers.\n"
    )
    document = await read(reader, tmp_path, "travel.md", text)
    assert (document.title, document.media_type) == ("Travel rules", "text/markdown")
    assert headings(document, "no heading") == ("Flights", "Upgrades")
    assert headings(document, "First class") == ("Flights", "Trains")


async def test_html_keeps_the_main_text(reader: SandboxedReader, tmp_path: Path) -> None:
    page = (
        "<html><head><title>Site</title><script>alert(1)</script></head><body><nav><a>Home</a></nav><main><h1>Keys</h1>"
        "<p>The keys are in the drawer of the front desk, and the porter hands them out.</p><h2>Lost keys</h2>"
        "<p>Tell the porter on the same day; a new key costs twelve euros.</p>"
        "<table><tr><th>door</th><th>key</th></tr><tr><td>cellar</td><td>red</td></tr></table></main></body></html>"
    )
    document = await read(reader, tmp_path, "keys.html", page)
    assert document.title == "Keys"
    assert headings(document, "twelve euros") == ("Keys", "Lost keys")
    assert "alert" not in document.text
    assert "cellar" in document.text


@pytest.mark.parametrize(
    "topics",
    [
        "".join(f"<h2>Topic {n}</h2><ul><li>point {n}</li></ul>" for n in range(4)),
        "".join(f"<article><h2>Topic {n}</h2><p>The point {n} is short.</p></article>" for n in range(4)),
        "".join(
            f"<article><header><h2>Topic {n}</h2></header><p>{f'It is point {n} of the list. ' * 9}</p></article>"
            for n in range(4)
        ),
    ],
    ids=["lists", "articles", "headers-of-articles"],
)
async def test_html_keeps_headings(reader: SandboxedReader, tmp_path: Path, topics: str) -> None:
    page = f"<html><body><header>Home</header><h1>Site</h1>{topics}</body></html>"
    document = await read(reader, tmp_path, "topics.html", page)
    assert [headings(document, f"point {n}") for n in range(4)] == [("Site", f"Topic {n}") for n in range(4)]
    assert "Home" not in document.text


async def test_a_short_page_keeps_its_sentences(reader: SandboxedReader, tmp_path: Path) -> None:
    document = await read(reader, tmp_path, "short.html", "<h1>Lamps</h1><p>They cost <b>nine</b> euros.</p>")
    assert document.text.strip() == "# Lamps\n\nThey cost **nine** euros."


async def test_word(reader: SandboxedReader, tmp_path: Path) -> None:
    source = docx.Document()
    source.add_heading("Travel rules", 0)
    source.add_heading("Flights", 1)
    source.add_paragraph("Book early.")
    source.add_paragraph("passport", style="List Bullet")
    table = source.add_table(rows=2, cols=2)
    for cell, text in zip((c for row in table.rows for c in row.cells), ("city", "limit", "Oslo", "180"), strict=True):
        cell.text = text
    table.rows[1].cells[1].add_table(rows=1, cols=2).rows[0].cells[1].text = "per night"
    stream = io.BytesIO()
    source.save(stream)
    document = await read(reader, tmp_path, "travel.docx", stream.getvalue())
    assert document.title == "Travel rules"
    assert headings(document, "Book early") == ("Travel rules", "Flights")
    assert "- passport" in document.text
    assert "| Oslo | 180 per night |" in " ".join(document.text.split())
    assert document.text.count("per night") == 1


async def test_slides_are_pages_with_notes(reader: SandboxedReader, tmp_path: Path) -> None:
    source = pptx.Presentation()
    for number in (1, 2):
        slide = source.slides.add_slide(source.slide_layouts[1])
        slide.shapes.title.text = f"Topic {number}"
        slide.placeholders[1].text = f"Point {number}\vand more"
        slide.notes_slide.notes_text_frame.text = f"Say it {number} times."
    stream = io.BytesIO()
    source.save(stream)
    document = await read(reader, tmp_path, "talk.pptx", stream.getvalue())
    second = next(c for c in document.chunks if "Point 2" in document.text[c.start : c.end])
    assert (second.locator.page_first, second.locator.heading_path) == (2, ("Topic 2",))
    assert "Point 2\nand more" in document.text
    assert "Notes: Say it 2 times." in document.text


async def test_sheets_are_parts_and_rows_name_their_columns(reader: SandboxedReader, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Prices"
    book.active.append(["product", "price", "since"])
    for number in range(60):
        book.active.append([f"lamp {number}", number / 2, None])
    book.create_sheet("Notes").append(["Prices hold until May."])
    stream = io.BytesIO()
    book.save(stream)
    document = await read(reader, tmp_path, "prices.xlsx", stream.getvalue())
    assert "product: lamp 51; price: 25.5" in document.text
    assert {section.locator.part for section in document.sections} == {"Prices", "Notes"}


@pytest.mark.parametrize(
    ("filename", "data", "words"),
    [
        ("plain.txt", "Just a line.", "Just a line."),
        ("latin.txt", "Caf\u00e9 Zürich".encode("cp1252"), "Café Zürich"),
        ("wide.txt", "Zürich".encode("utf-16"), "Zürich"),
        ("list.csv", "name;age\nAda;36\nAlan;41\n", "| Ada | 36 |"),
        ("note.json", '{"title": "Keys", "content": "In the *drawer*.", "owner": "Ada"}', "owner: Ada"),
        ("rows.json", '[{"a": 1, "b": true}, {"a": 2, "b": null}]', "| 1 | true |"),
        ("people.json", '{"title": "Ada", "name": "Ada Lovelace", "content": "Counts."}', "name: Ada Lovelace"),
        ("long.csv", 'question,answer\nWhy?,"' + "because " * 2_000 + 'of this"\n', "because of this"),
        ("odd.csv", "name;note\nAda;first\x0bsecond\nAlan;third\n", "| Ada | first second |"),
        ("odd.jsonl", '{"q": "Where\u2028exactly?"}\n{"q": "When?"}\n', "exactly?"),
        ("rows.jsonl", '{"q": "Where?"}\n{"q": "When?"}\n', "q: When?"),
    ],
)
async def test_texts(reader: SandboxedReader, tmp_path: Path, filename: str, data: bytes | str, words: str) -> None:
    assert words in (await read(reader, tmp_path, filename, data)).text


async def test_pages_headings_and_places_of_a_pdf(reader: SandboxedReader, tmp_path: Path) -> None:
    source = fpdf.FPDF()
    for number in range(1, 4):
        source.add_page()
        source.set_font("Helvetica", style="B", size=20)
        source.cell(text=f"Chapter {number}", new_x="LMARGIN", new_y="NEXT")
        source.set_font("Helvetica", size=11)
        source.multi_cell(0, text=f"The lamp number {number} hangs over the desk. " * 12)
    document = await read(reader, tmp_path, "lamps.pdf", bytes(source.output()))
    quote = "lamp number 2 hangs"
    at = document.text.index(quote)
    assert headings(document, quote) == ("Chapter 2",)
    chunk = next(c for c in document.chunks if c.start <= at < c.end)
    assert (chunk.locator.page_first, chunk.locator.page_last) == (2, 2)
    places = words_between(decode_boxes(document.boxes), at, at + len(quote))
    assert [document.text[word[0] : word[1]] for _, word in places] == ["lamp", "number", "2", "hangs"]
    for page, (_, _, x0, y0, x1, y1) in places:
        assert page.page == 2
        assert 0 <= x0 < x1 <= page.width
        assert 0 <= y0 < y1 <= page.height


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (50, 100, 580, 750)], ids=["whole", "cropped"])
async def test_places_are_those_of_the_page_as_it_is_shown(
    reader: SandboxedReader, tmp_path: Path, turned: int, crop: tuple[int, int, int, int] | None
) -> None:
    drawn = fpdf.FPDF(unit="pt", format=(600, 800))
    drawn.add_page()
    drawn.set_font("Helvetica", size=24)
    drawn.set_xy(100, 120)
    drawn.cell(text="Needleinthehaystack")
    source = pdfium.PdfDocument(bytes(drawn.output()))
    source[0].set_rotation(turned)
    if crop:
        source[0].set_cropbox(*crop)
    stream = io.BytesIO()
    source.save(stream)
    document = await read(reader, tmp_path, "turned.pdf", stream.getvalue())
    at = document.text.index("Needleinthehaystack")
    ((page, (_, _, *box)),) = words_between(decode_boxes(document.boxes), at, at + 1)
    shown = source[0].render(scale=1).to_pil().convert("L").point(lambda level: 255 * (level < 128))
    assert (page.width, page.height) == (shown.width * 10, shown.height * 10)
    ink = shown.getbbox()
    assert ink is not None
    assert all(abs(place / 10 - edge) <= 2 for place, edge in zip(box, ink, strict=True)), (box, ink)


def picture(text: str) -> Image.Image:
    canvas = Image.new("RGB", (1000, 300), "white")
    ImageDraw.Draw(canvas).text((40, 100), text, fill="black", font=ImageFont.load_default(48))
    return canvas


async def test_scans_are_read(reader: SandboxedReader, tmp_path: Path) -> None:
    stream = io.BytesIO()
    picture("INVOICE 4711 TOTAL 95 EUR").save(stream, "PNG")
    document = await read(reader, tmp_path, "scan.png", stream.getvalue())
    assert "4711" in document.text
    source = fpdf.FPDF()
    source.add_page()
    source.image(picture("CONTRACT 8213 WITH ACME"), w=180)
    document = await read(reader, tmp_path, "scan.pdf", bytes(source.output()))
    assert "8213" in document.text
    at = document.text.index("8213")
    assert words_between(decode_boxes(document.boxes), at, at + 4)


async def test_a_page_of_few_words_is_no_scan(reader: SandboxedReader, tmp_path: Path) -> None:
    source = fpdf.FPDF()
    for words in ("A. B. III", "The body of the part follows on a page of its own. " * 4):
        source.add_page()
        source.set_font("Helvetica", size=6)
        source.multi_cell(0, text=words)
    document = await read(reader, tmp_path, "part.pdf", bytes(source.output()))
    at = document.text.index("A. B. III")
    assert len(words_between(decode_boxes(document.boxes), at, at + len("A. B. III"))) == 3


async def test_mail_with_attachments(reader: SandboxedReader, tmp_path: Path) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Prices", "Ada <ada@example.org>", "alan@example.org"
    message.set_content("The list is attached.")
    message.add_attachment(b"# Lamps\n\nA lamp costs 9 euros.", "text", "markdown", filename="lamps.md")
    message.add_attachment(b"PK\x03\x04 broken", "application", "zip", filename="broken.docx")
    document = await read(reader, tmp_path, "mail.eml", bytes(message))
    assert document.title == "Prices"
    assert "From: Ada <ada@example.org>" in document.text
    lamp = next(c for c in document.chunks if "9 euros" in document.text[c.start : c.end])
    assert (lamp.locator.part, lamp.locator.heading_path) == ("lamps.md", ("Lamps",))
    assert [w for w in document.warnings if "broken.docx" in w]


_LAMPS = "Content-Type: text/markdown; name=lamps.md\r\nContent-Disposition: inline; filename=lamps.md\r\n\r\n# Lamps\r\n\r\nNine euros.\r\n"
_MIXED = (
    "Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/html\r\n\r\n<p>See the list.</p>\r\n"
    f"--B\r\n{_LAMPS}--B--\r\n"
)


@pytest.mark.parametrize(
    "message",
    [
        # As Apple's program sends it: the attachment inside one of two forms of the body.
        (
            "Content-Type: multipart/alternative; boundary=A\r\n\r\n--A\r\nContent-Type: text/plain\r\n\r\nSee the list.\r\n"
            f"--A\r\n{_MIXED}--A--\r\n"
        ),
        # Signed: everything is inside the first part.
        (
            f"Content-Type: multipart/signed; boundary=A\r\n\r\n--A\r\n{_MIXED}--A\r\nContent-Type: application/pgp-signature\r\n\r\n"
            "signature\r\n--A--\r\n"
        ),
        # As scanners send it: nothing but the attachment.
        _LAMPS,
    ],
    ids=["within-alternative", "signed", "alone"],
)
async def test_attachments_are_found_however_they_are_nested(
    reader: SandboxedReader, tmp_path: Path, message: str
) -> None:
    head = "From: ada@example.org\r\nTo: alan@example.org\r\nSubject: Prices\r\nMIME-Version: 1.0\r\n"
    document = await read(reader, tmp_path, "mail.eml", head + message)
    lamp = next(c for c in document.chunks if "Nine euros" in document.text[c.start : c.end])
    assert (lamp.locator.part, lamp.locator.heading_path) == ("lamps.md", ("Lamps",))
    assert document.text.count("See the list.") == (message != _LAMPS)
    assert document.warnings == ()


async def test_content_decides_not_the_name(reader: SandboxedReader, tmp_path: Path) -> None:
    source = fpdf.FPDF()
    source.add_page()
    source.set_font("Helvetica", size=12)
    source.cell(text="A PDF by any other name.")
    document = await read(reader, tmp_path, "named.docx", bytes(source.output()))
    assert (
        document.media_type == reader.media_type(bytes(source.output())[:4096], filename="x.txt") == "application/pdf"
    )


@pytest.mark.parametrize(
    ("limits", "rows", "words"),
    [
        (Limits(memory_bytes=300 * 2**20), 600_000, "300 MiB of memory"),
        (Limits(cpu_s=1), 600_000, "1 s of computing"),
        (Limits(wall_s=1), 600_000, "longer than 1 s"),
        (Limits(result_bytes=2**20), 100_000, "1 MiB of text"),
    ],
)
async def test_a_reading_over_its_limits_fails_and_the_next_one_works(
    tmp_path: Path, limits: Limits, rows: int, words: str
) -> None:
    reader = SandboxedReader(limits=limits)
    heavy = tmp_path / "heavy.csv"
    heavy.write_text("name,value\n" + "lamp,12345\n" * rows)
    light = tmp_path / "light.md"
    light.write_text("# Light")
    with pytest.raises(Unreadable) as failure:
        await reader.read(heavy, filename=heavy.name, chunking=Chunking())
    assert failure.value.code == FailureCode.INVALID_FILE
    assert words in failure.value.reason
    assert (await reader.read(light, filename=light.name, chunking=Chunking())).title == "Light"
    await reader.close()
