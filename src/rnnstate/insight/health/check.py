"""`health`: a run of a few sequences, and what it says about the state of a model."""

import math
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.insight.health.activity import growing, saturated, still
from rnnstate.insight.health.memory import derivatives, dimensions, exponent, measured_half_life
from rnnstate.insight.health.report import Health, HealthFinding
from rnnstate.insight.health.time_scales import gate_time_scales
from rnnstate.insight.health.use import ablated, context
from rnnstate.insight.watched import Watched, watch
from rnnstate.messages import counted

_SHORTEST = 8
_BACKWARD = HealthFinding(
    "memory", math.nan, "", "note",
    "Exponent, half-life, gate time scales and useful context are not measured: a layer runs backward, so no output "
    "follows from single steps. The other numbers are about the layers that run forward.",
    "a backward layer starts at the end of a window",
)  # fmt: skip


def health(model: Any, windows: Any, *, rows: int = 8, steps: int = 512) -> Health:
    """Measure whether the state of a model is alive, stable and useful, on a few sequences.

    It measures units that stand still, saturated gates of LSTM and GRU, drift, the largest Lyapunov exponent, the half-life
    of a reset, gate time scales where gates can tell them, the dimensions used, the error with the state zeroed, shuffled or
    held, and the useful context. The model and its training states stay as they are. Every layer that can be carried can be
    measured. Where a layer runs backward, as in `Bidirectional`, the numbers that need single steps are left out.

    Args:
        model: A `StatefulModel`.
        windows: `Windows`, best with data that the model was not trained on. Targets per step are needed for errors alone.
        rows: How many sequences to run.
        steps: How many steps of each. If there are fewer sequences than `rows`, more steps of each are run.

    Returns:
        A `Health`: print it, iterate over its findings, or ask for one by name. A finding has `name`, `value`, `threshold`,
        `level`, `advice` and `source`.

    Raises:
        DataError: If `windows` is not `Windows`, or its longest sequence has fewer than eight steps.
        UnsupportedModelError: If a backward direction is carried, or a layer runs backward and there are resets or gaps.

    Example:

    >>> layers = [keras.layers.GRU(3, return_sequences=True, name="gru"), keras.layers.Dense(1)]
    >>> model = StatefulModel(keras.Sequential([keras.Input((None, 1)), *layers]))
    >>> x = np.sin(np.arange(60.0)).reshape(2, 30, 1)
    >>> report = health(model, Windows(x, x, length=5, batch_size=2))
    >>> report["still units of `gru/h`"].level
    'ok'

    References:
        - Lyapunov exponents: Vogt et al. (2022), doi:10.3389/fams.2022.818799.
        - Gates: Karpathy et al. (2015), arXiv:1506.02078.
        - Context: Khandelwal et al. (2018), arXiv:1805.04623.
    """
    watched = watch(model, windows, rows=rows, steps=_steps(windows, rows, steps))
    time = watched.valid.shape[1]
    if time < _SHORTEST:
        raise DataError(f"`health` needs a sequence of at least {_SHORTEST} steps. Received: {time} at most.")
    findings = [*still(watched), *growing(watched), *dimensions(watched)]
    if _finite(watched) and watched.runs is not None:
        findings += [*saturated(model, watched), _BACKWARD, *ablated(model, watched)]
    elif _finite(watched):
        found = derivatives(model, watched)
        findings += [*saturated(model, watched), *exponent(watched, found), *measured_half_life(model, watched)]
        findings += gate_time_scales(model, watched, found)
        findings += [*ablated(model, watched), *context(model, watched)]
    return Health(findings, f"{counted(len(watched.keys), 'sequence')} of {counted(time, 'step')}.")


def _steps(windows: Any, rows: int, steps: int) -> int:
    """Return how many steps to run of each sequence, so that few long sequences give as many steps as many short ones."""
    lengths = getattr(windows, "lengths", np.zeros(1))
    enough = int((lengths >= min(steps, lengths.max())).sum())
    return steps * max(1, rows // max(1, enough))


def _finite(watched: Watched) -> bool:
    return all(bool(np.isfinite(leaf[watched.valid]).all()) for leaf in watched.leaves.values())


__all__ = ["Health", "HealthFinding", "health"]
