"""Write the showcase documents that are not plain text: DOCX, PDF, XLSX, PPTX, e-mail and a scanned page.

The results are committed; run this again after a change to a text below: `python examples/build_documents.py`.
The same texts give the same bytes: dates inside the files are fixed, and noise is drawn from a seed.
"""

import random
import re
import zipfile
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import docx
import openpyxl
import pptx
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FOLDER = Path(__file__).resolve().parent / "documents"
Sections = list[tuple[str, list[str]]]
WRITTEN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

EQUIPMENT: Sections = [
    (
        "Laptops",
        [
            "Laptops are replaced after four years. Engineers may choose between two models; everyone else gets the light one.",
            "A broken laptop is brought to the service desk, which lends another one on the same day.",
        ],
    ),
    (
        "Phones",
        [
            "People who are on call get a phone. Private use is allowed within Europe. Phones are replaced after three years."
        ],
    ),
    ("Returning things", ["Everything is handed back on the last working day. The service desk signs the list."]),
]
WARRANTY: Sections = [
    (
        "Duration",
        ["All instruments carry a warranty of 36 months. Batteries carry a warranty of 12 months."],
    ),
    (
        "What is not covered",
        ["Damage by ice, lightning or vandalism is not covered. The warranty ends when a seal has been broken."],
    ),
    (
        "Sending an instrument in",
        ["Ask the support desk for a return number first. A repair takes 15 working days on average."],
    ),
]
HERON: Sections = [
    (
        "Aim",
        [
            "Heron builds a gauge for small streams that costs less than 400 euros to make. Its product name will be Rill 40."
        ],
    ),
    (
        "People",
        ["Heron is led by Yusuf Demirel. The housing is designed by Clara Wenzel, the electronics by Bao Tran."],
    ),
    (
        "Budget and time",
        ["The budget is 275,000 euros. Ten prototypes are tested on the Weisse Traun from May 2026 on."],
    ),
]
RILL_MANUAL: list[Sections] = [
    [
        (
            "Before you begin",
            [
                "This manual is for the Rill 200 river gauge. Read it before you mount the instrument.",
                "You need two people, a 10 mm spanner and the mounting bracket MB-7. Do not mount the gauge in a thunderstorm.",
            ],
        )
    ],
    [
        (
            "Mounting",
            [
                "Mount the gauge on a bridge or a beam, at least 50 centimetres away from any wall.",
                "The radar looks straight down. The bracket must not be tilted by more than 2 degrees; the display shows the angle.",
                "Tighten the four screws with 12 newton metres.",
            ],
        )
    ],
    [
        (
            "First start",
            [
                "Hold the button for five seconds until the light is green. The gauge then searches for a network for up to eight minutes.",
                "A blinking red light means that the battery voltage is below 3.3 volts.",
            ],
        ),
        (
            "Calibration",
            ["The gauge is calibrated every 24 months. Calibration is done in the hall in Graz and takes three days."],
        ),
    ],
    [
        (
            "Error codes",
            [
                "E11: no echo. Look for branches or ice below the gauge.",
                "E23: the memory is full. Read the gauge out with the field tablet.",
                "E42: the clock has stopped. Send the gauge in.",
            ],
        )
    ],
]
CANOPY_MANUAL: list[Sections] = [
    [
        (
            "Canopy 50 forest station",
            [
                "The Canopy 50 measures temperature, humidity and the moisture of the soil in forests.",
                "The station stands on a mast of three metres. The mast is ordered apart, under number CM-3.",
            ],
        )
    ],
    [
        (
            "Soil probes",
            [
                "Up to six soil probes are connected. A probe is put into the ground at an angle of 30 degrees.",
                "The probes are read every 20 minutes. In frost the interval is doubled.",
            ],
        )
    ],
    [
        (
            "Care",
            [
                "Clean the rain funnel every three months. Replace the desiccant bag once a year.",
                "The lithium battery lasts 40 months and is replaced by a technician only.",
            ],
        )
    ],
]
PRICES: list[tuple[str | int, ...]] = [
    ("product", "article", "price in euros", "delivery time in weeks"),
    ("Rill 200", "R-200", 1890, 4),
    ("Rill 90", "R-90", 1240, 3),
    ("Canopy 50", "C-50", 2360, 6),
    ("Mast CM-3", "CM-3", 310, 2),
    ("Satellite modem", "SM-1", 540, 8),
    ("Soil probe", "SP-2", 145, 2),
]
CONTRACTS: list[tuple[str | int, ...]] = [
    ("contract", "price per year in euros", "calls included"),
    ("Silver", 480, 10),
    ("Gold", 1150, 40),
]
BANDS: list[tuple[str | int, ...]] = [
    ("band", "title", "lowest salary in euros", "highest salary in euros"),
    ("F1", "junior engineer", 41000, 49500),
    ("F2", "engineer", 48000, 62000),
    ("F3", "senior engineer", 60500, 78000),
    ("F4", "principal engineer", 76000, 95000),
]
ROADMAP = [
    (
        "Roadmap 2026",
        ["Three themes: fewer repairs, cheaper stations, data on a map."],
        "Given by Noor Halvorsen and Mirela Costin.",
    ),
    (
        "Spring",
        ["Trial of the Rill 40 prototypes.", "New website for spare parts."],
        "The website is built by an agency.",
    ),
    (
        "Autumn",
        ["Firmware base Osprey on the Rill 200.", "Text message alarms in Lantern."],
        "The alarm texts come in five languages.",
    ),
]
FIRE_SAFETY = [
    "FIRE SAFETY - LINDEN OFFICE",
    "",
    "In case of fire leave by the nearest stairs.",
    "Do not use the lifts.",
    "The assembly point is the car park of the bakery.",
    "The fire warden is Leopold Stern, extension 4410.",
    "Fire drills take place in April and October.",
]


