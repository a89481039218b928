"""`rnnstate serve` before it listens, and `rnnstate sessions` on a folder."""

import builtins
import json
import logging
import socket
import sys

import numpy as np
import pytest

import rnnstate as rs
from adding import Adding
from rnnstate import stores
from rnnstate.cli.app import main
from rnnstate.serving.tokens import Tenant
from sums_file import write_sums

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def _log_as_before():
    """Put the handlers of the loggers back, which `rnnstate serve` sets."""
    loggers = [logging.getLogger(name) for name in ("rnnstate.serving", "uvicorn.error")]
    kept = [(list(one.handlers), one.propagate, one.level) for one in loggers]
    yield
    for one, (handlers, propagate, level) in zip(loggers, kept, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture
def folder(tmp_path):
    """A folder with three sessions: one with a checkpoint, one of the token `alice`, and one whose key is a number."""
    path = str(tmp_path / "sessions")
    streamer = rs.Streamer(Adding(), stores.LmdbStore(path, capacity=2**24))
    streamer.push({"north": [2.0], 7: [1.0], Tenant.of("alice").text("north"): [5.0]}, numbers={"north": 3})
    streamer.checkpoint("north", "before")
    streamer.store.close()
    return path


def run(capsys, *arguments, status=0):
    """Return what `rnnstate sessions` writes to standard output, as JSON where it is asked for."""
    assert main(["sessions", *arguments]) == status, capsys.readouterr().err
    written = capsys.readouterr()
    if status:
        assert (written.out, written.err.count("\n")) == ("", 1)
        return written.err
    return json.loads(written.out) if "--json" in arguments else written.out


def test_ls_and_show(folder, capsys):
    """`ls` lists sessions with their counters. With `--token` it lists the sessions of this token alone."""
    listed = run(capsys, "ls", folder, "--json")["sessions"]
    assert [(one["key"][-5:], one["steps"], one["number"]) for one in listed] == [
        ("7", 1, None), ("north", 1, None), ("north", 1, 3)
    ]  # fmt: skip
    assert [one["key"] for one in run(capsys, "ls", folder, "--token", "alice", "--json")["sessions"]] == ["north"]
    assert "before" in run(capsys, "ls", folder).splitlines()[-1]
    shown = run(capsys, "show", folder, "north", "--json")
    assert (shown["checkpoints"], shown["leaves"][0]["max"]) == (["before"], 2.0)
    assert run(capsys, "show", folder, "north", "--token", "alice", "--json")["leaves"][0]["max"] == 5.0
    assert "number: 3\n" in run(capsys, "show", folder, "north")
    assert run(capsys, "show", folder, "7").startswith("key: 7\nsteps: 1\n")
    assert "no such session" in run(capsys, "show", folder, "south", status=2)


def test_change_and_move(folder, tmp_path, capsys):
    """Fork, export, drop and import do so, and an error leaves the store as it was."""
    run(capsys, "fork", folder, "north", "south")
    assert "without a session" in run(capsys, "fork", folder, "north", "south", status=2)
    file, other = str(tmp_path / "some.safetensors"), str(tmp_path / "other")
    assert run(capsys, "export", folder, file, "north", "7", "--json") == {"records": 3}
    assert "--force" in run(capsys, "export", folder, file, status=2)
    assert "no such session" in run(capsys, "drop", folder, "north", "nobody", status=2)
    assert run(capsys, "drop", folder, "north", "7", "--json") == {"records": 3}
    assert [one["key"][-5:] for one in run(capsys, "ls", folder, "--json")["sessions"]] == ["north", "south"]
    assert run(capsys, "import", other, file, "--json") == {"records": 3}
    streamer = rs.Streamer(Adding(), stores.LmdbStore(other))
    assert sorted(streamer.keys(), key=str) == [7, "north"]
    assert streamer.push({"north": [1.0]}, numbers={"north": 4})["north"].tolist() == [3.0]
    streamer.store.close()


def test_wrong_usage(folder, tmp_path, capsys):
    """A store that is none, and names that are missing, are one line."""
    assert "Usage: rnnstate sessions fork" in run(capsys, "fork", folder, "a", status=2)
    for store in ("memory", str(tmp_path / "nowhere")):
        assert "must be a folder with sessions" in run(capsys, "ls", store, status=2)
    (tmp_path / "short.safetensors").write_bytes(b"no state")
    missing = run(capsys, "import", str(tmp_path / "nowhere"), str(tmp_path / "short.safetensors"), status=2)
    assert "must be complete" in missing
    assert not (tmp_path / "nowhere").exists()


def test_expire_ends_idle_sessions_and_names_them(tmp_path, capsys):
    """`expire` goes by the clock of the store; times that are no dates are shown as seconds."""
    path = str(tmp_path / "events")
    store = stores.LmdbStore(path, clock="event")
    one = rs.Streamer(Adding(), store)
    one.push({"old": [1.0], 7: [1.0], "new": [1.0]}, times={"old": 5.0, 7: 6.0, "new": 2e17})
    store.close()
    assert "2e+17 s" in run(capsys, "ls", path)
    assert "1970-01-01T00:00:05+00:00" in run(capsys, "ls", path)
    for wrong in (("expire", path), ("ls", path, "--idle", "3"), ("ls", path, "--clock", "wall")):
        assert "Give the options of this action alone" in run(capsys, *wrong, status=2)
    assert "must be positive" in run(capsys, "expire", path, "--idle", "0", status=2)
    ended = run(capsys, "expire", path, "--idle", "100", "--json")
    assert ended == {
        "clock": "event",
        "ended": [{"key": 7, "checkpoint": None}, {"key": "old", "checkpoint": None}],
    }
    assert "old" not in run(capsys, "ls", path)
    file, new = str(tmp_path / "some.safetensors"), str(tmp_path / "new")
    run(capsys, "export", path, file)
    assert "must name the clock of FILE, which is event" in run(
        capsys, "import", new, file, "--clock", "wall", status=2
    )
    assert not (tmp_path / "new").exists()
    run(capsys, "import", new, file)
    assert run(capsys, "expire", new, "--idle", "100", "--json") == {"clock": "event", "ended": []}


def serve_error(capsys, *arguments):
    """Return the one line with which `rnnstate serve` refuses."""
    assert main(["serve", *map(str, arguments)]) == 2
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1), written.err
    return written.err


