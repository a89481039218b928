"""What was accepted is finished: at a stop, after a time-out, after a client has gone, and with a full queue."""

import concurrent.futures
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from adding import Adding
from hosting import Hosted
from rnnstate import stores
from rnnstate.serving.limits import Limits
from servers import free_port
from sums_file import write_sums

pytestmark = pytest.mark.once


class Held(Adding):
    """A model whose steps wait until they are let go."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.pause = self.wait

    def wait(self):
        self.begun.set()
        assert self.go.wait(10)


def push(client, key, x, **more):
    """Return the answer to a push."""
    return client.post(f"/sessions/{key}/push", json={"x": x, **more})


def test_a_stop_finishes_and_keeps_what_was_accepted(tmp_path):
    """A push that runs when the server is told to stop is answered, and the folder has it."""
    hosted = Hosted(Held(), stores.LmdbStore(tmp_path / "sessions", capacity=2**24))
    with hosted.client() as client, concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(push, client, "a", [2.0], number=0)
        assert hosted.engine.begun.wait(10)
        stopping = pool.submit(hosted.stop)
        time.sleep(0.2)
        hosted.engine.go.set()
        assert answer.result(10).json() == {"y": [2.0]}
        stopping.result(20)
        with pytest.raises(httpx.ConnectError, match="refused"):
            push(client, "a", [1.0])
    later = Hosted(store=stores.LmdbStore(tmp_path / "sessions", capacity=2**24))
    with later.client() as client:
        assert push(client, "a", [9.0], number=0).json() == {"y": [2.0]}  # answered from the record
        assert push(client, "a", [1.0], number=1).json() == {"y": [3.0]}
    later.stop()


def test_a_time_out_drops_no_work():
    """A caller that waited too long is told so, its push counts once, and later pushes keep their order."""
    hosted = Hosted(Held(), limits=Limits(timeout=0.2, queue=2))
    with hosted.client() as client, concurrent.futures.ThreadPoolExecutor() as pool:
        first = push(client, "a", [2.0], number=0)
        assert (first.status_code, first.headers["retry-after"]) == (504, "1")
        assert "is carried out" in first.json()["error"]
        waiting = pool.submit(push, client, "b", [1.0])
        time.sleep(0.1)
        full = push(client, "c", [1.0])
        assert (full.status_code, "2 calls wait" in full.json()["error"]) == (503, True)
        assert waiting.result(10).status_code == 504
        hosted.engine.go.set()
        for _ in range(50):
            again = push(client, "a", [99.0], number=0)
            if again.status_code == 200:
                break
            time.sleep(0.05)
        assert again.json() == {"y": [2.0]}
        assert push(client, "b", [1.0]).json() == {"y": [2.0]}
        assert client.get("/sessions/c").status_code == 404  # what was refused has changed nothing
    hosted.stop()


def test_a_client_that_goes_has_pushed_all_the_same():
    """A connection that is cut after its request was sent, in the middle of the step, loses nothing and blocks nothing."""
    hosted = Hosted(Held())
    host, port = hosted.address.split(":")
    body = b'{"x": [2.0]}'
    with socket.create_connection((host, int(port))) as raw:
        head = f"POST /sessions/a/push HTTP/1.1\r\nHost: {hosted.address}\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        assert hosted.engine.begun.wait(10)
    with socket.create_connection((host, int(port))) as raw:  # one that goes before its body is whole
        raw.sendall(b"POST /sessions/b/push HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{")
    hosted.engine.go.set()
    with hosted.client() as client:
        assert push(client, "a", [1.0]).json() == {"y": [3.0]}
        assert push(client, "b", [1.0]).json() == {"y": [1.0]}
        assert 'status="500"' not in client.get("/metrics").text
    hosted.stop()


def test_the_command_serves_a_file_and_stops_on_a_signal(tmp_path):
    """`rnnstate serve` steps an ONNX file without Keras, keeps its sessions in a folder, and ends with status 0."""
    path, port = write_sums(tmp_path / "sums.onnx"), free_port()
    command = [sys.executable, "-m", "rnnstate", "serve", path, "--store", tmp_path / "kept", "--port", str(port)]
    process = subprocess.Popen([*command, "--max-batch", "2"], stderr=subprocess.PIPE, text=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        for _ in range(200):
            try:
                assert client.get("/v2/health/ready").status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.05)
        assert push(client, "a", [[1.0], [2.0]]).json() == {"y": [[1.0], [3.0]]}
        process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 0, errors
    assert '"event": "stopped"' in errors.splitlines()[-1]
    done = subprocess.run(
        [sys.executable, "-m", "rnnstate", "sessions", "ls", tmp_path / "kept"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:]] == [["a", "2"]]
