"""Answers from documents: what the openai SDK hands to its user of our evidence."""

from typing import Any

import pytest
from openai import OpenAI

QUESTION = "What is the daily meal allowance for business trips within the country?"


def check(citations: list[dict[str, Any]], text: str) -> None:
    """Assert that every citation points at what it says, in the answer and in the source."""
    for citation in citations:
        assert text[citation["start"] : citation["end"]] == citation["text"]
        assert citation["sources"]
        for source in citation["sources"]:
            assert source["quote"]


@pytest.fixture(scope="module")
def answer(client: OpenAI, model: str, shelf: Any) -> Any:
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        seed=3,
        extra_body={"collections": [shelf.store]},
    )


def test_a_grounded_answer_carries_its_citations(answer: Any, shelf: Any) -> None:
    citations = answer.model_extra["citations"]
    assert citations
    check(citations, answer.choices[0].message.content)
    cited = {source.get("file_id") for citation in citations for source in citation["sources"]}
    assert shelf.files["travel.md"] in cited


def test_the_message_carries_standard_annotations(answer: Any) -> None:
    message = answer.choices[0].message
    annotations = message.annotations
    assert annotations
    for annotation in annotations:
        assert annotation.type == "url_citation"
        span = annotation.url_citation
        assert 0 <= span.start_index < span.end_index <= len(message.content)
        assert span.title
        assert span.url


def test_the_receipt_is_named(answer: Any) -> None:
    assert answer.model_extra["receipt_id"]


def test_a_grounded_stream_ends_with_its_citations(client: OpenAI, model: str, shelf: Any) -> None:
    text, citations = "", []
    for chunk in client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        seed=3,
        stream=True,
        extra_body={"collections": [shelf.store]},
    ):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        citations += (chunk.model_extra or {}).get("citations") or []
    assert citations
    check(citations, text)


def test_documents_may_come_with_the_request(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "On which day may dogs come to the office?"}],
        temperature=0,
        extra_body={"documents": [{"id": "dogs", "data": {"text": "Dogs may come to the office on Wednesdays."}}]},
    )
    citations = (answer.model_extra or {})["citations"]
    check(citations, answer.choices[0].message.content or "")
    assert {source["id"] for citation in citations for source in citation["sources"]} == {"dogs"}


def test_what_the_documents_do_not_hold_is_not_cited(client: OpenAI, model: str, shelf: Any) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Which orchestra recorded Mahler's third symphony in 1961?"}],
        temperature=0,
        extra_body={"collections": [shelf.store]},
    )
    assert answer.choices[0].message.content
    assert not (answer.model_extra or {}).get("citations")
