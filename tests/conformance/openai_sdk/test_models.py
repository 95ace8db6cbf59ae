import pytest
from openai import NotFoundError, OpenAI


def test_models_are_listed_and_found_by_name(client: OpenAI) -> None:
    models = list(client.models.list())
    assert models
    found = client.models.retrieve(models[0].id)
    assert (found.id, found.object) == (models[0].id, "model")
    assert found.created > 0
    assert found.owned_by


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError):
        client.models.retrieve("no-such-model")
