"""The sessions of docs/cli.md run from top to bottom, in one process and one folder, and print what the page shows.

The page shows a long training on JAX. Here the last rows of the same data train for two epochs, so numbers that depend on
the network or on the number of rows are not compared. Words, times, columns, file names and exit statuses are.
"""

import io
import re
import shlex
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import keras
import pytest

from documents import fences
from rnnstate.cli.app import main

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
ROWS = 2_400
# Commands that another test runs, because they take long or wait for clients.
LONG = {
    "demo": "tests/cli/test_cli.py runs it",
    "bench": "tests/bench/test_bench.py runs it",
    "report": "tests/cli/test_look.py runs it",
    "plot": "tests/cli/test_look.py runs it",
    "serve": "tests/serving/test_commands.py runs it",
    "sessions": "tests/serving/test_commands.py runs it",
}
# Lines about sequences that the last rows do not have, and about a network that was trained for long.
OTHERWISE = re.compile(r"Left out|Cut |Persistence is better")
DECIMAL = re.compile(r"-?\d+\.\d+(e[-+]?\d+)?")
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")


def sessions():
    """Return `(command, shown output)` of each prompt of the page, in order."""
    found = []
    for kind, _, content in fences(PAGE.read_text()):
        if kind == "console":
            for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                found.append((command, shown))
    return found


def run(command, folder):
    """Run a command as a shell does: `rnnstate` in this process, its filters and all other commands in bash."""
    if not command.startswith("rnnstate "):
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr
    call, _, rest = command.partition(" | ")
    call, _, file = call.partition(" > ")
    out, both = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    # Without a filter the terminal shows both streams, in the order in which they were written.
    with redirect_stdout(out if rest or file else both), redirect_stderr(both):
        main(shlex.split(call.split("   #")[0])[1:])
    if file:
        (folder / file).write_text(written(out))
    if rest:
        filtered = subprocess.run(["bash", "-c", rest], input=written(out), capture_output=True, text=True, check=True)
        return written(both) + filtered.stdout
    return written(both)


def written(stream):
    """Return what was written to a stream."""
    return stream.buffer.getvalue().decode()


def words(text, trained):
    """Return the lines of an output, with `#` for each decimal, and for each number if they depend on the training."""
    # A column is as wide as its longest number.
    lines = [re.sub(r"-{3,}", "---", " ".join(line.split())) for line in text.splitlines() if line.strip()]
    return [(NUMBER if trained else DECIMAL).sub("#", line) for line in lines if not OTHERWISE.match(line)]


def assert_shown(shown, printed, trained):
    """Assert that lines were printed in the order in which they are shown; `...` stands for any lines."""
    expected, actual = words(shown, trained), words(printed, trained)
    if "..." not in expected:
        assert actual == expected
        return
    for line in (line for line in expected if line != "..."):
        assert line in actual, f"{line}\nis not in\n{printed}"
        actual = actual[actual.index(line) + 1 :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of the page, of which the larger one is shortened, and a stateful model of Keras."""
    folder = tmp_path_factory.mktemp("page")
    (code,) = (content for kind, _, content in fences(PAGE.read_text()) if kind == "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, {})
        head, *rows = Path("power.csv").read_text().splitlines()
        Path("power.csv").write_text("\n".join([head, *rows[-ROWS:]]))
        stock = keras.layers.LSTM(8, stateful=True, name="lstm")
        keras.Sequential([keras.Input(batch_shape=(4, None, 2)), stock]).save("stock.keras")
    return folder


def test_the_sessions_of_the_page_run_and_print_what_it_shows(folder, monkeypatch):
    """Each prompt in turn. The block of Python works on the RUN that the sessions made."""
    monkeypatch.chdir(folder)
    for command, shown in sessions():
        name = command.split()[1] if command.startswith("rnnstate ") else ""
        if name in LONG:
            continue
        trains = name == "train"
        short = command.replace("--epochs 40", "--epochs 2")
        printed = run(short, folder)
        if "stock.keras" in command:  # the page shows JAX
            assert "[not-saved] `lstm`" in printed
            continue
        assert_shown(shown.replace("on jax", f"on {keras.backend.backend()}"), printed, trains)
    (block,) = (content for kind, _, content in fences(PAGE.read_text()) if kind == "py")
    names = {}
    exec(block, names)
    assert [len(names["run"].predict("newer.csv")), names["run"].evaluate("newer.csv")[1].served] == [
        2000,
        "model, state carried",
    ]


def test_a_page_that_lies_fails():
    """The control: another word, a line too many, a missing line and another time are found; trained numbers are not."""
    shown = "Wrote a.csv: 96 predictions.\nmean 0.25\n"
    assert_shown(shown, "Wrote a.csv: 96 predictions.\nmean 0.5\n", trained=False)
    for wrong in (
        "Wrote b.csv: 96 predictions.\nmean 0.5\n",
        "Wrote a.csv: 95 predictions.\nmean 1.0\n",
        shown + "more\n",
    ):
        with pytest.raises(AssertionError):
            assert_shown(shown, wrong, trained=False)
    with pytest.raises(AssertionError, match="is not in"):
        assert_shown("first\n...\nlast\n", "first\nother\n", trained=True)
