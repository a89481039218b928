"""What users have, in one normal form: keys, and named fields with one row for each key.

Arrays, stacked arrays, lists, mappings by key, mappings by input name, and pandas or polars frames all become the same
`Sequences`. Rows are views of the user's own arrays. The form of `x` decides how `y` and `sample_weight` are read.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import Field, check_field
from rnnstate.windows.forms import Form, check_keys, form_of, in_form, is_list, read_rows

Fields = dict[str | None, Field]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Checked data of a dataset.

    Args:
        keys: Identity of each sequence.
        lengths: Steps of each sequence.
        x: Inputs by name; the name is `None` when there is one input without a name.
        y: Targets, in the same way.
        weights: Sample weights, in the same way.
        form: How `x` was given.
    """

    keys: tuple[Hashable, ...]
    lengths: NDArray[np.int64]
    x: Fields
    y: Fields
    weights: Fields
    form: Form

    @classmethod
    def read(
        cls,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        static: str | Iterable[str] | None = None,
        by: str | None = None,
    ) -> "Sequences":
        """Read and check user data; see `Windows` for the forms it may have."""
        if by not in (None, "key", "input"):
            raise DataError(f"`by` must be 'key', 'input' or None. Received: by={by!r}.")
        form = form_of(x, by)
        if not form.keys:
            raise DataError("`x` must hold at least one sequence. Received: none.")
        inputs = _mark_static(_fields(x, form, "x"), static)
        targets = {} if y is None else _fields(y, form, "y")
        weights = {} if sample_weight is None else _fields(sample_weight, form, "sample_weight")
        for field in (*inputs.values(), *targets.values(), *weights.values()):
            check_field(field, form.keys)
        return cls(form.keys, _lengths(inputs, form.keys), inputs, targets, weights, form)

    def cut(self, bounds: NDArray[np.int64], length: int) -> "Sequences":
        """Return the pieces of each sequence, keyed `(key, piece)`."""
        keys = tuple((key, piece) for key in self.keys for piece in range(bounds.shape[1] - 1))
        x, y, weights = (
            {name: field.pieces(bounds, length) for name, field in fields.items()}
            for fields in (self.x, self.y, self.weights)
        )
        return Sequences(keys, np.diff(bounds, axis=1).ravel(), x, y, weights, self.form)


def _fields(data: Any, form: Form, what: str) -> Fields:
    """Return the fields of `x`, `y` or `sample_weight`, in the order of `form.keys`."""
    data = in_form(data, form)
    if not isinstance(data, Mapping):
        return _unnamed(data, form, what)
    outer_names = form.kind != "keyed" or (
        all(isinstance(part, Mapping) for part in data.values()) and not set(data) & set(form.keys)
    )
    if outer_names:
        if not data:
            raise DataError(f"`{what}` must hold at least one array. Received: an empty mapping.")
        return {
            name: Field(f"{what}[{name!r}]", read_rows(part, form, f"{what}[{name!r}]")) for name, part in data.items()
        }
    check_keys(data, form.keys, what)
    return _unnamed([data[key] for key in form.keys], replace(form, kind="stacked"), what)


def _unnamed(data: Any, form: Form, what: str) -> Fields:
    """Return the fields of one value for each sequence, which may be a mapping by name each."""
    if not (is_list(data) and len(data) and any(isinstance(part, Mapping) for part in data)):
        return {None: Field(what, read_rows(data, form, what))}
    names = tuple(data[0]) if isinstance(data[0], Mapping) else ()
    for key, part in zip(form.keys, data, strict=False):
        if not isinstance(part, Mapping) or set(part) != set(names) or not names:
            received = listed(part) if isinstance(part, Mapping) else type(part).__name__
            raise DataError(
                f"`{what}` must have the same names in each sequence: {listed(names)}, as in sequence "
                f"{form.keys[0]!r}. Received: {received} in sequence {key!r}."
            )
    return {
        name: Field(f"{what}[{name!r}]", read_rows([part[name] for part in data], form, f"{what}[{name!r}]"))
        for name in names
    }


def _mark_static(fields: Fields, static: str | Iterable[str] | None) -> Fields:
    """Return inputs with those that are one vector per sequence marked as static."""
    if static is None:
        names = _find_static(fields)
    else:
        names = {static} if isinstance(static, str) else set(static)
        unknown = sorted(names - set(fields), key=str)
        if unknown:
            raise DataError(
                f"`static` must name inputs. Received: {listed(unknown)}; the inputs are "
                f"{listed(name for name in fields if name is not None) or 'without names'}."
            )
    if len(names) == len(fields):
        raise DataError(f"At least one input must have a time axis. Received: only static inputs, {listed(names)}.")
    return {name: replace(field, kind="static") if name in names else field for name, field in fields.items()}


def _find_static(fields: Fields) -> set[Any]:
    """Find inputs of one float vector per sequence, beside inputs that have a time axis."""
    vectors = {name: field for name, field in fields.items() if _is_vectors(field)}
    others = [field for name, field in fields.items() if name not in vectors]
    if not others:
        return set()
    steps = others[0].counts
    return {name for name, field in vectors.items() if _is_static(field, steps)}


def _is_vectors(field: Field) -> bool:
    rows = field.rows[:1] if isinstance(field.rows, np.ndarray) else field.rows
    return all(row.ndim == 1 and row.dtype.kind == "f" for row in rows)


def _is_static(field: Field, steps: NDArray[np.int64]) -> bool:
    """A stacked `(sequences, values)` is static; single vectors are when they have one size that is not the steps."""
    if isinstance(field.rows, np.ndarray):
        return True
    return len(set(field.counts.tolist())) == 1 and bool((field.counts != steps).any())


def _lengths(inputs: Fields, keys: tuple[Hashable, ...]) -> NDArray[np.int64]:
    timed = [field for field in inputs.values() if field.kind != "static"]
    lengths = timed[0].counts
    for field in timed[1:]:
        wrong = np.flatnonzero(field.counts != lengths)
        if len(wrong):
            i = int(wrong[0])
            raise DataError(
                f"`{field.label}` must have {lengths[i]} steps in sequence {keys[i]!r}, as `{timed[0].label}`. "
                f"Received: {field.counts[i]}. If it is one vector per sequence, name it in `static=`."
            )
    return lengths
