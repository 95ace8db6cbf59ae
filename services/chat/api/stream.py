"""From a turn that runs to a stream that is read: text is joined only when the reader is behind."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from services.chat.domain.turn import Event, TextDelta

Emit = Callable[[Event], None]


async def streamed(run: Callable[[Emit], Awaitable[None]]) -> AsyncGenerator[Event, None]:
    """Run a turn and yield its events.

    Each text is handed over in the step in which the engine produced it. While the reader takes its time, texts that
    follow one another are joined. When the reader leaves, the turn is cancelled and awaited.
    """
    waiting: list[Event] = []
    news = asyncio.Event()

    def emit(event: Event) -> None:
        waiting.append(event)
        news.set()

    async def work() -> None:
        try:
            await run(emit)
        finally:
            news.set()

    task = asyncio.create_task(work())
    try:
        while True:
            await news.wait()
            news.clear()
            while waiting:
                taken = waiting.copy()
                waiting.clear()
                for event in joined(taken):
                    yield event
            if task.done():
                await task
                return
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def joined(events: list[Event]) -> list[Event]:
    """Join neighbouring texts of the same answer; nothing else is touched and the order is kept."""
    if len(events) == 1:
        return events
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if (
            isinstance(event, TextDelta)
            and isinstance(last, TextDelta)
            and last.index == event.index
            and last.finish_reason is None
        ):
            logprobs = (*last.logprobs, *event.logprobs) if last.logprobs or event.logprobs else ()
            out[-1] = TextDelta(event.index, last.text + event.text, logprobs, event.finish_reason)
        else:
            out.append(event)
    return out
