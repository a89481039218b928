"""The usual contract of a command line: streams, exit status, JSON, quiet, progress, backend, completion."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnnstate as rs
from forecasting import TINY, TRAIN
from rnnstate.cli import backend_choice
from rnnstate.cli.app import main
from rnnstate.cli.progress import Progress

pytestmark = pytest.mark.once


def document(capsys, *arguments: str, status: int = 0) -> dict:
    """Return the JSON that a command writes to standard output."""
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_json_of_a_run(trained, monkeypatch, capsys) -> None:
    """`evaluate`, `inspect`, `train` and `audit` write one JSON document, which agrees with the text."""
    monkeypatch.chdir(trained)
    found = document(capsys, "evaluate", "RUN", "newer.csv")
    assert (found["horizon"], found["predictions"], found["continued"], found["fresh"]) == (1, 36, 2, {})
    assert main(["evaluate", "RUN", "newer.csv"]) == 0
    table = capsys.readouterr().out.splitlines()[3:]
    assert [f"{score['mae']:.4g}" for score in found["scores"]] == [line.split()[-3] for line in table]
    found = document(capsys, "inspect", "RUN")
    assert (found["kind"], found["targets"], [key["key"] for key in found["keys"]]) == ("run", ["load"], ["a", "b"])
    assert found["leaves"][-1] | {"shape": ""} == {
        "layer": "gru_2",
        "leaf": "h",
        "shape": "",
        "dtype": "float32",
        "carried": "yes",
    }
    found = document(capsys, "train", "data.csv", *TRAIN, *TINY, "--out", "RUN", "--resume")
    assert found["scores"] == json.loads(Path("RUN/run.json").read_text())["test"]["errors"]
    assert {finding["level"] for finding in document(capsys, "audit", "RUN/model.keras")["findings"]} <= {"note"}


def test_json_and_status_of_state_files(tmp_path, monkeypatch, capsys) -> None:
    """`diff` has status 0 where states are equal, 1 where they differ, 2 where a file is missing; infinity is null."""
    monkeypatch.chdir(tmp_path)
    rs.save_state("one.safetensors", {"gru/h": np.ones((2, 3), "float32")}, {"note": "x" * 300})
    rs.save_state("other.safetensors", {"gru/h": np.array([[1, 1, 1], [1, np.inf, 1]], "float32")})
    assert document(capsys, "diff", "one.safetensors", "one.safetensors") == {"equal": True, "differences": []}
    found = document(capsys, "diff", "one.safetensors", "other.safetensors", status=1)
    assert [(each["leaf"], each["rows"], each["largest"]) for each in found["differences"]] == [("gru/h", [1], None)]
    assert main(["diff", "one.safetensors", "none.safetensors"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    found = document(capsys, "inspect", "other.safetensors")
    assert found["leaves"] == [{"name": "gru/h", "shape": [2, 3], "dtype": "float32", "min": 1.0, "max": None}]
    assert main(["inspect", "one.safetensors"]) == 0
    assert "x ... (302 characters; --json shows all)\n" in capsys.readouterr().out
    assert main(["convert", "one.safetensors", "one.npz"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "Wrote one.npz: 1 leaf of 2 rows.\n")
    assert main(["convert", "one.safetensors", "again.npz", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_quiet_leaves_the_result(trained, monkeypatch, capsys) -> None:
    """With `--quiet`, standard error is empty and standard output is the same."""
    monkeypatch.chdir(trained)
    assert main(["predict", "RUN", "newer.csv", "-o", "-"]) == 0
    loud = capsys.readouterr()
    assert main(["predict", "RUN", "newer.csv", "-o", "-", "--quiet"]) == 0
    assert capsys.readouterr() == (loud.out, "")
    assert loud.err.splitlines()[0] == "2 keys continue from the kept states; 0 start fresh."


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress() -> None:
    """A log of 200 epochs has at most twenty lines, and the first and the last epoch; a terminal has one line."""
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        progress = Progress(stream)
        for epoch in range(1, 201):
            progress.batch(epoch, 200, 7, 7)
            progress.epoch(epoch, 200, {"loss": 1 / epoch})
    lines = log.getvalue().splitlines()
    assert 10 <= len(lines) <= 20
    assert (lines[0], lines[-1]) == ("Epoch 1/200: loss 1.0000", "Epoch 200/200: loss 0.0050")
    assert terminal.getvalue().count("\n") == 1
    assert "\rEpoch 3/200 [========================] 7/7" in terminal.getvalue()


def test_backend_must_be_there(backend, monkeypatch, capsys) -> None:
    """A backend that is not installed, or that comes too late, is one line with the remedy; the running one is fine."""
    other = next(name for name in backend_choice.BACKENDS if name != backend)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(backend_choice.importlib.util, "find_spec", lambda name: None)
    assert main(["inspect", "RUN", "--backend", "torch"]) == 2
    assert capsys.readouterr().err == (
        "Error: `--backend` must be an installed backend. Received: torch, which is not installed. "
        'Run `pip install "rnnstate[torch]"`.\n'
    )
    monkeypatch.setattr(backend_choice.importlib.util, "find_spec", lambda name: name)
    assert main(["inspect", "RUN", "--backend", other]) == 2
    assert f"Received: {other}, while Keras runs on {backend}." in capsys.readouterr().err
    backend_choice.use_backend(backend)


PROBE = """
from rnnstate.cli.backend_choice import use_backend
use_backend("{}")
import keras
print(keras.backend.backend())
"""


def test_backend_is_chosen_before_keras_starts(backend) -> None:
    """`--backend` wins over KERAS_BACKEND, and Keras starts on it."""
    wrong = {**os.environ, "KERAS_BACKEND": "none"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(backend)], env=wrong, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == [backend], done.stderr


def test_closed_pipe() -> None:
    """A closed pipe ends the command without a traceback, with the exit status of a program that SIGPIPE ended."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "rnnstate", "completion", "bash"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="the script is for bash, which is not installed")
