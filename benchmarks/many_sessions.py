"""Measures how a store grows: throughput, memory, start-up and recovery with up to 1,000,000 sessions.

    KERAS_BACKEND=jax python benchmarks/many_sessions.py [--seconds 2] [--units 64] [--sessions 1000000] [--durable 100000]
        [--skip-recovery]

The model is one LSTM layer, so a session has two leaves of `--units` values. A push has one step of 256 sessions, or of all
if there are fewer, the next ones each time. All calls take turns. The plain loops keep the states in a dict and step one
session after the other, with Keras' `predict_on_batch` and with onnxruntime. Processor time is the time of all threads of
this process. Other programs disturb it least, and it leaves out the disk and the Redis server.

Recovery: an LMDB folder is opened by a new streamer, which pushes once; `redis-server` is killed and starts on its
append-only file; a savepoint of half of the sessions is written and loaded into a store in memory.
"""

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from streaming import bare, build, keras_loop

import rnnstate as rs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from servers import RedisServer

CHUNK = 10_000


def key(number):
    """Return the key of a session."""
    return f"session-{number}"


def filled(streamer, sessions):
    """Put sessions with random states into the store of a streamer, and return the seconds it took."""
    rng, begin = np.random.default_rng(0), time.perf_counter()
    card = streamer.store.read_card()
    for first in range(0, sessions, CHUNK):
        keys = [key(number) for number in range(first, min(first + CHUNK, sessions))]
        records = rs.stores.Records.of(keys, card, time.time())
        for leaf in records.leaves.values():
            leaf[:] = rng.uniform(-1, 1, leaf.shape)
        streamer.store.commit(records)
    return time.perf_counter() - begin


def pushes(streamer, sessions):
    """Return a call that pushes one step to 256 of the sessions, and the number of its rows."""
    rows, at, x = min(sessions, 256), [0], np.ones(2, "float32")
    streamer.warmup(rows=[1 << (rows - 1).bit_length()], steps=[1])

    def call():
        streamer.push({key((at[0] + row) % sessions): x for row in range(rows)})
        at[0] += rows

    return call, rows


def onnx_loop(path, sessions):
    """Return a call that steps every session of a dict of states with onnxruntime, one after the other."""
    step = rs.onnx_step.load(path)
    states, x = {key(number): step.initial_state(1) for number in range(sessions)}, np.ones((1, 1, 2), "float32")

    def call():
        for name, state in states.items():
            _, states[name] = step.step(x, state)

    return call


def resident():
    """Return the bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def throughput(model, given, folder, server):
    """Print steps per second for each store and number of sessions, and the bytes of a session in memory."""
    model_, plain = model
    calls, rows, state = {"bare step": bare(model_, 256)}, {"bare step": 256}, 2 * given.units * 4
    for sessions in (1, 100, 10_000, given.sessions):
        before, streamer = resident(), rs.Streamer(model_)
        filled(streamer, sessions)
        if sessions == given.sessions:
            each = (resident() - before) / sessions
            print(
                f"memory of a session: {each:.0f} bytes, {state} of them its state; the limit is {1.25 * state + 200:.0f}"
            )
        name = f"{sessions:,} in memory"
        calls[name], rows[name] = pushes(streamer, sessions)
    durable = {
        "LMDB": rs.stores.LmdbStore(folder / "lmdb"),
        "LMDB, sync=False": rs.stores.LmdbStore(folder / "unsynced", sync=False),
        "Redis, appendfsync always": rs.stores.RedisStore(server.url),
    }
    for kind, store in durable.items():
        streamer, name = rs.Streamer(model_, store), f"{given.durable:,} in {kind}"
        filled(streamer, given.durable)
        calls[name], rows[name] = pushes(streamer, given.durable)
    calls["a dict around Keras, 100"], rows["a dict around Keras, 100"] = keras_loop(plain, given.units, 100), 100
    rs.export(model_, folder / "lstm.onnx", format="onnx")
    calls["a dict around onnxruntime, 100"], rows["a dict around onnxruntime, 100"] = (
        onnx_loop(folder / "lstm.onnx", 100),
        100,
    )
    for sessions in (100, 10_000):
        streamer, name = rs.Streamer(folder / "lstm.onnx"), f"{sessions:,} in memory, ONNX file"
        filled(streamer, sessions)
        calls[name], rows[name] = pushes(streamer, sessions)
    for name, times in measured(calls, given.seconds).items():
        (clock, slow), processor = np.quantile(times[:, 0], [0.5, 0.99]), np.median(times[:, 1])
        print(
            f"{name:36s} {rows[name]:4d} rows: median {clock:8.2f} ms, 99% {slow:8.2f} ms, {rows[name] / clock * 1e3:8,.0f} "
            f"steps/s; processor {processor:7.2f} ms, {rows[name] / processor * 1e3:8,.0f} steps/s"
        )


def measured(calls, seconds):
    """Return for each call, all of which take turns, the milliseconds on the clock and of the processor, `(n, 2)`."""
    times = {name: [] for name in calls}
    for _ in range(5):
        for name, call in calls.items():
            end = time.perf_counter() + seconds / 5
            while time.perf_counter() < end:
                begin, used = time.perf_counter(), time.process_time()
                call()
                times[name].append((time.perf_counter() - begin, time.process_time() - used))
    return {name: np.array(found[1:]) * 1e3 for name, found in times.items()}  # the first call warms up


def recovery(model, given, folder):
    """Print how long a store with all sessions takes to open again."""
    streamer = rs.Streamer(model, rs.stores.LmdbStore(folder / "many", sync=False))
    print(f"LMDB: {filled(streamer, given.sessions):.1f} s to write {given.sessions:,} sessions")
    streamer.store.close()
    begin = time.perf_counter()
    again = rs.Streamer(model, rs.stores.LmdbStore(folder / "many"))
    again.push({key(7): np.ones(2)})
    print(f"LMDB: {time.perf_counter() - begin:.3f} s to open it and push once")
    memory = rs.stores.MemoryStore()
    rs.Streamer(model, memory)
    begin = time.perf_counter()
    again.store.save(folder / "all.safetensors", keys=[key(number) for number in range(given.sessions // 2)])
    written = time.perf_counter()
    memory.load(folder / "all.safetensors")
    print(
        f"savepoint of {given.sessions // 2:,} sessions: {written - begin:.1f} s to write it, "
        f"{time.perf_counter() - written:.1f} s to load it into memory"
    )
    shutil.rmtree(folder / "many")


def redis_recovery(model, given, folder):
    """Print how long a killed Redis server takes to start on its file."""
    (folder / "redis-many").mkdir()
    server = RedisServer(folder / "redis-many")
    try:
        server.client().config_set("appendfsync", "no")
        streamer = rs.Streamer(model, rs.stores.RedisStore(server.url))
        print(f"Redis: {filled(streamer, given.sessions):.1f} s to write {given.sessions:,} sessions")
        server.stop(signal.SIGKILL)
        begin = time.perf_counter()
        server.start()
        streamer.push({key(7): np.ones(2)})
        print(f"Redis: {time.perf_counter() - begin:.1f} s to start the server on its file and push once")
    finally:
        server.stop()


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--durable", type=int, default=100_000)
    parser.add_argument("--skip-recovery", action="store_true")
    given = parser.parse_args()
    model = build(given.units)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = RedisServer(folder)
        try:
            throughput(model, given, folder, server)
        finally:
            server.stop()
        if not given.skip_recovery:
            recovery(model[0], given, folder)
            redis_recovery(model[0], given, folder)


if __name__ == "__main__":
    main()
