"""Measure the cost of scoring on engines, and check the formulas of docs/scoring-at-scale.md.

    python benchmarks/scoring.py cost --engine predict|spark|spark-stream|ray|ray-pool [--keys 100 500]
    python benchmarks/scoring.py growth

`cost` scores tables of two sizes with a RUN (one GRU of 8 units, one input). It prints processor seconds of all processes
and seconds on the clock per million steps, from the difference of the sizes, so the start of an engine does not count.
`growth` prints the bytes of a session in an LMDB store, and how evenly shards and workers are loaded.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

import rnnstate as rs
from rnnstate.cli.app import main as rnnstate
from rnnstate.scale.shards import SHARDS, shard_of, worker_of

STEPS = 200
TICKS = os.sysconf("SC_CLK_TCK")


def table(keys, steps=STEPS):
    """Return a table of numbered events."""
    rng = np.random.default_rng(keys)
    at = pd.date_range("2026-01-01", periods=steps, freq="15min", unit="us")
    frame = pd.DataFrame({"house": np.repeat([f"house {key}" for key in range(keys)], steps)})
    return frame.assign(at=np.tile(at, keys), load=rng.normal(size=len(frame)), number=np.tile(np.arange(steps), keys))


class Processor(threading.Thread):
    """Counts the processor seconds of this process and of all that it starts. It looks five times a second.

    Ray does not record the times of workers that end. So this thread keeps the last time that it saw for each process.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.seconds = {}  # by process and the time at which it started, as numbers of processes come again

    def run(self):
        while True:
            self.look()
            time.sleep(0.2)

    def look(self):
        """Return the seconds until now."""
        parents, found = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                process = int(stat.parent.name)
                parents[process] = int(fields[1])
                found[process] = fields[19], (int(fields[11]) + int(fields[12])) / TICKS
        for process, (started, used) in found.items():
            ancestor = process
            while ancestor not in (0, 1, os.getpid()):
                ancestor = parents.get(ancestor, 0)
            if ancestor == os.getpid():
                self.seconds[process, started] = used
        return sum(self.seconds.values())


def train(folder):
    """Train a RUN and return its folder."""
    table(2).drop(columns="number").to_parquet(folder / "train.parquet")
    words = "--target load --key house --time at --window 16 --layers gru:8 --epochs 1 --quiet --no-report"
    with contextlib.redirect_stdout(io.StringIO()):
        rnnstate(["train", str(folder / "train.parquet"), *words.split(), "--out", str(folder / "power.run")])
    return folder / "power.run"


@contextlib.contextmanager
def spark_session():
    """Start Spark with two threads."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.shuffle.partitions", "2").config("spark.driver.memory", "1g")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.log.level", "ERROR")
    builder = builder.config("spark.python.authenticate.socketTimeout", "120s")  # a busy machine starts workers slowly
    session = builder.getOrCreate()
    yield session
    session.stop()


@contextlib.contextmanager
def predict(model, folder):
    """Score on this machine, without an engine."""
    run = rs.load_run(model)
    yield lambda path, keys: run.predict(str(path))


@contextlib.contextmanager
def spark(model, folder):
    """Back-fill with Spark."""
    from rnnstate.scale.spark import score_table

    with spark_session() as session:

        def score(path, keys):
            scored = score_table(session.read.parquet(str(path)), model, groups=16)
            scored.write.mode("overwrite").parquet(str(folder / "scored"))

        yield score


@contextlib.contextmanager
def spark_stream(model, folder):
    """Stream with Spark, in four batches."""
    from rnnstate.scale.spark import score_stream

    with spark_session() as session:

        def score(path, keys):
            frame, place = pd.read_parquet(path), folder / f"events-{keys}-{time.time_ns()}"
            place.mkdir()
            for at in range(4):
                file = place / f"{at}.parquet"
                frame[frame.number // (STEPS // 4) == at].to_parquet(file, index=False)
                os.utime(file, (1e9 + at, 1e9 + at))
            schema = "house string, at timestamp, load double, number long"
            events = session.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(place))
            writer = score_stream(events, model).writeStream.format("parquet").option("path", str(place / "scored"))
            writer = writer.option("checkpointLocation", str(place / "checkpoint"))
            writer.trigger(availableNow=True).start().awaitTermination()
            written = sum(file.stat().st_size for file in (place / "checkpoint" / "state").rglob("*") if file.is_file())
            print(
                f"{keys} keys in 4 batches: {written / keys:.0f} bytes of state for each key, in all batches together"
            )

        yield score


@contextlib.contextmanager
def ray_cluster():
    """Start Ray with two processors."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**28, log_to_driver=False)
    yield ray
    ray.shutdown()


