"""A gateway whose rooms are away: what is tested here happens before or after them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers

from gateway.api.call import Call
from gateway.api.routing import Route, RouteTable
from gateway.bootstrap.serving import Assembled, assemble
from gateway.domain.identity import KeyGrant
from gateway.settings import GatewaySettings
from services.chassis.auth import ANYONE, Role
from tests.asgi_client import Client
from tests.unit.gateway.api.tuned import Tuned
from tests.unit.gateway.finetuning_room import serving


@pytest.fixture
def settings(settings_in: Callable[..., GatewaySettings], tmp_path: Path) -> GatewaySettings:
    return settings_in(tmp_path, max_json_bytes=4096, max_upload_bytes=8192, body_patience_s=0.2, stall_s=0.2)


@pytest.fixture
def call() -> Call:
    """A request whose body nobody reads."""
    intake: Any = None
    return Call(request_id="req_1", path={}, query_string=b"", headers=Headers({}), caller=None, intake=intake)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def gateway(settings: GatewaySettings, registry: CollectorRegistry) -> AsyncIterator[Assembled]:
    made = await assemble(settings, registry)
    yield made
    await made.close()


@pytest.fixture
async def key(gateway: Assembled) -> str:
    """A contributor's key."""
    grant = KeyGrant(tenant="acme", subject="ann", roles=frozenset({Role.CONTRIBUTOR}))
    return (await gateway.services.keys.create(grant))[1]


@pytest.fixture
def serve(gateway: Assembled) -> Callable[..., None]:
    """Serve these routes instead of the real ones."""

    def replace(*routes: Route) -> None:
        policy: dict[str, Any] = {route.name: ANYONE for route in routes}
        gateway.app._table = RouteTable(routes, policy)
        gateway.app._policy = policy

    return replace


@pytest.fixture
async def tuned(settings_in: Callable[..., GatewaySettings], tmp_path: Path) -> AsyncIterator[Tuned]:
    """A gateway whose finetuning room is there."""
    folder = tmp_path / "tuned"
    folder.mkdir()
    settings = settings_in(folder)
    async with serving((folder / "public.pem").read_bytes()) as room:
        made = await assemble(settings.model_copy(update={"finetuning_address": room.address}), CollectorRegistry())

        async def client(role: Role) -> Client:
            grant = KeyGrant(tenant="acme", subject=role.value, roles=frozenset({role}))
            return Client(made.app, (await made.services.keys.create(grant))[1])

        yield Tuned(made, room, await client(Role.TRAINER), await client(Role.ADMINISTRATOR))
        await made.close()
