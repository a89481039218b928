"""Calls of one session run one after the other, in the order in which they came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Turns:
    """Gives each session a queue while somebody uses it."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def of(self, *texts: str) -> AsyncIterator[None]:
        """Wait for the turn of a call that concerns some sessions."""
        async with AsyncExitStack() as stack:
            for text in sorted(set(texts)):  # one order for all calls, so that no two wait for each other
                await stack.enter_async_context(self._one(text))
            yield

    @asynccontextmanager
    async def _one(self, text: str) -> AsyncIterator[None]:
        queue = self._queues.setdefault(text, _Queue())
        queue.users += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[text]
