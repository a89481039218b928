"""The variables of the optimizer, the loss and the metrics, made before the first training step.

Keras makes them during this step on TensorFlow. TensorFlow traces a function that makes variables a second time, which
doubles the time to the end of the first step.
"""

from typing import Any

import keras
from keras import ops, tree

from rnnstate.kernels import kernels


def build_before_tracing(model: Any, batch: Any) -> None:
    """Create all variables of training now, if the backend would trace the training step again for them.

    Args:
        model: A model. One that is not compiled is left to Keras, which says so.
        batch: Inputs, targets, and weights if there are any.
    """
    optimizer = getattr(model, "optimizer", None)
    if kernels().TRACES_AGAIN_FOR_VARIABLES and optimizer is not None and not optimizer.built:
        build_all(model, batch)


def build_all(model: Any, batch: Any) -> None:
    """Create all variables of training now. Keras creates the variables of the optimizer and the metrics only on first use.

    Args:
        model: A compiled model.
        batch: Inputs, targets, and weights if there are any.
    """
    model.optimizer.build(model.trainable_variables)
    # Running the model on symbols may draw dropout. Training without checkpoints does not, so the generators are restored.
    drawn = kernels().random_state()
    inputs, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = model.compute_output_spec(tree.map_structure(_spec, inputs), training=False)
    zeros = tree.map_structure(lambda output: ops.zeros(output.shape, dtype=output.dtype), outputs)
    model.compute_loss(inputs, y, zeros, weight)
    model.compute_metrics(inputs, y, zeros, weight)
    model.reset_metrics()
    kernels().set_random_state(drawn)


def _spec(value: Any) -> Any:
    return keras.KerasTensor(value.shape, dtype=keras.backend.standardize_dtype(value.dtype))
