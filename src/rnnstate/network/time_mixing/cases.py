"""Runs of one node of a network on random inputs, for the probe. The runs change no variable of the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnstate.network.stand_in import PortLayer
from rnnstate.network.time_mixing.axis import Axis

# Normal values, positive values for functions such as logarithms, and small whole numbers for tables.
KINDS = ("normal", "positive", "whole")
Values = dict[int, np.ndarray]  # by the id of the symbol
Cases = list[Values]  # one for each kind


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
    def first(self) -> Any:
        """The first argument of the call, a symbol or a structure of symbols."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()))

    @property
    def kind(self) -> str:
        """The class of the layer or the operation. A stand-in counts as its layer."""
        return type(self.call.layer if isinstance(self.call, PortLayer) else self.call).__name__

    @property
    def name(self) -> str:
        """The layer or the operation, with its class, as messages name it."""
        return f"{'Layer' if isinstance(self.call, keras.Layer) else 'Operation'} `{self.path}` ({self.kind})"

    def random(self, steps: int, seed: int = 0, scale: float = 1.0) -> Cases:
        """Return random values for each symbol, of each kind. Static values are the same for any number of steps."""
        return [self._drawn(steps, kind, seed, scale) for kind in KINDS]

    def _drawn(self, steps: int, kind: str, seed: int, scale: float) -> Values:
        rng = np.random.default_rng(seed)
        values = {}
        for symbol, axis in zip(self.symbols, self.axes, strict=True):
            batch, *sizes = symbol.shape
            shape = [2 if batch is None else batch, *(3 if size is None else size for size in sizes)]
            if axis is Axis.STEPS:
                shape[1] = steps
            values[id(symbol)] = _draw(rng, shape, symbol.dtype, kind, scale)
        return values

    def run(self, cases: Cases) -> list[list[np.ndarray]]:
        """Return the outputs for each case. All cases are rows of one batch, if the node takes a batch of any size."""
        if any(shape[0] is not None for shape in self.shapes):
            return [self._run(values) for values in cases]
        joined = {key: np.concatenate([values[key] for values in cases]) for key in cases[0]}
        rows = len(next(iter(joined.values())))
        outputs = [_split(output, rows, len(cases)) for output in self._run(joined)]
        return [list(case) for case in zip(*outputs, strict=True)] if outputs else [[] for _ in cases]

    def _run(self, values: Values) -> list[np.ndarray]:
        def filled(part: Any) -> Any:
            return ops.convert_to_tensor(values[id(part)], dtype=part.dtype) if id(part) in values else part

        args, kwargs = tree.map_structure(filled, (self.args, self.kwargs))
        with keras.StatelessScope():  # a layer may count its calls, or draw random numbers
            outputs = self.call(*args, **kwargs)
        return [_plain(output) for output in tree.flatten(outputs) if output is not None]

    def change(self, cases: Cases, others: Cases, steps: Any) -> Cases:
        """Return the cases with some steps of every series taken from other cases."""
        return [self._changed(values, other, steps) for values, other in zip(cases, others, strict=True)]

    def _changed(self, values: Values, others: Values, steps: Any) -> Values:
        changed = {}
        for symbol, axis in zip(self.symbols, self.axes, strict=True):
            changed[id(symbol)] = values[id(symbol)].copy()
            if axis is Axis.STEPS:
                changed[id(symbol)][:, steps] = others[id(symbol)][:, steps]
        return changed

    def part(self, cases: Cases, steps: Any) -> Cases:
        """Return the cases with the given steps of every series alone, in the given order."""
        return [
            {
                id(symbol): values[id(symbol)][:, steps] if axis is Axis.STEPS else values[id(symbol)]
                for symbol, axis in zip(self.symbols, self.axes, strict=True)
            }
            for values in cases
        ]


def _split(output: np.ndarray, rows: int, count: int) -> list[np.ndarray]:
    """Return the rows of each case. An output without a row for each row of the input becomes one value."""
    if not output.shape or output.shape[0] != rows:
        return [np.zeros(())] * count
    return np.split(output, count)


def _draw(rng: np.random.Generator, shape: Sequence[int], dtype: str, kind: str, scale: float) -> np.ndarray:
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, size=shape), dtype=bool)
    if not keras.backend.is_float_dtype(dtype):
        return np.asarray(rng.integers(0, 2, size=shape), dtype=dtype)
    if kind == "normal":
        return np.asarray(scale * rng.normal(size=shape), dtype="float32")
    drawn = rng.uniform(0.1, 1.0, size=shape) if kind == "positive" else rng.integers(0, 3, size=shape)
    return np.asarray(drawn, dtype="float32")


def _plain(output: Any) -> np.ndarray:
    array = np.asarray(ops.convert_to_numpy(ops.stop_gradient(output)))
    return array.astype("float64" if array.dtype.kind in "fVbiu" else array.dtype)
