"""MinLSTM: an LSTM whose gates and candidate do not read the state."""

import keras
from keras import ops

from rnnstate.layers.gated import GatedRecurrence
from rnnstate.layers.linear_scan import Number
from rnnstate.state.state import Array


@keras.saving.register_keras_serializable("rnnstate")
class MinLSTM(GatedRecurrence):
    """A minimal LSTM, parallel in time. It has one leaf h, and no cell state.

        f_t = sigmoid(x_t W_f + b_f)
        i_t = sigmoid(x_t W_i + b_i)
        c_t = activation(x_t W_c + b_c)
        h_t = f_t / (f_t + i_t) * h_(t-1) + i_t / (f_t + i_t) * c_t

    The state h and the output have the shape `(batch, units)` at each step. The kernel holds `W_f`, `W_i` and `W_c` side by
    side, `(features, 3 * units)`. The gates add up to 1, so h cannot overflow.

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

    >>> layer = rs.layers.MinLSTM(3, return_state=True)
    >>> y, h = layer(np.ones((5, 7, 2), "float32"), initial_state=np.ones((5, 3), "float32"))
    >>> y.shape == h.shape == (5, 3)
    True

    References:
        - Feng et al., "Were RNNs all we needed?", arXiv 2410.01201 (2024).
    """

    parts = 3

    def coefficients(self, x: Array) -> tuple[Number, Number]:
        forget, write, candidate = self.projections(x)
        # f / (f + i) is the sigmoid of log f - log i. The quotient itself would be 0 / 0 if both gates underflow.
        odds = ops.softplus(-write) - ops.softplus(-forget)
        return (ops.sigmoid(odds),), (ops.sigmoid(-odds) * candidate,)
