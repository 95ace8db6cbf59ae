import math

import cohere

DOCUMENTS = [
    "The canteen opens at half past eleven.",
    "Travel expenses are paid back within ten days of the claim.",
    "The fire drill takes place in March.",
]


def test_rerank_puts_the_answer_first(client: cohere.ClientV2) -> None:
    answer = client.rerank(
        model="rerank", query="When do I get the money for my trip back?", documents=DOCUMENTS, top_n=2
    )
    assert len(answer.results) == 2
    assert answer.results[0].index == 1
    scores = [result.relevance_score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert answer.meta.billed_units.search_units == 1


def test_the_first_rerank_hands_documents_back(url: str, key: str) -> None:
    client = cohere.Client(api_key=key, base_url=url, timeout=60)
    answer = client.rerank(
        model="rerank",
        query="When is the fire drill?",
        documents=[{"text": text} for text in DOCUMENTS],
        return_documents=True,
    )
    assert answer.results[0].document.text == DOCUMENTS[2]


def cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def test_vectors_come_in_the_types_asked_for(client: cohere.ClientV2) -> None:
    made = client.embed(
        model="all-MiniLM-L6-v2",
        input_type="search_document",
        texts=["The cat sleeps.", "A kitten naps.", "Interest rates rose."],
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
    )
    floats = made.embeddings.float_
    assert len(floats) == 3
    size = len(floats[0])
    assert cosine(floats[0], floats[1]) > cosine(floats[0], floats[2])
    assert cosine(floats[0], [float(value) for value in made.embeddings.int8[0]]) > 0.98
    assert all(-128 <= value <= 127 for value in made.embeddings.int8[0])
    assert all(0 <= value <= 255 for value in made.embeddings.uint8[0])
    assert len(made.embeddings.binary[0]) == len(made.embeddings.ubinary[0]) == size // 8
    assert len(made.embeddings.base64) == 3
    assert made.meta.billed_units.input_tokens > 0


def test_the_first_embed_gives_plain_numbers(url: str, key: str) -> None:
    client = cohere.Client(api_key=key, base_url=url, timeout=60)
    made = client.embed(texts=["The cat sleeps."], model="all-MiniLM-L6-v2", input_type="search_query")
    assert len(made.embeddings) == 1
    assert abs(math.hypot(*made.embeddings[0]) - 1) < 1e-3
