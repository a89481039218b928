"""The page at `/`: what it shows, to whom, and in a real browser."""

import base64
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest

from hosting import ALICE, BOB
from rnnstate.serving.heatmap import heat_map

pytestmark = pytest.mark.once


def push(client, key, x):
    """Push one step that must be fine."""
    assert client.post(f"/sessions/{key}/push", json={"x": x}).status_code == 200


def test_a_picture_has_the_colours_of_its_values():
    """Opacity is the size of a value, colour its sign, and each column one state."""
    address, largest, rows = heat_map([np.array([[0.0, 1.0]]), np.array([[-4.0, 2.0]])])
    packed = base64.b64decode(address.partition(",")[2])
    lines = zlib.decompress(packed[packed.index(b"IDAT") + 4 : -16])
    pixels = np.frombuffer(lines, np.uint8).reshape(2, 9)[:, 1:].reshape(2, 2, 4)
    assert (largest, rows) == (4.0, 2)
    assert pixels[..., 3].tolist() == [[0, 255], [64, 128]]
    red, blue = pixels[..., 0], pixels[..., 2]
    assert (blue > red).tolist() == [[False, True], [False, False]]
    assert heat_map([np.zeros((1, 1000))])[2] <= 64


def test_the_page_shows_sessions_and_states(http):
    """Sessions with their pushes, the states of one of them, its marks; a key is text, never a part of the page."""
    key = "<b>page&"
    push(http, "%3Cb%3Epage%26", [1.0])
    http.get("/", params={"session": key})
    push(http, "%3Cb%3Epage%26", [1.0])
    http.put("/sessions/%3Cb%3Epage%26/checkpoints/c")
    page = http.get("/", params={"session": key})
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert '<a href="/?session=%3Cb%3Epage%26">&lt;b&gt;page&amp;</a>' in page.text
    assert key not in page.text
    assert "The last 3 states" in page.text
    assert re.search(r'<i style="left:66\.67%">checkpoint</i>', page.text)
    assert "sum: 1 of 1 value, orange to 2" in page.text
    assert "There is no such session" in http.get("/?session=nobody").text
    assert "src=" not in re.sub(r'src="data:', "", page.text)  # nothing comes from the network


def test_a_tenant_sees_its_own_sessions(shared):
    """The page of one token names no session of the other, and counts none."""
    with shared.client(ALICE) as alice, shared.client(BOB) as bob:
        push(alice, "seen-by-alice", [1.0])
        push(bob, "seen-by-bob", [1.0])
        page = bob.get("/?session=seen-by-alice").text
        assert "seen-by-bob" in page
        assert "There is no such session" in page
        assert "?session=seen-by-alice" not in page
        for client, key in ((alice, "seen-by-alice"), (bob, "seen-by-bob")):
            assert client.delete(f"/sessions/{key}").status_code == 204


def test_a_real_browser_keeps_the_page_up_to_date(server, http):
    """Chromium shows the session, draws its states, and shows a push that came after the page was loaded."""
    browser = shutil.which("chromium")
    assert browser, "The test needs Chromium: apt-get install chromium"
    push(http, "browsed", [1.0])
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,844", "--virtual-time-budget=5000"]
    process = subprocess.Popen(
        [browser, *options, "--dump-dom", f"{server.url}/?session=browsed"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while process.poll() is None:
        push(http, "browsed", [1.0])
        if server.streamer.count("browsed") > 3000:
            break
    page = process.communicate(timeout=60)[0]
    shown = re.search(r"The last ([\d,]+) states", page)
    assert shown, page[-2000:]
    assert int(shown[1]) > 1  # a page that was never fetched again has the one state of its first request
    assert page.count('<img src="data:image/png') == 1
