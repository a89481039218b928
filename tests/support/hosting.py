"""A real server in a thread of the test process, on a free loopback port."""

import socket
import threading
import time

import httpx
import uvicorn

from adding import Adding
from rnnstate import stores
from rnnstate.serving.server import Host

ALICE, BOB = "alice-0123456789", "bob-0123456789abc"


class Hosted:
    """A server that runs until `stop`.

    Args:
        engine: The model. The default adds up its input.
        store: The store, or a function that gets `on_evict` and returns it. The default is one in memory.
        options: Further arguments of `Host`.
    """

    def __init__(self, engine=None, store=None, **options):
        self.engine = engine or Adding()
        name = options.pop("name", "sums")
        opened = store if callable(store) else lambda on_evict: stores.MemoryStore() if store is None else store
        self.host = Host(self.engine, opened, name, "test", **options)
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listening.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self._server = uvicorn.Server(self.host.config())
        self._thread = threading.Thread(target=self._server.run, args=([listening],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    @property
    def streamer(self):
        return self.host.streamer

    def client(self, token=None, **options):
        """Return an HTTP client, with a token if one is given."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, **options)

    def stop(self):
        """Stop it gracefully."""
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
