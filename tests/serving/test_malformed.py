"""Malformed requests: each one is a 4xx with a text, changes no session, and never reaches a traceback.

`RNNSTATE_MALFORMED=10000` tries more of them than the 300 of a usual run.
"""

import gzip
import json
import os
import random

import pytest
from websockets.sync.client import connect

pytestmark = pytest.mark.once

JUNK = [None, True, -1, 2**70, 1.5, "", "text", [], {}, [[]], {"x": 1}, "\ud800", "\x00", float("nan")]
WRONG_X = [None, "text", [], [[]], [1.0, 2.0], [[1.0], [1.0, 2.0]], [["a"]], {}, {"y": [1.0]}, float("nan"), [float("inf")],
           [10**400], [None], True, 3.0, [[[[1.0]]]], [{}], "\ud800"]  # fmt: skip
INFER = "/v2/models/sums/infer"


def valid(**parameters):
    """Return a valid inference request for the session `kept`."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1.0, 2.0]}
    return {"inputs": [tensor], "parameters": {"sequence_id": "kept", "sequence_number": 4, **parameters}}


def wrong_body(rng):
    """Return bytes that are no whole request."""
    whole = json.dumps(valid()).encode()
    return rng.choice([
        rng.randbytes(rng.randrange(1, 60)), whole[: rng.randrange(len(whole))], b"[" * rng.randrange(2, 9000), b"null",
        whole + b"}", b"\xff" + whole, b"9" * rng.randrange(1, 6000), b"{" + b'"a":' * 3000,
    ])  # fmt: skip


def wrong_field(rng):
    """Return a valid inference request with one wrong field."""
    given = valid()
    tensor, parameters = given["inputs"][0], given["parameters"]
    where, name, values = rng.choice([
        (given, "inputs", [None, 1, "x", {}, [], [1], [None], [tensor, tensor], [dict(tensor, name="z")]]),
        (given, "outputs", [1, "y", {}, [1], [{"name": "z"}], [{"name": "y", "parameters": {"classification": 3}}]]),
        (given, "id", [1, [], {}]),
        (given, "parameters", [1, "x", [], {}]),
        (given, rng.choice(["input", "sequence_id", ""]), [1, {}, "x"]),
        (tensor, "name", [None, 1, "", "X", []]),
        (tensor, "datatype", [None, 1, "", "BYTES", "fp32", []]),
        (tensor, "shape", [None, 1, [], [2], [3, 1], [2, 2], [-1, 1], [2.0, 1], [True, 1], ["2", 1], [2**62, 4],
                           [1, 2, 1, 1], [2, 1, 1], [0, 1], [1] * 40]),
        (tensor, "data", [None, 1.0, [1.0], [1.0] * 3, ["a", "b"], [float("nan"), 1.0], [[1.0], [2.0, 3.0]], [None, None],
                          [10**400, 1], {}, [{}, {}], "ab", [1e999, 1.0]]),
        (tensor, "parameters", [1, [], {"binary_data_size": 16}, {"binary_data_size": -1}, {"binary_data_size": "x"}]),
        (parameters, "sequence_id", [None, 0, "", True, [], {}, 1.5, "a/b", "\x00", "x" * 300, "ghost", 2**70]),
        (parameters, "sequence_start", [1, "x", []]),
        (parameters, "sequence_end", [1, "x", []]),
        (parameters, "sequence_number", ["x", 1.5, [], -1, 2, 5, 2**63, 2**70, True, None]),
    ])  # fmt: skip
    where[name] = rng.choice(values)
    return json.dumps(given).encode()


def wrong_inference(rng):
    """Return an inference request that is wrong in its body, its headers or its address."""
    whole = json.dumps(valid()).encode()
    headers = rng.choice([
        {"Inference-Header-Content-Length": rng.choice(["x", "-1", f"{len(whole) + 1}", "9" * 30, "1.5", "40"])},
        {"Content-Encoding": rng.choice(["gzip", "deflate", "br", "x"])},
        {},
    ])  # fmt: skip
    if headers:
        return "POST", INFER, headers, whole
    if rng.random() < 0.1:
        return "POST", INFER, {"Content-Encoding": "gzip"}, gzip.compress(whole)[: rng.randrange(1, 40)]
    return "POST", INFER, {}, rng.choice([wrong_body, wrong_field])(rng)


def wrong_push(rng):
    """Return the fields of a push that cannot be made."""
    message = {"x": [1.0], "number": 4}
    name = rng.choice(["x", "number", "observed", "create", "restart", "end", "other"])
    values = {
        "x": WRONG_X,
        "number": [-1, 2, 5, 2**70, "x", 1.5, [], True, None],
        "observed": [[1.0], "x", {}],
        "other": JUNK,
    }
    message[name] = rng.choice(values.get(name, [1, "x", [], {}]))
    return message


def wrong_call(rng):
    """Return a call of a session that is unknown, or that misses what it needs."""
    key = rng.choice(["ghost", "%00", "%7f", "x" * 300, "%2e%2e", "a%2Fb", "%ff%fe"])
    text = rng.choice([wrong_body(rng), json.dumps(rng.choice(JUNK[1:])).encode()])
    text = text if text.strip() not in (b"{}", b"") else b"[]"
    state = rng.choice([None, 1, "x", [], {"x": 1}, *({"sum": x} for x in WRONG_X if x != 3.0)])
    return rng.choice([
        *(("GET", f"/sessions/{key}{path}", {}, b"") for path in ("", "/state", "/checkpoints")),
        ("DELETE", f"/sessions/{key}", {}, b""),
        ("POST", f"/sessions/{key}/reset", {}, b""),
        ("POST", "/sessions/kept/reset", {}, json.dumps({"observed": [1.0]}).encode()),
        ("POST", "/sessions/kept/fork", {}, json.dumps({"to": rng.choice([None, "", "kept", "a/b", [], True])}).encode()),
        ("POST", f"/sessions/{key}/fork", {}, b'{"to": "fresh"}'),
        ("PUT", f"/sessions/kept/checkpoints/{rng.choice(['%00', 'x' * 300, 'a%2Fb', ''])}", {}, b""),
        ("POST", "/sessions/kept/rewind", {}, json.dumps({"checkpoint": rng.choice([*JUNK[:6], "other"])}).encode()),
        ("PUT", "/sessions/kept/state", {}, rng.choice([json.dumps({"state": state}).encode(), text])),
        ("POST", "/sessions/kept/push", {}, json.dumps(wrong_push(rng)).encode()),
        ("POST", "/sessions/kept/push", {}, text),
        ("GET", f"/sessions?limit={rng.choice(['0', '-1', 'x', '1001', '%00', '9' * 99])}", {}, b""),
        (rng.choice(["PUT", "PATCH", "DELETE", "POST"]), rng.choice(["/v2", "/sessions", "/metrics"]), {}, b""),
        ("GET", rng.choice(["/v2/models", "/v2/models/x/config", "/x", "/sessions/a/b/c", "/%00"]), {}, b""),
    ])  # fmt: skip


def dump(server):
    """Return every session with its counters, its state and its checkpoints."""
    one = server.streamer
    return {
        key: (one.count(key), one.number(key), one.peek(key)["sum"].tolist(), one.checkpoints(key))
        for key in list(one.keys())
    }


def test_malformed_requests_change_nothing(server, http):
    """Every malformed request and message is a 4xx with a text, and each session stays as it was."""
    http.post("/sessions/kept/push", json={"x": [5.0], "number": 3, "restart": True})
    before, rng = dump(server), random.Random(14)
    assert before["kept"] == (1, 3, [[5.0]], ())
    with connect(f"ws://{server.address}/sessions/kept/ws") as socket:
        for at in range(int(os.environ.get("RNNSTATE_MALFORMED", "300"))):
            if at % 5 == 4:
                sent = rng.choice([wrong_body(rng), json.dumps(wrong_push(rng)), json.dumps({"do": rng.choice(JUNK)})])
                socket.send(sent)
                answer = json.loads(socket.recv(10))
                status, text = answer["status"], answer["error"]
            else:
                method, path, headers, body = sent = rng.choice([wrong_inference, wrong_call])(rng)
                answer = http.request(method, path, headers=headers, content=body)
                status, text = answer.status_code, answer.json()["error"] if answer.status_code >= 400 else answer.text
            assert 400 <= status < 500, (sent, status, text)
            assert len(text) > 10, (sent, text)
            assert "Traceback" not in text
            if at % 100 == 0:
                assert dump(server) == before, sent
    assert dump(server) == before
    assert 'status="500"' not in http.get("/metrics").text
    # The control: the valid request that the others were made of does advance the session.
    assert http.post(INFER, json=valid()).status_code == 200
    assert dump(server)["kept"] == (3, 4, [[8.0]], ())
