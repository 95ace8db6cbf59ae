"""Who may use which route: every route against eleven principals, through the real gate.

The expectations are written by hand, away from `gateway/policy.py`: a route without a row here, or a row without a
route, fails the build, and so does a policy that says something else. Behind the gate a handler stands that only says
who came in: what people may do to which object is decided by the rooms, and tested there.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import RouteTable
from gateway.bootstrap.serving import Assembled, all_routes, assemble
from gateway.domain.identity import KeyGrant
from gateway.policy import POLICY
from gateway.settings import GatewaySettings
from services.chassis.auth import Role, at_least

OPEN = None
VIEWER, CONTRIBUTOR, CURATOR, TRAINER, ADMINISTRATOR = (
    Role.VIEWER,
    Role.CONTRIBUTOR,
    Role.CURATOR,
    Role.TRAINER,
    Role.ADMINISTRATOR,
)

# The least role for each route; OPEN answers without a key. Reading and asking is everybody's, bringing and changing a
# contributor's (whose things only: the rooms see to that), training and what comes of it a trainer's, what others
# think of answers a curator's, keys, what others did
# and what sends or serves against a deletion an administrator's.
EXPECTED: dict[str, Role | None] = {
    "GET /health/live": OPEN,
    "GET /health/ready": OPEN,
    # OpenAI
    "GET /v1/models": VIEWER,
    "GET /v1/models/{model:path}": VIEWER,
    "DELETE /v1/models/{model:path}": TRAINER,
    "POST /v1/chat/completions": VIEWER,
    "POST /v1/completions": VIEWER,
    "POST /v1/embeddings": VIEWER,
    "POST /v1/files": CONTRIBUTOR,
    "GET /v1/files": VIEWER,
    "GET /v1/files/{file_id}": VIEWER,
    "GET /v1/files/{file_id}/content": VIEWER,
    "DELETE /v1/files/{file_id}": CONTRIBUTOR,
    "POST /v1/vector_stores": CONTRIBUTOR,
    "GET /v1/vector_stores": VIEWER,
    "GET /v1/vector_stores/{store_id}": VIEWER,
    "POST /v1/vector_stores/{store_id}": CONTRIBUTOR,
    "DELETE /v1/vector_stores/{store_id}": CONTRIBUTOR,
    "POST /v1/vector_stores/{store_id}/search": VIEWER,
    "POST /v1/vector_stores/{store_id}/files": CONTRIBUTOR,
    "GET /v1/vector_stores/{store_id}/files": VIEWER,
    "GET /v1/vector_stores/{store_id}/files/{file_id}": VIEWER,
    "POST /v1/vector_stores/{store_id}/files/{file_id}": CONTRIBUTOR,
    "DELETE /v1/vector_stores/{store_id}/files/{file_id}": CONTRIBUTOR,
    "GET /v1/vector_stores/{store_id}/files/{file_id}/content": VIEWER,
    "POST /v1/vector_stores/{store_id}/file_batches": CONTRIBUTOR,
    "GET /v1/vector_stores/{store_id}/file_batches/{batch_id}": VIEWER,
    "POST /v1/vector_stores/{store_id}/file_batches/{batch_id}/cancel": CONTRIBUTOR,
    "GET /v1/vector_stores/{store_id}/file_batches/{batch_id}/files": VIEWER,
    "POST /v1/fine_tuning/jobs": TRAINER,
    "GET /v1/fine_tuning/jobs": TRAINER,
    "GET /v1/fine_tuning/jobs/{job_id}": TRAINER,
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": TRAINER,
    "POST /v1/fine_tuning/jobs/{job_id}/pause": TRAINER,
    "POST /v1/fine_tuning/jobs/{job_id}/resume": TRAINER,
    "GET /v1/fine_tuning/jobs/{job_id}/events": TRAINER,
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": TRAINER,
    "POST /v1/fine_tuning/checkpoints/{checkpoint:path}/permissions": TRAINER,
    "POST /v1/fine_tuning/alpha/graders/run": TRAINER,
    "POST /v1/fine_tuning/alpha/graders/validate": TRAINER,
    # Cohere
    "POST /v2/chat": VIEWER,
    "POST /v1/v2/chat": VIEWER,
    "POST /v2/rerank": VIEWER,
    "POST /v1/v2/rerank": VIEWER,
    "POST /v1/rerank": VIEWER,
    "POST /v1/v1/rerank": VIEWER,
    "POST /v2/embed": VIEWER,
    "POST /v1/v2/embed": VIEWER,
    "POST /v1/embed": VIEWER,
    "POST /v1/v1/embed": VIEWER,
    "POST /v1/tokenize": VIEWER,
    "POST /v1/v1/tokenize": VIEWER,
    "POST /v1/detokenize": VIEWER,
    "POST /v1/v1/detokenize": VIEWER,
    "POST /v1/check-api-key": VIEWER,
    "POST /v1/v1/check-api-key": VIEWER,
    # Native
    "POST /brain/v1/documents": CONTRIBUTOR,
    "GET /brain/v1/documents": VIEWER,
    "GET /brain/v1/documents/{document_id}": VIEWER,
    "GET /brain/v1/documents/{document_id}/text": VIEWER,
    "PUT /brain/v1/documents/{document_id}/access": CONTRIBUTOR,
    "PUT /brain/v1/documents/{document_id}/attributes": CONTRIBUTOR,
    "POST /brain/v1/documents/{document_id}/cancel": CONTRIBUTOR,
    "DELETE /brain/v1/documents/{document_id}": CONTRIBUTOR,
    "GET /brain/v1/deletions/{document_id}": CONTRIBUTOR,
    "POST /brain/v1/collections": CONTRIBUTOR,
    "GET /brain/v1/collections": VIEWER,
    "GET /brain/v1/collections/{collection_id}": VIEWER,
    "PATCH /brain/v1/collections/{collection_id}": CONTRIBUTOR,
    "DELETE /brain/v1/collections/{collection_id}": CONTRIBUTOR,
    "GET /brain/v1/collections/{collection_id}/manifest": VIEWER,
    "GET /brain/v1/conversations": VIEWER,
    "GET /brain/v1/conversations/{conversation_id}": VIEWER,
    "DELETE /brain/v1/conversations/{conversation_id}": VIEWER,
    "GET /brain/v1/receipts/{receipt_id}": VIEWER,
    "POST /brain/v1/receipts/{receipt_id}/replay": VIEWER,
    "POST /brain/v1/feedback": VIEWER,
    "GET /brain/v1/feedback": VIEWER,
    "POST /brain/v1/feedback/export": CURATOR,
    "GET /brain/v1/feedback/{feedback_id}": VIEWER,
    "DELETE /brain/v1/feedback/{feedback_id}": VIEWER,
    "POST /brain/v1/comparisons": CONTRIBUTOR,
    "GET /brain/v1/comparisons": VIEWER,
    "GET /brain/v1/comparisons/{comparison_id}": VIEWER,
    "POST /brain/v1/comparisons/{comparison_id}/rank": VIEWER,
    "DELETE /brain/v1/comparisons/{comparison_id}": CONTRIBUTOR,
    "GET /brain/v1/agreement": CURATOR,
    "POST /brain/v1/search": VIEWER,
    "POST /brain/v1/explain": VIEWER,
    "POST /brain/v1/datasets": TRAINER,
    "GET /brain/v1/datasets": TRAINER,
    "GET /brain/v1/datasets/{dataset_id}": TRAINER,
    "DELETE /brain/v1/datasets/{dataset_id}": TRAINER,
    "POST /brain/v1/tuning/check": TRAINER,
    "GET /brain/v1/adapters": TRAINER,
    "POST /brain/v1/adapters": TRAINER,
    "GET /brain/v1/adapters/{adapter:path}": TRAINER,
    "POST /brain/v1/adapters/{adapter:path}/block": TRAINER,
    "POST /brain/v1/adapters/{adapter:path}/accept": ADMINISTRATOR,
    "POST /brain/v1/adapters/{adapter:path}/retrain": TRAINER,
    "DELETE /brain/v1/adapters/{adapter:path}": TRAINER,
    "POST /brain/v1/promotions": TRAINER,
    "GET /brain/v1/promotions": TRAINER,
    "GET /brain/v1/promotions/{promotion_id}": TRAINER,
    "GET /brain/v1/aliases": TRAINER,
    "POST /brain/v1/aliases/{alias}/rollback": TRAINER,
    "POST /brain/v1/webhooks": ADMINISTRATOR,
    "GET /brain/v1/webhooks": ADMINISTRATOR,
    "DELETE /brain/v1/webhooks/{webhook_id}": ADMINISTRATOR,
    "GET /brain/v1/me": VIEWER,
    "POST /brain/v1/keys": ADMINISTRATOR,
    "GET /brain/v1/keys": ADMINISTRATOR,
    "POST /brain/v1/keys/{key_id}/rotate": ADMINISTRATOR,
    "DELETE /brain/v1/keys/{key_id}": ADMINISTRATOR,
    "GET /brain/v1/tenant": ADMINISTRATOR,
    "GET /brain/v1/usage": ADMINISTRATOR,
    "GET /brain/v1/audit": ADMINISTRATOR,
    "GET /brain/v1/status": ADMINISTRATOR,
}
STRANGERS = ("anonymous", "another scheme", "bad key", "expired key", "revoked key")
KNOWN = {
    "viewer": ("acme", Role.VIEWER),
    "contributor": ("acme", Role.CONTRIBUTOR),
    "curator": ("acme", Role.CURATOR),
    "trainer": ("acme", Role.TRAINER),
    "administrator": ("acme", Role.ADMINISTRATOR),
    "other tenant's administrator": ("globex", Role.ADMINISTRATOR),
}


async def who(call: Call) -> Reply:
    """Say who came in; nobody on an open route."""
    if call._caller is None:
        return json_reply({})
    return json_reply({"tenant": call.caller.tenant, "subject": call.caller.subject})


# One gateway for the whole matrix: bringing its database up to date takes longer than all the asking.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    settings_in: Callable[..., GatewaySettings], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Assembled]:
    settings = settings_in(tmp_path_factory.mktemp("gateway"))
    made = await assemble(settings, CollectorRegistry())
    routes = [replace(route, handler=who) for route in all_routes(made.services)]
    made.app._table = RouteTable(routes, POLICY)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def headers(gateway: Assembled) -> dict[str, dict[str, str]]:
    """What each principal sends."""

    async def key(tenant: str, role: Role) -> tuple[str, str]:
        made, secret = await gateway.services.keys.create(
            KeyGrant(tenant=tenant, subject=f"{role}@{tenant}", roles=frozenset({role}))
        )
        return made.id, f"Bearer {secret}"

    revoked_id, revoked = await key("acme", Role.ADMINISTRATOR)
    await gateway.services.keys.revoke("acme", revoked_id)
    expired_id, expired = await key("acme", Role.ADMINISTRATOR)
    # As its expiry would: the end lies in the past.
    await gateway.services.keys.rotate("acme", expired_id, overlap=timedelta(seconds=-1))
    sent = {
        "anonymous": {},
        "another scheme": {"authorization": "Basic YWRtaW46YWRtaW4="},
        "bad key": {"authorization": "Bearer cb-guessed"},
        "expired key": {"authorization": expired},
        "revoked key": {"authorization": revoked},
    }
    for name, (tenant, role) in KNOWN.items():
        sent[name] = {"authorization": (await key(tenant, role))[1]}
    return sent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(gateway: Assembled) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as client:
        yield client


async def ask(http: httpx.AsyncClient, route: str, headers: dict[str, str]) -> httpx.Response:
    method, _, template = route.partition(" ")
    return await http.request(method, re.sub(r"\{[^}]+\}", "x", template), headers=headers)


async def test_every_route_has_a_row_and_every_row_a_route(gateway: Assembled) -> None:
    assert sorted(route.name for route in all_routes(gateway.services)) == sorted(EXPECTED)
    assert sorted(POLICY) == sorted(EXPECTED)


@pytest.mark.parametrize("route", sorted(EXPECTED))
async def test_a_route_lets_in_whom_it_is_for(
    http: httpx.AsyncClient, headers: dict[str, dict[str, str]], route: str
) -> None:
    least = EXPECTED[route]
    for name in STRANGERS:
        answer = await ask(http, route, headers[name])
        assert answer.status_code == (200 if least is OPEN else 401), name
    for name, (tenant, role) in KNOWN.items():
        answer = await ask(http, route, headers[name])
        if least is OPEN or role in at_least(least):
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json() == {"tenant": tenant, "subject": f"{role}@{tenant}"}, name
        else:
            assert answer.status_code == 403, (name, answer.text)
            assert "tenant" not in answer.json()


async def test_what_a_client_says_of_itself_is_not_believed(
    http: httpx.AsyncClient, headers: dict[str, dict[str, str]]
) -> None:
    claims = {"x-tenant": "globex", "x-brain-tenant": "globex", "x-forwarded-user": "root", "x-roles": "administrator"}
    answer = await ask(http, "GET /brain/v1/me", headers["viewer"] | claims)
    assert answer.json()["tenant"] == "acme"
    assert (await ask(http, "GET /brain/v1/keys", headers["viewer"] | claims)).status_code == 403
    assert (await ask(http, "GET /brain/v1/keys", claims)).status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/metrics", "/openapi.json", "/brain/v1", "/brain/v2/keys", "/v1/none"])
async def test_what_is_not_listed_is_not_there(
    http: httpx.AsyncClient, headers: dict[str, dict[str, str]], path: str
) -> None:
    for name in ("anonymous", "administrator"):
        assert (await ask(http, f"GET {path}", headers[name])).status_code == 404


async def test_an_expiry_ends_a_key(gateway: Assembled) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=5)
    made, _ = await gateway.services.keys.create(
        KeyGrant(tenant="acme", subject="late", roles=frozenset({Role.VIEWER}), expires_at=soon)
    )
    assert made.is_good(soon - timedelta(milliseconds=1))
    assert not made.is_good(soon)
