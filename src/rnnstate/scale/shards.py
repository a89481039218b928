"""Key to shard to worker. The number of shards never changes, so any number of workers can take over what others wrote.

    key  --crc32, modulo 4,096-->  shard  --ranges of equal size-->  worker

A shard belongs to one worker at a time, and so does each of its keys.
"""

import zlib
from typing import Any

from rnnstate.errors import DataError, StoreError
from rnnstate.streaming.keys import SHARDS, encode

__all__ = ["SHARDS", "shard_of", "shard_of_text", "worker_of", "check_workers", "check_shards"]


def shard_of(key: Any) -> int:
    """Return the shard of a key, from 0 to 4,095. Every process and every release gives the same.

    Args:
        key: Text, or a whole number.

    Raises:
        DataError: If the key is something else, empty, or too long.

    Example:

    >>> shard_of("north"), shard_of(7)
    (194, 1713)
    """
    return shard_of_text(encode(key))


def shard_of_text(text: str) -> int:
    """Return the shard of a key that `streaming.keys.encode` turned into text."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % SHARDS


def worker_of(shard: int, workers: int) -> int:
    """Return the worker of a shard: worker 0 has the first shards, and no worker has more than one shard above another.

    Example:

    >>> [worker_of(shard, 3) for shard in (0, 1365, 1366, 4095)]
    [0, 0, 1, 2]
    """
    return shard * workers // SHARDS


def check_workers(workers: int) -> None:
    """Raise unless there is a shard for each worker.

    Raises:
        DataError: If the number is not from 1 to 4,096.
    """
    if not isinstance(workers, int) or not 1 <= workers <= SHARDS:
        raise DataError(f"`workers` must be a whole number from 1 to {SHARDS}. Received: {workers!r}.")


def check_shards(found: Any, where: str) -> None:
    """Raise if something durable was written with another number of shards.

    Raises:
        StoreError: If the number differs.
    """
    if found != SHARDS:
        raise StoreError(
            f"{where} must have been written with {SHARDS} shards. Received: {found}. Its keys belong to other shards, so "
            "read it with the release that wrote it, and move its sessions with a savepoint."
        )
