"""Loads a server for some minutes, over loopback alone, and reports the memory of its process.

    python tests/support/soaking.py --seconds 180

`rnnstate serve` steps a file whose state is the running sum of its input, with room for 1,000 sessions in memory. The
callers use 15,000 keys, so sessions are evicted all the time. They push over REST and over WebSockets that come and go, end
sessions, keep checkpoints, send requests that are refused, and read the page and the metrics. Each answer must be the sum
before it and the input, or the input alone if the session was evicted.
"""

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from websockets.sync.client import connect

from servers import free_port
from sums_file import write_sums

SESSIONS, KEYS, CALLERS = 1000, 5000, 3
REFUSED = (
    ("POST", "/sessions/k0/push", '{"x": [1, 2, 3]}'),
    ("POST", "/sessions/k0/push", "{"),
    ("GET", "/nowhere", None),
    ("POST", "/v2/models/sums/infer", '{"inputs": []}'),
)


class Caller(threading.Thread):
    """Uses the sessions that no other caller uses, until it is stopped.

    Args:
        port: Where the server listens.
        number: Which caller it is.
        stopped: Says when to stop.
    """

    def __init__(self, port, number, stopped):
        super().__init__()
        self.calls, self.error = 0, None
        self._port, self._number, self._stopped = port, number, stopped
        self._rng, self._sums = random.Random(number), {}

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            while not self._stopped.is_set():
                how = self._rng.choices((self.push, self.refused, self.look, self.talk), (90, 5, 1, 4))[0]
                how(connection)
        except Exception as error:  # the main thread raises it
            self.error = error

    def ask(self, connection, method, path, body=None):
        """Return the status and the body of an answer."""
        connection.request(method, path, body)
        answer = connection.getresponse()
        self.calls += 1
        return answer.status, answer.read()

    def chosen(self):
        """Return a key of this caller, and a value."""
        return f"k{self._rng.randrange(KEYS) * CALLERS + self._number}", float(self._rng.randrange(-9, 10))

    def note(self, key, value, y):
        """Check an answer, and keep its sum."""
        assert y in (self._sums.get(key, 0.0) + value, value), (key, value, y, self._sums.get(key))
        self._sums[key] = y

    def push(self, connection):
        key, value = self.chosen()
        end = self._rng.random() < 0.1
        status, body = self.ask(connection, "POST", f"/sessions/{key}/push", json.dumps({"x": [value], "end": end}))
        assert status == 200, body
        self.note(key, value, json.loads(body)["y"][0])
        if end:
            del self._sums[key]
        elif self._rng.random() < 0.1:
            status, body = self.ask(connection, "PUT", f"/sessions/{key}/checkpoints/c{self._rng.randrange(3)}")
            assert status == 204, body

    def refused(self, connection):
        status, body = self.ask(connection, *self._rng.choice(REFUSED))
        assert 400 <= status < 500, body

    def look(self, connection):
        key, _ = self.chosen()
        for path in ("/", f"/?session={key}", "/metrics", "/sessions?limit=10"):
            assert self.ask(connection, "GET", path)[0] == 200

    def talk(self, connection):
        key, _ = self.chosen()
        with connect(f"ws://127.0.0.1:{self._port}/sessions/{key}/ws", compression=None, proxy=None) as socket:
            for value in (1.0, 2.0, 3.0):
                socket.send(json.dumps({"x": [value]}))
                self.note(key, value, json.loads(socket.recv(30))["y"][0])
                self.calls += 1


def memory(process):
    """Return the resident memory of a process in MB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def started(folder):
    """Start a server, and return its process and its port once it answers."""
    path, port = write_sums(folder / "sums.onnx"), free_port()
    row = 200 + 4 + 4  # the key and the counters, the state, the last output
    options = ["--capacity", str(SESSIONS * row), "--port", str(port), "--quiet", "--max-delay", "0"]
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "rnnstate", "serve", str(path), *options]
        process = subprocess.Popen(command, stderr=log)
    for _ in range(600):
        try:
            http.client.HTTPConnection("127.0.0.1", port).request("GET", "/v2/health/ready")
            return process, port
        except OSError:
            time.sleep(0.1)
    raise AssertionError((folder / "log").read_text())


def soak(seconds, folder):
    """Return the number of calls, and the memory after a tenth of the time, after a half, and at the end."""
    process, port = started(folder)
    stopped = threading.Event()
    callers = [Caller(port, number, stopped) for number in range(CALLERS)]
    found = []
    try:
        for caller in callers:
            caller.start()
        for part in (0.1, 0.4, 0.5):
            stopped.wait(seconds * part)
            found.append(memory(process))
    finally:
        stopped.set()
        for caller in callers:
            caller.join()
        process.terminate()
        status = process.wait(30)
    for caller in callers:
        if caller.error:
            raise caller.error
    assert status == 0, (folder / "log").read_text()
    return sum(caller.calls for caller in callers), found


def main():
    """Load a server, and print its memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calls, found = soak(given.seconds, Path(folder))
    start, middle, end = (f"{one:.1f}" for one in found)
    print(
        f"{calls:,} calls in {given.seconds:g} s; memory {start} MB at the start, {middle} in the middle, {end} at the end"
    )


if __name__ == "__main__":
    main()
