"""A network that is not recurrent, trained and run as a stream: dilated causal convolutions and causal attention.

The network predicts a household's mean power in the next quarter of an hour (real data). Eight convolutions
look back over 256 steps, and attention over 256 more, so an output depends on the last 512 steps: more than five days.

1. Train: windows of one day carry what the layers remember, so every output sees all 512 steps from the first epoch on.
2. Stream: one step at a time gives the outputs of one pass over the whole series.
3. Compare: a step costs a small part of the usual way, which runs the network on the last 512 steps at every step.
4. Export: the step as an ONNX file, verified in onnxruntime.

Run it: `KERAS_BACKEND=jax python examples/03_streaming_tcn.py` (`--quick` for a small one). It took 79 seconds of processor
time on two busy cores. It needs `pip install "rnnstate[onnx]"`.
"""

import argparse
import csv
import gzip
import statistics
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

import rnnstate as rs  # before keras: it chooses a backend that is installed

import keras  # isort: skip

DAY, KERNEL, HEADS = 96, 2, 4
MEMORY = 256  # how many earlier steps the attention reaches


def power():
    """Return active and reactive power of each quarter of an hour, `(time, 2)`, with NaN where nothing was measured."""
    packed = (files("rnnstate") / "data" / "household_power_15min.csv.gz").read_bytes()
    _, *rows = csv.reader(gzip.decompress(packed).decode().splitlines())
    return np.array([[float(value or "nan") for value in row[1:3]] for row in rows], dtype="float32")


def measured(series, longest=6000):
    """Return the parts without gaps, in pieces of at most `longest` steps, and longer than two steps."""
    gaps = np.flatnonzero(np.isnan(series).any(axis=1))
    parts = [part[1:] if np.isnan(part[:1]).any() else part for part in np.split(series, gaps)]
    cut = [part[start : start + longest] for part in parts for start in range(0, len(part), longest)]
    return [part for part in cut if len(part) > 2]


def windows(parts):
    """Return windows of one day whose target is the active power of the next step."""
    return rs.Windows([part[:-1] for part in parts], [part[1:, :1] for part in parts], length=DAY, batch_size=16)


