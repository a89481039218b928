"""A check before native code is used on TensorFlow: one call of the operator gives known numbers."""

import numpy as np
import tensorflow as tf

from rnnstate.kernels.native.known_numbers import TOLERANCE, UNITS, difference, known_loop
from rnnstate.kernels.native.tensorflow_call import FORWARD, call_loop


class WrongNumbersError(RuntimeError):
    """A native loop gives other numbers than NumPy."""


def check_numbers() -> None:
    """Run a SimpleRNN through TensorFlow, and compare it with NumPy.

    Raises:
        WrongNumbersError: If the numbers differ.
    """
    known = known_loop()
    identity = np.eye(UNITS, dtype="float32")  # the input is projected already
    numbers = [known.x, identity, known.recurrent, known.start[0], known.initial[0]]

    def run() -> list[tf.Tensor]:
        *arrays, mask, reset = map(tf.constant, (*numbers, known.mask, known.reset))
        return call_loop("rnn", FORWARD, arrays, 4, mask, reset, holds=True)

    with tf.init_scope():  # a loop that is being traced must not become part of the trace
        _, _, final, outputs = tf.function(run, autograph=False)()
    off = difference(known, outputs.numpy(), final.numpy())
    if not off < TOLERANCE:
        raise WrongNumbersError(
            f"A native loop must give what NumPy gives. Received: numbers that differ by {off:.1e} on TensorFlow "
            f"{tf.__version__}."
        )
