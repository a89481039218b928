"""A cell with results that can be written by hand."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("rnnstate")
class CountingCell(keras.layers.Layer):
    """A cell with results that can be written by hand: it counts the steps and sums its first input.

    The leaves are `count` and `total`, each `(batch, 1)`. The output is both of them, `(batch, 2)`.

    Args:
        start: The count at the start of a sequence. With a start other than zero, a reset to zero differs from a reset to
            the initial state.

    Example:

    >>> layer = keras.layers.RNN(CountingCell(start=100), return_sequences=True)
    >>> keras.ops.convert_to_numpy(layer(np.ones((1, 3, 1))))[0].tolist()
    [[101.0, 1.0], [102.0, 2.0], [103.0, 3.0]]
    """

    state_names = ("count", "total")

    def __init__(self, start: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.state_size = [1, 1]
        self.output_size = 2
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [ops.full((batch_size, 1), self.start), ops.zeros((batch_size, 1))]

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        count, total = states[0] + 1, states[1] + inputs[:, :1]
        return ops.concatenate([count, total], axis=-1), [count, total]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start}
