"""MinGRU: a GRU whose gate and candidate do not read the state."""

import keras
from keras import ops

from rnnstate.layers.gated import GatedRecurrence
from rnnstate.layers.linear_scan import Number
from rnnstate.state.state import Array


@keras.saving.register_keras_serializable("rnnstate")
class MinGRU(GatedRecurrence):
    """A minimal GRU, parallel in time.

        z_t = sigmoid(x_t W_z + b_z)
        c_t = activation(x_t W_c + b_c)
        h_t = (1 - z_t) * h_(t-1) + z_t * c_t

    The state h and the output have the shape `(batch, units)` at each step. The kernel holds `W_z` and `W_c` side by side,
    `(features, 2 * units)`. Every h_t is a mean of earlier candidates and the start, so it cannot overflow.

    Args:
        units: The size of the state and of the output.
        activation: The activation of the candidate. The default is none, as in section 3 of the paper.
        use_bias: Whether the projection has a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        return_sequences: Whether to return the output of every step, `(batch, time, units)`, or of the last valid step.
        return_state: Whether to return the final state after the output.
        dropout: The fraction of input features to drop in training. One draw holds for all steps of a window.
        seed: The seed of the dropout.

    Returns:
        The output; with `return_state`, a tuple of the output and h.

    Raises:
        ValueError: If `units` is not a positive whole number, or `dropout` is not in 0 to 1.
        StateShapeError: If `initial_state` in a call is not one leaf `(batch, units)`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), rs.layers.MinGRU(3, return_sequences=True, name="gru")])
    >>> net(np.ones((5, 7, 2), "float32")).shape == (5, 7, 3)
    True
    >>> rs.StatefulModel(net).state_spec
    StateSpec(gru/h: (batch, units=3) float32)

    References:
        - Feng et al., "Were RNNs all we needed?", arXiv 2410.01201 (2024).
    """

    def coefficients(self, x: Array) -> tuple[Number, Number]:
        gate, candidate = self.projections(x)
        # 1 - sigmoid(z) would round to 0 for a large z.
        return (ops.sigmoid(-gate),), (ops.sigmoid(gate) * candidate,)
