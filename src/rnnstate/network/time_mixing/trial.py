"""The runs of one node with one number of steps, and what a comparison of their outputs tells.

Each call of a node takes all kinds of random values as rows of one batch, and all calls of a trial have one shape. So a
backend that compiles compiles once for each number of steps.
"""

from functools import cached_property
from typing import Any

import numpy as np

from rnnstate.network.time_mixing.cases import Cases, Node

TOLERANCE = 1e-4  # of two windows against one run, which may round differently; half precision gets more
EXACT = 1e-6  # of runs of one length, which round alike
# Changed values are larger, so that a maximum or a norm over several steps cannot miss them.
LARGER = 3.0

Outputs = list[list[np.ndarray]]  # for each kind of values, each output of the node


class Trial:
    """Runs of a node on windows of one length. Each run is made when a test first needs it, and kept.

    Args:
        node: The node.
        steps: The number of steps.
    """

    def __init__(self, node: Node, steps: int) -> None:
        self.node, self.steps = node, steps
        self._values: Cases = node.random(steps)
        self._before: Outputs = node.run(self._values)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each output."""
        return [output.shape for output in self._before[0]]

    def offsets(self, number: int) -> set[int]:
        """Return where the input steps lie, relative to a step, on which the output `number` at this step depends."""
        return {
            step - int(out)
            for step, after in self._changed.items()
            for one, other in _pairs(self._before, after, number)
            for out in _different_steps(one, other)
        }

    def same_in_another_order(self, number: int) -> bool:
        """Whether another order of the steps changes the order of the outputs, and nothing else."""
        return all(_close(one[:, self._order], other) for one, other in _pairs(self._before, self._reordered, number))

    def same_in_halves(self, number: int) -> bool:
        """Return whether two runs on the halves give the same outputs as one run on the whole."""
        return all(
            _close(one[:, part], other)
            for part, after in zip(self._halves, self._halved, strict=True)
            for one, other in _pairs(self._before, after, number)
        )

    @cached_property
    def _changed(self) -> dict[int, Outputs]:
        """The outputs after a change of the first, a middle or the last step. These show the whole range of a dependence."""
        others = self.node.random(self.steps, seed=1, scale=LARGER)
        steps = sorted({0, self.steps // 2, self.steps - 1})
        return {step: self.node.run(self.node.change(self._values, others, [step])) for step in steps}

    @property
    def _order(self) -> np.ndarray:
        return np.roll(np.arange(self.steps), 1)

    @cached_property
    def _reordered(self) -> Outputs:
        return self.node.run(self.node.part(self._values, self._order))

    @property
    def _halves(self) -> tuple[slice, slice]:
        return slice(self.steps // 2), slice(self.steps // 2, None)

    @cached_property
    def _halved(self) -> list[Outputs]:
        return [self.node.run(self.node.part(self._values, part)) for part in self._halves]


def _pairs(before: Outputs, after: Outputs, number: int) -> Any:
    return ((one[number], other[number]) for one, other in zip(before, after, strict=True))


def _different_steps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if one.dtype.kind != "f":
        differs = one != other
    else:
        with np.errstate(invalid="ignore"):
            differs = ~(
                (np.abs(one - other) <= EXACT * _scale(one)) | (one == other) | (np.isnan(one) & np.isnan(other))
            )
    return np.flatnonzero(differs.any(axis=tuple(axis for axis in range(one.ndim) if axis != 1)))


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=0, atol=TOLERANCE * _scale(one), equal_nan=True))


def _scale(values: np.ndarray) -> float:
    return max(1.0, float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values))))
