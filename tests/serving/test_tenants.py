"""Two tokens share a server, and neither reads nor guesses a session of the other."""

import base64

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import rnnstate as rs
from hosting import ALICE, BOB, Hosted
from rnnstate.serving.limits import Limits, Rates
from rnnstate.serving.refusals import RefusedError
from rnnstate.serving.tokens import Tenant, Tokens

pytestmark = pytest.mark.once


def test_no_token_no_answer(shared):
    """Without a valid token everything but the health of the server is refused, WebSockets too."""
    for token in (None, "wrong-0123456789", ALICE[:-1], ALICE + "x"):
        with shared.client(token) as client:
            for path in ("/", "/v2", "/sessions", "/metrics", "/docs", "/nothing"):
                refused = client.get(path)
                assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
            assert client.post("/sessions/a/push", json={"x": [1.0]}).headers["www-authenticate"] == "Bearer"
            assert client.get("/v2/health/live").status_code == 200
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://{shared.address}/sessions/a/ws")
    with pytest.raises(InvalidStatus, match="403"):  # a password would be sent by a browser without being asked
        connect(f"ws://{shared.address}/sessions/a/ws", additional_headers=basic(ALICE))


def basic(token):
    """Return the header that a browser sends with a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"me:{token}".encode()).decode()}


def test_a_browser_may_read_with_a_password(shared):
    """The token is the password of a browser, for reading alone."""
    with shared.client() as client:
        assert client.get("/sessions", headers=basic(ALICE)).status_code == 200
        assert client.put("/sessions/b", headers=basic(ALICE)).status_code == 401


def answers(client, key):
    """Return the answers to every call for a session, with the key left out."""
    calls = [
        ("GET", "", None), ("GET", "/state", None), ("GET", "/checkpoints", None), ("POST", "/reset", {}),
        ("POST", "/fork", {"to": "new"}), ("PUT", "/checkpoints/c", None), ("POST", "/rewind", {"checkpoint": "c"}),
        ("POST", "/push", {"x": [1.0], "create": False}), ("DELETE", "", None),
    ]  # fmt: skip
    found = [client.request(method, f"/sessions/{key}{path}", json=given) for method, path, given in calls]
    return [(one.status_code, one.text.replace(key, "KEY")) for one in found]


def test_foreign_and_unknown_keys_look_the_same(shared):
    """The answers to every call are equal, byte for byte, and the foreign session is as it was."""
    with shared.client(ALICE) as alice, shared.client(BOB) as bob:
        assert alice.post("/sessions/secret/push", json={"x": [3.0]}).json() == {"y": [3.0]}
        foreign = answers(bob, "secret")
        assert foreign == answers(bob, "nobody")
        assert {status for status, _ in foreign} == {404}
        prefix = Tenant.of("alice").prefix[:-1]
        assert f"{prefix}/secret" in shared.streamer
        assert prefix not in str(foreign)
        assert bob.get(f"/sessions/{prefix}%2Fsecret").status_code == 404
        assert bob.get("/sessions").json() == {"sessions": [], "count": 0}
        assert bob.post("/sessions/secret/push", json={"x": [5.0]}).json() == {"y": [5.0]}  # a session of Bob's
        assert alice.get("/sessions/secret/state").json() == {"state": {"sum": [3.0]}}
        with connect(
            f"ws://{shared.address}/sessions/secret/ws", additional_headers={"Authorization": f"Bearer {BOB}"}
        ) as socket:
            socket.send('{"x": [1.0]}')
            assert socket.recv(10) == '{"y": [6.0]}'


def test_lines_of_tokens_are_checked():
    """A short token, a name twice and a line with three words are refused, and no message shows a token."""
    for lines in (["a short"], [f"a {ALICE}", f"a {BOB}"], [f"a {ALICE}", f"b {ALICE}"], [f"a {ALICE} more"]):
        with pytest.raises(rs.errors.DataError, match="Each token must") as caught:
            Tokens.read(lines)
        assert ALICE not in str(caught.value)
    assert ALICE not in repr(Tokens.read([f"a {ALICE}"]))


def test_limits():
    """Rate, number of sessions, steps and bytes are limited, and a call that is refused changes nothing."""
    rates = Rates(2.0)
    rates.take("a")
    rates.take("a")
    with pytest.raises(RefusedError, match="2 calls per second"):
        rates.take("a")
    rates.take("b")
    hosted = Hosted(limits=Limits(body=2000, length=3, sessions=2))
    try:
        with hosted.client() as client:
            assert client.post("/sessions/a/push", json={"x": [[1.0]] * 3}).status_code == 200
            assert client.post("/sessions/a/push", json={"x": [[1.0]] * 4}).status_code == 413
            assert client.post("/sessions/a/push", json={"x": [1.0] * 999}).status_code == 413
            assert [client.put(f"/sessions/{key}").status_code for key in "bcb"] == [201, 429, 204]
            assert client.post("/sessions/b/fork", json={"to": "d"}).status_code == 429
            assert sorted(hosted.streamer.keys()) == ["a", "b"]
            assert client.get("/sessions/a").json()["steps"] == 3
    finally:
        hosted.stop()
