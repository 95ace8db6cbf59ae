import json
from pathlib import Path
from typing import Any

import pytest

from examples.generate import generate, write

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
QUESTIONS: list[dict[str, Any]] = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text().splitlines()]
PLAIN = (".md", ".html", ".csv", ".eml")


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
def test_the_answer_stands_in_the_source(question: dict[str, Any]) -> None:
    source = EXAMPLES / "documents" / question["source"]
    assert source.exists()
    if source.suffix in PLAIN:
        text = " ".join(source.read_text().split())
        assert any(answer in text for answer in question["answers"])


@pytest.mark.parametrize(
    "question", [one for one in QUESTIONS if one["kind"] == "unanswerable"], ids=lambda one: one["id"]
)
def test_the_unanswerable_ones_name_what_is_mentioned(question: dict[str, Any]) -> None:
    source = EXAMPLES / "documents" / question["mentioned_in"]
    assert source.exists()
    if source.suffix in PLAIN:
        assert question["mentions"].lower() in " ".join(source.read_text().split()).lower()


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


def test_every_generated_fact_stands_in_its_document_only() -> None:
    documents = generate(7, 150)
    everything = "\n".join(document.text for document in documents)
    for document in documents:
        for fact in document.facts:
            assert fact.answer in document.text
            assert len(set(fact.phrasings)) == 3
    names = [
        fact.answer
        for document in documents
        for fact in document.facts
        if fact.answer[0].isupper() and " " in fact.answer
    ]
    assert all(everything.count(name) == 1 for name in names)
