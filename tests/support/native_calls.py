"""Calls of the native library without a backend: NumPy arrays in, one cell, one level of instructions."""

from contextlib import contextmanager

import numpy as np

from rnnstate.kernels.native.library import (
    STEPS_OF_SUMS,
    levels,
    library,
    line_of_sums,
    lines_of_sums,
    strip_count,
    use_level,
)

LSTM, GRU, RNN = range(3)
GATES = {LSTM: 4, GRU: 3, RNN: 1}
# The arrays of a call in their order: forward, for sums, and back.
_FIRST, _LAST = ("start", "initial", "mask", "reset", "recurrent"), ("spare", "strips")
NAMES = (*_FIRST, "bias", "given", "kernel", "input_bias", "x", "outputs", "kept", "final", *_LAST)
NAMES_SUMS = (*_FIRST, "d_x", "given", "outputs", "d_kept", "sums_x", "sums_h", "none", "none", *_LAST)
NAMES_BACK = (*_FIRST, "d_outputs", "d_final", "outputs", "none", "x", "kept", "d_start", "d_initial", *_LAST)


@contextmanager
def at_level(name):
    """Run the native loops with the instructions of a level."""
    use_level(library(), name)
    try:
        yield
    finally:
        use_level(library())


def all_levels():
    """Return the names of the levels that this processor can run."""
    return list(levels(library()))


def numbers(seed, *shape):
    """Return random float32 in -1 to 1."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def forward_arrays(cell, rows, time, units, scale=1.0):
    """Return the arrays of a call forward, with weights in -scale to scale."""
    width, leaves = GATES[cell] * units, 2 if cell == LSTM else 1
    return {
        "start": numbers(1, leaves, rows, units),
        "recurrent": numbers(2, units, width) * np.float32(scale),
        "bias": numbers(3, width) if cell == GRU else None,
        "x": numbers(4, rows, time, width),
        "outputs": np.full((rows, time, units), np.nan, "float32"),
        "kept": np.full((rows, time, units * (cell != RNN)), np.nan, "float32"),
        "final": np.full((leaves, rows, units), np.nan, "float32"),
        "spare": np.full((rows, 1, width), np.nan, "float32"),
    }


def back_arrays(cell, forward):
    """Return the arrays of the way back, after a call forward."""
    start, outputs = forward["start"], forward["outputs"]
    return {
        "start": start,
        "recurrent": forward["recurrent"],
        "d_outputs": numbers(5, *outputs.shape),
        "d_final": numbers(6, *start.shape),
        "outputs": outputs,
        "x": forward["x"].copy(),
        "kept": forward["kept"].copy(),
        "d_start": np.full_like(start, np.nan),
        "d_initial": np.full_like(start, np.nan),
        "spare": np.full_like(forward["spare"], np.nan),
    }


def sums(arrays, level, blocks=None):
    """Sum the gradients of the kernels, in blocks of strips. Results are filled in place."""
    with at_level(level):
        strips, width = strip_count(arrays["d_x"].shape[2]), library().width
        inner = arrays["given"].shape[2] + arrays["outputs"].shape[2]
        spare = np.full((strips, STEPS_OF_SUMS, line_of_sums(inner)), np.nan, "float32")
        in_strips = np.full((strips, lines_of_sums(inner), width), np.nan, "float32")
        table = _table((0, 2), NAMES_SUMS, {**arrays, "spare": spare, "strips": in_strips})
        for lo, hi in [(0, strips)] if blocks is None else [(strip, strip + 1) for strip in range(strips)]:
            library().rnnstate_run(table.ctypes.data, lo, hi)


def _table(first, names, arrays):
    words = list(first)
    for array in map(arrays.get, names):
        words += (0, 1, 1, 0) if array is None else (array.ctypes.data, *(1, 1, 1)[array.ndim :], *array.shape)
    return np.array(words, "int64")


def run(cell, arrays, level, back=False, strips=True, blocks=None, pool=False):
    """Run a call in place, in blocks of rows or on the threads of the pool. Return the arrays."""
    rows = arrays["start"].shape[1]
    with at_level(level):
        recurrent = arrays["recurrent"]
        lines, columns = recurrent.shape[::-1] if back else recurrent.shape
        if back and not strips:
            recurrent = np.ascontiguousarray(recurrent.T)
        lines += 0 if back or arrays.get("kernel") is None else len(arrays["kernel"])
        packed = np.full((strip_count(columns), lines, library().width), np.nan, "float32") if strips else None
        names, given = NAMES_BACK if back else NAMES, {**arrays, "recurrent": recurrent, "strips": packed}
        table = _table((cell, int(back)), names, given)
        library().rnnstate_pack(table.ctypes.data)
        if pool:
            library().rnnstate_run_pool(table.ctypes.data)
            return arrays
        for lo, hi in blocks or [(0, rows)]:
            library().rnnstate_run(table.ctypes.data, lo, hi)
    return arrays
