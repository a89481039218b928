"""The native loops as an operator of TensorFlow. `csrc/tensorflow_runs.c` gives the order of its arrays and results.

The library is built without TensorFlow. It gets the addresses of the functions of TensorFlow's C interface from here, and
registers the operator with them.
"""

import ctypes
import os
from pathlib import Path

import tensorflow as tf

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.library import addresses, library, use_threads

_NAME = "RnnstateLoop"
CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
# What a call does, as in `csrc/call.h`.
FORWARD, BACK, SUMS, GRADIENT_OF_X = range(4)


def call_loop(
    kind: str,
    work: int,
    numbers: list[Array],
    results: int,
    mask: Array | None = None,
    reset: Array | None = None,
    biases: bool = False,
    holds: bool = False,
) -> list[Array]:
    """Add a call of the native loops to the graph that is traced.

    Args:
        kind: Which cell.
        work: What to do.
        numbers: The arrays of float32, in the order of the work.
        results: How many results there are.
        mask: Boolean `(batch, time)`, or `None`.
        reset: Boolean `(batch, time)`, or `None`.
        biases: Whether the last of `numbers` is a bias, for `FORWARD`.
        holds: Whether the outputs at masked steps repeat earlier outputs, which are not h there.
    """
    masks, resets = ([] if flag is None else [flag] for flag in (mask, reset))
    counts = {
        "number_count": len(numbers),
        "mask_count": len(masks),
        "reset_count": len(resets),
        "result_count": results,
    }
    settings = {**counts, "cell": CELLS[kind], "work": work, "biases": biases, "holds": holds}
    attributes = {name: tf.compat.v1.AttrValue(i=int(value)) for name, value in settings.items()}
    graph = tf.compat.v1.get_default_graph()
    operation = graph.create_op(
        _NAME, [*numbers, *masks, *resets], [tf.float32] * results, attrs=attributes, name="rnnstate_loop"
    )
    return list(operation.outputs)


def register() -> None:
    """Give the library the functions that it needs. TensorFlow then knows the operator."""
    use_threads(threads())
    found, names = library(), list[str]()
    while name := found.rnnstate_tensorflow_function(len(names)):
        names.append(name.decode())
    path = min(Path(tf.sysconfig.get_lib()).glob("libtensorflow_framework.*"))
    if not found.rnnstate_use_tensorflow(addresses(ctypes.CDLL(str(path)), names)):
        raise RuntimeError(f"TensorFlow {tf.__version__} has refused the operator of the native loops.")
    tf.no_gradient(_NAME)  # the function around the operator defines the gradients


def threads() -> int:
    """Return how many threads may compute one operator: the number that TensorFlow was given, or one for each core."""
    given = tf.config.threading.get_intra_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
    return given or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
