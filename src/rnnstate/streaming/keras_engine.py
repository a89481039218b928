"""A `StatefulModel` as an engine."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, tree
from numpy.typing import NDArray

from rnnstate.inplace.discover import recurrent_layers
from rnnstate.kernels import kernels
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.network.clone import inputs_of
from rnnstate.ports.recurrent import runs_backward
from rnnstate.state.state import to_numpy
from rnnstate.streaming.engine import Arrays, ArraySpec, card_of, fixed_shape, kept_dtype


class KerasEngine:
    """Steps sessions with a `StatefulModel`.

    Args:
        model: The model. Training it in another thread changes the weights of later steps.

    Raises:
        UnsupportedModelError: If an axis other than batch and time is free.
    """

    def __init__(self, model: StatefulModel) -> None:
        self.model, self.spec = model, model.state_spec
        self._structure = inputs_of(model.net)
        tensors = tree.flatten(self._structure)
        names = sorted(self._structure) if isinstance(self._structure, dict) else [tensor.name for tensor in tensors]
        self.inputs = tuple(map(_input_spec, names, tensors))
        per_step = [rate > 0 for rate in model.strides.outputs]
        self.outputs = tuple(map(_output_spec, model.net.outputs, per_step))
        self._one_input = hasattr(self._structure, "shape")
        self._outputs_as = model.net.outputs[0] if isinstance(model.net, keras.Sequential) else model.net.output
        self.whole = model.time_mixing == "allow" or any(
            runs_backward(layer) or isinstance(layer, layers.Bidirectional) for _, layer in recurrent_layers(model.net)
        )
        self.steps = next(
            (tensor.shape[1] for tensor, spec in zip(tensors, self.inputs, strict=True) if spec.per_step), None
        )
        if model.strides.total > 1:
            self.steps = model.strides.total
        self.rows = tensors[0].shape[0]
        self.needs_observed = model.start.needs_observed
        self._context, self._arrays = kernels().without_gradients, kernels().arrays
        self._dtypes = [kept_dtype(leaf.dtype) for leaf in self.spec.values()]
        self.card = card_of(self.spec, _hash(model), self.inputs, self.outputs)

    def initial(self, count: int, observed: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        with self._context():
            state = self.model.initial_state(count, observed)
            return dict(zip(self.spec, self._kept(state.values()), strict=True))

    def run(self, inputs: Arrays, leaves: Arrays) -> tuple[Arrays, Arrays]:
        x = inputs[0] if self._one_input else tree.pack_sequence_as(self._structure, inputs)
        with self._context():
            # What is pushed and kept has been checked, so `model.step`, which checks it again, is left out.
            y, state = self.model._parts.stepper(x, leaves, None, None, None)
            parts = [y] if hasattr(y, "shape") else tree.flatten(y)
            # An output is copied, because the backend may keep the array.
            return [np.array(part, _kept(part)) for part in self._arrays(parts)], self._kept(state.values())

    def packed(self, outputs: Sequence[NDArray[Any]]) -> Any:
        return outputs[0] if len(outputs) == 1 else tree.pack_sequence_as(self._outputs_as, list(outputs))

    def rollout(self, x0: Any, state: Mapping[str, Any], steps: int, **options: Any) -> Any:
        with self._context():
            y, _ = self.model.rollout(x0, state, steps, **options)
            return tree.map_structure(_own, y)

    def _kept(self, leaves: Any) -> Arrays:
        pairs = zip(self._arrays(leaves), self._dtypes, strict=True)
        return [leaf.astype(dtype, copy=False) for leaf, dtype in pairs]


def _input_spec(name: str, tensor: Any) -> ArraySpec:
    # A float vector `(batch, features)` is a static input; anything else has a time axis. The axes after it are features.
    per_step = len(tensor.shape) > 2 or "int" in str(tensor.dtype)
    shape = fixed_shape(name, tensor.shape[2 if per_step else 1 :])
    return ArraySpec(name, shape, kept_dtype(str(tensor.dtype)), per_step)


def _output_spec(tensor: Any, per_step: bool) -> ArraySpec:
    shape = tuple(size or 0 for size in tensor.shape[2 if per_step else 1 :])
    return ArraySpec(tensor.name, shape, str(tensor.dtype), per_step)


def _own(tensor: Any) -> NDArray[Any]:
    """Return a tensor as an array that nobody else has. Outputs in bfloat16 become float32."""
    array = to_numpy(tensor)
    return np.array(array, _kept(array))


def _kept(array: NDArray[Any]) -> Any:
    return np.float32 if array.dtype.kind == "V" else array.dtype  # NumPy reports bfloat16 as kind "V"


def _hash(model: StatefulModel) -> str:
    """Return a hash of all weights. The names of layers do not count, because Keras numbers them anew in each process."""
    found = hashlib.sha256()
    for variable in [*model.net.weights, *model.start.weights]:  # `variables` has seeds of dropout, too
        found.update(np.ascontiguousarray(to_numpy(variable.value)).tobytes())
    return found.hexdigest()
