"""A model that raises in a step that several callers share: the caller of the bad input is told, and nobody else."""

import asyncio
import json
import logging

import httpx
import pytest
from websockets.sync.client import connect

from adding import Refusing
from hosting import Hosted

pytestmark = pytest.mark.once


def test_a_model_that_raises_fails_its_caller_alone(caplog, monkeypatch):
    """Of callers that share a step, one gets 500 with the reason, and its session is as it was. The log has a traceback."""
    hosted = Hosted(Refusing(), max_batch=8, max_delay=0.05)
    monkeypatch.setattr(logging.getLogger("rnnstate.serving"), "propagate", True)

    async def together(**values):
        async with httpx.AsyncClient(base_url=hosted.url, timeout=20) as client:
            calls = [client.post(f"/sessions/{key}/push", json={"x": [value]}) for key, value in values.items()]
            return await asyncio.gather(*calls)

    assert {answer.status_code for answer in asyncio.run(together(a=1.0, b=1.0, c=1.0))} == {200}
    fine, failed, last = asyncio.run(together(a=2.0, b=13.0, c=4.0))
    assert (fine.json(), last.json()) == ({"y": [3.0]}, {"y": [5.0]})
    assert failed.status_code == 500
    assert failed.json()["error"].startswith("Key 'b': the model must compute the step. Received: ZeroDivisionError")
    assert any(record.exc_info and "ZeroDivisionError" in record.exc_text for record in caplog.records)
    with hosted.client() as client:
        assert client.get("/sessions/b/state").json() == {"state": {"sum": [1.0]}}
        with connect(f"ws://{hosted.address}/sessions/b/ws") as socket:
            socket.send(json.dumps({"x": [13.0]}))
            assert json.loads(socket.recv(10))["status"] == 500
            socket.send(json.dumps({"x": [2.0]}))
            assert json.loads(socket.recv(10)) == {"y": [3.0]}
    hosted.stop()