def test_completion_in_bash(tmp_path, capsys) -> None:
    """bash completes commands, options of the command, and values; file names are left to bash."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)

    def completed(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        line = f"source ./script; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _rnnstate; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert completed("rnnstate", "in") == ["inspect"]
    assert {"train", "forecast", "--version"} <= set(completed("rnnstate", ""))
    assert completed("rnnstate", "predict", "--up") == ["--update"]
    assert completed("rnnstate", "predict", "RUN", "--backend", "t") == ["torch", "tensorflow"]
    assert completed("rnnstate", "completion", "") == []
    assert completed("rnnstate", "train", "po") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, tmp_path, capsys) -> None:
    """The scripts name every command; where the shell is installed, it accepts the script."""
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("forecast", "--backend" if shell == "zsh" else "-l backend"))
    (tmp_path / "script").write_text(text)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_outputs_that_are_no_files(tmp_path, monkeypatch, capsys) -> None:
    """A device is never replaced, and a table is not written under the name of another format."""
    monkeypatch.chdir(tmp_path)
    for out, line in (
        ("/dev/null", "The output must be a regular file. Received: /dev/null. Use - for standard output."),
        ("out.xlsx", "The output must end in .csv, .csv.gz or .parquet. Received: out.xlsx."),
    ):
        assert main(["forecast", "RUN", "-o", out, "--force"]) == 2
        assert capsys.readouterr().err.startswith(f"Error: {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "predict RUN newer.csv -o newer.csv --force",
            r"Error: The output must be another file than DATA. Received: newer.csv",
        ),
        ("forecast RUN newer.csv -o ./newer.csv --force", r"Error: The output must be another file than DATA"),
        ("forecast RUN --steps 1000001", r"Error: `steps` must be at most 1,000,000.*Received: steps=1,000,001"),
        ("evaluate RUN large.csv", r"Error: Column `load` must hold numbers up to 1e\+37. Received: 1e\+300 in line 2"),
        ("export RUN RUN --force", r"Error: FILE must be outside of the model that is exported. Received: RUN"),
        ("export RUN RUN/model.keras --force", r"Error: FILE must be outside of the model"),
        ("export RUN newer.csv", r"Error: FILE must not exist yet. Received: newer.csv. Give another name, or --force"),
        (
            "convert RUN/states.safetensors no/a.npz",
            r"Error: The folder of `no/a.npz` must exist. Received: no. Create",
        ),
        ("train newer.csv --target load --out -", r"Error: --out must be a folder, so it cannot be standard output"),
    ],
)
def test_calls_that_would_destroy_or_overflow_are_refused(trained, tmp_path, monkeypatch, capsys, arguments, message):
    """The error is one line, nothing is written, and DATA stay as they are."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "RUN", "RUN")
    text = (trained / "newer.csv").read_text()
    Path("newer.csv").write_text(text)
    head, first, *_ = text.splitlines()
    cells = dict(zip(head.split(","), first.split(","), strict=True)) | {"load": "1e300"}
    Path("large.csv").write_text(f"{head}\n{','.join(cells.values())}\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert re.match(message, error)
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Path("newer.csv").read_text() == text
