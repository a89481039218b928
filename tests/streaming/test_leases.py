"""Leases of a Redis store: a worker that lost its lease cannot commit, and a step that fails gives its lease back."""

import time

import pytest

import rnnstate as rs
from adding import Adding
from rnnstate import stores
from servers import redis_server  # noqa: F401

pytestmark = pytest.mark.once


def streamer(store=None, engine=None, **options):
    """Return a streamer of the adding engine."""
    return rs.Streamer(engine or Adding(), store, **{"max_batch": 4, **options})


def test_a_paused_worker_cannot_commit(redis_server):  # noqa: F811
    """A worker that pauses in its step for longer than its lease gets an error for this key, and changes nothing."""
    engine = Adding()
    slow = streamer(stores.RedisStore(redis_server.url, "pause:", lease=0.05), engine)
    fast = streamer(stores.RedisStore(redis_server.url, "pause:"))
    slow.push({"a": [1.0]}, numbers={"a": 0})

    def pause():
        engine.pause = None
        time.sleep(0.1)
        fast.push({"a": [10.0]}, numbers={"a": 1})

    engine.pause = pause
    with pytest.raises(rs.PushError, match=r"or a lease that has ended\. Nothing has changed"):
        slow.push({"a": [100.0]}, numbers={"a": 1})
    assert fast.peek("a")["sum"].tolist() == [[11.0]]
    # Sent again, the same number is answered from the record of the other worker.
    assert slow.push({"a": [100.0]}, numbers={"a": 1})["a"].tolist() == [11.0]


def test_a_failing_step_gives_its_lease_back(redis_server):  # noqa: F811
    """If the model raises, other workers may go on at once."""
    engine = Adding()

    def fail():
        raise RuntimeError("device lost")

    engine.pause = fail
    one = streamer(stores.RedisStore(redis_server.url, "fail:"), engine)
    with pytest.raises(
        rs.PushError, match=r"'a': the model must compute the step\. Received: RuntimeError: device lost"
    ):
        one.push({"a": [1.0]})
    other = streamer(stores.RedisStore(redis_server.url, "fail:", wait=0.0))
    assert other.push({"a": [1.0]})["a"].tolist() == [1.0]
