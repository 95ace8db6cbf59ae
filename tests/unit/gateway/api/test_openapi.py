import json
from pathlib import Path

from gateway.bootstrap.serving import document
from gateway.policy import POLICY

ROOT = Path(__file__).resolve().parents[4]


async def test_the_committed_document_is_what_is_served() -> None:
    committed = json.loads((ROOT / "docs" / "api" / "openapi.json").read_text())
    assert committed == await document(), "run: python -m gateway openapi > docs/api/openapi.json"


async def test_every_row_of_the_policy_is_an_operation() -> None:
    made = await document()
    paths: dict[str, dict[str, object]] = made["paths"]  # type: ignore[assignment]
    operations = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert operations == {row.replace(":path}", "}") for row in POLICY}
    identifiers = [one["operationId"] for methods in paths.values() for one in methods.values()]  # type: ignore[index]
    assert len(identifiers) == len(set(identifiers))


async def test_each_dialect_describes_its_own_bodies() -> None:
    made = await document()
    schemas = made["components"]["schemas"]  # type: ignore[index]

    def fields(path: str) -> set[str]:
        body = made["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]  # type: ignore[index]
        return set(schemas[body["$ref"].rpartition("/")[2]]["properties"])

    assert "max_completion_tokens" in fields("/v1/chat/completions")
    assert "max_completion_tokens" not in fields("/v2/chat")
    assert "stop_sequences" in fields("/v2/chat")
