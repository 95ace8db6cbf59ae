import contextlib
import email
import email.policy
import json
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pptx
import pypdfium2
import pytest

from examples.build_documents import FIRE_SAFETY, build
from examples.generate import MOST_DOCUMENTS, generate, write

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
QUESTIONS: list[dict[str, Any]] = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text().splitlines()]
DOCUMENTS = EXAMPLES / "documents"
SCAN = "facilities/fire-safety-scan.pdf"


def pages(name: str, folder: Path = DOCUMENTS) -> list[str]:
    """Return the text of a document's pages; what has no pages is one."""
    path = folder / name
    match path.suffix:
        case ".docx":
            paragraphs = docx.Document(str(path)).paragraphs
            found = ["\n".join(paragraph.text for paragraph in paragraphs)]
        case ".xlsx":
            with contextlib.closing(openpyxl.load_workbook(path, read_only=True)) as book:
                rows = [(sheet.title, *row) for sheet in book for row in sheet.iter_rows(values_only=True)]
            found = ["\n".join(" ".join(map(str, row)) for row in rows)]
        case ".pptx":
            slides = pptx.Presentation(str(path)).slides
            found = ["\n".join(shape.text_frame.text for slide in slides for shape in slide.shapes)]
        case ".pdf" if name == SCAN:
            # The image's own words: what a person reads on it.
            found = ["\n".join(FIRE_SAFETY)]
        case ".pdf":
            with contextlib.closing(pypdfium2.PdfDocument(path)) as pdf:
                found = [page.get_textpage().get_text_range() for page in pdf]
        case ".eml":
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            parts = [part for part in message.walk() if not part.is_multipart()]
            found = ["\n".join(f"{part.get_filename() or ''}\n{part.get_content()}" for part in parts)]
        case _:
            found = [path.read_text()]
    return [" ".join(page.split()) for page in found]


def flat(name: str, folder: Path = DOCUMENTS) -> str:
    """Return the whole text of a document on one line."""
    return " ".join(pages(name, folder))


def test_the_questions_are_of_the_promised_kinds() -> None:
    kinds = [question["kind"] for question in QUESTIONS]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "plain": 15,
        "follow_up": 10,
        "restricted": 5,
        "unanswerable": 10,
    }


@pytest.mark.parametrize(
    "question", [one for one in QUESTIONS if one["kind"] != "unanswerable"], ids=lambda one: one["id"]
)
def test_the_answer_stands_in_the_source_where_the_question_says(question: dict[str, Any]) -> None:
    source, where = question["source"], question.get("where", "")
    text = pages(source)[int(where) - 1] if source.endswith(".pdf") else flat(source)
    assert any(answer in text for answer in question["answers"]), text
    if where and not source.endswith(".pdf"):
        assert where in flat(source)


@pytest.mark.parametrize(
    "question", [one for one in QUESTIONS if one["kind"] == "unanswerable"], ids=lambda one: one["id"]
)
def test_the_unanswerable_ones_name_what_is_mentioned(question: dict[str, Any]) -> None:
    assert question["mentions"].lower() in flat(question["mentioned_in"]).lower()


def test_there_is_a_document_of_every_kind() -> None:
    files = [path for path in DOCUMENTS.rglob("*") if path.is_file()]
    assert len(files) >= 25
    assert {path.suffix for path in files} == {
        *(".md", ".html", ".csv", ".eml", ".docx", ".pdf", ".pptx", ".xlsx"),
    }
    assert sum(path.stat().st_size for path in files) < 3_000_000
    for path in files:
        assert len(flat(path.relative_to(DOCUMENTS).as_posix())) > 60, path


def test_the_scanned_page_has_no_text_layer() -> None:
    with contextlib.closing(pypdfium2.PdfDocument(DOCUMENTS / SCAN)) as pdf:
        assert len(pdf) == 1
        assert pdf[0].get_textpage().get_text_range() == ""


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    build(tmp_path / "a")
    build(tmp_path / "b")
    made = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(made) == 10
    for name in made:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
        if name.as_posix() != SCAN:
            # What is committed is what the builder makes; packed bytes may differ from one compression library to another.
            assert flat(name.as_posix(), tmp_path / "a") == flat(name.as_posix()), name


def test_the_restricted_sources_lie_behind_an_access_list() -> None:
    rules = json.loads((EXAMPLES / "collection.json").read_text())["rules"]
    for question in QUESTIONS:
        if question["kind"] == "restricted":
            rule = next(rule for rule in rules if question["source"].startswith(rule["prefix"]))
            assert rule["access"] == [f"group:{question['group']}"]


def test_the_same_seed_gives_the_same_documents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(generate(7, 150), tmp_path / name)
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    )
    assert first == second
    assert len(first) == 151
    assert generate(8, 5) != generate(7, 5)


def test_more_documents_than_there_are_names_for_are_refused() -> None:
    for seed in range(5):
        assert len(generate(seed, MOST_DOCUMENTS)) == MOST_DOCUMENTS
    with pytest.raises(ValueError, match=r"^count: 401 is not allowed; the names suffice for 0 to 400 documents\.$"):
        generate(7, MOST_DOCUMENTS + 1)


def test_every_generated_fact_stands_in_its_document_only() -> None:
    documents = generate(7, 150)
    everything = "\n".join(document.text for document in documents)
    for document in documents:
        for fact in document.facts:
            assert fact.answer in document.text
            assert len(set(fact.phrasings)) == 5
            assert fact.answer in document.sentence(fact) in document.text
    names = [
        fact.answer
        for document in documents
        for fact in document.facts
        if fact.answer[0].isupper() and " " in fact.answer
    ]
    assert all(everything.count(name) == 1 for name in names)
