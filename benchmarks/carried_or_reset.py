"""Print whether carrying helps on a household's electric power: the table of docs/faq.md (about five minutes on JAX).

A GRU(32) predicts the mean power of the next quarter of an hour from this one, in windows of a day. It is trained with its
state carried or from zeros in each window, and served in both ways on the last fifth of four years.
"""

import csv
import gzip
from importlib.resources import files

import numpy as np

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

DAY, ROWS, PIECE, SEEDS, EPOCHS = 96, 16, 6000, 3, 20
TARGETS = ("active power, kW", "reactive power, kvar")
STARTS = {"carried": "start", "reset": "window"}


def power():
    """Return the series of two columns, `(time, 2)`, with NaN where nothing was measured."""
    packed = (files("rnnstate") / "data" / "household_power_15min.csv.gz").read_bytes()
    _, *rows = csv.reader(gzip.decompress(packed).decode().splitlines())
    return np.array([[float(value or "nan") for value in row[1:3]] for row in rows], dtype="float32")


def measured(series):
    """Return the parts without gaps, of at most `PIECE` steps, and longer than two."""
    gaps = np.flatnonzero(np.isnan(series).any(axis=1))
    parts = [part[1:] if np.isnan(part[:1]).any() else part for part in np.split(series, gaps)]
    cut = [part[start : start + PIECE] for part in parts for start in range(0, len(part), PIECE)]
    return [part for part in cut if len(part) > 2]


def windows(parts):
    """Return windows whose target is the next step."""
    return rs.Windows([part[:-1] for part in parts], [part[1:] for part in parts], length=DAY, batch_size=ROWS)


def errors(net, start, parts, scale):
    """Return the mean absolute error of each target, in the units of the data."""
    model = rs.StatefulModel(net, initial_state=rs.initial.Zeros(at=STARTS[start]))
    predicted = model.predict(windows(parts), verbose=0)
    return np.mean(np.concatenate([np.abs(predicted[i] - part[1:]) for i, part in enumerate(parts)]), axis=0) * scale


def main():
    """Train, serve, and print the errors of all seeds."""
    series = power()
    cut = int(len(series) * 0.8)
    mean, scale = np.nanmean(series[:cut], axis=0), np.nanstd(series[:cut], axis=0)
    train, test = (measured((part - mean) / scale) for part in (series[:cut], series[cut:]))
    found = {}
    for seed in range(SEEDS):
        for way, at in STARTS.items():
            keras.utils.set_random_seed(seed)
            layers = [keras.layers.GRU(32, return_sequences=True), keras.layers.Dense(2)]
            net = keras.Sequential([keras.Input((None, 2)), *layers])
            model = rs.StatefulModel(net, initial_state=rs.initial.Zeros(at=at))
            model.compile(keras.optimizers.Adam(3e-3), "mse")
            model.fit(windows(train), epochs=EPOCHS, verbose=0)
            for served in STARTS:
                found.setdefault((way, served), []).append(errors(net, served, test, scale))
    persistence = np.mean(np.concatenate([np.abs(part[1:] - part[:-1]) for part in test]), axis=0) * scale
    print(f"persistence: {persistence[0]:.4f} {TARGETS[0]}, {persistence[1]:.5f} {TARGETS[1]}")
    for (way, served), values in found.items():
        low, middle, high = np.min(values, axis=0), np.mean(values, axis=0), np.max(values, axis=0)
        texts = [
            f"{m:.4f} ({a:.4f} to {b:.4f}) {name}" for a, m, b, name in zip(low, middle, high, TARGETS, strict=True)
        ]
        print(f"trained {way}, served {served}: {', '.join(texts)}")


if __name__ == "__main__":
    main()
