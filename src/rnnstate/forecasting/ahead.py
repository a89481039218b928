"""What is known about the steps after the data: predictions that were made for them, and the last inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnnstate.forecasting.examples import Array
from rnnstate.forecasting.series import Series


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known about the steps after the data of each key, in the data's own units.

    Args:
        targets: Predictions for the next `horizon` steps `(keys, horizon, targets)`, NaN where none was made. The last row
            of the data gives the last of them, the row before it the last but one, and so on.
        inputs: Inputs of the last complete row `(keys, inputs)`, NaN if there is no such row.
    """

    targets: Array
    inputs: Array

    def rows(self, indices: Sequence[int]) -> "Outlook":
        """Return some keys."""
        return Outlook(self.targets[list(indices)], self.inputs[list(indices)])

    def joined(self, other: "Outlook") -> "Outlook":
        """Return the keys of this outlook, followed by the keys of `other`."""
        return Outlook(np.concatenate([self.targets, other.targets]), np.concatenate([self.inputs, other.inputs]))


def look_ahead(
    series: Sequence[Series],
    outputs: Sequence[Array],
    horizon: int,
    rows: Sequence[int] | None = None,
    kept: Outlook | None = None,
) -> Outlook:
    """Return what is known after the last complete row of each series.

    Args:
        series: The data.
        outputs: Predictions at each row `(time, targets)` of each series.
        horizon: How many steps ahead they are.
        rows: For each series its row in `kept`, or -1 if it started fresh.
        kept: What was known before the data. Series that continue have further predictions in it.
    """
    targets = np.full((len(series), horizon, outputs[0].shape[1]), np.nan)
    inputs = np.full((len(series), series[0].values.shape[1]), np.nan)
    for index, (one, output) in enumerate(zip(series, outputs, strict=True)):
        if not len(one.spans):
            continue
        start, stop = one.spans[-1].tolist()
        made = output[start:stop]
        if kept is not None and rows is not None and rows[index] >= 0 and len(one.spans) == 1:
            made = np.concatenate([kept.targets[rows[index]], made])
        made = made[-horizon:]
        targets[index, horizon - len(made) :] = made
        inputs[index] = one.values[stop - 1]
    return Outlook(targets, inputs)
