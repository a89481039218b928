"""A recurrent cell of one's own, in a module that the processes that write files can import."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("benchmarks")
class LeakyCell(layers.Layer):
    """A leaky integrator."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        """Make the weights."""
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, inputs, states):
        """Return the output and the new state."""
        h = 0.9 * states[0] + 0.1 * ops.tanh(inputs @ self.kernel)
        return h, [h]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "units": self.units}
