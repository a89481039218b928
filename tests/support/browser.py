"""Headless Chromium with one page and without a network, driven through its DevTools protocol."""

import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager

from websockets.sync.client import connect


class Page:
    """An open page.

    Args:
        socket: The connection to it.
    """

    def __init__(self, socket):
        self._socket, self._numbers = socket, itertools.count()

    def run(self, program):
        """Return the value of a JavaScript expression. A promise is awaited, and an exception is an error."""
        given = {"expression": program, "awaitPromise": True, "returnByValue": True}
        done = self._call("Runtime.evaluate", given)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, program):
        """Return the value of an expression, once it is true."""
        for _ in range(500):
            if value := self.run(program):
                return value
            time.sleep(0.02)
        raise AssertionError(f"Not true in time: {program}. The page: {self.run('document.body?.innerText')}")

    def _call(self, method, given):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            message = json.loads(self._socket.recv(30))
            if message.get("id") == number:
                return message["result"]


@contextmanager
def opened(address, folder):
    """Open an address of this machine. No other address can be reached.

    Args:
        address: The address.
        folder: An empty folder for the browser.
    """
    browser = shutil.which("chromium")
    assert browser, "The test needs Chromium: apt-get install chromium"
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    process = subprocess.Popen([browser, *options, alone, address], stderr=subprocess.PIPE, text=True)
    try:
        port = next(
            found[1] for line in process.stderr if (found := re.search(r"DevTools listening on ws://.*?:(\d+)/", line))
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.communicate(timeout=20)
