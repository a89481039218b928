"""`rnnstate bench`: contenders that run, agree, are missing, fail or lie; the table, the file and the plot."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnnstate.bench import machine
from rnnstate.bench.compare import Comparison, Entry, check_equal, compare
from rnnstate.bench.contenders import task as work
from rnnstate.bench.contenders.catalogue import STEP, TRAIN, Contender
from rnnstate.bench.contenders.task import Task
from rnnstate.bench.table import figures, rows
from rnnstate.cli import bench_command as benchcommand
from rnnstate.cli.app import main
from rnnstate.errors import RnnStateError

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def _contenders_start_warm(warm_processes):
    """Let contenders find Keras imported."""


STRANGE = """
import os, time

def running(result, most=99):
    made = []
    def run(count):
        made.append(count)
        if len(made) > most:
            os._exit(3)
        time.sleep(0.001 * count)
        return result
    return run

def good(task): return running(2.0)
def wrong(task): return running(2.001)
def raising(task): raise ValueError("no such\\nluck")
def ending(task): return running(2.0, most=0)
def late(task): return running(2.0, most=2)
def noisy(task): print("not the protocol"); return running(2.0)
"""
OURS = "rnnstate-jax"
# Each contender runs in a process with its own backend. The peers train, and step.
PEERS = ("keras-jax", "flax-nnx")

TINY = Task(units=3, batch=2, features=5, window=7, windows=4)
# torch.compile writes C++ and needs a compiler for it.
COMPILERS = (os.environ.get("CXX", "g++"), "clang++", "cl")
COMPILED = ("torch-lstm-compiled",) if any(map(shutil.which, COMPILERS)) else ()
FAST = {"rounds": 2, "seconds": 0.02}


def bench(*arguments: str) -> int:
    """Run the command on a tiny size."""
    return main(["bench", "--quick", "--seconds", "0.02", *arguments])


@pytest.fixture
def strange(tmp_path, monkeypatch) -> dict[str, Contender]:
    """Contenders of the tests' own, in a module that their processes find."""
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    names = ("good", "wrong", "raising", "ending", "late", "noisy")
    found = {name: Contender(f"a {name} one", "jax", f"strange:{name}", ()) for name in names}
    return {**found, "absent": Contender("an absent one", "jax", "strange:good", ("no_such_library",))}


def entries(contenders: dict[str, Contender], *names: str) -> dict[str, Entry]:
    """Return contenders with a tiny task."""
    return {name: Entry(contenders[name], TINY) for name in names}


def test_this_project_and_a_peer(capsys, tmp_path) -> None:
    """This project and PyTorch's own LSTM agree, and are timed; table and file say the same."""
    ours, path = "rnnstate-torch", tmp_path / "times.json"
    assert bench("--contenders", f"{ours},torch-lstm", "--json", str(path)) == 0
    printed = capsys.readouterr()
    assert "Round 2 of 2." in printed.err
    assert "2 LSTM layers of 3 units, batch 2, window 7, 2 inputs; 2 rounds." in printed.out
    (kept,) = json.loads(path.read_text())
    assert (list(kept["times"]), kept["failed"], kept["missing"]) == ([ours, "torch-lstm"], {}, {})
    assert all(len(times) == 2 and min(times) > 0 for times in kept["times"].values())
    for name, times in kept["times"].items():
        assert re.search(rf"^{name} +{re.escape(figures(np.median(times)))} ", printed.out, re.MULTILINE)
    assert kept["threads"]["torch-lstm"] >= 1
    assert {"keras", "torch", "numpy"} <= set(kept["machine"]["versions"])


def test_peers_train_alike() -> None:
    """In training peers compute what this project does, or what it does without state, which the check can tell apart."""
    names = [OURS, f"{OURS}-not-carried", *PEERS, *COMPILED]
    result = compare("train", {name: Entry(TRAIN[name], TINY) for name in names}, **FAST)
    assert (list(result.times), result.failed) == (names, {})
    with pytest.raises(RnnStateError, match="must compute the same"):
        check_equal({name: result.firsts[name] for name in names[:2]})


def test_peers_step_alike() -> None:
    """One step carries alike for all, two layers and two rows; the one that carries nothing is apart."""
    task = Task(units=3, batch=2, features=5, window=1, windows=1)
    names = [OURS, "onnxruntime", *PEERS, *COMPILED]
    result = compare("step", {name: Entry(STEP[name], task) for name in names}, **FAST)
    assert (list(result.times), result.failed) == (names, {})


def test_another_arithmetic_is_refused(strange, monkeypatch, capsys) -> None:
    """A contender that computes something else is named in one line, and nothing is timed."""
    monkeypatch.setitem(benchcommand.CATALOGUE, "train", strange)
    assert bench("--contenders", "good,noisy,wrong", "--quiet") == 2
    printed = capsys.readouterr()
    assert printed.err == (
        "Error: Contenders must compute the same before they are timed: the first two results must be [2.0, 2.0], as "
        "those of `good`. Received: [2.001, 2.001] of `wrong`. Leave one of them out with --contenders.\n"
    )
    assert printed.out == ""


def test_the_check_can_tell(strange) -> None:
    """A part in ten thousand is the most that two may differ by."""
    check_equal({"one": [1.0, -2.0], "other": [1.00009, -2.00009]})
    for first in ([1.00011, -2.0], [1.0, 2.0], [float("nan"), -2.0], [1.0]):
        with pytest.raises((RnnStateError, ValueError)):
            check_equal({"one": [1.0, -2.0], "other": first})


