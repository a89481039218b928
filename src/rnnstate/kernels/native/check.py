"""Two checks before native code is used: XLA's header has the expected layout, and one call through XLA gives known numbers.

Both run once in a process. The first check protects the second one, which would read any address in a frame of another
layout.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rnnstate.kernels.native.known_numbers import BATCH, TIME, TOLERANCE, UNITS, Known, difference, known_loop
from rnnstate.kernels.native.library import fields, library
from rnnstate.kernels.native.xla_header import UnexpectedInterfaceError, check_layout

_RNN = 2


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
    known = known_loop()
    outputs, final = _by_xla(call_rows, known)
    off = difference(known, outputs, final[0])
    if not off < TOLERANCE:
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


def _by_xla(call_rows: Callable[..., Any], known: Known) -> Any:
    """Return h after each step and the final leaves. A loop that is being traced must not become part of the trace."""
    arrays = [known.start, known.initial, known.mask, known.reset, known.recurrent]
    empty = [np.zeros((0,) * axes, np.float32) for axes in (1, 3, 2, 1)]  # no bias, and no input to project
    shapes = [(BATCH, TIME, UNITS), (BATCH, TIME, 0), (1, BATCH, UNITS), (BATCH, 1, UNITS)]
    results = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]

    def call(*given: Any) -> Any:
        settings = np.array([_RNN, False], np.int32)
        _, outputs, _, final, _ = call_rows(settings, list(given[:-1]), [given[-1]], results, known.recurrent.shape)
        return outputs, final

    with jax.ensure_compile_time_eval():
        return jax.device_get(jax.jit(call)(*jax.device_put([*arrays, *empty, known.x])))
