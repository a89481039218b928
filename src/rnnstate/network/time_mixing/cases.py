"""Runs of one node of a network on random inputs, for the probe. The runs change no variable of the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.network.time_mixing.axis import Axis

# Normal values, positive values for functions such as logarithms, and small whole numbers for tables.
KINDS = ("normal", "positive", "whole")
Values = dict[int, np.ndarray]


class Node:
    """One call of a layer or an operation.

    Args:
        path: The path of the layer in the network, or the name of the operation.
        call: The layer or the operation.
        args: The arguments of the call, with symbols for tensors.
        kwargs: The named arguments of the call.
        axes: What each symbol holds, by its `id`.
    """

    def __init__(self, path: str, call: Any, args: Any, kwargs: Any, axes: Mapping[int, Axis]) -> None:
        self.path, self.call, self.args, self.kwargs = path, call, args, kwargs
        flat = tree.flatten((args, kwargs))
        self.symbols = list({id(part): part for part in flat if keras.backend.is_keras_tensor(part)}.values())
        self.constants = [part for part in flat if not keras.backend.is_keras_tensor(part)]
        self.axes = [axes[id(symbol)] for symbol in self.symbols]
        self.shapes = [tuple(symbol.shape) for symbol in self.symbols]

    @property
    def times(self) -> set[int | None]:
        """The number of steps of the series; `None` is any number."""
        return {shape[1] for axis, shape in zip(self.axes, self.shapes, strict=True) if axis is Axis.STEPS}

    @property
    def draws(self) -> bool:
        """Whether the layer may draw random numbers, because it has a seed generator."""
        return any(variable.path.endswith("seed_generator_state") for variable in getattr(self.call, "variables", ()))

    @property
    def name(self) -> str:
        """The layer or the operation, with its class, as messages name it."""
        kind = "Layer" if isinstance(self.call, keras.Layer) else "Operation"
        return f"{kind} `{self.path}` ({type(self.call).__name__})"

    def random(self, steps: int, kind: str, seed: int = 0) -> Values:
        """Return random values for each symbol. Static values are the same for any number of steps."""
        rng = np.random.default_rng(seed)
        values = {}
        for symbol, axis in zip(self.symbols, self.axes, strict=True):
            batch, *sizes = symbol.shape
            shape = [2 if batch is None else batch, *(3 if size is None else size for size in sizes)]
            if axis is Axis.STEPS:
                shape[1] = steps
            values[id(symbol)] = _draw(rng, shape, symbol.dtype, kind)
        return values

    def run(self, values: Values) -> list[np.ndarray]:
        """Return the outputs for values of the symbols."""

        def filled(part: Any) -> Any:
            return ops.convert_to_tensor(values[id(part)], dtype=part.dtype) if id(part) in values else part

        args, kwargs = tree.map_structure(filled, (self.args, self.kwargs))
        with keras.StatelessScope():  # a layer may count its calls, or draw random numbers
            outputs = self.call(*args, **kwargs)
        return [_plain(output) for output in tree.flatten(outputs) if output is not None]

    def change(self, values: Values, others: Values, steps: Any) -> Values:
        """Return values with some steps of every series taken from other values."""
        changed = {}
        for symbol, axis in zip(self.symbols, self.axes, strict=True):
            changed[id(symbol)] = values[id(symbol)].copy()
            if axis is Axis.STEPS:
                changed[id(symbol)][:, steps] = others[id(symbol)][:, steps]
        return changed

    def part(self, values: Values, steps: Any) -> Values:
        """Return values with the given steps of every series alone, in the given order."""
        return {
            id(symbol): values[id(symbol)][:, steps] if axis is Axis.STEPS else values[id(symbol)]
            for symbol, axis in zip(self.symbols, self.axes, strict=True)
        }


def _draw(rng: np.random.Generator, shape: Sequence[int], dtype: str, kind: str) -> np.ndarray:
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, size=shape), dtype=bool)
    if not keras.backend.is_float_dtype(dtype):
        return np.asarray(rng.integers(0, 2, size=shape), dtype=dtype)
    if kind == "normal":
        return np.asarray(rng.normal(size=shape), dtype="float32")
    drawn = rng.uniform(0.1, 1.0, size=shape) if kind == "positive" else rng.integers(0, 3, size=shape)
    return np.asarray(drawn, dtype="float32")


def _plain(output: Any) -> np.ndarray:
    array = np.asarray(ops.convert_to_numpy(ops.stop_gradient(output)))
    return array.astype("float64" if array.dtype.kind in "fVbiu" else array.dtype)
