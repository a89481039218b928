"""Two servers on one Redis store: sums are exact whichever of them gets a request."""

import threading

import pytest

from hosting import Hosted
from rnnstate import stores

pytestmark = pytest.mark.once


def test_two_servers_fight_for_a_session(redis_server):
    """Callers of both servers push to one session. A push counts once, or is refused with 503 and counts not at all."""
    both = [Hosted(store=stores.RedisStore(redis_server.url, "servers:")) for _ in range(2)]
    seen, wrong = [], []

    def caller(hosted):
        with hosted.client() as client:
            for _ in range(15):
                answer = client.post("/sessions/shared/push", json={"x": [1.0]})
                if answer.status_code == 200:
                    seen.append(answer.json()["y"][0])
                elif answer.status_code != 503:
                    wrong.append(answer.text)

    threads = [threading.Thread(target=caller, args=(hosted,)) for hosted in (*both, *both)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []
    assert sorted(seen) == list(range(1, len(seen) + 1))  # no total twice, and none left out
    assert len(seen) > 30
    for hosted in both:
        with hosted.client() as client:
            assert client.get("/sessions/shared/state").json() == {"state": {"sum": [float(len(seen))]}}
        hosted.stop()
