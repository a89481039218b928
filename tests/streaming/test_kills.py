"""Law 9: a SIGKILL loses nothing that was acknowledged, and nothing is applied twice. `killing.py` kills more often."""

import subprocess
import sys

import pytest

import killing
import rnnstate as rs
from adding import Adding
from rnnstate import stores

pytestmark = pytest.mark.once


def test_kills_at_random_moments():
    """Workers, a Redis server and HTTP servers are killed; each durable store keeps what was acknowledged, once."""
    command = [sys.executable, killing.__file__, "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(killing.KINDS)
    assert all(int(line[3]) > 0 for line in lines), done.stdout


def test_the_kills_find_what_is_lost_or_applied_twice(tmp_path):
    """The control: a store in memory, a record that is missing, and a sum that is too large are found."""
    make = lambda: stores.LmdbStore(tmp_path, capacity=2**24)  # noqa: E731
    with pytest.raises(AssertionError, match="lost: the whole store after 7"):
        killing.look(stores.MemoryStore, 7)
    streamer = rs.Streamer(Adding(), make())
    for number in range(3):
        x = {key: [float(number * (at + 1))] for at, key in enumerate(killing.KEYS)}
        streamer.push(x, numbers=dict.fromkeys(killing.KEYS, number))
    streamer.store.close()
    assert killing.look(make, 2) == 2
    with pytest.raises(AssertionError, match="lost: 5 was acknowledged, the store has 2"):
        killing.look(make, 5)
    streamer = rs.Streamer(Adding(), make())
    streamer.write("west", {"sum": [99.0]})
    streamer.store.close()
    with pytest.raises(AssertionError, match="number 2 with sums"):
        killing.look(make, 2)
    streamer = rs.Streamer(Adding(), make())
    streamer.end("south")
    streamer.store.close()
    with pytest.raises(AssertionError, match=r"lost: sessions \{'south'\} after 2"):
        killing.look(make, 2)
