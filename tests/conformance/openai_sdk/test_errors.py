from typing import Any

import pytest
from openai import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
    RateLimitError,
)

HELLO: Any = [{"role": "user", "content": "hello"}]


def test_a_wrong_key_is_told_so(client: OpenAI) -> None:
    with pytest.raises(AuthenticationError) as caught:
        client.with_options(api_key="cb-not-a-key").models.list()
    assert caught.value.status_code == 401
    assert caught.value.body["message"]  # type: ignore[index]


def test_every_answer_names_its_request(client: OpenAI) -> None:
    assert client.models.list()._request_id
    with pytest.raises(NotFoundError) as caught:
        client.files.retrieve("file-none")
    assert caught.value.request_id


def test_a_bad_field_is_named(client: OpenAI, model: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=HELLO, temperature=9)
    assert caught.value.param == "temperature"
    assert caught.value.type == "invalid_request_error"
    assert "9" in caught.value.message


def test_an_unknown_model_is_named(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert caught.value.param == "model"


def test_an_unknown_collection_is_not_found(client: OpenAI, model: str) -> None:
    with pytest.raises(NotFoundError):
        client.vector_stores.search("vs_none", query="x")
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model=model, messages=HELLO, extra_body={"collections": ["vs_none"]})


def test_a_viewer_may_not_upload(client: OpenAI, viewer_key: str) -> None:
    with pytest.raises(PermissionDeniedError):
        client.with_options(api_key=viewer_key).files.create(file=("a.txt", b"a"), purpose="assistants")


def test_too_many_requests_are_told_when_to_come_back(client: OpenAI, limited_key: str) -> None:
    hasty = client.with_options(api_key=limited_key, max_retries=0)
    with pytest.raises(RateLimitError) as caught:
        all(hasty.models.list() for _ in range(30))
    headers = caught.value.response.headers
    assert float(headers["retry-after"]) > 0
    assert headers["x-ratelimit-limit-requests"]
    assert headers["x-ratelimit-remaining-requests"] == "0"
