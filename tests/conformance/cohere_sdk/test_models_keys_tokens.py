import cohere
from cohere.base_client import BaseCohere


def test_models_are_listed(client: cohere.ClientV2) -> None:
    models = client.models.list().models
    assert models
    assert "chat" in models[0].endpoints
    found = client.models.get(models[0].name)
    assert found.name == models[0].name
    assert found.context_length > 0


def test_the_default_chat_model_is_first(client: cohere.ClientV2) -> None:
    assert client.models.list(default_only=True, endpoint="chat").models


def test_text_becomes_tokens_and_text_again(url: str, key: str, model: str) -> None:
    client = cohere.Client(api_key=key, base_url=url, timeout=60)
    made = client.tokenize(text="Dogs come on Wednesdays.", model=model, offline=False)
    assert len(made.tokens) == len(made.token_strings) > 0
    assert "".join(made.token_strings) == "Dogs come on Wednesdays."
    assert client.detokenize(tokens=made.tokens, model=model, offline=False).text == "Dogs come on Wednesdays."


def test_a_good_key_is_valid(url: str, key: str) -> None:
    # The public method says that it is deprecated and asks nothing; the generated one below it still asks.
    checked = BaseCohere(base_url=url, token=key, client_name="conformance", timeout=60).check_api_key()
    assert checked.valid is True
    assert checked.organization_id