def network(channels, features=2, memory=MEMORY, levels=8):
    """Return convolutions with the dilations 1, 2, 4, ..., each of which is added to its input, and then attention."""
    x = keras.Input((None, features))
    h = keras.layers.Dense(channels, name="read_in")(x)
    for level in range(levels):
        conv = keras.layers.Conv1D(
            channels, KERNEL, padding="causal", dilation_rate=2**level, activation="relu", name=f"conv_{level}"
        )
        h = keras.layers.Add()([h, conv(h)])
    # `sliding_window` counts the step itself too. Without it, `StatefulModel(net, attention_window=...)` sets the reach.
    attention = keras.layers.MultiHeadAttention(HEADS, channels // HEADS, sliding_window=memory + 1, name="attention")
    h = keras.layers.Add()([h, attention(h, h, use_causal_mask=True)])
    # The network starts from "the next value is the last one" and learns the difference.
    change = keras.layers.Dense(1, kernel_initializer="zeros", name="read_out")(h)
    return keras.Model(x, keras.layers.Add()([change, x[..., :1]]))


def receptive_field(memory=MEMORY, levels=8):
    """Return on how many steps an output depends."""
    return (KERNEL - 1) * (2**levels - 1) + memory + 1


def multiply_adds(channels, steps, attended, features=2, levels=8):
    """Return the multiply-adds of `steps` outputs, if each of them has a score for `attended` steps."""
    weights = features * channels + levels * KERNEL * channels**2 + 4 * channels**2 + channels
    return steps * (weights + 2 * attended * channels)  # scores, then the weighted sum of values


def train(model, series, epochs):
    """Train on the first four fifths with carried memory, and print the error on the last fifth."""
    cut = int(len(series) * 0.8)
    mean, scale = np.nanmean(series[:cut], axis=0), np.nanstd(series[:cut], axis=0)
    train, test = (measured((part - mean) / scale) for part in (series[:cut], series[cut:]))
    model.compile(keras.optimizers.Adam(2e-3), "mae")
    losses = model.fit(windows(train), epochs=epochs, verbose=0).history["loss"]
    error = model.evaluate(windows(test), verbose=0) * scale[0]
    steps = np.concatenate([np.abs(part[1:, 0] - part[:-1, 0]) for part in test])
    print(f"1. Trained on {sum(map(len, train)):,} steps: loss {losses[0]:.4f}, then {losses[-1]:.4f}")
    print(f"   mean error on {sum(map(len, test)):,} later steps: {error:.4f} kW", end="")
    print(f" (the last value again: {np.mean(steps) * scale[0]:.4f} kW)")
    return max(test, key=len)


def stream(model, net, x):
    """Run a series step by step, and print how far the outputs are from Keras' pass over the whole series."""
    state, outputs = model.initial_state(batch_size=1), []
    for t in range(x.shape[1]):
        y, state = model.step(x[:, t : t + 1], state)
        outputs.append(keras.ops.convert_to_numpy(y))
    whole = net.predict_on_batch(x)
    difference = np.abs(np.concatenate(outputs, axis=1) - whole).max()
    print(f"2. {x.shape[1]} single steps differ from one pass over the whole by at most {difference:.0e}")
    assert difference < 1e-4
    return state


def milliseconds(ways, rounds):
    """Return the median time of a call of each way. The ways take turns, so that noise affects all of them alike."""
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            start = time.perf_counter()
            np.asarray(keras.ops.convert_to_numpy(call()))
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def compare(model, net, x, state, channels, memory, levels, rounds):
    """Print what one more step costs with a carried state, and with the network on the whole receptive field."""
    field = receptive_field(memory, levels)
    last = x[:, -field:]
    ways = {"step": lambda: model.step(last[:, -1:], state)[0], "recompute": lambda: net.predict_on_batch(last)}
    milliseconds(ways, rounds=3)  # compiles
    taken = milliseconds(ways, rounds)
    one = multiply_adds(channels, 1, memory + 1, levels=levels)
    all_of_them = multiply_adds(
        channels, field, field, levels=levels
    )  # Keras computes all scores and masks most of them
    print(f"3. One more output, on a receptive field of {field} steps:")
    print(f"   with a carried state   {one:12,} multiply-adds, {taken['step']:8.3f} ms")
    print(f"   recomputed             {all_of_them:12,} multiply-adds, {taken['recompute']:8.3f} ms")
    print(
        f"   ratio                  {all_of_them / one:12,.0f},               {taken['recompute'] / taken['step']:8.1f}"
    )


def export(model, folder):
    """Write the step as ONNX, and say how far onnxruntime is from the model."""
    done = rs.export(model, Path(folder) / "tcn.onnx", format="onnx")
    size = done.path.stat().st_size / 1024
    print(
        f"4. {done.path.name}, {size:.0f} KB, {len(done.manifest['state'])} leaves of state: chunks in onnxruntime ",
        end="",
    )
    print(f"differ by at most {done.largest_difference:.0e}")


def main():
    """Read the arguments, and run all four parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--steps", type=int, default=20_000, help="how much of the series to use; all of it has 138,352"
    )
    parser.add_argument("--quick", action="store_true", help="8 channels, 1 epoch of 2,000 steps: to see it run")
    arguments = parser.parse_args()
    channels, levels, memory, days = arguments.channels, 8, MEMORY, 8
    series = power()[: arguments.steps]
    if arguments.quick:
        channels, levels, memory, days, series = 8, 4, 16, 1, series[:2000]
    keras.utils.set_random_seed(0)
    net = network(channels, memory=memory, levels=levels)
    model = rs.StatefulModel(net)
    x = train(model, series, 1 if arguments.quick else arguments.epochs)[None, : days * DAY]
    state = stream(model, net, x)
    compare(model, net, x, state, channels, memory, levels, rounds=10 if arguments.quick else 30)
    with tempfile.TemporaryDirectory() as folder:
        export(model, folder)


if __name__ == "__main__":
    main()
