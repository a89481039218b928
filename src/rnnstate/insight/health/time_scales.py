"""Findings about gate time scales: after how many steps a unit of an LSTM or a GRU forgets, as its forget gate says.

Such a time scale says something about memory only where the gradient of the loss by the state decays exponentially going
back in time. This is checked first, with the gradient by lag: the logarithm of its norm must fall along a straight line.
Recurrent weights can carry what the gates forget, so the line must also fall about as fast as the gates say.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rnnstate.insight.health.report import HealthFinding
from rnnstate.insight.numbers.context import residual_of
from rnnstate.insight.numbers.exponents import gradient_by_lag
from rnnstate.insight.numbers.gates import gate_values, time_scales
from rnnstate.insight.numbers.jacobians import Jacobians
from rnnstate.insight.watched import Watched

_SOURCE = (
    "T = -1 / ln(mean forget gate), Mahto et al. 2021, arXiv:2009.12727; the condition is from arXiv:2111.03282, its limits "
    "are a choice of this library"
)
# The gate that multiplies the state of the step before, and the leaf that it acts on.
_FORGETS = {"forget": "c", "update": "h"}
_LAGS, _FEWEST, _STRAIGHT, _FLOOR, _FALL, _FACTOR = 64, 5, 0.95, 1e-5, 0.5, 2.0


def gate_time_scales(model: Any, watched: Watched, found: Sequence[Jacobians]) -> Iterator[HealthFinding]:
    """Yield the time scale of the slowest unit of each LSTM and GRU, where the gates can tell it.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences.
        found: The Jacobians along some of them; none if the state is too large.
    """
    for layer, gates in gate_values(model, watched).items():
        gate = next(name for name in gates if name in _FORGETS)
        name = f"gate time scale of `{layer}`"
        scales = time_scales(gates[gate], watched.valid)
        reason = _why_not(float(scales.max()), *_decay(watched, found, f"{layer}/{_FORGETS[gate]}"))
        if reason:
            yield HealthFinding(name, math.nan, "", "note", f"Not given: {reason}", _SOURCE)
            continue
        advice = (
            f"The slowest unit. The median of the units is {np.median(scales):.3g} steps. Gradients decay exponentially "
            "here, and as fast as the gates say, so the gates tell how long each unit remembers."
        )
        yield HealthFinding(name, float(scales.max()), "", "note", advice, _SOURCE, "steps")


def _why_not(slowest: float, straight: float, measured: float) -> str:
    """Return why gates cannot tell the memory; the empty string if they can."""
    if math.isnan(straight):
        return "it could not be checked whether gradients decay exponentially. Too few steps, or too large a state."
    if straight < _STRAIGHT:
        return f"gradients do not decay exponentially here (R^2 {straight:.3f}; it takes {_STRAIGHT})."
    if not 1 / _FACTOR <= measured / slowest <= _FACTOR:
        return (
            f"the gates say {slowest:.3g} steps, and gradients decay in {measured:.3g}. The recurrent weights have the "
            "larger part in what is remembered."
        )
    return ""


def _decay(watched: Watched, found: Sequence[Jacobians], leaf: str) -> tuple[float, float]:
    """Return how straight the logarithms of the gradients by lag fall, as R^2, and their time scale in steps.

    R^2 is 0 if they do not fall by half, and NaN if that cannot be told.
    """
    if not found:
        return math.nan, math.nan
    part = _place(watched, leaf)
    norms = np.concatenate([gradient_by_lag(one, residual_of(watched, one), _lags(found), part) for one in found])
    curve = np.median(norms, axis=0)
    kept = curve > _FLOOR * curve[0]
    curve = curve[: len(curve) if kept.all() else int(np.argmin(kept))]
    if len(curve) < _FEWEST:
        return math.nan, math.nan
    if curve[-1] > _FALL * curve[0]:
        return 0.0, math.inf
    lags, logs = np.arange(len(curve)), np.log(curve)
    return float(np.corrcoef(lags, logs)[0, 1] ** 2), float(-1 / np.polyfit(lags, logs, 1)[0])


def _lags(found: Sequence[Jacobians]) -> int:
    return min(_LAGS, max(1, min(len(one.state) for one in found) // 2))


def _place(watched: Watched, leaf: str) -> slice:
    """Return which numbers of a state belong to a leaf."""
    sizes = {name: int(np.prod(values.shape[2:])) for name, values in watched.leaves.items()}
    start = sum(size for name, size in list(sizes.items())[: list(sizes).index(leaf)])
    return slice(start, start + sizes[leaf])
