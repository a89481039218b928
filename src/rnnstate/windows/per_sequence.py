"""Targets per sequence: one entry for each sequence, read as a series of one entry."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.windows.frames import is_frame
from rnnstate.windows.inputs import Form, form_of, in_form, is_list

Choice = str | Mapping[str, str]


def with_entry_axis(data: Any, x: Any, by: str | None, targets: Choice) -> Any:
    """Return `y` or `sample_weight` with an axis of one entry wherever `targets` says that it is per sequence.

    Args:
        data: What the user gave, or `None`.
        x: The inputs of the user, which decide the form.
        by: The argument `by` of `Windows`.
        targets: The argument `targets` of `Windows`.

    Example:

    >>> with_entry_axis({"a": 1, "b": 0}, {"a": np.ones((5, 2)), "b": np.ones((3, 2))}, None, "sequence")
    {'a': array([1]), 'b': array([0])}
    """
    wanted = targets == "sequence"
    if data is None or not (wanted or (isinstance(targets, Mapping) and "sequence" in targets.values())):
        return data
    return _expanded(data, form_of(x, by), targets if isinstance(targets, Mapping) else {}, wanted)


def _expanded(data: Any, form: Form, targets: Mapping[str, str], wanted: bool) -> Any:
    data = in_form(data, form)
    if isinstance(data, Mapping):
        one = Form("one", form.keys) if set(data) == set(form.keys) else form
        return {
            name: _expanded(part, one, targets, targets[name] == "sequence" if name in targets else wanted)
            for name, part in data.items()
        }
    if is_list(data) and form.kind != "one":
        return [_expanded(part, Form("one", form.keys), targets, wanted) for part in data]
    if not wanted:
        return data
    if is_frame(data):
        data = data.to_numpy()
    array = np.asarray(data)
    return array[:, None] if form.kind == "stacked" and array.ndim else array[None]


def one_of_each(data: Any, label: str) -> Any:
    """Return the entry of each sequence from columns `(time, ...)` that repeat it in each row.

    Raises:
        DataError: If a column changes within a sequence.
    """
    if isinstance(data, Mapping):
        return {name: one_of_each(part, f"{label}[{name!r}]") for name, part in data.items()}
    array = np.asarray(data)
    if (array != array[:1]).any():
        changed = int(np.flatnonzero((array != array[:1]).reshape(len(array), -1).any(axis=1))[0])
        raise DataError(
            f"With target_kind='sequence', `{label}` must have one value in all rows of a sequence. Received: "
            f"{array[changed]} in row {changed} after {array[0]} in row 0. Use `target_kind='last'` for the values at the "
            "ends of windows."
        )
    return array[0]
