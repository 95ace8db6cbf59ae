"""The OpenAPI document, made from the routes that are served."""

import re
from typing import Any, Final

from pydantic import BaseModel

from gateway.api.routing import Body, Route, RouteTable
from services.chassis.auth import Policy, Role
from services.chassis.telemetry import VERSION

__all__ = ["openapi_document"]

_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")
_REFERENCE: Final = "#/components/schemas/{model}"
_TAGS: Final = {"health": "Health", "brain": "Native", "v2": "Cohere"}
# Two dialects have bodies of one name, so that each names its schemas with a prefix: the package that they stand in.
_PREFIXES: Final = {"openai": "OpenAI", "cohere": "Cohere", "brain": "Brain"}
_ERROR: Final = {
    "type": "object",
    "description": "Carries OpenAI's `error` and Cohere's `message` side by side.",
    "required": ["error", "message", "id"],
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        },
        "message": {"type": "string"},
        "id": {"type": "string", "description": "The request's id, as in the header x-request-id."},
    },
}


def openapi_document(table: RouteTable, policy: Policy) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(table.routes, key=lambda one: (one.path, one.method)):
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, policy[route.name], schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Corporate Brain", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _operation(route: Route, roles: frozenset[Role], schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    if route.query is not None:
        parameters += _query(route)
    if route.creates:
        parameters.append({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}})
    operation: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "tags": [_tag(route)],
        "responses": {
            "200": {"description": "Done.", "content": {route.answer: {"schema": {}}}},
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
            },
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if route.is_open:
        operation["security"] = []
    else:
        operation["x-roles"] = sorted(roles)
    if route.body is not Body.NONE:
        operation["requestBody"] = {"content": {_media_type(route): {"schema": _schema(route, schemas)}}}
    return operation


def _identifier(route: Route) -> str:
    path = _PARAMETER.sub(r"by_\1", route.path)
    return re.sub(r"\W+", "_", f"{route.method.lower()}_{path}").strip("_")


def _tag(route: Route) -> str:
    first, _, rest = route.path.lstrip("/").partition("/")
    # A Cohere client whose base address ends in /v1 calls /v1/v2/….
    return _TAGS.get("v2" if rest.startswith("v2/") else first, "OpenAI")


def _media_type(route: Route) -> str:
    return {Body.FORM: "multipart/form-data", Body.RAW: "application/octet-stream"}.get(route.body, "application/json")


def _schema(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.request is None:
        return {"type": "string", "format": "binary"} if route.body is Body.RAW else {"type": "object"}
    return {"$ref": _REFERENCE.format(model=_described(route.request, schemas))}


def _described(model: type[BaseModel], schemas: dict[str, Any]) -> str:
    """Add the schema of a model, and of those that it refers to, under names of its dialect; return its name."""
    prefix = _PREFIXES[model.__module__.split(".")[2]]
    schema = model.model_json_schema(ref_template=_REFERENCE.format(model=prefix + "{model}"), by_alias=True)
    named = {f"{prefix}{name}": one for name, one in schema.pop("$defs", {}).items()} | {
        prefix + model.__name__: schema
    }
    for name, one in named.items():
        if schemas.setdefault(name, one) != one:
            raise ValueError(f"Two different models are called {name} in the API document.")
    return prefix + model.__name__


def _query(route: Route) -> list[dict[str, Any]]:
    assert route.query is not None
    schema = route.query.model_json_schema()
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": one} | _style(one)
        for name, one in schema.get("properties", {}).items()
    ]


def _style(schema: dict[str, Any]) -> dict[str, Any]:
    """Say how an object stands in a query string: `name[key]=value`."""
    kinds = {one.get("type") for one in (schema, *schema.get("anyOf", ()))}
    return {"style": "deepObject", "explode": True} if "object" in kinds else {}
