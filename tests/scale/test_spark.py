"""Scoring on the real Spark: the state is exact once over restarts, and a back-fill equals `rnnstate predict`."""

import os
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql.streaming.tws_tester import TwsTester

import rnnstate as rs
from rnnstate.scale.events import Rules
from rnnstate.scale.records import LeafBytes
from rnnstate.scale.scorer import Scorer, layout_of
from rnnstate.scale.spark import read_states, save_states, score_stream, score_table, seed_states
from rnnstate.scale.spark.columns import TEXT, to_record
from rnnstate.scale.spark.processor import ShardProcessor
from sums_file import write_sums

pytestmark = pytest.mark.once

SCHEMA = "key string, number long, at timestamp, x double"
COLUMNS = {"key": "key", "inputs": ["x"], "outputs": ["sum"]}
KEYS, STEPS, CUTS = [f"k{at}" for at in range(11)], 17, (0, 5, 7, 17)


@pytest.fixture(scope="module")
def numbers():
    """Return whole numbers by key, whose sums are exact."""
    rng = np.random.default_rng(11)
    return {key: rng.integers(1, 9, STEPS).astype(float) for key in KEYS}


@pytest.fixture
def source(tmp_path, numbers):
    """Write a file for each batch: shuffled events, two repeated ones, and an early one for the second batch."""
    folder = tmp_path / "events"
    folder.mkdir()
    rng = np.random.default_rng(12)
    for at, (begin, end) in enumerate(pairwise(CUTS)):
        rows = [(key, n) for n in range(begin, end) for key in KEYS]
        rows += [("k0", 0), ("k1", 1)] if at else []
        rows += [("k2", 16)] if at == 1 else []
        rows = [rows[place] for place in rng.permutation(len(rows))]
        start = pd.Timestamp("2026-11-30")
        frame = pd.DataFrame(
            [(key, n, start + pd.Timedelta(minutes=n), numbers[key][n]) for key, n in rows],
            columns=["key", "number", "at", "x"],
        )
        frame["at"] = frame["at"].astype("datetime64[us]")
        path = folder / f"{at}.parquet"
        frame.to_parquet(path)
        os.utime(path, (1e9 + at, 1e9 + at))  # Spark reads files in the order of their times
    return folder


def stream(spark, source, model, checkpoint, sink, **options):
    """Score all that a source has, one file for each batch. `sink` gets each batch as a frame of pandas, and its number.

    Spark gives a Python worker ten seconds to start. On a busy machine that is too short, and the query starts again.
    """
    events = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(str(source))
    scored = score_stream(events, model, time="at", **COLUMNS, **options)
    writer = scored.writeStream.foreachBatch(lambda frame, batch: sink(frame.toPandas(), batch))
    for left in reversed(range(5)):
        try:
            query = writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
            query.awaitTermination()
            return
        except StreamingQueryException as error:
            if "failed to connect back" not in str(error) or not left:
                raise


def test_the_state_is_exact_once_over_restarts(spark, source, numbers, tmp_path):
    """Seeds, a sink that fails in a batch, a restart: each event counts once; another model cannot go on.

    The sink gets the batch twice, which is what it means that outputs are not exact once.
    """
    path = write_sums(tmp_path / "sums.onnx")
    streamer = rs.Streamer(path)
    streamer.push({"k3": np.array([[100.0], [numbers["k3"][1]]]), "k4": np.array([[7.0]])})
    streamer.store.save(tmp_path / "seeds.safetensors")
    batches = []

    def failing(frame, batch):
        batches.append((batch, frame))
        if batch == 1:
            raise OSError("the sink is full")

    seeds = seed_states(spark, tmp_path / "seeds.safetensors")
    with pytest.raises(StreamingQueryException, match="the sink is full"):
        stream(spark, source, path, tmp_path / "checkpoint", failing, seeds=seeds)
    stream(spark, source, path, tmp_path / "checkpoint", lambda frame, batch: batches.append((batch, frame)))

    assert [batch for batch, _ in batches] == [0, 1, 1, 2]
    columns = ["key", "number", "sum", "status"]
    first, again = (frame[columns].sort_values(columns).to_numpy().tolist() for _, frame in batches[1:3])
    assert str(first) == str(again)
    rows = pd.concat([frame for _, frame in [*batches[:2], *batches[3:]]])
    taken = rows[rows.status.isin(["started", "scored"])]
    sums = {key: numbers[key].cumsum() for key in KEYS}
    sums["k3"] = sums["k3"] + 100 - numbers["k3"][0]  # its first two events are in the seed
    sums["k4"] = sums["k4"] + 7 - numbers["k4"][0]
    for key, part in taken.groupby("key"):
        skipped = {"k3": 2, "k4": 1}.get(key, 0)
        assert part.sort_values("number").number.tolist() == list(range(skipped, STEPS))
        assert part.sort_values("number")["sum"].tolist() == sums[key][skipped:].tolist()
    assert (rows.status == "repeated").sum() == 2 + 2 + 3
    assert rows[rows.status == "early"][["key", "number"]].values.tolist() == [["k2", 16]]
    assert rows.loc[rows.status.isin(["repeated", "early"]), "sum"].isna().all()
    assert_states(spark, tmp_path, path, sums)
    assert_other_models_are_refused(spark, source, tmp_path)


