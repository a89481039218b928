"""Weights of recurrent networks to and from `torch.nn.LSTM` and `torch.nn.GRU`, by PyTorch's names."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from rnnstate.errors import SpecMismatchError
from rnnstate.messages import quoted
from rnnstate.state.state import to_numpy
from rnnstate.weights.gates import Parts, assign, directions, split


def from_torch(module: Any, net: Any) -> None:
    """Copy the weights of a `torch.nn.LSTM` or `GRU` into Keras layers.

    Args:
        module: The module, its `state_dict()`, or a mapping of NumPy arrays with the same names.
        net: Built Keras layers, or a network that contains them: one LSTM or GRU for each layer of the module, inside a
            `Bidirectional` if the module is bidirectional.

    Raises:
        SpecMismatchError: If the layers do not fit the module. Nothing has changed then.

    Example:

    >>> nets = [keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(3)]) for _ in range(2)]
    >>> from_torch(to_torch(nets[0]), nets[1])
    >>> bool((nets[0].get_weights()[0] == nets[1].get_weights()[0]).all())
    True
    """
    state = module if isinstance(module, Mapping) else module.state_dict()
    arrays = {name: _host(value) for name, value in state.items()}
    sides = _sides(net)
    expected = {name for prefix, _ in sides for name in _names(prefix)}
    # A module without biases has no names for them, so only the names of the matrices must agree.
    if {name for name in arrays if "bias" not in name} != {name for name in expected if "bias" not in name}:
        raise SpecMismatchError(
            f"The layers must be those of the module, which has {quoted(sorted(arrays))}. "
            f"Received: layers for {quoted(sorted(expected))}."
        )
    assign([(layer, _parts(arrays, prefix)) for prefix, layer in sides], "torch")


def to_torch(net: Any) -> dict[str, np.ndarray]:
    """Return the weights of Keras layers under the names of a `torch.nn.LSTM` or `GRU`.

    Args:
        net: Built Keras layers, or a network that contains them.

    Returns:
        Arrays by name. Make each one a tensor for `module.load_state_dict`: `{name: torch.tensor(array)}`.

    Raises:
        SpecMismatchError: If PyTorch has no such layer.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
    >>> {name: array.shape for name, array in to_torch(net).items()}
    {'weight_ih_l0': (9, 2), 'weight_hh_l0': (9, 3), 'bias_ih_l0': (9,), 'bias_hh_l0': (9,)}
    """
    found: dict[str, np.ndarray] = {}
    for prefix, layer in _sides(net):
        found.update(zip(_names(prefix), split(layer, "torch"), strict=True))
    return found


def _sides(net: Any) -> list[tuple[str, Any]]:
    """Return each direction of each layer with the ending of PyTorch's names for it: `l0`, `l0_reverse`, `l1`."""
    given = net.layers if isinstance(net, keras.Model) else [net] if isinstance(net, keras.Layer) else net
    recurrent = [layer for layer in given if isinstance(layer, (layers.LSTM, layers.GRU, layers.Bidirectional))]
    return [
        (f"l{index}{'_reverse' if direction else ''}", side)
        for index, layer in enumerate(recurrent)
        for direction, side in enumerate(directions(layer))
    ]


def _names(prefix: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{prefix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


def _parts(arrays: Mapping[str, np.ndarray], prefix: str) -> Parts:
    w, r, b, rb = _names(prefix)
    zeros = np.zeros(len(arrays[w]), arrays[w].dtype)
    return arrays[w], arrays[r], arrays.get(b, zeros), arrays.get(rb, zeros)


def _host(value: Any) -> np.ndarray:
    """Return a tensor of PyTorch, under any backend, or another array as a NumPy array."""
    return np.asarray(value.detach().cpu()) if hasattr(value, "detach") else to_numpy(value)
