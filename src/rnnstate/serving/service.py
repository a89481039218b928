"""Calls of the streamer: their order, their time-outs, and the last ones at a stop.

Each accepted call runs to its end in a separate task. If the caller gives up, loses the connection or gets a time-out, the
session still advances. `close` waits for all tasks.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from rnnstate.errors import PushError, RnnStateError, StepError
from rnnstate.serving.activity import Activity
from rnnstate.serving.limits import Limits, Rates
from rnnstate.serving.logs import event
from rnnstate.serving.refusals import RefusedError, refusal
from rnnstate.serving.tokens import Tenant
from rnnstate.serving.turns import Turns
from rnnstate.streaming.streamer import Streamer

_SHOWN = 5.0  # for how many seconds a count on a page holds
_FRESH = 1.0  # for how many seconds a count of sessions holds


class Service:
    """What the routes call.

    Args:
        streamer: The streamer.
        limits: The limits.
    """

    def __init__(self, streamer: Streamer, limits: Limits) -> None:
        self.streamer, self.limits = streamer, limits
        self.rates, self.activity = Rates(limits.rate), Activity()
        self.stopping = False
        self._turns = Turns()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._shown: dict[str, tuple[int, float]] = {}
        self._counts: dict[str, tuple[int, float]] = {}  # sessions of each prefix, and when they were counted

    async def push(self, tenant: Tenant, key: object, x: Any, end: bool = False, **options: Any) -> Any:
        """Advance a session, and return its output.

        Args:
            tenant: Who calls.
            key: The session.
            x: The input, as `Streamer.push` takes it for one key.
            end: Whether the session ends with this push.
            options: `number`, `observed` and `time` of this key; `create` and `restart` as for `Streamer.push`.
        """
        text = tenant.text(key)
        return await self._accept(tenant, self._push(tenant, text, x, end, **options), text)

    async def call(self, tenant: Tenant, function: Callable[..., Any], *keys: object, creates: bool = False) -> Any:
        """Return `function(*texts)`, where each text is a key in the store. It runs in the turn of these sessions.

        Args:
            tenant: Who calls.
            function: What to do.
            keys: The sessions. The last one may be new.
            creates: Whether the call may begin a session.
        """
        texts = [tenant.text(key) for key in keys]
        return await self._accept(tenant, self._call(tenant, function, texts, creates), *texts)

    async def read(self, tenant: Tenant, function: Callable[..., Any], *keys: object) -> Any:
        """Return `function(*texts)` for a call that changes nothing, and so waits for no other one."""
        try:
            return await asyncio.to_thread(function, *(tenant.text(key) for key in keys))
        except RnnStateError as error:
            raise refusal(error, tenant.prefix) from error

    async def counted(self, tenant: Tenant) -> int:
        """Return how many sessions a tenant has. The number may be some seconds old."""
        count, then = self._shown.get(tenant.prefix, (0, -_SHOWN))
        if time.monotonic() - then >= _SHOWN:
            count, then = await asyncio.to_thread(self._counted, tenant), time.monotonic()
            self._shown[tenant.prefix] = count, then
        return count

    async def close(self) -> None:
        """Take no more calls, wait for those that were accepted, and close the store."""
        self.stopping = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.streamer.store.close()

    async def _push(
        self,
        tenant: Tenant,
        text: str,
        x: Any,
        end: bool,
        number: int | None = None,
        observed: Any = None,
        create: bool = True,
        restart: bool = False,
        time: float | None = None,
    ) -> Any:
        numbers = None if number is None else {text: number}
        values = None if observed is None else {text: observed}
        times = None if time is None else {text: time}
        if create:
            await self._check_room(tenant, text)
        try:
            pushed = await self.streamer.apush({text: x}, numbers, values, create=create, restart=restart, times=times)
        except PushError as error:
            failed = error.errors[text]
            if isinstance(failed, StepError):
                event("The model has failed", logging.ERROR, failed=failed)
            raise failed from failed.__cause__
        self.activity.note(self.streamer, text, "start" if restart else "")
        if end:
            await asyncio.to_thread(self.streamer.end, text)
            self.activity.forget(text)
        return pushed[text]

    async def _call(self, tenant: Tenant, function: Callable[..., Any], texts: list[str], creates: bool) -> Any:
        if creates:
            await self._check_room(tenant, texts[-1])
        return await asyncio.to_thread(function, *texts)

    async def _accept(self, tenant: Tenant, work: Coroutine[Any, Any, Any], *texts: str) -> Any:
        """Run a call in its turn, and wait for it as long as the limit says."""
        if self.stopping or len(self._tasks) >= self.limits.queue:
            work.close()
            reason = "the server stops" if self.stopping else f"{self.limits.queue:,} calls wait"
            raise RefusedError(
                503, f"The server takes no call now, because {reason}. Nothing has changed. Try again.", 1.0
            )
        task = asyncio.get_running_loop().create_task(self._in_turn(work, *texts))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self.limits.timeout)
        except TimeoutError as error:
            raise RefusedError(
                504,
                f"An answer must come within {self.limits.timeout:g} s. Received: none yet. The call was accepted and is "
                "carried out. Repeat a push that has a sequence number to get its answer.",
                1.0,
            ) from error
        except RnnStateError as error:
            raise refusal(error, tenant.prefix) from error

    async def _in_turn(self, work: Coroutine[Any, Any, Any], *texts: str) -> Any:
        async with self._turns.of(*texts):
            return await work

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        task.exception()  # a caller that has gone does not ask for it

    async def _check_room(self, tenant: Tenant, text: str) -> None:
        """Raise `RefusedError` if a new session would be one too many."""
        limit = self.limits.sessions
        if limit is None or await asyncio.to_thread(self.streamer.__contains__, text):
            return
        count, then = self._counts.get(tenant.prefix, (limit, 0.0))
        if count >= limit and time.monotonic() - then > _FRESH:
            count = await asyncio.to_thread(self._counted, tenant)
            then = time.monotonic()
        self._counts[tenant.prefix] = (min(count + 1, limit), then)
        if count >= limit:
            raise RefusedError(
                429,
                f"There may be {limit:,} sessions. Received: one more. Nothing has changed. End a session first.",
                1.0,
            )

    def _counted(self, tenant: Tenant) -> int:
        return sum(tenant.key(text) is not None for text in list(self.streamer.keys()))
