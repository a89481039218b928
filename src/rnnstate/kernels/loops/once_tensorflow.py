"""TensorFlow: gradients that cannot be differentiated again. An error says so, where TensorFlow would give wrong numbers."""

from collections.abc import Callable

import tensorflow as tf

from rnnstate.kernels.loops.definition import Array


def differentiable_once(gradients: Callable[[], list[Array]], arrays: list[Array]) -> list[Array]:
    """Return the results of `gradients`, which depend on some arrays and have no gradient."""
    found: list[Array] = tf.custom_gradient(lambda *_: (gradients(), _refuse))(*arrays)
    return found


def _refuse(*gradients: Array) -> None:
    raise NotImplementedError(
        "The fast loops of TensorFlow can be differentiated once. Received: a gradient of their gradient. "
        'Use `StatefulModel(net, kernels="reference")`.'
    )
