"""Sessions over HTTP and WebSocket, with an exact oracle: the state is the running sum of the input."""

import json

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from hosting import Hosted
from rnnstate.cli.stores import open_store

pytestmark = pytest.mark.once


def push(http, key, x, **more):
    """Return the output of a push that must be fine."""
    answer = http.post(f"/sessions/{key}/push", json={"x": x, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["y"]


def talk(socket, **message):
    """Return the answer to one message of a WebSocket."""
    socket.send(json.dumps(message))
    return json.loads(socket.recv(10))


def test_the_life_of_a_session(http):
    """Begin, push, look, write, checkpoint, rewind, fork, reset and end do what the streamer does."""
    assert [http.put("/sessions/one").status_code for _ in range(2)] == [201, 204]
    assert push(http, "one", [[1.0], [2.0]]) == [[1.0], [3.0]]
    assert push(http, "one", [4.0]) == [7.0]
    about = http.get("/sessions/one").json()
    assert (about["key"], about["steps"], about["number"], about["checkpoints"]) == ("one", 3, None, [])
    assert http.put("/sessions/one/checkpoints/before").status_code == 204
    assert http.put("/sessions/one/state", json={"state": {"sum": [100]}}).status_code == 204
    assert push(http, "one", [1.0]) == [101.0]
    assert http.get("/sessions/one/state").json() == {"state": {"sum": [101.0]}}
    assert http.post("/sessions/one/fork", json={"to": "two"}).status_code == 201
    assert http.post("/sessions/one/rewind", json={"checkpoint": "before"}).status_code == 204
    assert (push(http, "one", [1.0]), push(http, "two", [1.0])) == ([8.0], [102.0])
    assert http.get("/sessions/one/checkpoints").json() == {"checkpoints": ["before"]}
    assert http.post("/sessions/one/reset").status_code == 204
    assert push(http, "one", [2.0], end=True) == [2.0]
    assert http.delete("/sessions/two").status_code == 204
    assert [http.get(f"/sessions/{key}").status_code for key in ("one", "two")] == [404, 404]


def test_keys_come_in_pages(http):
    """The list of keys is sorted, and goes on after a key."""
    for key in ("pc", "pa", "pb"):
        http.put(f"/sessions/{key}")
    assert http.get("/sessions?after=p&limit=2").json()["sessions"] == ["pa", "pb"]
    assert http.get("/sessions?after=pb&limit=1").json()["sessions"] == ["pc"]


def test_a_websocket(server, http):
    """Each message is a push or another change. An error ends neither the connection nor the session."""
    with connect(f"ws://{server.address}/sessions/live/ws") as socket:
        assert talk(socket, x=[1.0], id=7) == {"y": [1.0], "id": 7}
        assert talk(socket, x=[[1.0], [1.0]]) == {"y": [[2.0], [3.0]]}
        refused = talk(socket, x=[1.0, 2.0], id="a")
        assert (refused["status"], refused["id"]) == (400, "a")
        assert "\nrnnstate_sockets 1.0\n" in http.get("/metrics").text
        assert refused["error"].startswith("Key 'live': input `x` must have shape (features=1,)")
        assert talk(socket, do="checkpoint", name="c") == {"done": "checkpoint"}
        assert talk(socket, x=[5.0]) == {"y": [8.0]}
        assert talk(socket, do="rewind", name="c") == {"done": "rewind"}
        assert talk(socket, x=[5.0]) == {"y": [8.0]}
        assert talk(socket, do="reset") == {"done": "reset"}
        assert talk(socket, x=[5.0], number=0) == talk(socket, x=[5.0], number=0) == {"y": [5.0]}
    assert push(http, "live", [1.0], number=1) == [6.0]  # the session outlives the connection
    with connect(f"ws://{server.address}/sessions/live/ws") as socket:
        assert talk(socket, do="end") == {"done": "end"}
    assert http.get("/sessions/live").status_code == 404


def test_a_web_page_of_another_address_is_refused(server, http):
    """A browser names the page that calls. Another page than the server's, or another name of the server, gets nothing."""
    assert http.get("/sessions", headers={"Origin": "http://evil.example"}).status_code == 403
    assert http.get("/sessions", headers={"Host": "evil.example"}).status_code == 403
    assert http.get("/sessions", headers={"Origin": server.url}).status_code == 200
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://{server.address}/sessions/live/ws", origin="http://evil.example")


def test_event_times_end_sessions(tmp_path):
    """`time` and `event_time` are the event time of a push. The end of a session is a line of the log and a count."""
    hosted = Hosted(store=lambda on_evict: open_store(str(tmp_path / "events"), None, 100.0, on_evict, "event"))
    try:
        with hosted.client() as http:
            push(http, "old", [1.0], time=5)
            push(http, "late", [1.0], time=50.5)
            tensor = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}
            about = {"sequence_id": "new", "sequence_start": True, "event_time": 112.0}
            asked = {"inputs": [tensor], "parameters": about}
            assert http.post("/v2/models/sums/infer", json=asked).status_code == 200
            assert http.get("/sessions").json()["sessions"] == ["late", "new"]
            assert http.get("/sessions/late").json()["age"] == 61.5
            assert 'rnnstate_evictions_total{reason="event time"} 1.0' in http.get("/metrics").text
            for wrong in ("5", 10**400, True):
                answer = http.post("/sessions/late/push", json={"x": [1.0], "time": wrong})
                assert (answer.status_code, "time" in answer.text) == (400, True)
            assert http.get("/sessions/late").json()["steps"] == 1
    finally:
        hosted.stop()


def test_event_times_need_their_clock(http):
    """A server whose store goes by the clock of the machine refuses an event time, and changes nothing."""
    push(http, "timed", [1.0])
    answer = http.post("/sessions/timed/push", json={"x": [1.0], "time": 5.0})
    assert (answer.status_code, "Leave `times` out" in answer.text) == (400, True)
    assert http.get("/sessions/timed").json()["steps"] == 1


def test_metrics_and_routes(http):
    """Prometheus finds latency, batches, sessions, evictions, errors and bytes; the routes are listed without assets."""
    http.put("/sessions/counted")
    push(http, "counted", [1.0])
    http.get("/sessions/nobody")
    text = http.get("/metrics").text
    for line in (
        'rnnstate_request_seconds_count{route="/sessions/{key}/push"}',
        'rnnstate_requests_total{route="/sessions/{key}",status="404"}',
        'rnnstate_errors_total{status="404"}',
        'rnnstate_bytes_total{direction="in"}',
        "rnnstate_step_rows_count",
        "rnnstate_records",
    ):
        assert f"\n{line} " in text
    page = http.get("/docs").text
    assert "POST /v2/models/{name}/infer" in page
    assert "http://" not in page
    assert "/sessions/{key}/state" in http.get("/openapi.json").json()["paths"]
