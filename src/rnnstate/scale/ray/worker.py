"""What runs in an actor: a `Streamer` over the store of the pool, in the units of the data."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import PushError
from rnnstate.scale.scorer import Layout, scorer_of
from rnnstate.streaming.stores.lmdb_store import LmdbStore
from rnnstate.streaming.stores.redis_store import RedisStore
from rnnstate.streaming.stores.store import Store
from rnnstate.streaming.streamer import Streamer


class Worker:
    """Advances the sessions of some shards. It keeps nothing that the store does not have.

    Args:
        layout: The model.
        store: The folder of an `LmdbStore`, or the address of a Redis server.
        options: Further arguments of the store.
        on_other_model: As in `Streamer`.
    """

    def __init__(self, layout: Layout, store: str, options: Mapping[str, Any], on_other_model: str) -> None:
        self._scorer = scorer_of(layout)
        engine: Any = self._scorer.engine  # `Streamer` takes an engine too
        self._streamer = Streamer(engine, open_store(store, options), on_other_model)

    def push(self, x: Mapping[Any, Any], numbers: Mapping[Any, int]) -> tuple[dict[Any, Any], dict[Any, Exception]]:
        """Advance sessions as `Streamer.push` does, and return the outputs and the errors by key."""
        scaled = {key: self._scorer.scaled(np.asarray(value)) for key, value in x.items()}
        try:
            results, errors = self._streamer.push(scaled, numbers), dict[Any, Exception]()
        except PushError as error:
            results, errors = error.results, error.errors
        return {key: self._scorer.unscaled(y) for key, y in results.items()}, errors

    def pid(self) -> int:
        """Return the process of this actor."""
        return os.getpid()


def open_store(store: str, options: Mapping[str, Any]) -> Store:
    """Return the store of an address: Redis, or else a folder with LMDB."""
    return RedisStore(store, **options) if "://" in store else LmdbStore(store, **options)
