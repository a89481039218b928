"""A push of sessions that all simply go on: a few calls for all keys, and none for a single one.

    gather    the states of all keys from the table of the store, by one array of places
    step      one compiled window
    check     one sum for each leaf says whether the next states are finite
    scatter   the next states into the table, if nobody has changed a row meanwhile

Most pushes are like this. All others return `None` before anything changes: a new session, a sequence number, a state that
is not finite, a model that raises, a store that is no table. Then `pushes` looks at each key.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.streaming.batches import Batches
from rnnstate.streaming.engine import Arrays, Engine
from rnnstate.streaming.items import Stack
from rnnstate.streaming.stores.store import Store


class Together:
    """Advances sessions that go on.

    Args:
        engine: The model.
        store: Where the sessions are.
        batches: Runs the compiled steps.
    """

    def __init__(self, engine: Engine, store: Store, batches: Batches) -> None:
        self._engine, self._store, self._batches = engine, store, batches

    def run(self, stack: Stack) -> Arrays | None:
        """Advance all sessions of a stack and return their outputs, `(n, ...)` each, or return `None` and change nothing."""
        count, steps = stack.x.shape[:2]
        size = self._batches.size_of(count, steps)
        if size is None or stack.numbers is not None:
            return None
        rows = self._store.gather(stack.texts, size, self._engine.card.model)
        if rows is None:
            return None
        try:
            outputs, leaves = self._batches.at_once(stack.x, rows.leaves, size)
        except Exception:  # `pushes` finds out for which keys the model raises
            return None
        if not all(map(_is_finite, leaves)) or not self._store.scatter(rows, leaves, steps, self._last(outputs)):
            return None
        pairs = zip(self._engine.outputs, outputs, strict=True)
        return [part[:, 0] if stack.single and spec.per_step else part for spec, part in pairs]

    def answers(self, stack: Stack, outputs: Arrays) -> dict[Any, Any]:
        """Return the outputs as users get them, by key. They are parts of one array."""
        rows = outputs[0] if len(outputs) == 1 else map(self._engine.packed, zip(*outputs, strict=True))
        return dict(zip(stack.keys, rows, strict=True))

    def _last(self, outputs: Arrays) -> NDArray[Any] | None:
        if self._engine.card.last is None:
            return None
        last: NDArray[Any] = outputs[0][:, -1]
        if last.dtype == np.float32:
            return last
        with np.errstate(over="ignore"):
            return last.astype(np.float32)


def _is_finite(leaf: NDArray[Any]) -> bool:
    """Return whether all values are finite. A sum that overflows counts as not finite, too."""
    return leaf.dtype.kind != "f" or math.isfinite(np.add.reduce(leaf, axis=None))
