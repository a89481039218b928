"""How much of the past a model uses: its errors with the state zeroed, shuffled, held, or with a short past.

Following Khandelwal et al., "Sharp nearby, fuzzy far away" (2018), arXiv:1805.04623, a part of the past is taken away from
the trained model. The growth of the error says what this part was worth.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.insight.numbers.jacobians import Jacobians
from rnnstate.insight.numbers.positions import fresh_state
from rnnstate.insight.watched import Watched
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]
WAYS = ("carried", "zeroed", "shuffled", "held")
_WINDOWS, _FEW = 64, 24


def ablations(model: Any, watched: Watched) -> dict[str, float]:
    """Return the root mean squared error over windows that start from four states.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences, with targets.

    Returns:
        `carried`: the state in which the window before ended. `zeroed`: the state of a sequence that begins. `shuffled`: the
        carried state of another window. `held`: the state of one window earlier. The mapping is empty if there are no
        targets per step of the shape of the outputs, or fewer than two windows that follow another one.
    """
    places = _windows(watched, least=1)
    if places is None or len(places) < 2:
        return {}
    rows, starts = places[:, 0], places[:, 1]
    before = watched.before or {}
    length = watched.sample.length  # type: ignore[union-attr]
    carried = {name: leaf[rows, starts] for name, leaf in before.items()}
    shift = max(1, len(rows) // 2)
    states = {
        "carried": carried,
        "zeroed": {name: to_numpy(leaf) for name, leaf in fresh_state(model, len(rows)).items()},
        "shuffled": {name: np.roll(leaf, shift, axis=0) for name, leaf in carried.items()},
        "held": {name: leaf[rows, starts - length] for name, leaf in before.items()},
    }
    joined = State({name: np.concatenate([states[way][name] for way in WAYS]) for name in carried})
    errors = _errors(model, watched, rows, starts, length, joined, None)
    return dict(zip(WAYS, errors.tolist(), strict=True))


def context_curve(model: Any, watched: Watched) -> tuple[Array, Array, float]:
    """Return the error over windows that know only the last k steps before them.

    Returns:
        The numbers of steps k, 0 and powers of two; the error for each; and the error of the same windows with the carried
        state. Both arrays are empty without targets per step.
    """
    places = _windows(watched, least=1, most=_FEW)
    if places is None:
        return np.zeros(0, np.int64), np.zeros(0), float("nan")
    length = watched.sample.length  # type: ignore[union-attr]
    past = int(min(places[:, 1].max(), 4 * length))
    rows, starts = places[places[:, 1] >= past].T
    known = np.unique([0, *(2**power for power in range(past.bit_length())), past])
    # Masked steps leave the state as it is, so all k share one call:    - - - - k k | window
    mask = np.arange(past + length) >= past - known[:, None]
    state = State({name: to_numpy(leaf) for name, leaf in fresh_state(model, len(known) * len(rows)).items()})
    errors = _errors(model, watched, rows, starts - past, past + length, state, np.repeat(mask, len(rows), axis=0))
    at = rows[:, None], starts[:, None] + np.arange(length)
    wrong = watched.outputs[at] - targets_of(watched)[at]  # type: ignore[index]
    return known, errors, float(np.sqrt(np.mean(wrong.astype(np.float64) ** 2)))


def useful_context(known: Array, errors: Array, best: float, within: float = 1.01) -> float:
    """Return the fewest steps of the past with which the error is within 1 % of `best`; `inf` if none are enough.

    Example:

    >>> useful_context(np.array([0, 1, 2, 4]), np.array([9.0, 3.0, 1.005, 1.0]), best=1.0)
    2.0
    """
    enough = np.flatnonzero(errors <= within * best)
    return float(known[enough[0]]) if len(enough) else float("inf")


def targets_of(watched: Watched) -> Array | None:
    """Return the targets in the shape of the outputs, `(rows, time, ...)`; `None` if there are none of that shape."""
    if watched.sample is None or watched.sample.y is None or watched.outputs is None:
        return None
    y: Array = watched.sample.y
    y = y[..., None] if y.ndim == watched.outputs.ndim - 1 and watched.outputs.shape[-1] == 1 else y
    return y if y.shape == watched.outputs.shape and y.dtype.kind == "f" else None


def residual_of(watched: Watched, found: Jacobians) -> Array | None:
    """Return dL/dy of half the squared error at the steps of Jacobians, `(time, outputs)`; `None` without targets."""
    targets, steps = targets_of(watched), slice(found.first, found.first + len(found.state))
    if targets is None or watched.outputs is None:
        return None
    wrong: Array = watched.outputs[found.row, steps].astype(np.float64) - targets[found.row, steps]
    return wrong.reshape(len(found.state), -1)


def _windows(watched: Watched, least: int, most: int = _WINDOWS) -> Array | None:
    """Return row and first step of whole windows that follow a whole window without a reset; `(windows, 2)`."""
    if targets_of(watched) is None or watched.sample is None:
        return None
    length = watched.sample.length
    whole = watched.valid & ~watched.resets
    found = [
        (row, start)
        for row, starts in enumerate(watched.starts)
        for start in starts.tolist()
        if start >= least * length and whole[row, start - length : start + length].sum() == 2 * length
    ]
    if not found:
        return None
    chosen = np.linspace(0, len(found) - 1, min(len(found), most)).round().astype(int)
    places: Array = np.array(found)[chosen]
    return places


def _errors(
    model: Any, watched: Watched, rows: Array, starts: Array, steps: int, state: State, mask: Array | None
) -> Array:
    """Return the error of each group of runs over its last window. `state` holds the groups one after another."""
    sample, targets = watched.sample, targets_of(watched)
    if sample is None or targets is None:
        return np.zeros(0)
    groups = state.batch_size // len(rows)
    at = starts[:, None] + np.arange(steps)
    x = sample.map_x(
        lambda part: np.tile(part[rows[:, None], at], (groups, *[1] * (part.ndim - 1))),
        lambda part: np.tile(part[rows], (groups, *[1] * (part.ndim - 1))),
    )
    y, _ = model.step(x, state, mask=mask)
    wrong = to_numpy(y).reshape(groups, len(rows), steps, -1).astype(np.float64)
    wrong = wrong - targets[rows[:, None], at].reshape(1, len(rows), steps, -1)
    return np.asarray(np.sqrt(np.mean(wrong[:, :, -sample.length :] ** 2, axis=(1, 2, 3))))
