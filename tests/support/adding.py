"""An engine without Keras: its state is the running sum of its input. It is the oracle of the streaming tests."""

import numpy as np

from rnnstate.state.spec import LeafSpec, StateSpec
from rnnstate.streaming.engine import ArraySpec, card_of


class Adding:
    """Adds up its input; the output is the sum after each step.

    Args:
        weights: Which weights it pretends to have.
    """

    spec = StateSpec({"sum": LeafSpec((1,), "float64")})
    inputs = (ArraySpec("x", (1,), "float64", True),)
    outputs = (ArraySpec("y", (1,), "float64", True),)
    whole, steps, rows, needs_observed = False, None, None, False

    def __init__(self, weights="0123456789abcdef"):
        self.card = card_of(self.spec, weights, self.inputs, self.outputs)
        self.state_spec, self.shapes, self.pause = self.spec, [], None

    def initial(self, count, observed):
        return {"sum": np.zeros((count, 1))}

    def run(self, inputs, leaves):
        self.shapes.append(inputs[0].shape[:2])
        if self.pause:
            self.pause()
        with np.errstate(over="ignore"):
            y = leaves[0][:, None] + np.cumsum(inputs[0], axis=1)
        return [y], [y[:, -1]]

    def packed(self, outputs):
        return outputs[0]

    def rollout(self, x0, state, steps):
        x, total, outputs = x0, state["sum"], []
        for _ in range(steps):
            x = total = total + x
            outputs.append(x)
        return np.stack(outputs, axis=1)


class Refusing(Adding):
    """A model that raises for the input 13, wherever it is in a batch."""

    def run(self, inputs, leaves):
        if (inputs[0] == 13.0).any():
            raise ZeroDivisionError("thirteen")
        return super().run(inputs, leaves)
