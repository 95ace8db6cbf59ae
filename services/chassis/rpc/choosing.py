"""A channel that chooses, for each call, another channel to make it on."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import grpc

__all__ = ["ChoosingChannel", "Chosen", "Way"]


class Way:
    """A channel that may be chosen, and what is going on there.

    Args:
        channel: Where calls are made.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.running = 0
        self.callables: dict[tuple[str, str], Any] = {}


class ChoosingChannel(grpc.aio.Channel):
    """Makes each call on the channel that `pick` says, and counts it there until it ends."""

    @abstractmethod
    def pick(self) -> Way:
        """Return where the next call goes."""

    def ended(self, way: Way, call: Any) -> None:
        """Hear that a call ended; `way` counts it no more."""

    def start(self, way: Way, call: Any) -> None:
        """Count a call until it ends."""
        way.running += 1

        def ended(done: Any) -> None:
            way.running -= 1
            self.ended(way, done)

        call.add_done_callback(ended)

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return a callable that picks a channel."""
        return Chosen(self, "unary_unary", method, arguments, named)

    def unary_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return a callable that picks a channel."""
        return Chosen(self, "unary_stream", method, arguments, named)

    def stream_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return a callable that picks a channel."""
        return Chosen(self, "stream_unary", method, arguments, named)

    def stream_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return a callable that picks a channel."""
        return Chosen(self, "stream_stream", method, arguments, named)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Chosen:
    """A method, on whichever channel is picked.

    Args:
        channel: Picks, and counts.
        kind: Of the method, as the library calls it: `unary_unary` …
        method: Its full name.
        arguments: How its messages are written and read, for the library.
        named: The same, by name.
    """

    def __init__(
        self, channel: ChoosingChannel, kind: str, method: str, arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        self._channel = channel
        self._kind = kind
        self._method = method
        self._arguments = arguments
        self._named = named

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the method where it is picked."""
        return self.on(self._channel.pick(), *arguments, **named)

    def on(self, way: Way, *arguments: Any, **named: Any) -> Any:
        """Call the method there."""
        place = (self._kind, self._method)
        if place not in way.callables:
            make = getattr(way.channel, self._kind)
            way.callables[place] = make(self._method, *self._arguments, **self._named)
        call = way.callables[place](*arguments, **named)
        self._channel.start(way, call)
        return call
