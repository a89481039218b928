"""A Redis server with an append-only file, on a free port, for the tests that need one."""

import random
import shutil
import signal
import socket
import subprocess
import time

import pytest


class RedisServer:
    """A server that can be killed and started again on its file.

    Args:
        folder: Where it writes its append-only file.
    """

    def __init__(self, folder):
        self.port = free_port()
        self.folder, self.url = folder, f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        """Start the server and wait until it answers."""
        import redis

        program = shutil.which("redis-server")
        assert program, "The tests need redis-server: apt-get install redis-server"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            [program, *options, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        client = self.client()
        for _ in range(200):
            try:
                return client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
        raise AssertionError("redis-server did not start")

    def client(self):
        """Return a client of the server."""
        import redis

        return redis.Redis.from_url(self.url)

    def stop(self, how=signal.SIGTERM):
        """Stop the server, or kill it with SIGKILL."""
        self.process.send_signal(how)
        self.process.wait(10)


def free_port():
    """Return a free port below those that a system gives to clients, so that no client takes it while the server is down."""
    for port in random.SystemRandom().sample(range(20000, 30000), 100):
        with socket.socket() as free:
            if free.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("No port from 20000 to 29999 is free")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """One server for the whole session."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()
