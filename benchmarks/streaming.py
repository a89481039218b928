"""Measures streaming in process: a push against the bare compiled step, and against a dict of states around Keras.

    KERAS_BACKEND=jax python benchmarks/streaming.py [--seconds 2] [--units 64]

All contenders take turns in one run. A line shows the median and the 99th percentile of a call, in milliseconds.
"""

import argparse
import resource
import tempfile
import time
from itertools import cycle

import keras
import numpy as np

import rnnstate as rs
from rnnstate.kernels import kernels


def build(units):
    """Return a model of one LSTM layer with random weights, and the same as a Keras model with explicit states."""
    keras.utils.set_random_seed(0)
    lstm, dense = keras.layers.LSTM(units, return_sequences=True), keras.layers.Dense(2)
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, 2)), lstm, dense]))
    x, h, c = keras.Input((1, 2)), keras.Input((units,)), keras.Input((units,))
    top = keras.layers.LSTM(units, return_sequences=True, return_state=True)
    y, *states = top(x, initial_state=[h, c])
    plain = keras.Model([x, h, c], [keras.layers.Dense(2)(y), *states])
    plain.set_weights(model.net.get_weights())
    return model, plain


def streamed(model, sessions, rows, store=None, as_rows=False, shuffled=False):
    """Return a call that pushes one step to some of the sessions, the next ones each time, by key or as rows."""
    streamer = rs.Streamer(model, store)
    streamer.warmup(
        rows=sorted({1 << (min(rows, 256) - 1).bit_length(), 1 << (min(sessions, 256) - 1).bit_length()}), steps=[1]
    )
    keys = [f"session-{number}" for number in range(sessions)]
    x = np.ones(2, "float32")
    for begin in range(0, sessions, 256):
        streamer.push(dict.fromkeys(keys[begin : begin + 256], x))
    starts = range(0, max(sessions, rows), rows)
    if shuffled:  # sessions of a push that began at different times
        np.random.default_rng(0).shuffle(keys)
    groups = [[keys[(start + row) % sessions] for row in range(rows)] for start in starts]
    if as_rows:
        batch, given = np.ones((rows, 2), "float32"), cycle(groups)
        return lambda: streamer.push_rows(next(given), batch)
    each = cycle([dict.fromkeys(group, x) for group in groups])
    return lambda: streamer.push(next(each))


def bare(model, rows):
    """Return a call of the bare compiled step on one batch."""
    x, state = np.ones((rows, 1, 2), "float32"), model.initial_state(rows)

    def call():
        with kernels().without_gradients():
            y, _ = model.step(x, state)
            keras.ops.convert_to_numpy(y)

    return call


def keras_loop(plain, units, sessions):
    """Return a call that steps every session of a dict of states with Keras, one after the other."""
    states = {f"session-{number}": [np.zeros((1, units), "float32")] * 2 for number in range(sessions)}
    x = np.ones((1, 1, 2), "float32")

    def call():
        for key, state in states.items():
            _, *states[key] = plain.predict_on_batch([x, *state])

    return call


def measure(calls, seconds):
    """Return the times of each call, all of which take turns."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(5):
        for name, call in calls.items():
            end = time.perf_counter() + seconds / 5
            while time.perf_counter() < end:
                begin = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begin)
    return times


def main():
    """Print a table of times, and the memory of a session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--units", type=int, default=64)
    given = parser.parse_args()
    model, plain = build(given.units)
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            "bare step, 1 row": bare(model, 1),
            "push, 1 row of 1 session": streamed(model, 1, 1),
            "push, 1 row of 100 sessions": streamed(model, 100, 1),
            "push, 1 row of 10,000 sessions": streamed(model, 10_000, 1),
            "push, 1 row, LMDB, durable": streamed(model, 100, 1, rs.stores.LmdbStore(f"{folder}/a")),
            "push, 1 row, LMDB, sync=False": streamed(model, 100, 1, rs.stores.LmdbStore(f"{folder}/b", sync=False)),
            "bare step, 256 rows": bare(model, 256),
            "push, 256 rows of 10,000 sessions": streamed(model, 10_000, 256),
            "push, 256 rows of 256 sessions": streamed(model, 256, 256),
            "push_rows, 256 of 10,000 sessions": streamed(model, 10_000, 256, as_rows=True),
            "push_rows, 256 in any order": streamed(model, 10_000, 256, as_rows=True, shuffled=True),
            "push, 100 rows of 100 sessions": streamed(model, 100, 100),
            "Keras and a dict, 100 sessions": keras_loop(plain, given.units, 100),
        }
        times = measure(calls, given.seconds)
    print(f"{keras.config.backend()}, LSTM of {given.units} units")
    for name, values in times.items():
        print(f"{name:36s} {np.median(values) * 1e3:9.3f} {np.quantile(values, 0.99) * 1e3:9.3f}   {len(values)} calls")
    median = {name: np.median(values) for name, values in times.items()}
    loop = median["Keras and a dict, 100 sessions"] / median["push, 100 rows of 100 sessions"]
    for name in calls:
        if "256" in name and not name.startswith("bare"):
            print(f"throughput of {name}, of the bare step: {median['bare step, 256 rows'] / median[name]:.2f}")
    print(f"times the throughput of the dict around Keras: {loop:.1f}")
    print(f"bytes of a session beyond its state: {memory(given.units):.0f}")


def memory(units, sessions=200_000):
    """Return how many bytes the process grows by for each session, without the bytes of its state."""
    card = rs.stores.Card("f-w", (("lstm/h", (units,), "float32"), ("lstm/c", (units,), "float32")))
    store = rs.stores.MemoryStore()
    store.write_card(card)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for begin in range(0, sessions, 1000):
        keys = [f"session-{number}" for number in range(begin, begin + 1000)]
        store.commit(rs.stores.Records.of(keys, card, 0.0))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return grown * 1024 / sessions - 2 * units * 4


if __name__ == "__main__":
    main()
