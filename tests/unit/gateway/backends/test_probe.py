"""What the gateway says of rooms that are not there, and what it logs."""

from structlog.testing import capture_logs

from gateway.backends.probe import HealthProbe
from services.chassis.rpc.client import connect


async def test_why_a_room_is_not_ready_is_logged_when_it_changes() -> None:
    async with connect("127.0.0.1:1") as nobody, connect("127.0.0.1:2") as another:
        probe = HealthProbe({"chat": nobody, "retrieval": another})
        with capture_logs() as logs:
            assert await probe.rooms() == {"chat": False, "retrieval": False}
            assert {line["name"] for line in logs} == {"chat", "retrieval"}
            assert all(line["event"] == "room_not_ready" and "127.0.0.1:" in line["reason"] for line in logs)
