"""Makes a value that satisfies a JSON Schema out of a text: what the scripted engine answers when JSON is asked for."""

import json
from typing import Any, Final

from services.chassis.errors import InvalidInput

__all__ = ["as_json"]

MAX_DEPTH: Final = 32


def as_json(text: str, schema_text: str) -> str:
    """Return JSON that satisfies the schema (empty: any object), its strings taken from `text`.

    Understood are type, enum, const, properties, required, items, minItems, anyOf, oneOf, allOf, $ref into the schema
    itself, minimum, minLength and maxLength.

    Raises:
        InvalidInput: It is no schema, is nested too deeply or refers to what it does not hold.
    """
    if not schema_text:
        return json.dumps({"answer": text}, ensure_ascii=False)
    schema = json.loads(schema_text)
    try:
        value = _value(schema, schema, text, 0)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"json_schema: it is no JSON Schema ({error}).", param="json_schema") from error
    return json.dumps(value, ensure_ascii=False)


def _value(schema: Any, root: Any, text: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"json_schema: it nests deeper than {MAX_DEPTH}.", param="json_schema")
    if not isinstance(schema, dict):
        return text
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return next((it for it in schema["enum"] if isinstance(it, str) and it in text), schema["enum"][0])
    inner = _referred(schema, root)
    return _typed(schema, root, text, depth) if inner is None else _value(inner, root, text, depth + 1)


def _referred(schema: dict[str, Any], root: Any) -> Any:
    """Return the schema that this one only leads to; None when it says itself what it wants."""
    if "$ref" in schema:
        return _resolve(str(schema["$ref"]), root)
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= part
        return merged
    return next((schema[choice][0] for choice in ("anyOf", "oneOf") if choice in schema), None)


def _typed(schema: dict[str, Any], root: Any, text: str, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            properties = schema.get("properties", {})
            names = [*properties, *(name for name in schema.get("required", ()) if name not in properties)]
            return {name: _value(properties.get(name, {}), root, text, depth + 1) for name in names}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [_value(schema.get("items", {}), root, text, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            longest, least = int(schema.get("maxLength", len(text))), int(schema.get("minLength", 0))
            return text[:longest].ljust(least, ".")


def _resolve(reference: str, root: Any) -> Any:
    found = root
    if reference == "#":
        return found
    for part in reference.removeprefix("#/").split("/"):
        if not isinstance(found, dict) or part not in found:
            raise InvalidInput(f"json_schema: {reference!r} refers to nothing in it.", param="json_schema")
        found = found[part]
    return found
