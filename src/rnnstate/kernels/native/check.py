"""Two checks before native code is used: XLA's header has the expected layout, and one call through XLA gives known numbers.

Both run once in a process. The first check protects the second one, which would read any address in a frame of another
layout.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rnnstate.kernels.native.library import fields, library
from rnnstate.kernels.native.xla_header import UnexpectedInterfaceError, check_layout

_RNN = 2
# Large enough for two threads, so that the check covers XLA's thread pool and the strips.
_BATCH, _TIME, _UNITS = 64, 16, 64
_TOLERANCE = 1e-5


def check_header() -> None:
    """Compare XLA's header with the structs that the library is compiled with."""
    check_layout(fields(library()))


def check_numbers(call_rows: Callable[..., Any]) -> None:
    """Run a SimpleRNN through XLA, and compare it with NumPy.

    Args:
        call_rows: The function of `xla_call`.

    Raises:
        UnexpectedInterfaceError: If the numbers differ.
    """
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (_BATCH, _TIME, _UNITS)).astype("float32")
    start, initial = rng.uniform(-1, 1, (2, 1, _BATCH, _UNITS)).astype("float32")
    recurrent = (rng.uniform(-1, 1, (_UNITS, _UNITS)) / _UNITS**0.5).astype("float32")
    # Row 1 is masked at step 2; row 2 is reset before step 1.
    mask, reset = np.ones((_BATCH, _TIME), bool), np.zeros((_BATCH, _TIME), bool)
    mask[1, 2], reset[2, 1] = False, True
    expected = _by_numpy(x, start[0], initial[0], mask, reset, recurrent)
    outputs, final = _by_xla(call_rows, [start, initial, mask, reset, recurrent], x)
    off = max(float(np.abs(outputs - expected).max()), float(np.abs(final[0] - expected[:, -1]).max()))
    if not off < _TOLERANCE:
        raise UnexpectedInterfaceError(
            f"A native loop must give what NumPy gives. Received: numbers that differ by {off:.1e} on JAX {jax.__version__}."
        )


def check_bank(take: Callable[..., Any], put: Callable[..., Any]) -> None:
    """Take and put rows of a small bank through XLA, and compare them with NumPy.

    Args:
        take: A function of `bank_call`.
        put: A function of `bank_call`.

    Raises:
        UnexpectedInterfaceError: If the rows differ.
    """
    banks, slots = (
        [np.arange(21, dtype="float32").reshape(7, 3), np.arange(7, dtype="float32")],
        np.array([5, 2], np.int32),
    )
    with jax.ensure_compile_time_eval():
        taken = jax.device_get(jax.jit(take)(banks, slots))
        after = jax.device_get(jax.jit(put)(banks, slots, [-bank[:2] for bank in banks]))
    for bank, rows, changed in zip(banks, taken, after, strict=True):
        expected = bank.copy()
        expected[slots] = -bank[:2]
        if not (np.array_equal(rows, bank[slots]) and np.array_equal(changed, expected)):
            raise UnexpectedInterfaceError(
                f"Native code must take and put the rows of a bank. Received: other rows on JAX {jax.__version__}."
            )


def _by_numpy(x: Any, h: Any, initial: Any, mask: Any, reset: Any, recurrent: Any) -> Any:
    outputs = np.empty_like(x)
    for t in range(x.shape[1]):
        before = np.where(reset[:, t, None], initial, h)
        h = np.where(mask[:, t, None], np.tanh(x[:, t] + before @ recurrent), before)
        outputs[:, t] = h
    return outputs


def _by_xla(call_rows: Callable[..., Any], arrays: list[Any], x: Any) -> Any:
    """Return h after each step and the final leaves. A loop that is being traced must not become part of the trace."""
    empty = [np.zeros((0,) * axes, np.float32) for axes in (1, 3, 2, 1)]  # no bias, and no input to project
    shapes = [(_BATCH, _TIME, _UNITS), (_BATCH, _TIME, 0), (1, _BATCH, _UNITS), (_BATCH, 1, _UNITS)]
    results = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]

    def call(*given: Any) -> Any:
        settings = np.array([_RNN, False], np.int32)
        _, outputs, _, final, _ = call_rows(settings, list(given[:-1]), [given[-1]], results, arrays[4].shape)
        return outputs, final

    with jax.ensure_compile_time_eval():
        return jax.device_get(jax.jit(call)(*jax.device_put([*arrays, *empty, x])))
