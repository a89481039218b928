"""Law: a process that is killed while it updates a RUN leaves the old place of all keys, or the new one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rnnstate as rs
from rnnstate.forecasting.ahead import Outlook
from rnnstate.forecasting.continuation import Place, Standing
from rnnstate.forecasting.standing_file import read_standing, write_standing

pytestmark = pytest.mark.once

KEYS, UNITS = 5, 30_011
ENDLESS = """
import itertools, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_updates import standing
from rnnstate.forecasting.standing_file import write_standing
for number in itertools.count(1):
    write_standing(Path(sys.argv[1]), standing(number % 2))
    if number == 2:
        print("begun", flush=True)
"""


def standing(number: int) -> Standing:
    """Return where the keys stand: each number in it is that of the standing."""
    places = tuple(Place(f"{key}", f"{number}", 1.0, True, f"{number}") for key in range(KEYS))
    outlook = Outlook(np.full((KEYS, 2, 1), float(number)), np.full((KEYS, 3), float(number)))
    return Standing(places, rs.State({"gru/h": np.full((KEYS, UNITS), number, "float32")}), outlook, "number")


@pytest.mark.parametrize("seconds", [0.0, 0.0137, 0.031])
def test_a_kill_leaves_the_old_or_the_new_place(tmp_path, seconds: float) -> None:
    """After SIGKILL, state, times and next predictions belong together."""
    file = tmp_path / "states.safetensors"
    command = [sys.executable, "-c", ENDLESS, str(file), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    found = read_standing(file, rs.load_state(file).spec)
    assert found.outlook is not None
    numbers = {float(place.time) for place in found.places} | set(found.state["gru/h"].ravel().tolist())
    numbers |= set(found.outlook.targets.ravel().tolist()) | set(found.outlook.inputs.ravel().tolist())
    assert numbers in ({0.0}, {1.0})


def test_a_place_with_unknown_numbers(tmp_path) -> None:
    """What is not known is `null` in the file, and NaN again when it is read."""
    one = standing(1)
    assert one.outlook is not None
    one.outlook.targets[2, 0] = np.nan
    file = tmp_path / "states.safetensors"
    write_standing(file, one)
    assert b"NaN" not in file.read_bytes()
    found = read_standing(file, one.state.spec)
    assert (found.places, found.kind, found.zoned) == (one.places, "number", False)
    np.testing.assert_array_equal(found.outlook.targets, one.outlook.targets)
