"""How long a difference between two states survives: the forgetting curve, and its half-life."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.insight.numbers.positions import fresh_state
from rnnstate.insight.watched import Watched, side_by_side
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]
_SEGMENTS = 32


def distances(one: Array, other: Array) -> Array:
    """Return how far apart two runs are at each step, in relation to how far apart they began: `(runs, steps)`.

    Args:
        one: States `(runs, steps, numbers)`, the first of them before any step.
        other: The same for the other run. Runs that begin with equal states are left out.

    Example:

    >>> steps = 0.5 ** np.arange(4)
    >>> distances(steps[None, :, None], 0 * steps[None, :, None]).tolist()
    [[1.0, 0.5, 0.25, 0.125]]
    """
    apart = np.linalg.norm(one - other, axis=-1)
    apart = apart[apart[:, 0] > 0]
    relative: Array = apart / apart[:, :1]
    return relative


def half_life(curve: Array) -> float:
    """Return after how many steps the median of forgetting curves `(runs, steps)` falls to one half; `inf` if it does not.

    Between two steps the curve is taken as exponential.

    Example:

    >>> round(half_life(0.9 ** np.arange(20)[None]), 2)
    6.58
    """
    if not len(curve):
        return float("nan")
    middle = np.maximum(np.median(curve, axis=0), 1e-12)
    below = np.flatnonzero(middle <= 0.5)
    if not len(below):
        return float("inf")
    step = int(below[0])
    high, low = np.log(middle[step - 1]), np.log(middle[step])
    return float(step - 1 + (high - np.log(0.5)) / (high - low))


def forgetting_curves(model: Any, watched: Watched, steps: int | None = None) -> Array:
    """Return how the difference that a reset makes fades: `(runs, steps + 1)`, 1 at the reset.

    One run goes on from the carried state, the other one from the state of a sequence that begins. Both get the same
    inputs. The runs start at several places of each sequence, not before its first window has ended.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences.
        steps: How many steps to look ahead. The default is three quarters of the steps that there are, at most four
            windows.

    Raises:
        DataError: If no sequence is long enough.
    """
    sample = watched.sample
    if sample is None or watched.before is None:
        raise DataError(
            "A forgetting curve needs a model and `windows`. Received: a trace. Give the model that made it."
        )
    time = watched.valid.shape[1]
    warm = min(sample.length, time // 4)
    steps = max(1, min(4 * sample.length, time - warm)) if steps is None else min(steps, time - warm)
    places = _places(watched, warm, steps)
    rows, starts = places[:, 0], places[:, 1]
    at = starts[:, None] + np.arange(steps)
    x = sample.map_x(
        lambda part: np.concatenate([part[rows[:, None], at]] * 2), lambda part: np.concatenate([part[rows]] * 2)
    )
    carried = {name: leaf[rows, starts] for name, leaf in watched.before.items()}
    fresh = {name: to_numpy(leaf) for name, leaf in fresh_state(model, len(rows)).items()}
    begin = State({name: np.concatenate([carried[name], fresh[name]]) for name in carried})
    _, _, trace = model.trace(x, begin)
    whole = {name: np.concatenate([begin[name][:, None], to_numpy(trace[name])], axis=1) for name in begin}
    vectors = side_by_side(whole)
    return distances(vectors[: len(rows)], vectors[len(rows) :])


def _places(watched: Watched, warm: int, steps: int) -> Array:
    """Return rows and first steps of runs of `steps` steps in which nothing is padded or reset; `(runs, 2)`."""
    time = watched.valid.shape[1]
    whole = watched.valid & ~watched.resets
    found = []
    for row in range(len(watched.keys)):
        starts = range(warm, time - steps + 1, max(1, steps // 4))
        found += [(row, start) for start in starts if whole[row, start : start + steps].all()]
    if not found:
        raise DataError(
            f"A forgetting curve needs {warm + steps} steps of a sequence without a reset. Received: fewer in each of the "
            f"{len(watched.keys)} sequences. Use longer sequences, or fewer `steps`."
        )
    chosen = np.linspace(0, len(found) - 1, min(len(found), _SEGMENTS)).round().astype(int)
    places: Array = np.array(found)[chosen]
    return places
