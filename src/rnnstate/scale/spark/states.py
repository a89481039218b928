"""The states of a checkpoint as a table, as a savepoint, and a savepoint as the states of a new checkpoint."""

import os
from typing import Any

import numpy as np
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from rnnstate.errors import DataError
from rnnstate.scale.records import LeafBytes
from rnnstate.scale.scorer import layout_of, scorer_of
from rnnstate.scale.shards import SHARDS, shard_of_text
from rnnstate.scale.spark.columns import RECORD_SCHEMA, SHARD, TEXT
from rnnstate.scale.spark.processor import RECORDS
from rnnstate.streaming.keys import split
from rnnstate.streaming.stores.memory import MemoryStore
from rnnstate.streaming.stores.records import Card, Records

_STATE = "statestore"


def read_states(spark: Any, checkpoint: str | os.PathLike[str], batch: int | None = None) -> Any:
    """Return the records of a checkpoint as a table, with a row for each key. No query need run, and none is disturbed.

    Args:
        spark: The session.
        checkpoint: The `checkpointLocation` of a query of `score_stream`.
        batch: The batch after which to look. The default is the last one that was committed.

    Returns:
        A frame with `key` (as text; a whole number follows a character 1), `shard`, `number`, `count`, `time` (seconds),
        `model`, `leaves` (bytes), `starts`, `repeated`, `early` and `shards`.
    """
    reader = spark.read.format(_STATE).option("stateVarName", RECORDS)
    reader = reader if batch is None else reader.option("batchId", batch)
    found = reader.load(os.fspath(checkpoint))
    fields = [F.col(f"user_map_value.{field.name}").alias(field.name) for field in RECORD_SCHEMA]
    return found.select(F.col("user_map_key.key").alias("key"), F.col(f"key.{SHARD}").alias("shard"), *fields)


def save_states(
    spark: Any,
    checkpoint: str | os.PathLike[str],
    path: str | os.PathLike[str],
    model: str | os.PathLike[str],
    **columns: Any,
) -> int:
    """Write the states of a checkpoint to a savepoint, which every store of `rnnstate.stores` loads.

    The driver holds all states at once: use it for up to about a million keys, and `read_states` for more. A state that has
    expired, or ended in a gap, is left out.

    Args:
        spark: The session.
        checkpoint: The `checkpointLocation` of a query of `score_stream`.
        path: The file to write, usually `*.safetensors`.
        model: The RUN or the ONNX file of the query.
        columns: `key`, `inputs` and `outputs` of an ONNX file, as in `score_stream`.

    Returns:
        The number of sessions.

    Raises:
        DataError: If a record is of another model.
    """
    card = scorer_of(layout_of(model, **columns)).card
    rows = [row for row in read_states(spark, checkpoint).collect() if row["leaves"]]
    if other := {row["model"] for row in rows} - {card.model}:
        raise DataError(f"Every record must be of this model, {card.model}. Received: records of {sorted(other)[0]}.")
    rows.sort(key=lambda row: row["key"])
    records = Records.of([row["key"] for row in rows], card, updated=0.0)
    records.count[:] = [row["count"] for row in rows]
    records.number[:] = [row["number"] for row in rows]
    records.updated[:] = [row["time"] or 0.0 for row in rows]
    if records.last is not None:
        records.last[:] = np.nan  # Spark does not keep outputs, and a free run must not start from zeros
    if rows:
        records.leaves = LeafBytes(card).unpack([bytes(row["leaves"]) for row in rows])
    store = MemoryStore()
    store.write_card(card)
    store.commit(records)
    return store.save(path)


def seed_states(spark: Any, path: str | os.PathLike[str]) -> Any:
    """Return the sessions of a savepoint as a frame that `score_stream` takes as `seeds`.

    The next event of a session has the number after its last sequence number; without numbers, it has the number of steps
    that the session has made. Named checkpoints of sessions stay in the file.

    Args:
        spark: The session.
        path: A savepoint, which `save_states` or `save` of any store wrote.

    Raises:
        DataError: If the file is no savepoint, truncated or changed.
    """
    store = MemoryStore()
    store.load(path)
    card = store.read_card()
    records = store.read(sorted(text for text in list(store.keys()) if split(text)[1] is None)).records
    if card is None or not len(records):
        raise DataError(f"A savepoint must hold a session to start from. Received: `{path}`, with none.")
    return spark.createDataFrame(_seed_rows(records, card), _SEED_SCHEMA)


_SEED_SCHEMA = T.StructType(
    [
        T.StructField(SHARD, T.IntegerType()),
        T.StructField(TEXT, T.StringType()),
        *(field for field in RECORD_SCHEMA if field.name in ("number", "count", "time", "model", "leaves", "shards")),
    ]
)


def _seed_rows(records: Records, card: Card) -> list[tuple[Any, ...]]:
    leaves = LeafBytes(card).pack({name: np.asarray(leaf) for name, leaf in records.leaves.items()})
    counters = zip(records.keys, records.number.tolist(), records.count.tolist(), leaves, strict=True)
    # The time of a record is when it was written, which is no event time, so a seed does not expire before its first event.
    return [
        (shard_of_text(key), key, number, count, None, card.model, leaf, SHARDS)
        for key, number, count, leaf in counters
    ]
