"""`/v1/models`: one answer that both SDK families read; adapters can be deleted by their names."""

from typing import Any

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.openai.requests import ModelsQuery
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Route
from gateway.domain.asking import DEFAULT_MODEL, Model
from gateway.ports import Adapters, Generation
from services.chassis.errors import NotFound

__all__ = ["ModelRoutes"]


class ModelRoutes:
    """Shows the models, and deletes adapters.

    Args:
        generation: The generation room.
        adapters: The finetuning room's registry.
    """

    def __init__(self, *, generation: Generation, adapters: Adapters) -> None:
        self._generation = generation
        self._adapters = adapters

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/v1/models", self.list, "List the models", query=ModelsQuery),
            Route("GET", "/v1/models/{model:path}", self.get, "Describe a model"),
            Route("DELETE", "/v1/models/{model:path}", self.delete, "Delete an adapter; base models stay"),
        ]

    async def list(self, call: Call) -> Reply:
        """List the models: OpenAI's under `data`, Cohere's under `models`."""
        query = call.query(ModelsQuery)
        found = await self._generation.models()
        named = [model for model in found if not (query.default_only and model.parent)]
        cohere = [_cohere(model) for model in named if query.endpoint in {"", "chat", "generate"}]
        return json_reply(
            {
                "object": "list",
                "data": [_openai(model, call.caller.tenant) for model in found],
                "models": cohere,
                "next_page_token": "",
            }
        )

    async def get(self, call: Call) -> Reply:
        """Describe one model, in both dialects' words."""
        name = call.path["model"]
        found = await self._generation.models()
        for model in found:
            if name == model.name or (name == DEFAULT_MODEL and not model.parent):
                return json_reply(_cohere(model) | _openai(model, call.caller.tenant))
        names = ", ".join(model.name for model in found)
        raise NotFound(f"There is no model {name!r}; there are: {names}.", param="model")

    async def delete(self, call: Call) -> Reply:
        """Delete an adapter."""
        name = call.path["model"]
        with called("name", "model"):
            await self._adapters.delete(name)
        return json_reply({"id": name, "object": "model", "deleted": True})


def _openai(model: Model, tenant: str) -> dict[str, Any]:
    """Return OpenAI's form; what was trained here, and the names that lead to it, is the tenant's own."""
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": tenant if model.parent else "corporate-brain",
        "root": model.parent or model.name,
        "parent": model.parent or None,
        "max_model_len": model.context_window,
        "alias": model.alias,
    }


def _cohere(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "endpoints": ["chat"],
        "default_endpoints": [] if model.parent else ["chat"],
        "finetuned": bool(model.parent),
        "context_length": model.context_window,
        "tokenizer_url": None,
        "is_deprecated": False,
    }
