"""What a caller's channel does with what nobody reads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.chassis.rpc.client import connect

PIECE = b"x" * 4096
PIECES = 3000


async def test_what_nobody_reads_stays_where_it_is_made() -> None:
    written: list[int] = []

    async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        mine = len(written)
        written.append(0)
        for _ in range(PIECES):
            yield PIECE
            written[mine] += 1

    server = grpc.aio.server()
    method: Any = grpc.unary_stream_rpc_method_handler(endless)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Stream", {"Say": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        say: Any = channel.unary_stream("/test.Stream/Say")
        # Somebody who reads as fast as it comes: now it is known how much the line can carry.
        quick = say(b"")
        for _ in range(500):
            await quick.read()
        quick.cancel()
        slow = [say(b"") for _ in range(4)]
        for call in slow:
            await call.read()
        before: list[int] = []
        while before != written:
            before = list(written)
            await asyncio.sleep(1)
        # Each a few messages of 64 KiB, where it would be all 12 MiB, or as much as grpc finds good.
        assert max(written[1:]) * len(PIECE) <= 512 * 1024
        for call in slow:
            call.cancel()
    await server.stop(0)
