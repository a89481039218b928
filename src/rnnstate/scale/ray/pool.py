"""`Pool`: actors that score live sources, over a store that survives them."""

import os
from collections.abc import Mapping
from threading import Lock
from typing import Any

import ray

from rnnstate.errors import DataError, StoreError
from rnnstate.messages import listed
from rnnstate.scale.ray.worker import Worker
from rnnstate.scale.scorer import array_layout
from rnnstate.scale.shards import check_workers, shard_of, worker_of
from rnnstate.streaming.pushes import finished


class Pool:
    """Actors that score live sources. Each key belongs to one actor, by its shard, and its state is in a durable store.

    A push that has returned is in the store. An actor that dies starts again by itself, and Ray repeats the pushes that it
    had not answered. A push that was in the store already is answered from its record, by its number, so nothing is applied
    twice. With another number of actors the keys move, and the store is not touched.

    Args:
        model: A RUN or an ONNX file that `rnnstate.export` wrote. Every worker must be able to read the path.
        store: A folder for `LmdbStore`, for actors on one machine; or the address of a Redis server, such as
            `redis://host:6379/0`, for actors on several machines.
        workers: The number of actors, at most 4,096.
        on_other_model: What to do with sessions of another model, as in `Streamer`.
        store_options: Further arguments of the store, such as `{"sync": False}`.
        actor_options: Further options of each actor, such as `{"num_cpus": 1}`.

    Raises:
        DataError: If the number of actors is out of range, or the model is neither a RUN nor an ONNX file.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        store: str | os.PathLike[str],
        workers: int = 2,
        on_other_model: str = "refuse",
        store_options: Mapping[str, Any] | None = None,
        actor_options: Mapping[str, Any] | None = None,
    ) -> None:
        check_workers(workers)
        address = os.fspath(store)
        address = address if "://" in address else os.path.abspath(address)
        self._arguments = (array_layout(model), address, dict(store_options or {}), on_other_model)
        # Ray repeats a call that an actor did not answer. The number of the push makes this safe.
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 5, **(actor_options or {})}
        self._actor = ray.remote(**options)(Worker)
        self._lock, self._pending = Lock(), set[Any]()
        self._workers: list[Any] = []
        self.resize(workers)

    @property
    def workers(self) -> int:
        """The number of actors."""
        return len(self._workers)

    def push(self, x: Mapping[Any, Any], numbers: Mapping[Any, int]) -> dict[Any, Any]:
        """Advance sessions by one step or by a chunk each, in the units of the data.

        Args:
            x: The inputs by key, each `(features,)` or `(time, features)`. A key without a session begins one.
            numbers: A sequence number for each key. The first may be any; then they count up by one for each push. A
                repeated number is answered from the record and advances nothing. Another number is refused.

        Returns:
            The outputs by key, `(outputs,)` or `(time, outputs)` as the input.

        Raises:
            PushError: If some keys failed, as in `Streamer.push`. If an actor could not answer, the error of its keys is a
                `StoreError`, and it is unknown whether they advanced: push again with the same numbers.
            DataError: If a key has no number. Then nothing has advanced.
        """
        if missing := [key for key in x if key not in numbers]:
            raise DataError(
                f"Each key of a push must have a number, so that it can be repeated. Received: none for {listed(missing)}."
            )
        shares: dict[int, list[Any]] = {}
        shards = {key: shard_of(key) for key in x}
        with self._lock:
            for key, shard in shards.items():
                shares.setdefault(worker_of(shard, len(self._workers)), []).append(key)
            calls = {
                self._workers[at].push.remote({key: x[key] for key in keys}, {key: numbers[key] for key in keys}): keys
                for at, keys in shares.items()
            }
            self._pending.update(calls)
        try:
            return finished(x, *_gathered(calls))
        finally:
            with self._lock:
                self._pending.difference_update(calls)

    def resize(self, workers: int) -> None:
        """Change the number of actors. Pushes wait until those before have been answered and the keys have moved.

        Raises:
            DataError: If the number is not from 1 to 4,096.
        """
        check_workers(workers)
        with self._lock:
            if self._pending:
                ray.wait(list(self._pending), num_returns=len(self._pending))
            for actor in self._workers[workers:]:
                ray.kill(actor)
            del self._workers[workers:]
            self._workers += [self._actor.remote(*self._arguments) for _ in range(workers - len(self._workers))]

    def processes(self) -> list[int]:
        """Return the process of each actor, and wait until all of them are ready."""
        return list(ray.get([actor.pid.remote() for actor in self._workers]))

    def close(self) -> None:
        """End all actors. The sessions are in the store."""
        with self._lock:
            for actor in self._workers:
                ray.kill(actor)
            self._workers = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _gathered(calls: Mapping[Any, list[Any]]) -> tuple[dict[Any, Any], dict[Any, Exception]]:
    """Return the outputs and the errors of all calls, by key."""
    results: dict[Any, Any] = {}
    errors: dict[Any, Exception] = {}
    for call, keys in calls.items():
        try:
            more, failed = ray.get(call)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            failed = {
                key: StoreError(
                    f"Key {key!r}: its actor must answer. Received: {reason} It is unknown whether the session advanced. "
                    "Push again with the same number."
                )
                for key in keys
            }
            more = {}
        results |= more
        errors |= failed
    return results, errors
