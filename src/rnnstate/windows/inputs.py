"""Everything that the user gives to `Windows`, read once into the canonical form `Sequences`.

Arrays, stacked arrays, lists, mappings by key, mappings by input name, and data frames all become one array for each
sequence. The form of `x` decides how all other data are read, so `(sequences, values)` and `(time, values)` are never
confused. Nothing is copied if the data are arrays already.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import Array, Arrays, Field, check_field
from rnnstate.windows.frames import frame_array, is_frame, is_series, series_array
from rnnstate.windows.gaps import missing_before_steps, times_array
from rnnstate.windows.keys import warn_of_white_space
from rnnstate.windows.observed import KnownValues
from rnnstate.windows.sequences import Fields, Sequences

Convert = Callable[[Any, str, Hashable], Array]


@dataclass(frozen=True)
class Form:
    """How `x` was given: one sequence, a stack or list of them, or a mapping by key."""

    kind: Literal["one", "stacked", "keyed"]
    keys: tuple[Hashable, ...]


def read_sequences(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    static: str | Iterable[str] | None = None,
    by: str | None = None,
    observed: Any = None,
    resets: Any = None,
    times: Any = None,
    gaps: Any = None,
    usual_step: Any = None,
    irregular: bool = False,
) -> Sequences:
    """Read and check the data that the user gave to `Windows`.

    Args:
        x: Inputs; see `Windows` for the forms of all data.
        y: Targets, or `None`.
        sample_weight: Weights of the targets, or `None`.
        static: Names of inputs that are one vector per sequence, or `None` to find them.
        by: Whether the names of a one-level mapping are keys of sequences (`"key"`) or names of inputs (`"input"`).
        observed: Known values for initial states, or `None`.
        resets: Reset flags, or `None`.
        times: Times of the steps, or `None`.
        gaps: Numbers of missing steps before each step, or `None`.
        usual_step: The usual difference of `times`, or `None` to take the median.
        irregular: Whether steps can be missing; then either `times` or `gaps` is required.

    Returns:
        The data in canonical form.

    Raises:
        DataError: If the data have no known form, do not belong together, or hold a value that cannot be right. The
            message names the key and the step.

    Example:

    >>> read_sequences({"a": np.ones((5, 2)), "b": np.ones((3, 2))}).lengths.tolist()
    [5, 3]
    """
    if by not in (None, "key", "input"):
        raise DataError(f"`by` must be 'key', 'input' or None. Received: by={by!r}.")
    form = form_of(x, by)
    if not form.keys:
        raise DataError("`x` must hold at least one sequence. Received: none.")
    warn_of_white_space(form.keys)
    inputs = _mark_static(_fields(x, form, "x"), static)
    targets = {} if y is None else _fields(y, form, "y")
    weights = {} if sample_weight is None else _fields(sample_weight, form, "sample_weight")
    for field in (*inputs.values(), *targets.values(), *weights.values()):
        check_field(field, form.keys)
    lengths = _lengths(inputs, form.keys)
    return Sequences(
        form.keys,
        lengths,
        inputs,
        targets,
        weights,
        None if observed is None else KnownValues.of(list(_arrays(observed, form, "observed")), form.keys, lengths),
        None if resets is None else _read_resets(resets, form, lengths),
        _read_missing(times, gaps, usual_step, form, lengths) if irregular else None,
    )


def _arrays(data: Any, form: Form, label: str, convert: Convert | None = None) -> Arrays:
    """Return one array for each sequence, also from a mapping by the keys 0, 1, 2."""
    return read_arrays(in_form(data, form), form, label, convert)


def _read_missing(
    times: Any, gaps: Any, usual_step: Any, form: Form, lengths: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return how many steps are missing before each step, for each sequence."""
    read_times = None if times is None or gaps is not None else list(_arrays(times, form, "times", times_array))
    read_gaps = None if gaps is None or times is not None else list(_arrays(gaps, form, "gaps"))
    if read_times is None and read_gaps is None:
        raise DataError(
            "`times` or `gaps` must say where steps are missing, not both. "
            f"Received: {'none of them' if times is None else 'both'}."
        )
    return missing_before_steps(read_times, read_gaps, usual_step, form.keys, lengths)


