"""Many keys and lengths in a few compiled shapes.

Rows: a batch is filled up to a power of two. The rows that fill it repeat the first one, and nobody reads their results.

Steps: a push of any length is cut into windows of 1, 4, 16, ... steps, up to a limit, each of which goes on from the state
after the one before. Windows equal the whole, so the cuts change nothing:

    13 steps   | 4 | 4 | 4 |1|
     6 steps   | 4 |1|1|             keys whose next window has the same length share a batch
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.streaming.engine import Arrays, Engine
from rnnstate.streaming.items import Item, Stack

State = dict[str, NDArray[Any]]
_FACTOR = 4


@dataclass
class Outputs:
    """The outputs of several items.

    Args:
        parts: For each output of the model an array with n rows, or for each item a list of arrays.
        count: The number of rows n, or `None` if there is a list for each item.
    """

    parts: list[Any]
    count: int | None

    def row(self, at: int) -> list[NDArray[Any]]:
        """Return the outputs of one item, in the order of the model."""
        return self.parts[at] if self.count is None else [part[at] for part in self.parts]

    def last(self) -> NDArray[Any]:
        """Return the first output after the last step of each item, `(n, *shape)`."""
        if self.count is not None:
            return np.asarray(self.parts[0][:, -1])
        return np.stack([parts[0][-1] for parts in self.parts])

    def take(self, rows: Sequence[int]) -> "Outputs":
        """Return the outputs of some items."""
        if self.count is None:
            return Outputs([self.parts[row] for row in rows], None)
        return Outputs([part[rows] for part in self.parts], len(rows))


class Batches:
    """Runs pushes in shapes that are known beforehand.

    Args:
        engine: The model.
        max_batch: The largest number of rows of a batch, a power of two.
        max_steps: The largest number of steps of a window.
    """

    def __init__(self, engine: Engine, max_batch: int, max_steps: int) -> None:
        self._engine = engine
        self.rows = [engine.rows] if engine.rows else [2**power for power in range(max_batch.bit_length())]
        self.windows = [engine.steps] if engine.steps else [1]
        while not engine.steps and self.windows[-1] * _FACTOR <= max_steps:
            self.windows.append(self.windows[-1] * _FACTOR)

    def advance(self, items: Sequence[Item], leaves: State, stack: Stack | None = None) -> Outputs:
        """Run all items, and return their outputs.

        Args:
            items: What is pushed, n keys.
            leaves: The state of each of them, `(n, *shape)`. It is replaced by the state after the last step.
            stack: The inputs of all items in one array, if the items have no parts.
        """
        if stack is not None:
            return Outputs(self._together(stack.x, leaves), len(items))
        outputs: list[list[Arrays]] = [[] for _ in items]
        done = [0] * len(items)
        for steps, rows in self._plan(items, done):
            for begin in range(0, len(rows), self.rows[-1]):
                part = rows[begin : begin + self.rows[-1]]
                results = self._window([items[row] for row in part], [done[row] for row in part], steps, leaves, part)
                for at, row in enumerate(part):
                    outputs[row].append([result[at] for result in results])
                    done[row] += steps
        return Outputs([self._joined(parts) for parts in outputs], None)

    def size_of(self, count: int, steps: int) -> int | None:
        """Return the number of rows of a compiled shape that holds a push, or `None` if it takes several windows."""
        if count > self.rows[-1] or not (steps in self.windows or self._engine.whole):
            return None
        return next(size for size in self.rows if size >= count)

    def at_once(self, x: NDArray[Any], given: Arrays, size: int) -> tuple[Arrays, Arrays]:
        """Run one window of all rows of `x`, `(n, time, features)`.

        Args:
            x: The inputs of n rows.
            given: The leaves of `size` rows.
            size: The number of rows of a compiled shape.

        Returns:
            The outputs and the leaves of n rows.
        """
        count = len(x)
        outputs, final = self._engine.run([x if size == count else _filled(x, size)], given)
        if size == count:
            return outputs, final
        return [output[:count] for output in outputs], [leaf[:count] for leaf in final]

    def _together(self, x: NDArray[Any], leaves: State) -> Arrays:
        """Run all rows of `x`, `(n, time, features)`, replace the leaves, and return the outputs `(n, ...)`."""
        size, parts = self.rows[-1], list[Arrays]()
        if len(x) <= size:
            return self._in_time(x, leaves)
        for rows in (slice(begin, begin + size) for begin in range(0, len(x), size)):
            own = {name: leaf[rows] for name, leaf in leaves.items()}
            parts.append(self._in_time(x[rows], own))
            for name, leaf in own.items():
                leaves[name][rows] = leaf
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _in_time(self, x: NDArray[Any], leaves: State) -> Arrays:
        """Run one window after the other of the rows of one batch, and replace the leaves."""
        windows, given = list[Arrays](), list(leaves.values())
        size = next(size for size in self.rows if size >= len(x))
        for begin, end in self._cuts(x.shape[1]):
            # Copies, because the strides of a view would be another shape to PyTorch.
            part, padded = np.array(x[:, begin:end], order="C"), [_filled(leaf, size) for leaf in given]
            outputs, given = self.at_once(part, padded, size)
            windows.append(outputs)
        leaves.update(zip(leaves, given, strict=True))
        return self._joined(windows, axis=1)

    def _cuts(self, steps: int) -> Iterator[tuple[int, int]]:
        """Yield where the windows of a push begin and end."""
        begin = 0
        for length in (steps,) if self._engine.whole and not self._engine.steps else reversed(self.windows):
            while steps - begin >= length:
                yield begin, begin + length
                begin += length

    def _plan(self, items: Sequence[Item], done: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield a number of steps, and the rows whose next window has so many, until all are done."""
        if self._engine.whole and not self._engine.steps:
            for steps in sorted({item.steps for item in items}):
                yield steps, [row for row, item in enumerate(items) if item.steps == steps]
            return
        for steps in reversed(self.windows):
            while rows := [row for row, item in enumerate(items) if item.steps - done[row] >= steps]:
                yield steps, rows

    def _window(self, items: list[Item], begins: list[int], steps: int, leaves: State, rows: list[int]) -> Arrays:
        """Run one window of some rows, write their states to `leaves`, and return the outputs `(rows, ...)`."""
        count = len(rows)
        size = next(size for size in self.rows if size >= count)
        inputs = []
        for at, spec in enumerate(self._engine.inputs):
            shape = (size, steps, *spec.shape) if spec.per_step else (size, *spec.shape)
            batch = np.empty(shape, spec.dtype)
            for row, (item, begin) in enumerate(zip(items, begins, strict=True)):
                batch[row] = item.parts[at][begin : begin + steps] if spec.per_step else item.parts[at]
            batch[count:] = batch[0]
            inputs.append(batch)
        places = np.array(rows + rows[:1] * (size - count), np.int64)
        outputs, final = self._engine.run(inputs, [leaf[places] for leaf in leaves.values()])
        for leaf, new in zip(leaves.values(), final, strict=True):
            leaf[places[:count]] = new[:count]
        return outputs

    def _joined(self, parts: list[Arrays], axis: int = 0) -> list[NDArray[Any]]:
        """Join outputs per step of several windows along `axis`, the time axis. Of outputs per window, return the last."""
        if len(parts) == 1:
            return parts[0]
        return [
            np.concatenate([part[at] for part in parts], axis) if spec.per_step else parts[-1][at]
            for at, spec in enumerate(self._engine.outputs)
        ]

    def warm_up(self, rows: Sequence[int] | None, windows: Sequence[int] | None) -> int:
        """Run every shape once, so that it is compiled. Return the number of shapes."""
        shapes = [(size, steps) for size in rows or self.rows for steps in windows or self.windows]
        for size, steps in shapes:
            x = [
                np.zeros((size, steps, *spec.shape) if spec.per_step else (size, *spec.shape), spec.dtype)
                for spec in self._engine.inputs
            ]
            leaves = [np.zeros((size, *shape), dtype) for _, shape, dtype in self._engine.card.leaves]
            self._engine.run(x, leaves)
        return len(shapes)


def _filled(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Return an array with more rows, which repeat the first one."""
    whole = np.empty((size, *array.shape[1:]), array.dtype)
    whole[: len(array)], whole[len(array) :] = array, array[0]
    return whole
