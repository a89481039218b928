"""Compare linear recurrences with LSTM and GRU in speed and accuracy, and print the tables of docs/linear-recurrences.md.

1. Time: one training step on one window of 4,096 steps, 256 units, one row: `Dense`, the recurrence, `Dense`. The layers
   of this package and Keras' LSTM run in `StatefulModel`, `nn.LSTM` in a loop of PyTorch. All take turns, and a ratio is
   taken within one round.
2. Accuracy with equal numbers of weights, in windows with a carried state: a household's power in the next quarter of an
   hour, and the next character of the help texts of Python. Each network is recurrence, `Dense`, recurrence, `Dense`.

Run it: `KERAS_BACKEND=jax python benchmarks/linear_recurrences.py time --docs docs/linear-recurrences.md` (without `--docs`
it only prints; the parts are `time`, `power` and `text`, and all of them by default).
"""

import argparse
import os
import runpy
import time
from bisect import bisect
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

LENGTH, UNITS, ROWS, FEATURES, ROUNDS = 4096, 256, 1, 8, 5
SEEDS, CHARACTERS = 3, 128
EPOCHS = {"power": 8, "text": 4}
WEIGHTS = {"power": 6_000, "text": 25_000}
POWER_STEPS, TEXT_STEPS, STREAMS = 30_000, 100_000, 16
EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "03_streaming_tcn.py"))
KINDS = {
    "LSTM": lambda units: keras.layers.LSTM(units, return_sequences=True),
    "GRU": lambda units: keras.layers.GRU(units, return_sequences=True),
    "MinGRU": lambda units: rs.layers.MinGRU(units, return_sequences=True),
    "MinLSTM": lambda units: rs.layers.MinLSTM(units, return_sequences=True),
    "LRU": lambda units: rs.layers.LRU(units, r_min=0.9, r_max=0.999, return_sequences=True),
}


# Time


def random_window():
    """Return inputs and targets of one window, for all contenders."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, LENGTH, FEATURES)).astype("float32")
    return x, np.cumsum(x[:, :, :1], axis=1) / 64


def one_step(kind):
    """Return a call that trains on the window once."""
    x, y = random_window()
    net = keras.Sequential(
        [keras.Input((None, FEATURES)), keras.layers.Dense(UNITS), KINDS[kind](UNITS), keras.layers.Dense(1)]
    )
    model = rs.StatefulModel(net)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    windows = rs.Windows(x, y, length=LENGTH, batch_size=ROWS)
    return lambda: model.fit(windows, verbose=0).history["loss"][0]


class TorchNet(torch.nn.Module):
    """The network of `one_step` with PyTorch's own LSTM."""

    def __init__(self):
        super().__init__()
        self.read_in, self.read_out = torch.nn.Linear(FEATURES, UNITS), torch.nn.Linear(UNITS, 1)
        self.lstm = torch.nn.LSTM(UNITS, UNITS, batch_first=True)

    def forward(self, x):
        """Return the output of every step."""
        return self.read_out(self.lstm(self.read_in(x))[0])


def one_step_of_torch():
    """Return a call that trains PyTorch's LSTM on the window once."""
    x, y = (torch.from_numpy(part) for part in random_window())
    net = TorchNet()
    adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def step():
        adam.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(net(x), y)
        loss.backward()
        adam.step()
        return float(loss.detach())

    return step


