"""The store that a word of the command line names: `memory`, a folder, or the address of a Redis server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnnstate.errors import DataError
from rnnstate.streaming.stores import LmdbStore, MemoryStore, RedisStore
from rnnstate.streaming.stores.store import Store

_REDIS = ("redis://", "rediss://", "unix://")


def open_store(
    name: str,
    capacity: int | None = None,
    idle: float | None = None,
    on_evict: Callable[..., Any] | None = None,
    clock: str | None = None,
) -> Store:
    """Return a store.

    Args:
        name: `memory`, the path of a folder, or an address that begins with `redis://`.
        capacity: The bytes of a store in memory.
        idle: The seconds after which a session that nobody wrote ends.
        on_evict: Gets the records of sessions that end.
        clock: Which clock counts the idle seconds, `"wall"` or `"event"`. The default is the clock that the store remembers.

    Raises:
        DataError: If the library of the store is missing, or a limit is given to a store that has none.
    """
    if name != "memory" and capacity is not None:
        raise DataError(f"`--capacity` is a limit of `--store memory`. Received: --store {name}.")
    try:
        if name == "memory":
            return MemoryStore(capacity, idle, on_evict, clock=clock or "wall")
        kind = RedisStore if name.startswith(_REDIS) else LmdbStore
        return kind(name, idle=idle, on_evict=on_evict if idle is not None else None, clock=clock)
    except (ImportError, ValueError) as error:
        raise DataError(str(error)) from error


def open_existing(name: str, **options: Any) -> Store:
    """Open a store that has been written before.

    Args:
        name: The path of a folder, or an address that begins with `redis://`.
        options: Further arguments of `open_store`.

    Raises:
        DataError: If there is none.
    """
    if name == "memory" or not (name.startswith(_REDIS) or (Path(name) / "data.mdb").is_file()):
        raise DataError(
            f"STORE must be a folder with sessions, or the address of a Redis server. Received: {name}. "
            "A store in memory lives in its server alone."
        )
    return open_store(name, **options)
