"""Answers from documents, with Cohere's citations."""

from typing import Any

import cohere
import pytest

DOCUMENTS: list[Any] = [
    {"id": "dogs", "data": {"title": "Office dogs", "text": "Dogs may come to the Aldergate office on Wednesdays."}},
    {"data": {"title": "Parking", "snippet": "The car park of the Aldergate office closes at nine in the evening."}},
    "Lunch in the canteen of the Aldergate office costs seven euros.",
]
QUESTION: list[Any] = [{"role": "user", "content": "On which day may dogs come to the Aldergate office?"}]
ALLOWANCE: list[Any] = [
    {"role": "user", "content": "What is the daily meal allowance for business trips within the country?"}
]


def check(citations: list[Any], text: str) -> None:
    """Assert that every citation is a span of the answer with at least one source."""
    for citation in citations:
        assert text[citation.start : citation.end] == citation.text
        assert citation.text
        assert citation.type == "TEXT_CONTENT"
        assert citation.sources


@pytest.mark.parametrize("mode", ["FAST", "ACCURATE", "accurate", None])
def test_documents_of_the_request_are_cited(client: cohere.ClientV2, model: str, mode: str | None) -> None:
    options: Any = {} if mode is None else {"citation_options": {"mode": mode}}
    answer = client.chat(model=model, messages=QUESTION, documents=DOCUMENTS, temperature=0, seed=1, **options)
    assert answer.message.citations
    check(answer.message.citations, answer.message.content[0].text)
    source = answer.message.citations[0].sources[0]
    assert (source.type, source.id) == ("document", "dogs")
    assert source.document["title"] == "Office dogs"
    assert "Wednesdays" in source.document["text"]


@pytest.mark.parametrize("mode", ["OFF", "off", "DISABLED"])
def test_citations_can_be_switched_off(client: cohere.ClientV2, model: str, mode: str) -> None:
    answer = client.chat(
        model=model, messages=QUESTION, documents=DOCUMENTS, temperature=0, citation_options={"mode": mode}
    )
    assert answer.message.content[0].text
    assert not answer.message.citations


def test_documents_without_an_id_are_numbered(client: cohere.ClientV2, model: str) -> None:
    answer = client.chat(
        model=model,
        messages=[{"role": "user", "content": "What does lunch in the canteen of the Aldergate office cost?"}],
        documents=DOCUMENTS,
        temperature=0,
    )
    assert answer.message.citations
    assert "doc:2" in {source.id for citation in answer.message.citations for source in citation.sources}


@pytest.mark.parametrize("mode", ["FAST", "ACCURATE"])
def test_a_grounded_stream_carries_citations(client: cohere.ClientV2, model: str, mode: str) -> None:
    events = list(
        client.chat_stream(
            model=model, messages=QUESTION, documents=DOCUMENTS, temperature=0, citation_options={"mode": mode}
        )
    )
    kinds = [event.type for event in events]
    text = "".join(event.delta.message.content.text for event in events if event.type == "content-delta")
    citations = [event.delta.message.citations for event in events if event.type == "citation-start"]
    assert citations
    check(citations, text)
    assert kinds.count("citation-end") == len(citations)
    assert [event.index for event in events if event.type == "citation-start"] == list(range(len(citations)))
    assert kinds[-1] == "message-end"
    if mode == "ACCURATE":
        last_text = max(place for place, kind in enumerate(kinds) if kind == "content-delta")
        assert kinds.index("citation-start") > last_text


def test_collections_travel_in_additional_body_parameters(client: cohere.ClientV2, model: str, collection: str) -> None:
    answer = client.chat(
        model=model,
        messages=ALLOWANCE,
        temperature=0,
        request_options={"additional_body_parameters": {"collections": [collection]}},
    )
    assert answer.message.citations
    check(answer.message.citations, answer.message.content[0].text)
    source = answer.message.citations[0].sources[0]
    assert source.document["filename"] == "travel.md"
    assert "42 euros" in source.document["text"]
    assert source.quote in source.document["text"]
    assert answer.receipt_id


def test_a_collection_of_somebody_else_is_not_found(
    url: str, other_tenant_key: str, model: str, collection: str
) -> None:
    stranger = cohere.ClientV2(api_key=other_tenant_key, base_url=url, timeout=60)
    with pytest.raises(cohere.NotFoundError):
        stranger.chat(
            model=model,
            messages=ALLOWANCE,
            request_options={"additional_body_parameters": {"collections": [collection]}},
        )
