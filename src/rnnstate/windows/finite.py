"""The check of the values of each batch: a user may change an array after `Windows` was made, or make batches alone.

One value that is not finite makes the state, the loss and then all weights not finite, without an error.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from rnnstate.errors import DataError
from rnnstate.network.finite import is_finite
from rnnstate.windows.arrays import REPAIR, Array
from rnnstate.windows.batch import Batch
from rnnstate.windows.plan import Index, WindowPlan
from rnnstate.windows.sequences import Sequences


def check_cut(data: Sequences, plan: WindowPlan, index: Index, inputs: Batch, rest: Sequence[Any]) -> None:
    """Raise if a batch that was cut from the data holds a value that is not finite.

    Args:
        data: The data of all sequences, which were finite when they were read.
        plan: Which window each row of each batch holds.
        index: Number of the batch, or the numbers of several, which are stacked along a new first axis.
        inputs: The inputs of the batch.
        rest: The targets, and the weights if there are any.

    Raises:
        DataError: If a value is not finite. The message names the window.
    """
    for label, part in _named_parts(data, inputs, rest):
        if not _is_fine(part):
            batches = index if isinstance(index, range) else range(index, index + 1)
            values = part if isinstance(index, range) else part[None]
            place = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
            window = batches[place[0]], place[1]
            raise DataError(
                f"`{label}` must be finite. Received: {values[place]} in the window from step {plan.start[window]} of "
                f"sequence {data.keys[plan.sequence[window]]!r}. The array was finite when `Windows` was made, and was "
                f"changed since. {REPAIR}"
            )


def check_own(inputs: Batch, index: int, keys: Sequence[Any]) -> None:
    """Raise if the inputs of a batch that a user made hold a value that is not finite.

    Args:
        inputs: The inputs of the batch.
        index: Number of the batch.
        keys: Keys of the sequences.

    Raises:
        DataError: If a value is not finite. The message names the batch and the key.
    """
    for part in keras.tree.flatten(inputs.x):
        if isinstance(part, np.ndarray) and not _is_fine(part):
            place = tuple(np.argwhere(~np.isfinite(part))[0].tolist())
            slot = int(np.asarray(inputs.slot)[place[0]])
            row = f"row {place[0]}" + (f", sequence {keys[slot]!r}" if slot >= 0 else ", which holds no window")
            raise DataError(f"`x` must be finite. Received: {part[place]} in batch {index}, {row}. Fill the value.")


def _named_parts(data: Sequences, inputs: Batch, rest: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    given = [fields for fields in (data.x, data.y, data.weights) if fields]
    for fields, part in zip(given, (inputs.x, *rest), strict=True):
        for name, field in fields.items():
            yield field.label, part if name is None else part[name]
    if inputs.observed is not None:
        yield "observed", inputs.observed


def _is_fine(array: Array) -> bool:
    # NumPy reports bfloat16 as kind "V", and does not search it.
    return array.dtype.kind != "f" or is_finite(array)