def times():
    """Return the table of times."""
    ways = {f"`{kind}`": one_step(kind) for kind in KINDS} | {"`torch.nn.LSTM`": one_step_of_torch()}
    taken = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            if number:  # the first call compiles
                taken[name].append(time.perf_counter() - start)
    base = np.array(taken["`LSTM`"])
    lines = ["| recurrence | seconds per training step | times `LSTM` (quartiles) |", "|---|---|---|"]
    for name, values in taken.items():
        low, middle, high = np.quantile(np.array(values) / base, (0.25, 0.5, 0.75))
        lines.append(f"| {name} | {np.median(values):.3f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    return lines


# Accuracy


def network(kind, units, read_in, outputs):
    """Return two recurrences with a dense layer between them. `read_in` makes an input and its first features."""
    x, h = read_in()
    h = KINDS[kind](units)(h)
    h = keras.layers.Dense(units, activation="gelu")(h)
    return keras.Model(x, keras.layers.Dense(outputs)(KINDS[kind](units)(h)))


def sized(kind, wanted, read_in, outputs):
    """Return the largest number of units with which a network has at most `wanted` weights."""
    units = range(4, 257)
    return units[bisect(units, wanted, key=lambda size: network(kind, size, read_in, outputs).count_params()) - 1]


def trained(kind, wanted, epochs, read_in, outputs, loss, parts):
    """Return the number of weights, and for each seed the loss on later data."""
    units = sized(kind, wanted, read_in, outputs)
    net = network(kind, units, read_in, outputs)
    model = rs.StatefulModel(net)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.optimizer.build(net.trainable_variables)
    start = [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]
    found = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        net.set_weights(network(kind, units, read_in, outputs).get_weights())
        for variable, value in zip(model.optimizer.variables, start, strict=True):
            variable.assign(value)
        model.fit(parts[0], epochs=epochs, verbose=0)
        found.append(model.evaluate(parts[1], verbose=0))
    return f"{units}", f"{net.count_params():,}", np.array(found)


def power():
    """Return the arguments of `trained` for household power, the scale of its loss, and a baseline."""
    series = EXAMPLE["power"]()[:POWER_STEPS]
    cut = int(len(series) * 0.8)
    mean, scale = np.nanmean(series[:cut], axis=0), np.nanstd(series[:cut], axis=0)
    train, test = (EXAMPLE["measured"]((part - mean) / scale) for part in (series[:cut], series[cut:]))
    last = np.mean(np.concatenate([np.abs(part[1:, 0] - part[:-1, 0]) for part in test])) * scale[0]

    def read_in():
        x = keras.Input((None, 2))
        return x, x

    return (read_in, 1, "mae", [EXAMPLE["windows"](train), EXAMPLE["windows"](test)]), scale[0], last


def text():
    """Return the arguments of `trained` for characters, the scale of its loss (bits), and a baseline."""
    letters = "".join(topics[name] for name in sorted(topics))
    alphabet = sorted(set(letters))
    codes = np.array([alphabet.index(letter) for letter in letters], dtype="int32")
    train, test = codes[:TEXT_STEPS], codes[TEXT_STEPS : TEXT_STEPS + TEXT_STEPS // 5]
    shares = np.bincount(train, minlength=len(alphabet)) + 1
    alone = -np.mean(np.log2(shares / shares.sum())[test])

    def windows(part):
        rows = np.split(part[: len(part) // STREAMS * STREAMS], STREAMS)
        return rs.Windows(
            [row[:-1] for row in rows], [row[1:, None] for row in rows], length=CHARACTERS, batch_size=STREAMS
        )

    def read_in():
        x = keras.Input((None,), dtype="int32")
        return x, keras.layers.Embedding(len(alphabet), 32)(x)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return (read_in, len(alphabet), loss, [windows(train), windows(test)]), 1 / np.log(2), alone


def accuracy(task, data, unit, baseline):
    """Return the table of one task."""
    (read_in, outputs, loss, parts), scale, plain = data()
    lines = [f"| recurrence | units | weights | {unit} (lowest to highest) |", "|---|---|---|---|"]
    for kind in KINDS:
        units, weights, losses = trained(kind, WEIGHTS[task], EPOCHS[task], read_in, outputs, loss, parts)
        low, high = losses.min() * scale, losses.max() * scale
        lines.append(f"| `{kind}` | {units} | {weights} | {losses.mean() * scale:.4f} ({low:.4f} to {high:.4f}) |")
        print(lines[-1], flush=True)  # each network takes a minute
    return [*lines, f"| {baseline} | | | {plain:.4f} |"]


PARTS = {
    "time": times,
    "power": lambda: accuracy("power", power, "mean absolute error, kW", "the last value again"),
    "text": lambda: accuracy("text", text, "bits per character", "how often each character occurs"),
}


def main():
    """Measure, print the tables, and put them between the marks of a page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="the parts to run; all by default")
    parser.add_argument("--docs", type=Path, help="write each table for which this page has a place")
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        before = os.getloadavg()[0]
        lines = PARTS[name]()
        load = f"load {before:.1f} before the run and {os.getloadavg()[0]:.1f} after it"
        table = "\n".join(
            [f"Measured on {os.cpu_count()} cores, {load}; {keras.config.backend()}, float32.", "", *lines]
        )
        print(f"{name}\n\n{table}\n", flush=True)
        mark, end = f"<!-- measured: {name} -->\n", f"<!-- end of {name} -->"
        if arguments.docs and mark in arguments.docs.read_text():
            start, rest = arguments.docs.read_text().split(mark, 1)
            arguments.docs.write_text(f"{start}{mark}\n{table}\n\n{end}{rest.split(end, 1)[1]}")


if __name__ == "__main__":
    main()
