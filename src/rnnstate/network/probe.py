"""One run of a network on symbols, which computes nothing, to learn the leaves of its state.

A layer that cannot run on symbols is named in the error. Keras rebuilds an error at each level from its text alone, and
errors of JAX do not survive that. So this module looks for the first error of the chain.
"""

from traceback import walk_tb
from typing import Any

import keras
from keras import tree

from rnnstate.errors import RnnStateError, UnsupportedModelError
from rnnstate.network.clone import Network, inputs_of, is_container
from rnnstate.network.scope import StateScope
from rnnstate.network.stand_in import PortLayer


def trace(clone: Network, steps: int = 2) -> StateScope:
    """Call the network on symbols, to learn its leaves and the port that owns each leaf.

    Args:
        clone: The network with ports.
        steps: A number of steps that the network can take, above 1.

    Raises:
        UnsupportedModelError: If a layer cannot be run on symbols.
    """
    scopes: list[StateScope] = []

    class Probe(keras.Layer):
        def call(self, inputs: Any) -> Any:
            with StateScope() as scope:
                outputs = clone(inputs)
            scopes.append(scope)
            return outputs

    symbols = tree.map_structure(lambda tensor: _symbol(tensor, steps), inputs_of(clone))
    try:
        Probe().compute_output_spec(symbols)
    except Exception as error:
        raise _untraceable(error) from error
    return scopes[-1]


def _untraceable(error: BaseException) -> RnnStateError:
    """Return the error to raise for an error that a layer raised while it ran on symbols."""
    while error.__context__ is not None and _rebuilt(error):
        error = error.__context__
    if isinstance(error, RnnStateError):
        return type(error)(*error.args)
    received = f"{type(error).__name__}: {error}".strip().partition("\n")[0].rstrip(".")
    return UnsupportedModelError(
        "Every layer must run on symbols, from which its state is found before anything is computed. "
        f"{_failing(error)} did not. Received: {received}. What a layer does must not depend on values: choose with "
        "`keras.ops.where` or `keras.ops.cond`, and compute with `keras.ops`, not NumPy."
    )


def _rebuilt(error: BaseException) -> bool:
    """True for an error that Keras made from the text of another error, or that was raised while Keras did so."""
    return error.__suppress_context__ or any(isinstance(owner, BaseException) for owner in _owners(error)[-1:])


def _failing(error: BaseException) -> str:
    """Name the innermost layer that was running when an error was raised."""
    layers = [owner for owner in _owners(error) if isinstance(owner, keras.Layer) and not is_container(owner)]
    if not layers:
        return "The network"
    layer = layers[-1].layer if isinstance(layers[-1], PortLayer) else layers[-1]
    return f"Layer `{layer.name}` ({type(layer).__name__})"


def _owners(error: BaseException) -> list[Any]:
    """Return the objects whose methods an error passed through, the innermost last."""
    return [frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__)]


def _symbol(tensor: Any, steps: int) -> Any:
    """Return a symbol like an input. An unknown number of steps becomes `steps`: TensorFlow cannot scan over a symbol."""
    batch, *sizes = tensor.shape
    if sizes and sizes[0] is None:
        sizes[0] = steps
    return keras.KerasTensor((batch, *sizes), dtype=tensor.dtype)