def _read_resets(data: Any, form: Form, lengths: NDArray[np.int64]) -> Field:
    field = Field("resets", _arrays(data, form, "resets"))
    check_field(field, form.keys)
    for key, flags, length in zip(form.keys, field.arrays, lengths.tolist(), strict=True):
        check_resets(key, flags, length)
    return field


def check_resets(key: Hashable, row: Array, length: int, begin: int = 0) -> None:
    """Raise a `DataError` unless there is one flag for each step. The first flag belongs to the step `begin`."""
    if row.shape != (length,):
        raise DataError(
            f"`resets` must have one flag for each step, shape ({length},) in sequence {key!r}. "
            f"Received: shape {row.shape}."
        )
    wrong = np.flatnonzero((row != 0) & (row != 1))
    if len(wrong):
        raise DataError(
            f"`resets` must be flags, true before each step with a reset. Received: {row[wrong[0]]} in sequence "
            f"{key!r}, step {begin + wrong[0]}."
        )


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
            name: Field(f"{what}[{name!r}]", read_arrays(part, form, f"{what}[{name!r}]"))
            for name, part in data.items()
        }
    check_keys(data, form.keys, what)
    return _unnamed([data[key] for key in form.keys], replace(form, kind="stacked"), what)


def _unnamed(data: Any, form: Form, what: str) -> Fields:
    """Return the fields of one value for each sequence, which may be a mapping by name each."""
    if not (is_list(data) and len(data) and any(isinstance(part, Mapping) for part in data)):
        return {None: Field(what, read_arrays(data, form, what))}
    names = tuple(data[0]) if isinstance(data[0], Mapping) else ()
    for key, part in zip(form.keys, data, strict=False):
        if not isinstance(part, Mapping) or set(part) != set(names) or not names:
            received = listed(part) if isinstance(part, Mapping) else type(part).__name__
            raise DataError(
                f"`{what}` must have the same names in each sequence: {listed(names)}, as in sequence "
                f"{form.keys[0]!r}. Received: {received} in sequence {key!r}."
            )
    return {
        name: Field(f"{what}[{name!r}]", read_arrays([part[name] for part in data], form, f"{what}[{name!r}]"))
        for name in names
    }


def _mark_static(fields: Fields, static: str | Iterable[str] | None) -> Fields:
    """Return the inputs; an input of one vector per sequence gets the kind `static`."""
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
    """Find inputs of one float vector per sequence, if other inputs have a time axis."""
    vectors = {name: field for name, field in fields.items() if _is_vectors(field)}
    others = [field for name, field in fields.items() if name not in vectors]
    if not others:
        return set()
    steps = others[0].counts
    return {name for name, field in vectors.items() if _is_static(field, steps)}


def _is_vectors(field: Field) -> bool:
    arrays = field.arrays[:1] if isinstance(field.arrays, np.ndarray) else field.arrays
    return all(array.ndim == 1 and array.dtype.kind == "f" for array in arrays)


def _is_static(field: Field, steps: NDArray[np.int64]) -> bool:
    """A stacked `(sequences, values)` is static; single vectors are when they have one size that is not the steps."""
    if isinstance(field.arrays, np.ndarray):
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


def form_of(x: Any, by: str | None) -> Form:
    """Return the form of `x`; `by` decides what the names of a one-level mapping are."""
    if isinstance(x, Mapping):
        return _mapping_form(x, by)
    if is_list(x):
        return Form("stacked", tuple(range(len(x))))
    return Form("stacked", tuple(range(shape_of(x)[0]))) if len(shape_of(x)) >= 3 else Form("one", (0,))


def _mapping_form(x: Mapping[Any, Any], by: str | None) -> Form:
    if (by or _guess(x)) == "key":
        return Form("keyed", tuple(x))
    parts = list(x.values())
    for part in parts:
        if isinstance(part, Mapping):
            return Form("keyed", tuple(part))
    stacks = [part for part in parts if is_list(part) or len(shape_of(part)) >= 3]
    return Form("stacked", tuple(range(len(stacks[0])))) if stacks else Form("one", (0,))