def test_serve_checks_before_it_listens(folder, tmp_path, capsys, monkeypatch):
    """An open address without tokens, a used port, a store of another model, a missing file: one line, status 2."""
    monkeypatch.delenv("RNNSTATE_TOKENS", raising=False)
    path = write_sums(tmp_path / "sums.onnx")
    assert "must have tokens" in serve_error(capsys, path, "--host", "0.0.0.0", "--check")
    with socket.create_server(("127.0.0.1", 0)) as used:
        assert "must be free" in serve_error(capsys, path, "--port", used.getsockname()[1])
    assert "The store belongs to model" in serve_error(capsys, path, "--store", folder, "--check", "--max-batch", 1)
    assert "power of two" in serve_error(capsys, path, "--check", "--max-batch", 3)
    assert "a limit of `--store memory`" in serve_error(capsys, path, "--check", "--store", folder, "--capacity", 3)
    assert 'are of `clock="wall"`' in serve_error(
        capsys, path, "--check", "--store", folder, "--idle", 3, "--clock", "event"
    )
    assert "which does not exist" in serve_error(capsys, tmp_path / "none.onnx", "--check")
    (tmp_path / "tokens").write_text("alice short\n")
    assert "Each token must be a line" in serve_error(capsys, path, "--tokens", tmp_path / "tokens", "--check")
    monkeypatch.setenv("RNNSTATE_TOKENS", "alice 0123456789abcdef")
    assert main(["serve", str(path), "--host", "0.0.0.0", "--check", "--max-batch", "2", "--max-steps", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sums on rnnstate_onnx, store memory, 2 shapes compiled",
        "input: x FP32 [-1, 1]",
        "output: y FP32 [-1, 1]",
    ]


def test_a_missing_extra_is_one_line(tmp_path, capsys, monkeypatch):
    """Without FastAPI the command says what to install."""
    real = builtins.__import__

    def without(name, *more, **others):
        if name.partition(".")[0] in ("uvicorn", "fastapi"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *more, **others)

    for name in [name for name in sys.modules if name.startswith("rnnstate.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    assert 'Run `pip install "rnnstate[serve]"`.' in serve_error(capsys, tmp_path / "sums.onnx", "--check")


def test_redis_is_shared(redis_server, capsys):
    """Two servers share one Redis store: each goes on where the other one stopped."""
    from hosting import Hosted

    both = [Hosted(store=stores.RedisStore(redis_server.url, prefix="served:")) for _ in range(2)]
    clients = [one.client() for one in both]
    for step in range(6):
        y = clients[step % 2].post("/sessions/a/push", json={"x": [1.0], "number": step}).json()["y"]
        assert y == np.array([step + 1.0]).tolist()
    [client.close() for client in clients]
    [one.stop() for one in both]