def test_those_that_cannot_run_are_named(strange, monkeypatch, capsys) -> None:
    """What is not installed, raises or ends is listed with the reason; the others are compared all the same."""
    monkeypatch.setitem(benchcommand.CATALOGUE, "train", strange)
    assert bench("--contenders", "absent,raising,good,ending") == 0
    text = capsys.readouterr().out
    assert "Not installed: absent (needs no_such_library).\n" in text
    assert "Did not run: raising: ValueError: no such luck\n" in text
    assert "Did not run: ending: ended, or had no answer within 300 s: it said nothing\n" in text
    assert re.search(r"^good +[\d.e-]+ +1 ", text, re.MULTILINE)
    assert main(["bench", "--list"]) == 0
    assert "absent: an absent one (not installed: no_such_library)\n" in capsys.readouterr().out


def test_nobody_runs(strange) -> None:
    """If no contender runs, the reasons are the error."""
    with pytest.raises(
        RnnStateError, match=r"At least one contender must run. Received: absent \(not installed: no_such"
    ):
        compare("train", entries(strange, "absent", "raising"), **FAST)


def test_one_that_ends_too_early(strange) -> None:
    """A process that ends among its turns is an error, not a time."""
    with pytest.raises(RnnStateError, match=r"must run to the end. Received: `a late one` ended"):
        compare("train", entries(strange, "good", "late"), **FAST)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--contenders torch-lsmt", "`--contenders` must be names from `rnnstate-jax`, `rnnstate-torch`, "),
        ("--units 8,x", "`--units` must be whole numbers of at least 1, with commas. Received: '8,x'."),
        ("--units 0", "`--units` must be whole numbers of at least 1, with commas. Received: '0'."),
        ("--batch 0", "`batch` must be a whole number of at least 1. Received: batch=0."),
        ("--rounds 0", "`rounds` must be a whole number of at least 1. Received: rounds=0."),
        ("--seconds nan", "`--seconds` must be above 0 and at most 60. Received: nan."),
        ("--json none/times.json", "The folder of the output must exist. Received: none."),
        ("--plot times.gif", "The plot must end in .svg, .png, .pdf. Received: times.gif."),
        ("--plot there.svg", "The output must not exist yet. Received: there.svg."),
    ],
)
def test_wrong_options(tmp_path, monkeypatch, capsys, arguments: str, message: str) -> None:
    """Each wrong option has exit status 1 and one line, before any process is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchcommand, "compare", None)
    Path("there.svg").touch()
    assert main(["bench", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", ["--task fly", "--rounds many", "--fly"])
def test_wrong_usage(arguments: str) -> None:
    """What is no option at all has exit status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments.split()])
    assert stopped.value.code == 2


def made(times: dict[str, list[float]]) -> Comparison:
    """Return a comparison of given times."""
    facts = {"versions": {"keras": "3"}, "python": "3.11", "cores": 2, "system": "Linux"}
    tasks = dict.fromkeys(times, Task(units=1, batch=1, features=1, window=1, layers=1).to_json())
    return Comparison("train", tasks, facts, times, rate=40e3, load=(0.5, None))


def test_ratios_are_taken_within_a_round() -> None:
    """A round in which the machine was slow for all does not widen the spread; medians and quartiles by hand."""
    result = made({"peer": [2.0, 20.0, 6.0], "rnnstate-jax": [1.0, 10.0, 2.0]})
    assert result.base == "rnnstate-jax"
    assert result.ratio("peer") == (2.0, 2.0, 2.5)
    assert result.ratio("rnnstate-jax") == (1.0, 1.0, 1.0)
    assert rows(result)[0] == ("peer", "6", "2.00 (2.00 to 2.50)", "", "")


def test_the_floor_by_hand() -> None:
    """One unit, one input, one step: 16 operations forward, 40 with the gradients; more layers add theirs."""
    one = Task(units=1, batch=1, features=1, window=1, layers=1)
    assert (machine.operations(one, training=False), machine.operations(one, training=True)) == (16, 40)
    assert made({"rnnstate-jax": [1.0]}).floor("rnnstate-jax") == 1.0
    two = Task(units=3, batch=5, features=2, window=7, layers=2)
    assert machine.operations(two, training=False) == 2 * 5 * 7 * 12 * (2 + 3 + 3 + 3)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_plot(suffix, tmp_path, strange, monkeypatch) -> None:
    """A picture is drawn; in an SVG text is text, and takes the ink of a dark page."""
    monkeypatch.setitem(benchcommand.CATALOGUE, "train", strange)
    path = tmp_path / f"times.{suffix}"
    assert bench("--contenders", "good", "--plot", str(path)) == 0
    content = path.read_bytes()
    if suffix == "svg":
        assert b"good</text>" in content
        assert b"prefers-color-scheme: dark" in content
    else:
        assert content.startswith(b"\x89PNG")


def test_many_sequences_are_the_same_numbers() -> None:
    """More sequences are the same windows cut shorter, or repeated; each is a whole number of windows."""
    few, many = (
        work.series(Task(1, batch=2, features=1, window=3, windows=4, sequences=count))[0] for count in (4, 16)
    )
    whole = work.series(Task(1, batch=2, features=1, window=3, windows=4))[0]
    assert (few.shape, many.shape) == ((4, 6, 1), (16, 3, 1))
    np.testing.assert_array_equal(few.ravel(), whole.ravel())
    np.testing.assert_array_equal(many[:8].ravel(), whole.ravel())
    np.testing.assert_array_equal(many[8:], many[:8])


def test_a_bank_with_many_sequences() -> None:
    """With more sequences than an epoch has windows, an epoch is as long as without."""
    name = OURS
    result = compare("train", {name: Entry(TRAIN[name], replace(TINY, sequences=1000))}, **FAST)
    assert (list(result.times), result.failed, len(result.firsts[name])) == ([name], {}, 2)
