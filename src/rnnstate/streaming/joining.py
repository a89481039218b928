"""Callers of `apush` that share a compiled step.

The first caller opens a batch. It runs after a short delay, or once it is full. Callers that come while a batch runs wait
for the next one, so batches grow with the load. Two pushes of one key never share a batch, and keep their order:

    callers   {a} {b} {a, c} {c} {d}
    batches   [{a} {b} {d}]   [{a, c}]   [{c}]
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rnnstate.streaming.items import Item

Run = Callable[[Sequence[Item]], tuple[dict[Any, Any], dict[Any, Exception]]]
_Request = tuple[Sequence[Item], "asyncio.Future[Any]"]


class Joiner:
    """Joins the requests of one event loop.

    Args:
        run: Advances items with distinct keys. It runs in a thread of the loop's executor.
        max_delay: How many seconds the first request of a batch waits for others.
        max_batch: How many keys a batch has at most. A request with more keys has a batch alone.
    """

    def __init__(self, run: Run, max_delay: float, max_batch: int) -> None:
        self._run, self._delay, self._size = run, max_delay, max_batch
        self._waiting: deque[_Request] = deque()
        self._full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> tuple[dict[Any, Any], dict[Any, Exception]]:
        """Run items together with those of other callers. A caller that is cancelled meanwhile has pushed all the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((items, future))
        if sum(len(waiting) for waiting, _ in self._waiting) >= self._size:
            self._full.set()
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        results, errors = await asyncio.shield(future)
        return results, errors

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        first = True
        while self._waiting:
            if first and self._delay > 0 and not self._full.is_set():
                await self._collect()
            self._full.clear()
            first = False
            requests = self._taken()
            items = [item for request, _ in requests for item in request]
            try:
                results, errors = await loop.run_in_executor(None, partial(self._run, items))
            except Exception as error:  # each caller gets it
                _settle(requests, error)
            else:
                _settle(requests, None, results, errors)

    async def _collect(self) -> None:
        try:
            await asyncio.wait_for(self._full.wait(), self._delay)
        except TimeoutError:
            return

    def _taken(self) -> list[_Request]:
        """Take the requests of the next batch. A request waits for an earlier one with a key in common."""
        taken: list[_Request] = []
        left: deque[_Request] = deque()
        blocked: set[Any] = set()
        count = 0
        for request in self._waiting:
            keys = {item.text for item in request[0]}
            fits = not keys & blocked and (not taken or count + len(keys) <= self._size)
            (taken if fits else left).append(request)
            blocked |= keys
            count += len(keys) if fits else 0
        self._waiting = left
        return taken


def _settle(requests: list[_Request], error: Exception | None, results: Any = None, errors: Any = None) -> None:
    """Give each caller its own results and errors."""
    for items, future in requests:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
            continue
        keys = [item.key for item in items]
        future.set_result(tuple({key: given[key] for key in keys if key in given} for given in (results, errors)))
