"""Lyapunov exponents and the gradient by lag, both from the Jacobians of a step.

J_t is the derivative of the state after step t by the state before it. Products of such matrices say how a small difference
grows or fades over many steps:

    forward     J_t ... J_2 J_1        a difference now, many steps later: the exponents
    backward    dL_t/ds J_t J_{t-1}    what the loss at t says about the states before: the gradient by lag
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.insight.numbers.jacobians import Jacobians

Array = NDArray[Any]


def lyapunov_exponents(jacobians: Iterable[Array]) -> Array:
    """Return the Lyapunov exponents per step, the largest first, `(n,)`.

    The QR method: J_t Q_{t-1} = Q_t R_t, and an exponent is the mean over t of log |R_t,ii|. The first tenth of the steps
    turns Q into the right directions and is not counted. A direction that a step erases has the exponent -inf.

    Args:
        jacobians: One array `(time, n, n)` for each sequence. The result is the mean over all their steps.

    Example:

    >>> lyapunov_exponents([np.tile(np.diag([0.5, 2.0]), (50, 1, 1))]).round(6).tolist()
    [0.693147, -0.693147]

    References:
        - Vogt et al., "On Lyapunov exponents for RNNs" (2022), doi:10.3389/fams.2022.818799.
    """
    logs = []
    for steps in jacobians:
        q = np.linalg.qr(np.random.default_rng(0).normal(size=steps.shape[1:]))[0]
        for number, step in enumerate(steps):
            q, r = np.linalg.qr(step @ q)
            if number >= len(steps) // 10:
                logs.append(np.abs(np.diag(r)))
    with np.errstate(divide="ignore"):
        mean = np.log(np.array(logs)).mean(axis=0)
    return np.sort(mean)[::-1]


def gradient_by_lag(found: Jacobians, residual: Array | None, lags: int, part: slice = slice(None)) -> Array:
    """Return the norm of dL_t/ds_{t-k} for each lag k = 1 ... lags, one row for each step t: `(steps, lags)`.

    Args:
        found: The Jacobians along a sequence.
        residual: dL_t/dy_t, `(time, outputs)`, for the loss L. Without it, the norm is taken of the whole dy_t/ds_{t-k}.
        lags: How far back. Only steps t with so many steps before them are used.
        part: Which numbers of the state. The default is all of them.

    References:
        - Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    time = len(found.state)
    lags = min(lags, time)
    ends = np.arange(lags - 1, time)
    back = found.output[ends] if residual is None else residual[ends][:, None] @ found.output[ends]
    norms = [np.linalg.norm(back[..., part], axis=(1, 2))]
    for lag in range(1, lags):
        back = back @ found.state[ends - lag]
        norms.append(np.linalg.norm(back[..., part], axis=(1, 2)))
    return np.stack(norms, axis=1)
