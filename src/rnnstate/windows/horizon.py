"""Targets that lie some steps ahead: each step is paired with the target `horizon` steps later in its own sequence.

step        0    1    2    3    4        horizon=2
x           x0   x1   x2                 the last two steps have no target, and are left out
y           y2   y3   y4
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Field
from rnnstate.windows.sequences import Fields, Sequences

Lengths = Any


def check_pairing(horizon: int, targets: Any, moved: bool) -> None:
    """Raise a `DataError` for arguments with which no target lies exactly `horizon` steps ahead.

    Args:
        horizon: How many steps ahead the targets lie.
        targets: The argument `targets` of `Windows`.
        moved: Whether resets or missing steps are given.
    """
    if not horizon:
        return
    if moved:
        raise DataError(
            "With `horizon`, the target of a step is the row that many rows later. Received: `horizon` with `resets`, "
            "`times` or `gaps`, after which this row belongs to another episode or another time. Cut the data there: give "
            "each stretch without a gap or a reset a key of its own."
        )
    kinds = list(targets.values()) if isinstance(targets, Mapping) else [targets]
    if wrong := [kind for kind in kinds if kind not in ("auto", "steps", "last")]:
        raise DataError(
            f"With `horizon`, `targets` must be 'auto', 'steps' or 'last'. Received: targets={wrong[0]!r}. A target per "
            "window or per sequence lies at no step."
        )


def paired(data: Sequences, horizon: int) -> Sequences:
    """Return the data with the targets `horizon` steps ahead. Without targets, the inputs are the targets.

    Raises:
        DataError: If a sequence has no step with a target, or targets are not per step.
    """
    if not horizon:
        return data
    check_steps(data.lengths, horizon, data.keys)
    targets = own_targets(data.x) if not data.y else data.y
    for field in (*targets.values(), *data.weights.values()):
        _check_per_step(field, data)
    return replace(
        data,
        lengths=data.lengths - horizon,
        x={name: field if field.kind == "static" else _cut(field, 0, -horizon) for name, field in data.x.items()},
        y={name: _cut(field, horizon, None) for name, field in targets.items()},
        weights={name: _cut(field, horizon, None) for name, field in data.weights.items()},
    )


def own_targets(inputs: Fields) -> Fields:
    """Return the inputs as the targets.

    Raises:
        DataError: If the inputs have names, because names of inputs are not names of outputs.
    """
    if set(inputs) != {None}:
        raise DataError(
            "With `horizon` and several inputs, the targets must be given. Received: no `y`. Give `y` as it is at each "
            "step; `horizon` shifts it."
        )
    return {None: replace(inputs[None], label="y")}


def check_steps(lengths: Lengths, horizon: int, keys: Sequence[Hashable]) -> None:
    """Raise a `DataError` unless each sequence has more than `horizon` steps."""
    short = np.flatnonzero(np.asarray(lengths) <= horizon)
    if len(short):
        raise DataError(
            f"Each sequence must have more than `horizon` steps. Received: {lengths[short[0]]} steps in sequence "
            f"{keys[short[0]]!r}, with horizon={horizon}. Leave this sequence out, or choose a smaller `horizon`."
        )


def _check_per_step(field: Field, data: Sequences) -> None:
    wrong = np.flatnonzero(field.counts != data.lengths)
    if len(wrong):
        i = int(wrong[0])
        raise DataError(
            f"With `horizon`, `{field.label}` must have one entry for each step: {data.lengths[i]} in sequence "
            f"{data.keys[i]!r}. Received: {field.counts[i]}. Give the values as they are at each step; `horizon` "
            "shifts them."
        )


def _cut(field: Field, begin: int, end: int | None) -> Field:
    """Return the field with the steps from `begin` up to `end` of each sequence, as views."""
    if isinstance(field.arrays, np.ndarray):
        return replace(field, arrays=field.arrays[:, begin:end])
    return replace(field, arrays=[row[begin:end] for row in field.arrays])
