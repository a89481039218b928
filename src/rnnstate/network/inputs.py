"""The arrays that a network gets: what counts as an array, and the check before anything runs."""

from typing import Any

import numpy as np
from keras import tree

from rnnstate.errors import DataError
from rnnstate.network.clone import inputs_of
from rnnstate.network.finite import is_finite


class Inputs:
    """The inputs of a network.

    Args:
        net: The network, built.
    """

    def __init__(self, net: Any) -> None:
        structure = inputs_of(net)
        self._one, self._tensors = hasattr(structure, "shape"), tree.flatten(structure)
        self._fit: set[Any] = (
            set()
        )  # shapes of one array that were found to fit; a served model sees the same ones again

    def arrays(self, x: Any) -> Any:
        """Return the inputs as arrays. For a network with one input, a list of numbers is one array."""
        if hasattr(x, "shape"):
            return x
        if self._one and isinstance(x, (list, tuple)) and not any(hasattr(part, "shape") for part in x):
            return np.asarray(x)
        return tree.map_structure(lambda part: part if hasattr(part, "shape") else np.asarray(part), x)

    def check(self, x: Any) -> None:
        """Raise if an array does not fit its input. Tensors of the backend are not searched for values that are not finite.

        Args:
            x: The arrays, in the structure of the inputs of the network.

        Raises:
            DataError: If an array has another rank, another size, no step, no numbers, or a value that is not finite.
        """
        if self._one and hasattr(x, "shape"):
            self._check_one(x)
            return
        parts = tree.flatten(x)
        if len(self._tensors) != len(parts):
            return  # Keras tells which inputs it takes by which names
        for tensor, part in zip(self._tensors, parts, strict=True):
            _check_shape(tensor, tuple(part.shape))
            _check_values(tensor, part)

    def _check_one(self, x: Any) -> None:
        if x.shape not in self._fit:
            _check_shape(self._tensors[0], tuple(x.shape))
            self._fit.add(x.shape)
        _check_values(self._tensors[0], x)


def _check_shape(tensor: Any, shape: tuple[Any, ...]) -> None:
    expected = tuple(tensor.shape)
    if len(shape) != len(expected):
        # Keras adds or removes a last axis of size 1.
        longer = max(shape, expected, key=len)
        if abs(len(shape) - len(expected)) == 1 and longer[-1] == 1:
            return
        hint = "One step for each row is `x[:, None]`." if len(shape) == len(expected) - 1 else ""
        raise DataError(f"{_must(tensor)} Received: shape={shape}. {hint}".rstrip())
    # Other checks say how many steps a network with a fixed number of steps takes.
    sizes = [place for place in range(1, len(shape)) if place > 1 or len(shape) == 2]
    if any(isinstance(shape[place], int) and expected[place] not in (None, shape[place]) for place in sizes):
        raise DataError(f"{_must(tensor)} Received: shape={shape}.")
    if len(shape) > 2 and isinstance(shape[1], int) and shape[1] == 0:
        raise DataError(f"{_must(tensor)} Received: shape={shape}. A window must have at least one step.")


def _check_values(tensor: Any, part: Any) -> None:
    if not isinstance(part, np.ndarray):
        return
    if part.dtype.kind not in "fiub":
        # NumPy reports bfloat16, and other numbers that it does not know, as kind "V".
        if part.dtype.kind != "V":
            raise DataError(f"Input `{tensor.name}` of the network must hold numbers. Received: dtype={part.dtype}.")
    elif part.dtype.kind == "f" and not is_finite(part):
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(part))[0])
        raise DataError(
            f"Input `{tensor.name}` of the network must be finite. Received: {part[place]} in row {place[0]}, at "
            f"{list(place[1:])}. The state after this step would not be finite. Fill the value."
        )


def _must(tensor: Any) -> str:
    names = ["batch", "time", "features"] if len(tensor.shape) == 3 else ["batch", *["any"] * (len(tensor.shape) - 1)]
    sizes = [name if size is None else str(size) for name, size in zip(names, tensor.shape, strict=True)]
    return f"Input `{tensor.name}` of the network must have shape ({', '.join(sizes)})."
