"""Training written out by hand, with the backend's own gradients: what `fit` must equal."""

import keras
from keras import ops

import rnnstate as rs


def mse(y, y_pred, mask=None, weight=None):
    """Return the mean squared error over valid steps, weighted as Keras weighs samples."""
    errors = ops.mean(ops.square(ops.convert_to_tensor(y) - y_pred), axis=-1)
    valid = ops.ones_like(errors) if mask is None else ops.cast(mask, errors.dtype)
    errors = errors * valid if weight is None else errors * valid * ops.convert_to_tensor(weight)
    return ops.sum(errors) / ops.sum(valid)


def gradients_of(forward, variables):
    """Return a function like `forward(*args) -> (loss, extra)` that also returns the gradients of the loss."""
    if keras.config.backend() == "jax":
        import jax  # noqa: TID251

        def pure(values, *args):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return forward(*args)

        compiled = jax.jit(jax.value_and_grad(pure, has_aux=True))
        return lambda *args: compiled([variable.value for variable in variables], *args)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf  # noqa: TID251

        def taped(*args):
            with tf.GradientTape() as tape:
                loss, extra = forward(*args)
            return (loss, extra), tape.gradient(loss, [variable.value for variable in variables])

        return taped
    import torch  # noqa: TID251

    def recorded(*args):
        loss, extra = forward(*args)
        return (loss, extra), torch.autograd.grad(loss, [variable.value for variable in variables])

    return recorded


def apply(optimizer, gradients, variables):
    """Take one optimizer step."""
    if keras.config.backend() == "torch":
        import torch  # noqa: TID251

        with torch.no_grad():
            optimizer.apply(gradients, variables)
    else:
        optimizer.apply(gradients, variables)


class Loop:
    """A training loop over `step`: states are kept in a dictionary by sequence, and cut between windows.

    Args:
        model: The model to train.
        optimizer: A new optimizer.
    """

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.variables = model.trainable_variables
        self.rows = {}
        self.losses = []

        def forward(x, state, mask, y, weight):
            y_pred, final = model.step(x, state, mask, training=True)
            per_window = len(y_pred.shape) == 2
            return mse(y, y_pred, None if per_window else mask, weight), final

        self._gradients = gradients_of(forward, self.variables)

    def epoch(self, windows):
        """Train on every batch once, sequences starting from their initial state."""
        for index in range(len(windows)):
            inputs, y, *weight = windows[index]
            self._batch(inputs, y, weight[0] if weight else None)

    def _batch(self, inputs, y, weight):
        initial = self.model.initial_state(1).numpy()
        flags = zip(inputs["slot"].tolist(), inputs["first"].tolist(), strict=True)
        start = rs.concat([initial if first else self.rows[slot] for slot, first in flags])
        args = inputs["x"], start, inputs.get("mask"), y, weight
        (loss, final), gradients = self._gradients(*args)
        apply(self.optimizer, gradients, self.variables)
        final = final.detach().numpy()
        self.rows.update({slot: final.rows([row]) for row, slot in enumerate(inputs["slot"].tolist())})
        self.losses.append(float(ops.stop_gradient(loss)))

    def states(self, count):
        """Return the states of the first `count` sequences."""
        return rs.concat([self.rows[slot] for slot in range(count)])
