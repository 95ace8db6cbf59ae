"""What happens to every request, whatever its dialect."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from gateway.api.call import Call
from gateway.api.replies import Reply, Stream, json_reply
from gateway.api.routing import Body, Route, RouteTable
from gateway.bootstrap.serving import Assembled
from gateway.domain.asking import TokenUsage
from gateway.domain.identity import KeyGrant
from services.chassis.auth import ANYONE, Role, current_caller
from services.chassis.errors import Internal, NotFound, Unavailable
from tests.asgi_client import Answer, Client

Serve = Callable[..., None]


class Tea(BaseModel):
    kind: str
    cups: int = Field(1, ge=1, le=4)


async def brew(call: Call) -> Reply:
    tea = await call.parse(Tea)
    call.touched("tea_1")
    return json_reply({"kind": tea.kind, "cups": tea.cups, "for": current_caller().subject})


BREW = Route("POST", "/tea", brew, "Brew", body=Body.JSON, request=Tea, creates=True)


async def test_the_handler_knows_who_asks(gateway: Assembled, key: str, serve: Serve) -> None:
    serve(BREW)
    answer = await Client(gateway.app, key).ask("POST", "/tea", b'{"kind":"green"}')
    assert (answer.status, answer.json()) == (200, {"kind": "green", "cups": 1, "for": "ann"})
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-ratelimit-limit-requests"] == "6000"


async def test_a_request_id_of_the_caller_is_kept_when_it_is_plain(gateway: Assembled, key: str, serve: Serve) -> None:
    serve(BREW)
    client = Client(gateway.app, key)
    assert (await client.ask("POST", "/tea", b"{}", {"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    odd = await client.ask("POST", "/tea", b"{}", {"x-request-id": "a b\n"})
    assert odd.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (b"{", None, "not valid JSON"),
        (b"[]", None, "must be a JSON object"),
        (b"", "kind", "required"),
        (b'{"kind":"green","cups":9}', "cups", "9"),
        (b'{"kind":7}', "kind", "7"),
    ],
)
async def test_a_bad_body_is_told_by_field_and_value(
    gateway: Assembled, key: str, serve: Serve, body: bytes, param: str | None, said: str
) -> None:
    serve(BREW)
    answer = await Client(gateway.app, key).ask("POST", "/tea", body)
    assert answer.status == 400
    told = answer.json()
    assert told["error"]["param"] == param
    assert told["error"]["type"] == "invalid_request_error"
    assert said in told["error"]["message"]
    # One body for both families of SDKs.
    assert told["message"] == told["error"]["message"]


async def test_errors_have_one_shape_wherever_they_come_from(gateway: Assembled, key: str, serve: Serve) -> None:
    async def fail(call: Call) -> Reply:
        raise {
            "n": NotFound("No such tea.", param="tea"),
            "u": Unavailable("Kettle away.", retry_after_s=1.5),
            "w": Unavailable("Gone."),
        }.get(call.path["how"]) or RuntimeError("the secret is 42")

    serve(Route("GET", "/fail/{how}", fail, "Fail"))
    client = Client(gateway.app, key)
    missing, away, gone, crash = [await client.ask("GET", f"/fail/{how}") for how in "nuwx"]
    assert (missing.status, missing.json()["error"]["param"]) == (404, "tea")
    assert (away.status, away.headers["retry-after"]) == (503, "2")
    assert (gone.status, gone.headers["retry-after"]) == (503, "1")
    assert crash.status == 500
    assert b"secret" not in crash.body
    nowhere = await client.ask("GET", "/nowhere")
    assert (nowhere.status, nowhere.json()["error"]["code"]) == (404, "unknown_url")
    wrong = await client.ask("POST", "/fail/n")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET")


async def test_a_key_is_held_to_its_rate(gateway: Assembled, serve: Serve) -> None:
    serve(BREW)
    grant = KeyGrant(tenant="acme", subject="bob", roles=frozenset({Role.VIEWER}), requests_per_minute=2)
    _, secret = await gateway.services.keys.create(grant)
    client = Client(gateway.app, secret)
    answers = [await client.ask("POST", "/tea", b'{"kind":"green"}') for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["error"]["type"] == "rate_limit_error"


async def test_a_key_is_held_to_its_requests_at_once(gateway: Assembled, serve: Serve) -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> Reply:
        await go.wait()
        return json_reply({})

    serve(Route("GET", "/wait", wait, "Wait"))
    grant = KeyGrant(tenant="acme", subject="bob", roles=frozenset({Role.VIEWER}), max_concurrent=1)
    _, secret = await gateway.services.keys.create(grant)
    first = asyncio.create_task(Client(gateway.app, secret).ask("GET", "/wait"))
    await asyncio.sleep(0.05)
    assert (await Client(gateway.app, secret).ask("GET", "/wait")).status == 429
    go.set()
    assert (await first).status == 200
    assert (await Client(gateway.app, secret).ask("GET", "/wait")).status == 200


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    gateway: Assembled, key: str, serve: Serve
) -> None:
    serve(BREW)
    client = Client(gateway.app, key)
    declared = await client.ask("POST", "/tea", [None], {"content-length": "4097"})
    assert (declared.status, declared.headers["connection"]) == (413, "close")
    undeclared = await client.ask("POST", "/tea", [b" " * 4000, b" " * 4000, None])
    assert undeclared.status == 413


async def test_a_body_that_does_not_come_is_given_up(gateway: Assembled, key: str, serve: Serve) -> None:
    serve(BREW)
    answer = await Client(gateway.app, key).ask("POST", "/tea", [b'{"kind":', None])
    assert answer.status == 408


async def test_a_body_that_only_trickles_is_given_up(gateway: Assembled, key: str, serve: Serve) -> None:
    serve(BREW)

    async def trickle() -> AsyncGenerator[bytes, None]:
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    async with asyncio.timeout(10):
        answer = await Client(gateway.app, key).ask("POST", "/tea", trickle())
    assert answer.status == 408


async def test_the_same_request_twice_is_done_once(gateway: Assembled, key: str, serve: Serve) -> None:
    done = 0

    async def count(call: Call) -> Reply:
        nonlocal done
        await call.parse(Tea)
        done += 1
        return json_reply({"done": done}, 201)

    serve(Route("POST", "/tea", count, "Brew", body=Body.JSON, creates=True))
    client = Client(gateway.app, key)
    again = {"idempotency-key": "k1"}
    first, second = [await client.ask("POST", "/tea", b'{"kind":"green"}', again) for _ in range(2)]
    assert (first.status, first.json()) == (second.status, second.json()) == (201, {"done": 1})
    assert second.headers["idempotent-replayed"] == "true"
    other = await client.ask("POST", "/tea", b'{"kind":"black"}', again)
    assert (other.status, other.json()["error"]["param"]) == (409, "Idempotency-Key")
    # What failed may be tried again under the same key.
    assert (await client.ask("POST", "/tea", b"{}", {"idempotency-key": "k2"})).status == 400
    assert (await client.ask("POST", "/tea", b'{"kind":"green"}', {"idempotency-key": "k2"})).json() == {"done": 2}
    # Another caller's key of the same name is another key.
    grant = KeyGrant(tenant="acme", subject="bob", roles=frozenset({Role.CONTRIBUTOR}))
    _, secret = await gateway.services.keys.create(grant)
    assert (await Client(gateway.app, secret).ask("POST", "/tea", b'{"kind":"green"}', again)).json() == {"done": 3}


async def test_the_same_request_at_the_same_time_is_a_conflict(gateway: Assembled, key: str, serve: Serve) -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> Reply:
        await go.wait()
        return json_reply({})

    serve(Route("POST", "/wait", wait, "Wait", creates=True))
    again = {"idempotency-key": "k1"}
    first = asyncio.create_task(Client(gateway.app, key).ask("POST", "/wait", b"", again))
    await asyncio.sleep(0.1)
    assert (await Client(gateway.app, key).ask("POST", "/wait", b"", again)).status == 409
    go.set()
    assert (await first).status == 200


async def test_nobody_is_answered_what_somebody_of_another_tenant_was(gateway: Assembled, serve: Serve) -> None:
    async def tell(call: Call) -> Reply:
        return json_reply({"tenant": call.caller.tenant})

    serve(Route("POST", "/tell", tell, "Tell", creates=True))
    # Names that read alike when they are only put side by side.
    for tenant, subject in (("a/b", "c"), ("a", "b/c")):
        grant = KeyGrant(tenant=tenant, subject=subject, roles=frozenset({Role.CONTRIBUTOR}))
        _, secret = await gateway.services.keys.create(grant)
        answer = await Client(gateway.app, secret).ask("POST", "/tell", b"", {"idempotency-key": "k"})
        assert answer.json() == {"tenant": tenant}


async def test_a_secret_is_not_kept_for_repetitions(gateway: Assembled, key: str, serve: Serve) -> None:
    async def tell(call: Call) -> Reply:
        return json_reply({"secret": "xyzzy"})

    serve(Route("POST", "/secret", tell, "Tell", creates=True, secret=True))
    client = Client(gateway.app, key)
    assert (await client.ask("POST", "/secret", b"", {"idempotency-key": "k"})).json() == {"secret": "xyzzy"}
    second = await client.ask("POST", "/secret", b"", {"idempotency-key": "k"})
    assert second.status == 409
    assert b"xyzzy" not in second.body


def streaming(closed: asyncio.Event, *frames: bytes, error: Exception | None = None, waits: bool = False) -> Route:
    async def produce() -> AsyncGenerator[bytes, None]:
        try:
            for frame in frames:
                yield frame
            if error is not None:
                raise error
            if waits:
                await asyncio.Event().wait()
        finally:
            closed.set()

    async def answer(call: Call) -> Stream:
        return Stream(produce(), on_error=lambda failed: b"error: " + failed.message.encode())

    return Route("POST", "/stream", answer, "Stream", body=Body.JSON, makes_tokens=True)


async def test_a_stream_arrives_frame_by_frame_and_ends(gateway: Assembled, key: str, serve: Serve) -> None:
    serve(streaming(asyncio.Event(), b"a", b"b"))
    answer = await Client(gateway.app, key).ask("POST", "/stream")
    assert answer.pieces[:2] == [b"a", b"b"]
    assert answer.is_complete
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_an_error_before_the_first_frame_is_an_ordinary_error(gateway: Assembled, key: str, serve: Serve) -> None:
    serve(streaming(asyncio.Event(), error=NotFound("No such model.", param="model")))
    answer = await Client(gateway.app, key).ask("POST", "/stream")
    assert (answer.status, answer.json()["error"]["param"]) == (404, "model")


@pytest.mark.parametrize(
    ("error", "said"), [(Internal("The engine failed."), b"The engine failed."), (RuntimeError("secret"), b"our side")]
)
async def test_an_error_in_the_middle_is_told_and_ends_the_stream(
    gateway: Assembled, key: str, serve: Serve, error: Exception, said: bytes
) -> None:
    serve(streaming(asyncio.Event(), b"a", error=error))
    answer = await Client(gateway.app, key).ask("POST", "/stream")
    assert (answer.status, answer.is_complete) == (200, True)
    assert answer.pieces[-1].startswith(b"error: ")
    assert said in answer.pieces[-1]


async def test_a_client_that_leaves_ends_the_work(
    gateway: Assembled, key: str, serve: Serve, registry: CollectorRegistry
) -> None:
    closed = asyncio.Event()
    serve(streaming(closed, b"a", waits=True))
    client = Client(gateway.app, key)
    answer = Answer()
    asking = asyncio.create_task(client.ask("POST", "/stream", into=answer))
    while not answer.pieces:
        await asyncio.sleep(0.01)
    client.left.set()
    async with asyncio.timeout(5):
        await closed.wait()
        await asking
    assert registry.get_sample_value("brain_http_streams_cut_total", {"reason": "left"}) == 1
    assert registry.get_sample_value("brain_http_inflight_requests") == 0


async def test_a_reader_who_takes_nothing_is_given_up(
    gateway: Assembled, key: str, serve: Serve, registry: CollectorRegistry
) -> None:
    closed = asyncio.Event()
    serve(streaming(closed, b"a", b"b", waits=True))
    client = Client(gateway.app, key)
    client.stuck = True
    answer = Answer()

    async with asyncio.timeout(10):
        await client.ask("POST", "/stream", into=answer)
        await closed.wait()
    assert not answer.is_complete
    assert registry.get_sample_value("brain_http_streams_cut_total", {"reason": "stalled"}) == 1


async def test_a_reader_who_does_not_take_the_end_is_given_up(
    gateway: Assembled, key: str, serve: Serve, registry: CollectorRegistry
) -> None:
    client = Client(gateway.app, key)

    async def produce() -> AsyncGenerator[bytes, None]:
        yield b"a"
        client.stuck = True

    async def answer(call: Call) -> Stream:
        return Stream(produce())

    serve(Route("POST", "/stream", answer, "Stream", body=Body.JSON, makes_tokens=True))
    async with asyncio.timeout(10):
        await client.ask("POST", "/stream")
    assert registry.get_sample_value("brain_http_streams_cut_total", {"reason": "stalled"}) == 1


async def test_changes_and_refusals_are_written_down_without_content(
    gateway: Assembled, key: str, serve: Serve
) -> None:
    serve(BREW)
    await Client(gateway.app, key).ask("POST", "/tea", b'{"kind":"green"}')
    await Client(gateway.app, key).ask("POST", "/tea", b'{"cups":99}')
    await gateway.ledger.flush()
    bad, good = await gateway.services.audit.read("acme", limit=10)
    assert (good.action, good.object_id, good.status, good.subject) == ("POST /tea", "tea_1", 200, "ann")
    assert (bad.status, bad.reason) == (400, "invalid_input")
    assert "green" not in repr((good, bad))


async def test_strangers_are_counted_and_cannot_fill_the_audit_log(
    gateway: Assembled, serve: Serve, registry: CollectorRegistry
) -> None:
    serve(BREW)
    for _ in range(3):
        assert (await Client(gateway.app, "cb-guessed").ask("POST", "/tea", b'{"kind":"green"}')).status == 401
    await gateway.ledger.flush()
    assert not await gateway.services.audit.read("", limit=10)
    assert registry.get_sample_value("brain_authz_denied_total", {"reason": "unauthenticated"}) == 3


async def test_a_time_without_a_zone_is_one_of_utc(gateway: Assembled) -> None:
    admin = KeyGrant(tenant="acme", subject="root", roles=frozenset({Role.ADMINISTRATOR}))
    _, secret = await gateway.services.keys.create(admin)
    for target in ("audit?before=2026-01-01T00:00:00", "usage?since=2026-01-01"):
        assert (await Client(gateway.app, secret).ask("GET", f"/brain/v1/{target}")).status == 200


async def test_a_tenants_tokens_of_a_day_are_limited(gateway: Assembled, key: str, serve: Serve) -> None:
    async def speak(call: Call) -> Reply:
        call.spend("base", TokenUsage(prompt_tokens=6, completion_tokens=5))
        return json_reply({})

    serve(Route("POST", "/speak", speak, "Speak", body=Body.JSON, makes_tokens=True))
    await gateway.services.meter.set_quota("acme", 10)
    gateway.app._quotas._trust_s = -1.0
    client = Client(gateway.app, key)
    assert (await client.ask("POST", "/speak")).status == 200
    await gateway.ledger.flush()
    refused = await client.ask("POST", "/speak")
    assert (refused.status, "tokens" in refused.json()["message"]) == (429, True)
    used = await gateway.services.meter.usage("acme", datetime.now(UTC) - timedelta(hours=2))
    assert [(row.model, row.prompt_tokens, row.completion_tokens, row.requests) for row in used] == [("base", 6, 5, 1)]


async def test_readiness_tells_the_truth_and_details_to_administrators_only(gateway: Assembled, key: str) -> None:
    admin = KeyGrant(tenant="acme", subject="root", roles=frozenset({Role.ADMINISTRATOR}))
    _, secret = await gateway.services.keys.create(admin)
    for client in (Client(gateway.app), Client(gateway.app, key), Client(gateway.app, "cb-unknown")):
        answer = await client.ask("GET", "/health/ready")
        assert (answer.status, answer.json()) == (503, {"status": "not ready"})
    told = (await Client(gateway.app, secret).ask("GET", "/health/ready")).json()
    assert told["rooms"]["ingestion"] == "not ready"
    assert (await Client(gateway.app).ask("GET", "/health/live")).status == 200


def test_a_route_without_a_row_does_not_start() -> None:
    with pytest.raises(Internal, match="no row for POST /tea"):
        RouteTable([BREW], {})
    with pytest.raises(Internal, match="no route for GET /gone"):
        RouteTable([BREW], {"POST /tea": ANYONE, "GET /gone": ANYONE})
