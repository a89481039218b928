"""Every store keeps what it acknowledges, as a dict does."""

import numpy as np
import pytest

from rnnstate import stores
from servers import redis_server  # noqa: F401

pytestmark = pytest.mark.once


class TestMemory(stores.StoreContract):
    def open(self):
        return stores.MemoryStore()


class TestLmdb(stores.StoreContract):
    examples = 8

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder, self.made = tmp_path, 0

    def open(self):
        self.made += 1
        return stores.LmdbStore(self.folder / str(self.made), capacity=2**24, sync=False)


class TestRedis(stores.StoreContract):
    examples = 8

    @pytest.fixture(autouse=True)
    def _server(self, redis_server):  # noqa: F811
        self.url, self.made = redis_server.url, 0

    def open(self):
        self.made += 1
        return stores.RedisStore(self.url, prefix=f"contract{id(self)}-{self.made}:", wait=0.05)
