import math

from openai import OpenAI

TEXTS = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose by half a point."]


def cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def test_near_meanings_have_near_vectors(client: OpenAI) -> None:
    made = client.embeddings.create(model="all-MiniLM-L6-v2", input=TEXTS)
    assert [item.index for item in made.data] == [0, 1, 2]
    cat, kitten, rates = (item.embedding for item in made.data)
    assert cosine(cat, kitten) > cosine(cat, rates) + 0.2
    assert made.usage.prompt_tokens > 0


def test_base64_and_numbers_are_the_same_vectors(client: OpenAI) -> None:
    # Without encoding_format the SDK asks for base64 and decodes it.
    coded = client.embeddings.create(model="all-MiniLM-L6-v2", input=TEXTS[0]).data[0].embedding
    plain = (
        client.embeddings.create(model="all-MiniLM-L6-v2", input=TEXTS[0], encoding_format="float").data[0].embedding
    )
    assert len(coded) == len(plain) > 100
    assert cosine(list(coded), list(plain)) > 0.999
