"""Running the place: API keys, usage, the audit log, the state of the rooms, and who one is.

Everything here is about the caller's own tenant. Tenants come into being with their first key, which is made by a command
on the machine (`python -m gateway create-key --tenant …`): no route reaches across tenants.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.api.brain import views
from gateway.api.brain.requests import AuditQuery, KeyBody, ListQuery, RotateBody, UsageQuery
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route, Services
from gateway.domain.identity import ApiKey, KeyGrant
from gateway.domain.keeping import Counts, Paging

__all__ = ["AdministrationRoutes"]

_KEYS = "/brain/v1/keys"
_COLLECTIONS_PAGE = 100


class AdministrationRoutes:
    """Answers for administrators, and for everybody about themselves.

    Args:
        services: The rooms and the gateway's own memory.
    """

    def __init__(self, services: Services) -> None:
        self._ingestion = services.ingestion
        self._generation = services.generation
        self._probe = services.probe
        self._keys = services.keys
        self._meter = services.meter
        self._audit = services.audit

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{_KEYS}/{{key_id}}"
        return [
            Route("GET", "/brain/v1/me", self.me, "Say who the key speaks for"),
            Route(
                "POST",
                _KEYS,
                self.create_key,
                "Make an API key; its secret is shown this once",
                body=Body.JSON,
                request=KeyBody,
                creates=True,
                secret=True,
            ),
            Route("GET", _KEYS, self.list_keys, "List the tenant's API keys", query=ListQuery),
            Route(
                "POST",
                f"{one}/rotate",
                self.rotate_key,
                "Make a new key of the same grant and end the old one",
                body=Body.JSON,
                request=RotateBody,
                creates=True,
                secret=True,
            ),
            Route("DELETE", one, self.revoke_key, "End an API key at once"),
            Route("GET", "/brain/v1/tenant", self.tenant, "Return the tenant's quota and what it used today"),
            Route("GET", "/brain/v1/usage", self.usage, "Return what each key has used", query=UsageQuery),
            Route("GET", "/brain/v1/audit", self.audit, "Return the audit log, newest first", query=AuditQuery),
            Route("GET", "/brain/v1/status", self.status, "Return the rooms' health, the models and the queue"),
        ]

    async def me(self, call: Call) -> Reply:
        """Say who the key speaks for."""
        caller = call.caller
        return json_reply(
            {
                "subject": caller.subject,
                "tenant": caller.tenant,
                "groups": sorted(caller.groups),
                "roles": sorted(caller.roles),
                "principals": list(caller.principals),
            }
        )

    async def create_key(self, call: Call) -> Reply:
        """Make a key for somebody of the tenant."""
        asked = await call.parse(KeyBody)
        key, secret = await self._keys.create(
            KeyGrant(
                tenant=call.caller.tenant,
                subject=asked.subject,
                roles=frozenset(asked.roles),
                groups=frozenset(asked.groups),
                name=asked.name,
                expires_at=asked.expires_at,
                requests_per_minute=asked.requests_per_minute,
                max_concurrent=asked.max_concurrent,
            )
        )
        return self._shown_once(call, key, secret)

    async def list_keys(self, call: Call) -> Reply:
        """List keys."""
        asked = call.query(ListQuery)
        paging = Paging(limit=asked.limit, after=asked.after, ascending=asked.order == "asc")
        found = await self._keys.list(call.caller.tenant, paging)
        return json_reply(views.page(found, views.key, lambda one: one.id))

    async def rotate_key(self, call: Call) -> Reply:
        """Make a key of the same grant; the old one ends after the overlap."""
        overlap = timedelta(seconds=(await call.parse(RotateBody)).overlap_s)
        key, secret = await self._keys.rotate(call.caller.tenant, call.path["key_id"], overlap=overlap)
        return self._shown_once(call, key, secret)

    async def revoke_key(self, call: Call) -> Reply:
        """End a key."""
        return json_reply(views.key(await self._keys.revoke(call.caller.tenant, call.path["key_id"])))

    async def tenant(self, call: Call) -> Reply:
        """Return the tenant's quota and its tokens of this day (UTC)."""
        tenant = call.caller.tenant
        return json_reply(
            {
                "tenant": tenant,
                "tokens_per_day": await self._meter.quota(tenant),
                "tokens_today": await self._meter.tokens(tenant, _midnight()),
            }
        )

    async def usage(self, call: Call) -> Reply:
        """Return what each key has used with each model."""
        since = call.query(UsageQuery).since or _midnight()
        rows = await self._meter.usage(call.caller.tenant, since)
        return json_reply(
            {
                "since": since,
                "data": [
                    {
                        "key_id": row.key_id,
                        "model": row.model,
                        "requests": row.requests,
                        "prompt_tokens": row.prompt_tokens,
                        "completion_tokens": row.completion_tokens,
                    }
                    for row in rows
                ],
            }
        )

    async def audit(self, call: Call) -> Reply:
        """Return who did what."""
        asked = call.query(AuditQuery)
        rows = await self._audit.read(call.caller.tenant, limit=asked.limit, before=asked.before)
        return json_reply({"data": [views.audit_entry(row) for row in rows], "has_more": len(rows) == asked.limit})

    async def status(self, call: Call) -> Reply:
        """Return what an operator looks at first. A room that is away does not hide the others."""
        rooms = await self._probe.rooms()
        answer: dict[str, Any] = {
            "status": "ready" if all(rooms.values()) else "degraded",
            "rooms": {room: "ready" if up else "not ready" for room, up in rooms.items()},
        }
        if rooms.get("generation"):
            answer["models"] = [
                {"name": model.name, "engine": model.engine, "context_window": model.context_window}
                for model in await self._generation.models()
            ]
        if rooms.get("ingestion"):
            counts = await self._counts()
            answer["documents"] = {
                "in_progress": counts.in_progress,
                "indexed": counts.indexed,
                "failed": counts.failed,
                "cancelled": counts.cancelled,
            }
        return json_reply(answer)

    async def _counts(self) -> Counts:
        """Add up the documents of all collections: what is in progress is the queue."""
        after, has_more, total = "", True, Counts()
        while has_more:
            page = await self._ingestion.list_collections(Paging(limit=_COLLECTIONS_PAGE, after=after))
            for collection in page.items:
                one = collection.counts
                total = Counts(
                    in_progress=total.in_progress + one.in_progress,
                    indexed=total.indexed + one.indexed,
                    failed=total.failed + one.failed,
                    cancelled=total.cancelled + one.cancelled,
                )
            has_more = page.has_more and bool(page.items)
            after = page.items[-1].id if page.items else ""
        return total

    def _shown_once(self, call: Call, key: ApiKey, secret: str) -> Reply:
        call.touched(key.id)
        return json_reply(views.key(key) | {"secret": secret}, 201)


def _midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
