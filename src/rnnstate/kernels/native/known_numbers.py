"""A loop with known results: a SimpleRNN with a mask and a reset, computed by NumPy. Each backend runs it before first use.

It is large enough for two threads, so that the check covers the threads and the strips.
"""

from typing import Any, NamedTuple

import numpy as np

BATCH, TIME, UNITS = 64, 16, 64
TOLERANCE = 1e-5


class Known(NamedTuple):
    """The arrays of the loop, and h after each step, `(batch, time, units)`.

    Args:
        x: Projected input `(batch, time, units)`.
        start: Leaves before the window, `(1, batch, units)`.
        initial: Leaves after a reset, `(1, batch, units)`.
        mask: Boolean `(batch, time)`.
        reset: Boolean `(batch, time)`.
        recurrent: Recurrent kernel `(units, units)`.
        expected: h after each step.
    """

    x: Any
    start: Any
    initial: Any
    mask: Any
    reset: Any
    recurrent: Any
    expected: Any


def known_loop() -> Known:
    """Return the loop."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (BATCH, TIME, UNITS)).astype("float32")
    start, initial = rng.uniform(-1, 1, (2, 1, BATCH, UNITS)).astype("float32")
    recurrent = (rng.uniform(-1, 1, (UNITS, UNITS)) / UNITS**0.5).astype("float32")
    # Row 1 is masked at step 2; row 2 is reset before step 1.
    mask, reset = np.ones((BATCH, TIME), bool), np.zeros((BATCH, TIME), bool)
    mask[1, 2], reset[2, 1] = False, True
    expected = _by_numpy(x, start[0], initial[0], mask, reset, recurrent)
    return Known(x, start, initial, mask, reset, recurrent, expected)


def difference(known: Known, outputs: Any, final: Any) -> float:
    """Return by how much h and the final h, `(batch, units)`, differ from the known ones. NaN stays NaN."""
    return float(np.maximum(np.abs(outputs - known.expected).max(), np.abs(final - known.expected[:, -1]).max()))


def _by_numpy(x: Any, h: Any, initial: Any, mask: Any, reset: Any, recurrent: Any) -> Any:
    outputs = np.empty_like(x)
    for t in range(x.shape[1]):
        before = np.where(reset[:, t, None], initial, h)
        h = np.where(mask[:, t, None], np.tanh(x[:, t] + before @ recurrent), before)
        outputs[:, t] = h
    return outputs
