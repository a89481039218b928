"""The parts of the native loops: activations and a matrix product that LLVM turns into vector instructions.

LLVM vectorizes loops over whole rows of floats without branches. Division in Python may raise an error, which is a branch;
`error_model="numpy"` removes it. The functions round to float32, as XLA's own code does.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from rnnstate.kernels.loops.definition import Array

_f = np.float32
# LLVM may fuse products and sums, and ignore the sign of zeros. NaN and infinity keep their meaning.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for this processor. LLVM may inline it into the functions that call it."""
    compiled: Callable[..., Any] = numba.njit(**_OPTIONS)(function)
    return compiled


@native
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)). The polynomial for exp is that of the Cephes library; the relative error is below 2e-7."""
    x = min(max(-x, _f(-87)), _f(88))
    n = np.floor(x * _f(1.44269504088896341) + _f(0.5))
    r = x - n * _f(0.693359375) + n * _f(2.12194440e-4)
    p = _f(1.9875691500e-4)
    p = p * r + _f(1.3981999507e-3)
    p = p * r + _f(8.3334519073e-3)
    p = p * r + _f(4.1665795894e-2)
    p = p * r + _f(1.6666665459e-1)
    p = p * r + _f(5.0000001201e-1)
    two_to_the_n = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return _f(1) / (_f(1) + (p * r * r + r + _f(1)) * two_to_the_n)


@native
def tanh(x: Any) -> Any:
    """Return tanh by the rational approximation of the Eigen library, and exactly 1 or -1 where float32 rounds to it."""
    y = min(max(x, _f(-7.90531110763549805)), _f(7.90531110763549805))
    s = y * y
    p = _f(-2.76076847742355e-16)
    p = p * s + _f(2.00018790482477e-13)
    p = p * s + _f(-8.60467152213735e-11)
    p = p * s + _f(5.12229709037114e-08)
    p = p * s + _f(1.48572235717979e-05)
    p = p * s + _f(6.37261928875436e-04)
    p = p * s + _f(4.89352455891786e-03)
    q = _f(1.19825839466702e-06)
    q = q * s + _f(1.18534705686654e-04)
    q = q * s + _f(2.26843463243900e-03)
    q = q * s + _f(4.89352518554385e-03)
    y = y * p / q
    y = _f(1) if x > _f(9.01) else y
    return _f(-1) if x < _f(-9.01) else y


@native
def add_product(z: Array, tz: int, a: Array, ta: int, b: Array) -> None:
    """Add the product of `a[:, ta]` and `b` to `z[:, tz]`.

    This function serves batches of few rows, which do not repay a copy of `b` in strips. It takes two rows at a time, so
    that each loaded line of `b` is used twice. It adds eight products at a time, so that `z` is loaded and stored once
    for eight products.

    Args:
        z: The result, `(rows, time, columns)`.
        tz: Step of `z`.
        a: The first factor, `(rows, time, inner)`.
        ta: Step of `a`.
        b: The second factor, `(inner, columns)`.
    """
    rows = z.shape[0]
    inner, columns = b.shape
    eights = inner - inner % 8
    for r in range(0, rows - 1, 2):
        z0, z1, a0, a1 = z[r, tz], z[r + 1, tz], a[r, ta], a[r + 1, ta]
        for k in range(0, eights, 8):
            b0, b1, b2, b3, b4, b5, b6, b7 = b[k], b[k + 1], b[k + 2], b[k + 3], b[k + 4], b[k + 5], b[k + 6], b[k + 7]
            p0, p1, p2, p3, p4, p5, p6, p7 = _eight(a0, k)
            q0, q1, q2, q3, q4, q5, q6, q7 = _eight(a1, k)
            for j in range(columns):
                x0, x1, x2, x3, x4, x5, x6, x7 = b0[j], b1[j], b2[j], b3[j], b4[j], b5[j], b6[j], b7[j]
                z0[j] += p0 * x0 + p1 * x1 + p2 * x2 + p3 * x3 + p4 * x4 + p5 * x5 + p6 * x6 + p7 * x7
                z1[j] += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3 + q4 * x4 + q5 * x5 + q6 * x6 + q7 * x7
        for k in range(eights, inner):
            b0, p0, q0 = b[k], a0[k], a1[k]
            for j in range(columns):
                z0[j] += p0 * b0[j]
                z1[j] += q0 * b0[j]
    if rows % 2:
        _add_row(z[rows - 1, tz], a[rows - 1, ta], b)


@native
def _add_row(z: Array, a: Array, b: Array) -> None:
    inner, columns = b.shape
    eights = inner - inner % 8
    for k in range(0, eights, 8):
        b0, b1, b2, b3, b4, b5, b6, b7 = b[k], b[k + 1], b[k + 2], b[k + 3], b[k + 4], b[k + 5], b[k + 6], b[k + 7]
        p0, p1, p2, p3, p4, p5, p6, p7 = _eight(a, k)
        for j in range(columns):
            z[j] += (
                p0 * b0[j] + p1 * b1[j] + p2 * b2[j] + p3 * b3[j] + p4 * b4[j] + p5 * b5[j] + p6 * b6[j] + p7 * b7[j]
            )
    for k in range(eights, inner):
        b0, p0 = b[k], a[k]
        for j in range(columns):
            z[j] += p0 * b0[j]


@native
def _eight(a: Array, k: int) -> tuple[float, ...]:
    return a[k], a[k + 1], a[k + 2], a[k + 3], a[k + 4], a[k + 5], a[k + 6], a[k + 7]


@native
def add(target: Array, source: Array) -> None:
    """Add the row `source` to the row `target`."""
    for u in range(target.size):
        target[u] += source[u]


@native
def copy(target: Array, source: Array) -> None:
    """Copy a row."""
    for u in range(target.size):
        target[u] = source[u]


@native
def fill(target: Array, value: float) -> None:
    """Fill a row."""
    for u in range(target.size):
        target[u] = value
