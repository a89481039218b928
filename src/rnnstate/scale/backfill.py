"""Whole sequences of some keys, scored at once from their beginning: what a batch engine runs for each group of shards."""

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.scale.events import Rules, absorb
from rnnstate.scale.scorer import Array, Layout, scorer_of

if TYPE_CHECKING:
    from rnnstate.forecasting.predictor import Predictor

_RUNS: dict[str, "Predictor"] = {}


def check_backfill(layout: Layout) -> None:
    """Raise unless rows have an order that survives a shuffle.

    Raises:
        DataError: If there is no time column.
    """
    if layout.time is None:
        raise DataError(
            "Rows on an engine have no order, so a back-fill needs a time column. Received: none. Train the RUN with "
            "--time, or give `time=` for an ONNX file."
        )


def score_frame(layout: Layout, frame: Any) -> Any:
    """Score a frame of pandas that holds whole sequences, in any order of rows.

    Args:
        layout: The model and its columns.
        frame: The rows of some keys, all rows of each of them.

    Returns:
        A frame with the key, the time and the outputs of each row, in the order of key and time. A RUN gives what
        `rnnstate predict` gives. With an ONNX file each key starts from the initial state, and again after a missing value.
    """
    columns = [layout.key, *([] if layout.time is None else [layout.time])]
    frame = frame.sort_values(columns, kind="stable").reset_index(drop=True)
    outputs = _from_run(layout, frame) if layout.is_run else _from_file(layout, frame)
    result = frame[columns].copy()
    for name, column in zip(layout.outputs, outputs.T, strict=True):
        result[name] = column
    return result


def _from_run(layout: Layout, frame: Any) -> Array:
    complete = frame[[*layout.inputs, layout.time]].notna().all(axis=1)
    if (
        not complete.any()
    ):  # a RUN refuses such a table, because the user has named wrong columns; here it is one of many
        return np.full((len(frame), len(layout.outputs)), np.nan)
    if layout.path not in _RUNS:
        scorer_of(layout)  # sets the backend, and refuses a model that does not score row by row
        from rnnstate.forecasting.predictor import load_run

        _RUNS[layout.path] = load_run(layout.path)
    predicted = _RUNS[layout.path].predict(frame)
    return np.asarray(predicted[list(layout.outputs)].to_numpy(dtype=np.float64, na_value=np.nan))


def _from_file(layout: Layout, frame: Any) -> Array:
    keys = np.array([str(key) for key in frame[layout.key]])
    numbers = np.asarray(frame.groupby(layout.key).cumcount(), np.int64)
    values = frame[list(layout.inputs)].to_numpy(dtype=np.float64, na_value=np.nan)
    return absorb(scorer_of(layout), Rules(), {}, keys, numbers, None, values)[0]
