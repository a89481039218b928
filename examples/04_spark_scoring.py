"""Score many keys on Spark: a table in the past, then a stream that is stopped and started again.

1. Train a RUN on two houses, on this machine.
2. Back-fill: score a Parquet file of other houses on Spark. The values equal the values of `rnnstate predict`.
3. Stream: score the same rows as numbered events. The query is stopped in the middle and started again from its checkpoint,
   and gets events that it has seen before. The values are those of one pass on this machine.

Run it: `pip install "rnnstate[spark]"`, Java 17, then `python examples/04_spark_scoring.py` (`--quick` for a small one).
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

import rnnstate as rs
from rnnstate.cli.app import main as rnnstate
from rnnstate.scale.spark import read_states, score_stream, score_table

SETTINGS = {
    "spark.master": "local[2]",
    "spark.sql.shuffle.partitions": "1",  # in a cluster: the number of tasks, fixed for the life of a checkpoint
    "spark.ui.enabled": "false",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.python.authenticate.socketTimeout": "120s",  # a busy machine starts workers slowly
    "spark.sql.session.timeZone": "UTC",
    "spark.log.level": "ERROR",
}


def table(houses, steps):
    """Return a table of the mean power of some houses, one row for each quarter of an hour."""
    at = pd.date_range("2026-01-01", periods=steps, freq="15min", unit="us")
    parts = []
    for house in houses:
        rng = np.random.default_rng([house, 5])
        load = 2 + np.sin(np.arange(steps) / (5 + house % 7)) + 0.1 * rng.normal(size=steps)
        parts.append(pd.DataFrame({"house": f"house {house}", "at": at, "load": load, "number": np.arange(steps)}))
    return pd.concat(parts, ignore_index=True)


def train(folder, epochs):
    """Train a RUN on two houses and return its folder."""
    table(range(2), 200).drop(columns="number").to_parquet(folder / "train.parquet")
    words = "--target load --key house --time at --window 16 --layers gru:4 --quiet --no-report"
    words += f" --learning-rate 0.03 --epochs {epochs}"
    status = rnnstate(["train", str(folder / "train.parquet"), *words.split(), "--out", str(folder / "power.run")])
    assert status == 0
    return folder / "power.run"


def stream(spark, model, folder):
    """Score all events that are in the folder, and go on from the checkpoint if there is one.

    Spark gives a Python worker ten seconds to start. On a busy machine that is too short, and the query starts again.
    """
    schema = "house string, at timestamp, load double, number long"
    events = spark.readStream.schema(schema).parquet(str(folder / "events"))
    scored = score_stream(events, model, number="number")
    writer = scored.writeStream.format("parquet").option("path", str(folder / "scored"))
    for left in reversed(range(5)):
        try:
            query = writer.option("checkpointLocation", str(folder / "checkpoint")).trigger(availableNow=True).start()
            query.awaitTermination()
            return
        except StreamingQueryException as error:
            if "failed to connect back" not in str(error) or not left:
                raise


def difference(frame, expected):
    """Return how far predictions are from those of one machine, after both are sorted."""
    columns = ["house", "at"]
    ours, theirs = (part.sort_values(columns)["load_in_1"].to_numpy(float) for part in (frame, expected))
    assert len(ours) == len(theirs)
    return np.abs(ours - theirs).max()


def main():
    """Run all three parts."""
    quick = "--quick" in sys.argv
    os.environ["PYSPARK_PYTHON"] = sys.executable  # the workers use this environment
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = train(folder, 1 if quick else 30)
        rows = table(range(10, 12 if quick else 30), 60)
        expected = rs.load_run(model).predict(rows)
        builder = SparkSession.builder
        for setting, value in SETTINGS.items():
            builder = builder.config(setting, value)
        spark = builder.getOrCreate()

        rows.to_parquet(folder / "rows.parquet", index=False)
        scored = score_table(spark.read.parquet(str(folder / "rows.parquet")), model, groups=4).toPandas()
        print(
            f"back-fill: {len(scored):,} rows differ from `rnnstate predict` by at most {difference(scored, expected):.0e}"
        )
        assert difference(scored, expected) < 1e-5

        (folder / "events").mkdir()
        rows[rows.number < 30].to_parquet(folder / "events" / "0.parquet", index=False)
        stream(spark, model, folder)
        rows[rows.number >= 25].to_parquet(folder / "events" / "1.parquet", index=False)  # 25 to 29 were there before
        stream(spark, model, folder)
        found = spark.read.parquet(str(folder / "scored")).toPandas()
        print("stream, in two runs of the query:", found.status.value_counts().to_dict())
        taken = found[found.status.isin(["started", "scored"])]
        print(f"stream: {len(taken):,} events differ from one machine by at most {difference(taken, expected):.0e}")
        assert difference(taken, expected) < 1e-5
        read_states(spark, folder / "checkpoint").select("key", "shard", "number", "count", "repeated").show(3)
        spark.stop()


if __name__ == "__main__":
    main()
