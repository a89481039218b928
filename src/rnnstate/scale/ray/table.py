"""`score_dataset`: a whole dataset, scored as `rnnstate predict` does on one machine."""

import os
from collections.abc import Sequence
from typing import Any

from rnnstate.errors import DataError
from rnnstate.messages import quoted
from rnnstate.scale.backfill import check_backfill, score_frame
from rnnstate.scale.scorer import Layout, layout_of
from rnnstate.scale.shards import SHARDS, check_workers, shard_of

_GROUP = "rnnstate_group"


def score_dataset(
    dataset: Any,
    model: str | os.PathLike[str],
    *,
    key: str | None = None,
    time: str | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    groups: int = 256,
) -> Any:
    """Score a whole dataset, such as `ray.data.read_parquet(path)`. With a RUN the values are those of `rnnstate predict`.

    `map_batches` gives each row its group of shards. A shuffle brings the rows of a group together, and `map_batches` scores
    each group as one batch.

    Args:
        dataset: The dataset.
        model: A RUN or an ONNX file that `rnnstate.export` wrote. Every worker must be able to read the path.
        key: The column of keys, text or whole numbers. A RUN knows it.
        time: The column of times. A RUN knows it.
        inputs: The columns that an ONNX file reads, in the order of its features. A RUN knows them.
        outputs: Names for the outputs of an ONNX file.
        groups: The number of groups, at most 4,096. The rows of one group must fit into the memory of a worker.

    Returns:
        A dataset with the key, the time and a column for each output, in any order of rows.

    Raises:
        DataError: If a column is missing, or there is no time column; in the workers, if times do not fit the RUN.
    """
    layout = layout_of(model, key, time, inputs, outputs)
    check_backfill(layout)
    check_workers(groups)
    names = list(dict.fromkeys([layout.key, *([] if layout.time is None else [layout.time]), *layout.inputs]))
    if missing := [name for name in names if name not in (dataset.columns() or names)]:
        raise DataError(f"The dataset must have columns {quoted(names, 9)}. Received: none named {quoted(missing, 9)}.")
    grouped = dataset.select_columns(names).map_batches(
        _with_group, fn_args=(layout, groups), batch_format="pandas", zero_copy_batch=False
    )
    return grouped.groupby(_GROUP, num_partitions=groups).map_groups(
        _scored, fn_args=(layout, names), batch_format="pandas"
    )


def _with_group(frame: Any, layout: Layout, groups: int) -> Any:
    shards = {key: shard_of(key) for key in frame[layout.key].unique()}
    return frame.assign(**{_GROUP: frame[layout.key].map(shards) * groups // SHARDS})


def _scored(frame: Any, layout: Layout, names: list[str]) -> Any:
    return score_frame(layout, frame[names])
