"""Export every layer type to every format and print the table of `docs/export.md`: one row per layer type and format.

Run once per backend: KERAS_BACKEND=jax python benchmarks/export_matrix.py > jax.md
A cell is the largest difference between the file, run in its own runtime, and the model; or why there is no file.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import rnnstate as rs
from rnnstate.exporting.formats import FORMATS


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


NETS: dict[str, Callable[[], Any]] = {
    "SimpleRNN": lambda: series(layers.SimpleRNN(3, return_sequences=True)),
    "GRU": lambda: series(layers.GRU(3, return_sequences=True)),
    "GRU, reset_after=False": lambda: series(layers.GRU(3, return_sequences=True, reset_after=False)),
    "LSTM": lambda: series(layers.LSTM(3, return_sequences=True)),
    "RNN of stacked cells": lambda: series(layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)),
    "ConvLSTM1D": lambda: series(layers.ConvLSTM1D(2, 2, padding="same", return_sequences=True), (5, 2)),
    "Bidirectional LSTM": lambda: series(layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
    "nested, shared": nested,
    "Masking, LSTM": masked,
}


def cell(build: Callable[[], Any], form: str, folder: Path) -> str:
    """Return what one cell of the table says."""
    net = build()
    rng = np.random.default_rng(0)
    for variable in net.trainable_variables:
        variable.assign(rng.uniform(-0.7, 0.7, size=variable.shape))
    try:
        done = rs.export(rs.StatefulModel(net), folder / f"model{FORMATS[form].suffix}", form, force=True)
    except rs.ExportError as error:
        return f"refused: {str(error)[:160]}".replace("|", "\\|")
    return f"{done.largest_difference:.0e}, time {done.manifest['time']}"


def main() -> None:
    """Print the table of the backend that runs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    forms = list(FORMATS)
    wanted = sys.argv[1:] or list(NETS)
    print(f"| {keras.config.backend()} | " + " | ".join(forms) + " |")
    print("|---" * (len(forms) + 1) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            cells = [cell(NETS[name], form, Path(folder)) for form in forms]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