@contextlib.contextmanager
def ray_table(model, folder):
    """Back-fill with Ray."""
    import ray.data

    from rnnstate.scale.ray import score_dataset

    with ray_cluster():

        def score(path, keys):
            score_dataset(ray.data.read_parquet(str(path)), model, groups=4).write_parquet(str(folder / f"ray-{keys}"))

        yield score


@contextlib.contextmanager
def ray_pool(model, folder):
    """Push live sources, 256 keys at a time and one step each, to two actors over LMDB without waiting for the disk."""
    from rnnstate.scale.ray import Pool

    with ray_cluster(), Pool(model, folder / "sessions", 2, store_options={"sync": False}) as pool:
        begun = iter(range(100))

        def score(path, keys):
            series = {house: part[["load"]].to_numpy() for house, part in pd.read_parquet(path).groupby("house")}
            names, round_ = list(series), next(begun)
            for at in range(0, keys, 256):
                part = names[at : at + 256]
                for step in range(STEPS):
                    x = {f"{round_} {house}": series[house][step] for house in part}
                    pool.push(x, dict.fromkeys(x, step))

        yield score


ENGINES = {
    "predict": (predict, (200, 2000)),
    "spark": (spark, (100, 500)),
    "spark-stream": (spark_stream, (50, 250)),
    "ray": (ray_table, (100, 500)),
    "ray-pool": (ray_pool, (128, 256)),
}


def cost(name, sizes):
    """Print the cost of an engine for each million steps."""
    engine, usual = ENGINES[name]
    sizes = sizes or usual
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        processor = Processor()
        processor.start()
        with engine(train(folder), folder) as score:
            used = []
            for keys in (sizes[0] // 2, *sizes):  # the first one warms up
                frame = table(keys)
                frame.to_parquet(folder / f"{keys}.parquet", index=False)
                before, start = processor.look(), time.perf_counter()
                score(folder / f"{keys}.parquet", keys)
                used.append((processor.look() - before, time.perf_counter() - start))
    small, large = np.array(used[1:])
    processor_s, clock_s = (large - small) / (STEPS * (sizes[1] - sizes[0])) * 1e6
    print(f"{name}: {processor_s:.1f} processor s and {clock_s:.1f} s on the clock per million steps,", end=" ")
    print(f"from {STEPS * sizes[0]:,} and {STEPS * sizes[1]:,} steps; load {os.getloadavg()[0]:.1f}")


def growth():
    """Print what docs/scoring-at-scale.md calculates with: bytes of a session, and the loads of shards and workers."""
    from rnnstate.scale.records import LeafBytes
    from rnnstate.streaming.stores.records import Card, Records

    card = Card("0123456789abcdef-fedcba9876543210", (("gru/h", (64,), "float32"),))
    with tempfile.TemporaryDirectory() as folder:
        store = rs.stores.LmdbStore(folder, sync=False)
        store.write_card(card)
        for count in (20_000, 100_000):
            store.commit(Records.of([f"house {key}" for key in range(count)], card, updated=0.0))
            size = (Path(folder) / "data.mdb").stat().st_blocks * 512
            print(f"LMDB: {size / count:.0f} bytes for each of {count:,} sessions with a state of 256 bytes")
    print("state as bytes:", len(LeafBytes(card).pack({"gru/h": np.zeros((1, 64), "float32")})[0]))
    loads = np.bincount([shard_of(f"house {key}") for key in range(1_000_000)], minlength=SHARDS)
    print(f"shards: 1,000,000 keys, largest {loads.max() / loads.mean():.3f} of the mean", end=", ")
    print(f"as random draws {1 + np.sqrt(2 * np.log(SHARDS) / loads.mean()):.3f}")
    for workers in (16, 100, 1000):
        by_worker = np.bincount([worker_of(shard, workers) for shard in range(SHARDS)], weights=loads)
        formula = np.ceil(SHARDS / workers) * workers / SHARDS
        print(f"{workers} workers: largest {by_worker.max() / by_worker.mean():.3f} of the mean, formula {formula:.3f}")
    rng = np.random.default_rng(0)
    for exponent in (0.8, 1.0, 1.2):
        rate = 1 / np.arange(1, 1_000_001) ** exponent
        by_shard = np.bincount(rng.integers(0, SHARDS, len(rate)), weights=rate / rate.sum(), minlength=SHARDS)
        by_worker = np.bincount([worker_of(shard, 100) for shard in range(SHARDS)], weights=by_shard)
        first = rate[0] / rate.sum()
        print(f"Zipf {exponent}: first key {first:.4f} of all events, largest of 100 workers {by_worker.max():.4f}")


def main():
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "growth"])
    parser.add_argument("--engine", choices=ENGINES, default="predict")
    parser.add_argument("--keys", type=int, nargs=2, help="the two sizes of the table, 200 steps for each key")
    arguments = parser.parse_args()
    growth() if arguments.what == "growth" else cost(arguments.engine, arguments.keys)


if __name__ == "__main__":
    main()
