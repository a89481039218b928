"""The servers start once for all tests of this folder."""

import pytest

from hosting import ALICE, BOB, Hosted
from rnnstate.serving.tokens import Tokens
from servers import redis_server  # noqa: F401


@pytest.fixture(scope="session")
def server():
    """A server without tokens, whose model adds up its input."""
    hosted = Hosted(max_batch=8)
    yield hosted
    hosted.stop()


@pytest.fixture(scope="session")
def shared():
    """A server with two tokens."""
    hosted = Hosted(tokens=Tokens.read([f"alice {ALICE}", "# a comment", f"bob {BOB}"]))
    yield hosted
    hosted.stop()


@pytest.fixture
def http(server):
    """A client of the server without tokens."""
    with server.client() as client:
        yield client