def assert_states(spark, tmp_path, path, sums):
    """The states are a table, and a savepoint that a `Streamer` goes on from."""
    found = read_states(spark, tmp_path / "checkpoint").toPandas().set_index("key")
    assert sorted(found.index) == sorted(KEYS)
    card = Scorer(layout_of(path, **COLUMNS)).card
    assert set(found.model) == {card.model}
    assert set(found.shards) == {4096}
    last = LeafBytes(card).unpack([bytes(leaves) for leaves in found.leaves])["sum"][:, 0]
    assert dict(zip(found.index, last.tolist(), strict=True)) == {key: series[-1] for key, series in sums.items()}
    assert (found["count"] == STEPS).all()
    assert found.repeated.to_dict() == {key: {"k0": 2, "k1": 2, "k3": 2, "k4": 1}.get(key, 0) for key in KEYS}
    assert found.early["k2"] == 1
    assert read_states(spark, tmp_path / "checkpoint", batch=0).toPandas().number.max() == 4
    assert save_states(spark, tmp_path / "checkpoint", tmp_path / "all.safetensors", path, **COLUMNS) == len(KEYS)
    later = rs.Streamer(path)
    later.store.load(tmp_path / "all.safetensors")
    with pytest.raises(rs.DataError, match="a free run needs its first input"):
        later.rollout("k5", steps=2)
    assert later.rollout("k5", steps=1, x0=np.ones(1)).tolist() == [[sums["k5"][-1] + 1]]
    assert later.push({"k5": np.ones(1)}, numbers={"k5": STEPS})["k5"].tolist() == [sums["k5"][-1] + 1]


def assert_other_models_are_refused(spark, source, tmp_path):
    """A query with another model ends, and the checkpoint stays as it is."""
    other = write_sums(tmp_path / "other.onnx", offset=1)
    pd.read_parquet(source / "0.parquet").assign(number=STEPS).iloc[:1].to_parquet(source / "9.parquet")
    with pytest.raises(StreamingQueryException, match="with other weights"):
        stream(spark, source, other, tmp_path / "checkpoint", lambda frame, batch: None)
    assert read_states(spark, tmp_path / "checkpoint").toPandas().number.max() == STEPS - 1


def test_the_watermark_frees_expired_states(tmp_path):
    """Leaves go as the watermark passes, key by key; counters stay, so the key starts again and repeats are detected."""
    layout = layout_of(write_sums(tmp_path / "sums.onnx"), time="at", **COLUMNS)
    processor = ShardProcessor(layout, Rules(expire_after=10), "number", frees=True)
    tester = TwsTester(processor, timeMode="EventTime", eventTimeExtractor=lambda row: 1000 * row["at"])

    def push(*events):
        frame = pd.DataFrame(events, columns=["key", "number", "at", "x"])
        return tester.testInPandas(7, frame.assign(**{TEXT: frame.key})).status.tolist()

    def kept():
        return {key for (key,), row in tester.peekMapState("records", 7).items() if to_record(row).leaves}

    assert push(("a", 0, 100.0, 1.0), ("b", 0, 105.0, 1.0), ("", 0, 105.0, 1.0)) == ["started", "started", "invalid"]
    tester.setWatermark(110_000)
    assert kept() == {"a", "b"}
    tester.setWatermark(111_000)
    assert kept() == {"b"}
    tester.setWatermark(116_000)
    assert kept() == set()
    assert push(("a", 0, 120.0, 1.0), ("a", 1, 120.0, 1.0), ("b", 2, 120.0, 1.0)) == ["repeated", "started", "early"]
    assert kept() == {"a"}


def test_a_table_equals_predict(spark, run, tmp_path):
    """Rows in any order, over Parquet, give the predictions of the RUN on one machine, with its gaps and its kept states."""
    model, later = run
    expected = rs.load_run(model).predict(pd.read_csv(later)).sort_values(["house", "at"])
    pd.read_csv(later).sample(frac=1, random_state=1).to_parquet(tmp_path / "later.parquet")
    scored = score_table(spark.read.parquet(str(tmp_path / "later.parquet")), model, groups=3).toPandas()
    scored = scored.sort_values(["house", "at"])
    assert scored[["house", "at"]].values.tolist() == expected[["house", "at"]].values.tolist()
    ours, theirs = scored.load_in_1.to_numpy(), expected.load_in_1.to_numpy()
    assert np.isnan(ours).sum() == np.isnan(theirs).sum() == 3
    assert np.nanmax(abs(ours - theirs)) < 1e-5 * np.nanstd(theirs)


def test_columns_are_checked_before_spark_starts_a_query(spark, run):
    """The message names the missing columns, and the argument that a RUN does not need."""
    frame = spark.createDataFrame([("a", 1.0)], "house string, load double")
    with pytest.raises(rs.DataError, match=r"columns `.*Received: none named `at`, `warmth`"):
        score_table(frame, run[0])
    with pytest.raises(rs.DataError, match="A RUN knows its columns. Received: `key`".replace(".", r"\.")):
        score_table(frame, run[0], key="house")


def test_the_example_agrees_with_one_machine(spark, monkeypatch, capsys):
    """The example compares itself with one machine, and stops the engine."""
    path = Path(__file__).parents[2] / "examples" / "04_spark_scoring.py"
    monkeypatch.setattr("sys.argv", [str(path), "--quick"])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("differ from") == 2
