"""`score_table`: a whole table, scored as `rnnstate predict` does on one machine."""

import os
from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from rnnstate.scale.backfill import check_backfill, score_frame
from rnnstate.scale.scorer import layout_of
from rnnstate.scale.shards import SHARDS, check_workers
from rnnstate.scale.spark.columns import SHARD, TEXT, check_columns, result_schema, with_shards

_GROUP = "rnnstate_group"


def score_table(
    frame: Any,
    model: str | os.PathLike[str],
    *,
    key: str | None = None,
    time: str | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    groups: int = 256,
) -> Any:
    """Score a whole table, such as `spark.read.parquet(path)`. With a RUN the values are those of `rnnstate predict`.

    The rows of a key are brought together and sorted by time. The keys of a group of shards run in one batch.

    Args:
        frame: The table, a frame that does not stream.
        model: A RUN or an ONNX file that `rnnstate.export` wrote. Every worker must be able to read the path.
        key: The column of keys, text or whole numbers. A RUN knows it.
        time: The column of times. A RUN knows it.
        inputs: The columns that an ONNX file reads, in the order of its features. A RUN knows them.
        outputs: Names for the outputs of an ONNX file.
        groups: The number of groups, at most 4,096. The rows of one group must fit into the memory of a worker.

    Returns:
        A frame with the key, the time and a column for each output, in any order of rows.

    Raises:
        DataError: If a column is missing, or there is no time column; in the workers, if times do not fit the RUN.
    """
    layout = layout_of(model, key, time, inputs, outputs)
    check_backfill(layout)
    check_workers(groups)
    times = [] if layout.time is None else [layout.time]
    check_columns(frame, [layout.key, *times, *layout.inputs])
    chosen = list(dict.fromkeys([layout.key, *times, *layout.inputs]))
    sharded = with_shards(frame.select(*chosen), layout.key)
    grouped = sharded.withColumn(_GROUP, (F.col(SHARD) * F.lit(groups) / F.lit(SHARDS)).cast("int")).drop(TEXT, SHARD)

    def score(rows: Any) -> Any:
        return score_frame(layout, rows[chosen])

    return grouped.groupBy(_GROUP).applyInPandas(score, result_schema(frame, layout, times, []))
