"""The outputs of batches, sorted into one array in time order for each sequence."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array
from rnnstate.windows.plan import WindowPlan


def assemble(
    outputs: Iterable[Any], plan: WindowPlan, lengths: NDArray[np.int64], keys: Sequence[Hashable], per_step: Any
) -> dict[Hashable, Any]:
    """Return the outputs of each sequence; see `Windows.assemble`."""
    parts: list[_Part] = []
    structure: Any = None
    count = 0
    for output in outputs:
        leaves = [_host(leaf) for leaf in keras.tree.flatten(output)]
        if not parts:
            structure = output
            flags = _flags(per_step, len(leaves))
            parts = [_Part(plan, lengths, leaf, flag) for leaf, flag in zip(leaves, flags, strict=True)]
        if count < plan.num_batches:
            for part, leaf in zip(parts, leaves, strict=True):
                part.put(leaf, count)
        count += 1
    if count != plan.num_batches:
        raise DataError(f"`outputs` must hold {plan.num_batches} batches. Received: {count}.")
    arrays = zip(*(part.arrays for part in parts), strict=True)
    return {key: keras.tree.pack_sequence_as(structure, list(row)) for key, row in zip(keys, arrays, strict=True)}


class _Part:
    """One output of the model, with room for all its sequences."""

    def __init__(self, plan: WindowPlan, lengths: NDArray[np.int64], leaf: Array, per_step: int) -> None:
        self.plan = plan
        self.per_step = per_step
        counts = lengths // per_step if per_step else plan.counts(len(lengths))
        entry = leaf.shape[1 + (per_step > 0) :]
        self.arrays = [np.empty((count, *entry), leaf.dtype) for count in counts.tolist()]

    def put(self, leaf: Array, batch: int) -> None:
        """Copy the output of each row of a batch to its sequence and steps."""
        rate = self.per_step
        expected = (self.plan.rows, self.plan.length // rate) if rate else (self.plan.rows,)
        if leaf.shape[: len(expected)] != expected:
            axes = ", ".join([*map(str, expected), "..."])
            raise DataError(
                f"`outputs` must have shape ({axes}) with per_step={self.per_step}. "
                f"Received: {leaf.shape} in batch {batch}."
            )
        plan = self.plan
        arrays = plan.sequence, plan.start, plan.steps, plan.number
        windows = zip(*(array[batch].tolist() for array in arrays), strict=True)
        for row, (sequence, start, steps, number) in enumerate(windows):
            if sequence >= 0 and rate:
                self.arrays[sequence][start // rate : (start + steps) // rate] = leaf[row, : steps // rate]
            elif sequence >= 0:
                self.arrays[sequence][number] = leaf[row]


def _host(leaf: Any) -> Array:
    # Keras would send a NumPy array to the device and back, at the device's precision.
    return leaf if isinstance(leaf, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(leaf))


def _flags(per_step: Any, count: int) -> list[int]:
    """Return for each output for how many steps it has one entry; 0 for one entry per window."""
    flags = [int(flag) for flag in keras.tree.flatten(per_step)]
    if len(flags) not in (1, count):
        raise DataError(f"`per_step` must have one answer, or one for each of {count} outputs. Received: {len(flags)}.")
    return flags * count if len(flags) == 1 else flags
