"""What webhooks need from the world."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.finetuning.domain.webhooks import Answer, Delivery, Settlement, Webhook

__all__ = ["WebhookSender", "WebhookStore"]


class WebhookStore(Protocol):
    """Addresses, and the deliveries that wait for them."""

    async def add(self, webhook: Webhook, *, most: int) -> None:
        """Keep an address.

        Raises:
            Conflict: Its tenant has `most` already.
        """
        ...

    async def of_tenant(self, tenant: str) -> Sequence[Webhook]:
        """Return a tenant's addresses, oldest first."""
        ...

    async def remove(self, tenant: str, webhook_id: str) -> bool:
        """Forget an address and what waits for it; return whether there was one."""
        ...

    async def claim(self, *, now: float, lease_s: float) -> Delivery | None:
        """Hand out the delivery that has been due longest; None when none is.

        Nobody else gets it for `lease_s` seconds. Whoever has it and dies has made a try.
        """
        ...

    async def settle(self, delivery: Delivery, settlement: Settlement) -> bool:
        """Note what came of a try; return whether it was still this holder's to note."""
        ...


class WebhookSender(Protocol):
    """Calls addresses, and none that it must not."""

    async def check(self, url: str) -> None:
        """Look whether `url` could be called now.

        Raises:
            InvalidInput: It is no address, or leads where nothing may be called.
        """
        ...

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post `body` once and return what came of it; a failure is an answer too."""
        ...