def _guess(x: Mapping[Any, Any]) -> str:
    """Return `"key"` if the names of a mapping name sequences, and `"input"` if they name inputs."""
    parts = list(x.values())
    nested = [isinstance(part, Mapping) for part in parts]
    if all(nested) or not all(isinstance(name, str) for name in x):
        return "key"
    if any(nested) or any(is_list(part) and len(part) and hasattr(part[0], "shape") for part in parts):
        return "input"
    shapes = [shape_of(part) for part in parts]
    ranks = {len(shape) for shape in shapes}
    alike = len({shape[:2] for shape in shapes}) == 1
    return "input" if len(ranks) > 1 or (min(ranks) >= 3 and alike) else "key"


def in_form(data: Any, form: Form) -> Any:
    """Return a mapping by the keys 0, 1, 2 of arrays and lists as the arrays and lists themselves."""
    if isinstance(data, Mapping) and form.kind != "keyed" and set(data) == set(form.keys):
        return data[0] if form.kind == "one" else [data[key] for key in form.keys]
    return data


def read_arrays(data: Any, form: Form, label: str, convert: Convert | None = None) -> Arrays:
    """Return one array for each key of `form`.

    Args:
        data: What the user gave.
        form: The form of `x`.
        label: The name of the data in error messages.
        convert: Makes an array of `(data, label, key)`; by default numbers are needed.

    Raises:
        DataError: If the data have another form than `x`, or other keys.
    """
    convert = convert or read_array
    if form.kind == "keyed":
        if not isinstance(data, Mapping):
            raise DataError(
                f"`{label}` must be a mapping by key, as `x`. Received: {type(data).__name__}. "
                "Give `{key: array}` with the keys of `x`."
            )
        check_keys(data, form.keys, label)
        return [convert(data[key], label, key) for key in form.keys]
    if form.kind == "one":
        return [convert(data, label, form.keys[0])]
    if is_list(data):
        if len(data) != len(form.keys):
            raise DataError(f"`{label}` must have {len(form.keys)} sequences, as `x`. Received: {len(data)}.")
        return [convert(part, label, key) for key, part in zip(form.keys, data, strict=True)]
    array = convert(data, label, None)
    if array.ndim < 2:
        raise DataError(
            f"`{label}` must have one row for each of the {len(form.keys)} sequences: (sequences, time, ...). "
            f"Received: shape {array.shape}."
        )
    return array


def check_keys(data: Mapping[Any, Any], keys: tuple[Hashable, ...], label: str) -> None:
    """Raise a `DataError` unless a mapping has these keys and no others."""
    missing = [key for key in keys if key not in data]
    known = set(keys)
    extra = [key for key in data if key not in known]
    if missing or extra:
        parts = [f"no {listed(missing)}"] * bool(missing) + [f"also {listed(extra)}"] * bool(extra)
        raise DataError(f"`{label}` must have the keys of `x`. Received: {' and '.join(parts)}.")


def is_list(data: Any) -> bool:
    """Return whether `data` is a list of sequences; a list of plain numbers is an array."""
    return isinstance(data, list | tuple) and (not data or not np.isscalar(data[0]))


def shape_of(data: Any) -> tuple[int, ...]:
    """Return a shape without converting arrays; ragged lists, which `_array` refuses by name, have none."""
    try:
        return tuple(np.shape(data))
    except ValueError:
        return ()


def read_array(data: Any, label: str, key: Hashable = None) -> Array:
    """Return numbers as an array of rank 1 or more, without a copy where there is one already."""
    where = "" if key is None else f" in sequence {key!r}"
    if is_frame(data):
        return frame_array(data, f"`{label}`{where}")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        raise DataError(f"`{label}` must have all its values. Received: a masked array{where}. Fill it first.")
    try:
        array = series_array(data) if is_series(data) else np.asarray(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"`{label}` must be an array of numbers. Received: {error}{where}.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"`{label}` must hold numbers. Received: dtype={array.dtype}{where}.")
    if array.ndim < 1:
        raise DataError(f"`{label}` must have a time axis. Received: the number {array}{where}.")
    return array