def main() -> None:
    """Write every document."""
    build(FOLDER)


def build(folder: Path) -> None:
    """Write every document below a folder."""
    write_docx(folder / "handbook/equipment.docx", "Equipment", EQUIPMENT)
    write_docx(folder / "products/warranty.docx", "Warranty", WARRANTY)
    write_docx(folder / "projects/heron.docx", "Project Heron", HERON)
    write_pdf(folder / "products/rill-200-manual.pdf", "Rill 200 manual", RILL_MANUAL)
    write_pdf(folder / "products/canopy-50-manual.pdf", "Canopy 50 manual", CANOPY_MANUAL)
    write_xlsx(folder / "products/prices-2026.xlsx", {"Instruments": PRICES, "Contracts": CONTRACTS})
    write_xlsx(folder / "hr/salary-bands.xlsx", {"Bands 2026": BANDS})
    write_pptx(folder / "products/roadmap.pptx")
    write_email(folder / "customers/alder-valley-complaint.eml")
    write_scan(folder / "facilities/fire-safety-scan.pdf")


def write_docx(path: Path, title: str, sections: Sections) -> None:
    """Write a title, headings and paragraphs."""
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading(title, level=0)
    for heading, paragraphs in sections:
        document.add_heading(heading, level=1)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
    document.core_properties.created = document.core_properties.modified = WRITTEN
    document.save(str(_place(path)))
    _fix_dates(path)


def write_pdf(path: Path, title: str, pages: list[Sections]) -> None:
    """Write pages of headings and paragraphs with a text layer."""
    pdf = FPDF(format="A4")
    pdf.set_title(title)
    pdf.set_creation_date(WRITTEN)
    for number, sections in enumerate(pages, 1):
        pdf.add_page()
        if number == 1:
            pdf.set_font("Helvetica", "B", 22)
            pdf.multi_cell(0, 12, title, new_x="LMARGIN", new_y="NEXT")
            pdf.ln(6)
        for heading, paragraphs in sections:
            pdf.set_font("Helvetica", "B", 15)
            pdf.multi_cell(0, 9, heading, new_x="LMARGIN", new_y="NEXT")
            pdf.set_font("Helvetica", "", 11)
            for paragraph in paragraphs:
                pdf.multi_cell(0, 6, paragraph, new_x="LMARGIN", new_y="NEXT")
                pdf.ln(2)
    pdf.output(str(_place(path)))


def write_xlsx(path: Path, sheets: dict[str, list[tuple[str | int, ...]]]) -> None:
    """Write sheets of rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    # As the library writes them; it takes no time zone.
    book.properties.created = WRITTEN.replace(tzinfo=None)
    book.save(_place(path))
    _fix_dates(path)


def write_pptx(path: Path) -> None:
    """Write slides with bullets and notes."""
    show = pptx.Presentation()
    for title, bullets, notes in ROADMAP:
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(bullets)
        slide.notes_slide.notes_text_frame.text = notes
    show.core_properties.created = show.core_properties.modified = WRITTEN
    show.save(str(_place(path)))
    _fix_dates(path)


def write_email(path: Path) -> None:
    """Write a message with an attachment."""
    message = EmailMessage()
    message["Subject"] = "Station 7 delivers no readings"
    message["From"] = "Gwen Hughes <gwen.hughes@alder-valley.example>"
    message["To"] = "support@fernwood.example"
    message["Date"] = "Tue, 10 Mar 2026 08:15:00 +0000"
    message["Message-ID"] = "<station-7@alder-valley.example>"
    message.set_content(
        "Dear support desk,\n\n"
        "our station 7 at Crook Bridge has delivered no readings since 6 March 2026. The display shows E11.\n"
        "We have a Gold contract and ask for a spare device.\n\n"
        "The protocol of our technician is attached.\n\nGwen Hughes\nAlder Valley water board\n"
    )
    message.add_attachment(
        "Protocol of 9 March 2026\n\nTechnician: Rhodri Pugh\n"
        "A tree trunk lies below the bridge. It was left by the flood of 5 March. The crane can come on 12 March.\n",
        filename="protocol.txt",
    )
    message.set_boundary("=====station-7=====")
    _place(path).write_bytes(message.as_bytes())


def write_scan(path: Path) -> None:
    """Write a page that is an image: no text layer, a little noise, a little blur."""
    page = Image.new("L", (1240, 1754), 252)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=38)
    for number, line in enumerate(FIRE_SAFETY):
        draw.text((110, 160 + number * 78), line, fill=25, font=font)
    # Twelve grey levels around the middle, as a cheap scanner's lamp flickers.
    noise = Image.frombytes("L", page.size, random.Random(7).randbytes(page.width * page.height)).point(_flicker)
    page = Image.blend(page, noise, 0.08).rotate(0.4, fillcolor=250).filter(ImageFilter.GaussianBlur(0.6))
    page.save(_place(path), "PDF", resolution=150, creationDate=WRITTEN.timetuple(), modDate=WRITTEN.timetuple())


def _flicker(level: float) -> float:
    return 128 + (level - 128) / 10


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _fix_dates(path: Path) -> None:
    """Pack an Office file again: the same parts in the same order, none of them dated today."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            if name == "docProps/core.xml":
                # The spreadsheet library writes its own clock here, whatever it is told.
                parts[name] = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2026-01-05T09:00:00Z", content)
            info = zipfile.ZipInfo(name, WRITTEN.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, parts[name])


if __name__ == "__main__":
    main()
