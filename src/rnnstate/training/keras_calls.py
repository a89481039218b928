"""Calls in Keras' own form, such as `fit(x, y, 32, 10)`: read, or answered with the call to write instead."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from rnnstate.errors import DataError

# The arguments of Keras' methods after `x`, in order.
_ORDER = {
    "fit": ("y", "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data", "shuffle",
            "class_weight", "sample_weight", "initial_epoch", "steps_per_epoch", "validation_steps",
            "validation_batch_size", "validation_freq"),
    "evaluate": ("y", "batch_size", "verbose", "sample_weight", "steps", "callbacks", "return_dict"),
    "predict": ("batch_size", "verbose", "steps", "callbacks"),
}  # fmt: skip
# Those that belong to `Windows`.
_IN_WINDOWS = ("y", "batch_size", "sample_weight", "validation_split", "validation_batch_size")


def read_call(method: str, x: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `fit`, `evaluate` or `predict` by name, without those that are left at "nothing".

    Args:
        method: The name of the method.
        x: The data.
        args: The arguments after `x` by position.
        kwargs: The arguments by name.

    Raises:
        DataError: If data are not windows, or an argument belongs to `Windows` or would break the time order. The message
            shows the call to write.
    """
    named = {**dict(zip(_ORDER[method], args, strict=False)), **kwargs}
    if len(args) > len(_ORDER[method]):
        raise DataError(
            f"`{method}` takes at most {len(_ORDER[method]) + 1} arguments by position. Received: {len(args) + 1}. "
            "Give the others by name."
        )
    given = [name for name in _IN_WINDOWS if not _is_nothing(named.get(name))]
    if not hasattr(x, "keys") or isinstance(x, Mapping):
        _refuse_arrays(method, x, named)
    if named.get("shuffle"):
        raise DataError(
            "`shuffle` must be False: windows are carried from one to the next, and a shuffled window would start from "
            "the state of another time. Received: shuffle=True. Leave it out."
        )
    if "validation_split" in given:
        raise DataError(
            "`validation_split` would cut windows apart from those before them. Received: "
            f"validation_split={named['validation_split']}. Hold out the last steps, or whole sequences, and write: "
            f"{_written('fit', named, 'windows')}."
        )
    if given:
        raise DataError(
            f"`{method}` takes windows, which hold targets, weights and batch size. Received: `{given[0]}`. "
            "Give it to `Windows(...)`."
        )
    _check_validation(named.get("validation_data"))
    return {name: value for name, value in named.items() if name not in _IN_WINDOWS}


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value == 0.0)


def _refuse_arrays(method: str, x: Any, named: Mapping[str, Any]) -> None:
    """Raise a `DataError` for plain arrays, with the call to write."""
    if isinstance(x, keras.utils.PyDataset) or not (isinstance(x, (Mapping, list, tuple)) or hasattr(x, "shape")):
        return
    known = "targets and batch size" if method == "predict" else "the keys, targets and batch size"
    raise DataError(
        f"`{method}` takes `rnnstate.Windows`, which hold {known}, and keep each sequence in time order. Received: "
        f"{_described(x)}. Write: {_written(method, named, _windows(x, named, method))}."
    )


def _check_validation(data: Any) -> None:
    if isinstance(data, (tuple, list)):
        raise DataError(
            "`validation_data` must be `rnnstate.Windows`, which keep each sequence in time order. Received: "
            f"{_described(data)}. Write: validation_data=rnnstate.Windows(x_val, y_val, length=..., batch_size=...)."
        )


def _described(x: Any) -> str:
    shape = getattr(x, "shape", None)
    return type(x).__name__ if shape is None else f"an array of shape {tuple(shape)}"


def _windows(x: Any, named: Mapping[str, Any], method: str) -> str:
    """Return the text of the windows of plain arrays."""
    shape: Any = getattr(x, "shape", ())
    steps = shape[-2] if len(shape) > 1 else 96
    parts = ["x"] if method == "predict" or named.get("y") is None else ["x", "y"]
    length, rows = min(int(steps), 96), _number(named.get("batch_size"), 32)
    kind = ['targets="sequence"'] if "y" in parts and _is_per_sequence(shape, named["y"]) else []
    weights = ["sample_weight=sample_weight"] if named.get("sample_weight") is not None else []
    return f"rnnstate.Windows({', '.join([*parts, f'length={length}', f'batch_size={rows}', *kind, *weights])})"


def _is_per_sequence(shape: Any, y: Any) -> bool:
    """Return whether `y` has an entry for each sequence, and none for each step."""
    targets = np.shape(y)
    return len(shape) > 2 and targets[:1] == tuple(shape[:1]) and targets[1:2] != tuple(shape[1:2])


def _written(method: str, named: Mapping[str, Any], windows: str) -> str:
    """Return the text of the call."""
    others = []
    if method == "fit" and not _is_nothing(named.get("epochs")):
        others = [f"epochs={_number(named['epochs'], 1)}"]
    if method == "fit" and not (_is_nothing(named.get("validation_split")) and named.get("validation_data") is None):
        others.append("validation_data=rnnstate.Windows(x_val, y_val, length=..., batch_size=...)")
    return f"model.{method}({', '.join([windows, *others])})"


def _number(value: Any, otherwise: int) -> Any:
    return value if isinstance(value, (int, np.integer)) else otherwise
