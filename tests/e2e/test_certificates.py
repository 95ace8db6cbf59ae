"""A whole stack whose rooms show each other certificates; then one whose certificate has ended, and is renewed."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest

from services.chassis.rpc.client import connect, is_serving
from services.local.plan import ROOMS
from tests.certificates import Authority, MountedSecret
from tests.running_stack import RunningStack, indexed, new_collection, running_stack, upload

# Rooms show each other certificates in a cluster; it runs with the tests of one.
pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Secured:
    """A stack, the certificates of its rooms, and who signs them."""

    stack: RunningStack
    secrets: Mapping[str, MountedSecret]
    authority: Authority

    def ready(self) -> dict[str, str]:
        """Return what the gateway says of the rooms."""
        key = {"Authorization": f"Bearer {self.stack.administrator_key}"}
        return dict(httpx.get(f"{self.stack.base_url}/health/ready", headers=key, timeout=30).json()["rooms"])

    def reasons(self, room: str) -> list[str]:
        """Return what the gateway logged about a room that was not ready."""
        lines = (self.stack.state_dir / "logs" / "gateway.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if '"room_not_ready"' in line]
        return [line["reason"] for line in found if line["name"] == room]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    secrets: dict[str, MountedSecret] = {}
    environment: dict[str, str] = {}
    for room in ROOMS:
        secret = secrets[room] = MountedSecret(folder / room)
        secret.put(authority.sign(room), authority)
        environment |= {
            f"BRAIN_{room.upper()}_TLS_CA_FILE": str(secret.ca),
            f"BRAIN_{room.upper()}_TLS_CERT_FILE": str(secret.cert),
            f"BRAIN_{room.upper()}_TLS_KEY_FILE": str(secret.key),
        }
    with running_stack(folder / "state", engine="scripted://?mode=extract", environment=environment) as stack:
        yield Secured(stack, secrets, authority)


def answer(client: httpx.Client, collection: str) -> str:
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "When does the harbour bath close?"}],
        "collections": [collection],
    }
    answered = client.post("/v1/chat/completions", json=body)
    assert answered.status_code == 200, answered.text
    return str(answered.json()["choices"][0]["message"]["content"])


def test_a_question_is_answered_over_certificates_and_one_that_ended_keeps_a_room_out(secured: Secured) -> None:
    stack = secured.stack
    with stack.client(stack.administrator_key) as client:
        collection = new_collection(client, "baths")
        upload(client, collection, "baths.md", "# Harbour bath\n\nThe harbour bath closes at nine in the evening.\n")
        assert indexed(client, collection, 1)["completed"] == 1
        assert "nine" in answer(client, collection)

        async def answers_anybody(room: str) -> bool:
            async with connect(stack.address(room)) as channel:
                return await is_serving(channel, timeout_s=5)

        for room in set(ROOMS) - {"gateway"}:
            assert not asyncio.run(answers_anybody(room)), room

        secured.secrets["retrieval"].put(secured.authority.sign("retrieval", expired=True), secured.authority)
        stack.kill("retrieval")

        def told() -> bool:
            # Whoever looks at the gateway's status makes it look.
            secured.ready()
            return any("certificate has expired" in reason for reason in secured.reasons("retrieval"))

        stack.wait_until(told)
        assert secured.ready() == dict.fromkeys(set(ROOMS) - {"gateway"}, "ready") | {"retrieval": "not ready"}
        refused = client.post(f"/v1/vector_stores/{collection}/search", json={"query": "harbour bath"})
        assert refused.status_code == 503, refused.text

        # Nobody is started again.
        restarts = stack.state["rooms"]["retrieval"]["restarts"]
        secured.secrets["retrieval"].put(secured.authority.sign("retrieval"), secured.authority)
        stack.wait_until(lambda: set(secured.ready().values()) == {"ready"})
        assert "nine" in answer(client, collection)
        assert stack.state["rooms"]["retrieval"]["restarts"] == restarts
