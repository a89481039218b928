"""Export every layer type to every format from every backend, and make the tables of `docs/export.md`.

Run: python benchmarks/export_matrix.py [--write docs/export.md] [--backends jax,torch,tensorflow] [--nets "LSTM;GRU"]
A cell is the largest difference between the file, run in its own runtime, and the model; or why there is no file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from own_cell import LeakyCell

import rnnstate as rs
from rnnstate.exporting.formats import FORMATS

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def series(layer: Any, features: tuple[int, ...] = (2,)) -> Any:
    """Return a network of one layer and a read-out."""
    return keras.Sequential([keras.Input((None, *features)), layer, layers.Dense(2)])


def nested() -> Any:
    """Return a network inside a network, and one recurrent layer used twice."""
    inner = keras.Sequential([keras.Input((None, 3)), layers.LSTM(3, return_sequences=True, name="lstm")], name="inner")
    x, twice = keras.Input((None, 2)), layers.GRU(3, return_sequences=True, name="gru")
    return keras.Model(x, twice(layers.Dense(3)(twice(inner(layers.Dense(3)(x))))))


def masked() -> Any:
    """Return a network with a mask of its own."""
    return keras.Sequential([keras.Input((None, 2)), layers.Masking(0.5), layers.LSTM(3, return_sequences=True)])


def observed() -> Any:
    """Return a model whose initial state is computed from two known values."""
    return rs.StatefulModel(series(layers.LSTM(3, return_sequences=True)), initial_state=rs.initial.Observed(size=2))


def both_carried() -> Any:
    """Return a model that carries the backward direction too."""
    return rs.StatefulModel(series(layers.Bidirectional(layers.LSTM(3, return_sequences=True))), carry_backward=True)


def mixed() -> Any:
    """Return a network of mixed precision."""
    return series(layers.LSTM(3, return_sequences=True, dtype="mixed_bfloat16"))


NETS: dict[str, Callable[[], Any]] = {
    "SimpleRNN": lambda: series(layers.SimpleRNN(3, return_sequences=True)),
    "GRU": lambda: series(layers.GRU(3, return_sequences=True)),
    "GRU, reset_after=False": lambda: series(layers.GRU(3, return_sequences=True, reset_after=False)),
    "LSTM": lambda: series(layers.LSTM(3, return_sequences=True)),
    "RNN of stacked cells": lambda: series(layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)),
    "ConvLSTM1D": lambda: series(layers.ConvLSTM1D(2, 2, padding="same", return_sequences=True), (5, 2)),
    "ConvLSTM2D": lambda: series(layers.ConvLSTM2D(2, 2, padding="same", return_sequences=True), (5, 3, 2)),
    "RNN of a cell of one's own": lambda: series(layers.RNN(LeakyCell(3), return_sequences=True)),
    "Bidirectional LSTM": lambda: series(layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
    "Bidirectional LSTM, both carried": both_carried,
    "nested, shared": nested,
    "Masking, LSTM": masked,
    "LSTM, observed start": observed,
    "LSTM, mixed precision": mixed,
}


def cell(build: Callable[[], Any], form: str, folder: Path) -> str:
    """Return what one cell of the table says."""
    net = build()
    model = net if isinstance(net, rs.StatefulModel) else rs.StatefulModel(net)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.uniform(-0.7, 0.7, size=variable.shape))
    try:
        done = rs.export(model, folder / f"model{FORMATS[form].suffix}", form, force=True)
    except rs.ExportError as error:
        return f"refused: {str(error)[:200]}".replace("|", "\\|")
    return f"{done.largest_difference:.0e}, time {done.manifest['time']}"


def one_backend(names: list[str]) -> None:
    """Print the table of the backend that runs."""
    forms = list(FORMATS)
    print(f"| {keras.config.backend()} | " + " | ".join(forms) + " |")
    print("|---" * (len(forms) + 1) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            cells = [cell(NETS[name], form, Path(folder)) for form in forms]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def start(backend: str, names: list[str]) -> str:
    """Run one backend in a process of its own, showing its rows as they come, and return its table."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--one", "--nets", ";".join(names)]
    lines = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(process.returncode)
    return "".join(lines)


def main() -> None:
    """Make the tables of all backends, and put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", default="jax,torch,tensorflow")
    parser.add_argument("--nets", default=";".join(NETS), help="names of rows, with ; between")
    parser.add_argument("--write", type=Path, help="page to put the tables in")
    parser.add_argument("--one", action="store_true", help="only the backend that runs")
    options = parser.parse_args()
    names = options.nets.split(";")
    if options.one:
        one_backend(names)
        return
    tables = "\n".join(start(backend, names) for backend in options.backends.split(","))
    if options.write:
        before, rest = options.write.read_text().split(BEGIN)
        after = rest.split(END)[1]
        options.write.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main()
