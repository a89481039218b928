"""Stores: where the states of sessions live between steps.

| file | idea |
|---|---|
| `store` | the contract: read, commit if nobody was faster, delete |
| `records` | a batch of records, and the card that says which model they belong to |
| `memory` | `MemoryStore`: a table in this process, with limits; `table` is the table |
| `lmdb_store` | `LmdbStore`: a folder of this machine |
| `redis_store` | `RedisStore`: a server that several workers share |
| `expiry` | when sessions of a durable store end, by which clock |
| `packed` | records as bytes |
| `savepoint` | sessions of any store in one state file |
| `contract` | `StoreContract`: the tests for any store |

Users reach the public names as `rnnstate.stores`. Nothing here starts Keras or a backend.
"""

from rnnstate.streaming.stores.contract import StoreContract
from rnnstate.streaming.stores.lmdb_store import LmdbStore
from rnnstate.streaming.stores.memory import MemoryStore
from rnnstate.streaming.stores.records import Card, Extra, Records
from rnnstate.streaming.stores.redis_store import RedisStore
from rnnstate.streaming.stores.store import Reading, Store

__all__ = [
    "MemoryStore",
    "LmdbStore",
    "RedisStore",
    "Store",
    "Reading",
    "Records",
    "Extra",
    "Card",
    "StoreContract",
]
