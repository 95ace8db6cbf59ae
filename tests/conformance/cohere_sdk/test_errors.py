from typing import Any

import cohere
import pytest

HELLO: Any = [{"role": "user", "content": "hello"}]
ONCE: Any = {"max_retries": 0}


def test_a_wrong_key_is_told_so(url: str) -> None:
    with pytest.raises(cohere.UnauthorizedError) as caught:
        cohere.ClientV2(api_key="cb-not-a-key", base_url=url).chat(model="x", messages=HELLO, request_options=ONCE)
    assert caught.value.body["message"]


def test_an_unknown_model_is_not_found(client: cohere.ClientV2) -> None:
    with pytest.raises(cohere.NotFoundError) as caught:
        client.chat(model="no-such-model", messages=HELLO, request_options=ONCE)
    assert "no-such-model" in caught.value.body["message"]


def test_a_bad_field_is_named(client: cohere.ClientV2, model: str) -> None:
    with pytest.raises(cohere.BadRequestError) as caught:
        client.chat(model=model, messages=HELLO, temperature=-1, request_options=ONCE)
    assert "temperature" in caught.value.body["message"]
    with pytest.raises(cohere.BadRequestError) as caught:
        client.chat(model=model, messages=HELLO, citation_options={"mode": "LOUD"}, request_options=ONCE)
    assert "citation_options.mode" in caught.value.body["message"]
    assert "LOUD" in caught.value.body["message"]


def test_errors_come_before_a_stream_begins(client: cohere.ClientV2) -> None:
    with pytest.raises(cohere.NotFoundError):
        list(client.chat_stream(model="no-such-model", messages=HELLO, request_options=ONCE))


def test_too_many_requests_are_told_so(url: str, limited_key: str) -> None:
    hasty = cohere.ClientV2(api_key=limited_key, base_url=url)
    with pytest.raises(cohere.TooManyRequestsError) as caught:
        all(hasty.models.list(request_options=ONCE) for _ in range(30))
    headers = caught.value.headers or {}
    assert float(headers["retry-after"]) > 0
