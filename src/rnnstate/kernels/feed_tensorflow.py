"""TensorFlow: a `tf.data` pipeline of batches.

In the pipeline that Keras would make, a thread tunes the pipeline. At the end of each epoch, Keras waits until this
thread wakes up. The thread sleeps longer each time: a second and more, once an epoch takes that long.

A call of Python from the pipeline takes longer than making a small batch, so one call makes several small batches:

    calls of Python     0                    16                   32      (batches, batch, time, features)
    batches             0 1 2 ... 14 15      16 17 ... 30 31      end     (batch, time, features)

The call at the end makes no batch. If a batch of the call before could not be made, it raises the error.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

FED_AT_ONCE = 16


def feed(batches: Any, count: int) -> Any:
    """Return a `tf.data` pipeline of batches, which loads `count` of them ahead in another thread."""
    # All batches of `Windows` have the same number of rows. The last batch of a user's dataset may have fewer.
    rows = getattr(batches.windows, "batch_size", None)
    specs = tree.map_structure(partial(_spec, rows), batches.first())
    options = tf.data.Options()
    options.autotune.enabled = False
    # If an epoch ended among batches that were made together, the next epoch would get the others.
    together = batches.at_once > 1 and batches.whole_epochs
    data = (_several if together else _one_by_one)(batches, specs)
    return (data.prefetch(count) if count else data).with_options(options)


def _one_by_one(batches: Any, specs: Any) -> Any:
    return _mapped(tf.data.Dataset.range(len(batches)), batches.__getitem__, specs)


def _several(batches: Any, specs: Any) -> Any:
    none = tree.map_structure(lambda spec: np.empty((0, *spec.shape), spec.dtype.as_numpy_dtype), specs)
    stacked = tree.map_structure(lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype), specs)
    begins = tf.data.Dataset.range(0, len(batches) + batches.at_once, batches.at_once)
    data = _mapped(begins, lambda begin: batches.several(begin) or none, stacked).unbatch()
    # Keras asks a pipeline of unknown length for one batch more.
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _mapped(numbers: Any, load: Callable[[int], Any], specs: Any) -> Any:
    """Return a pipeline of what `load` returns for each number. Python runs once for a number."""
    flat = tree.flatten(specs)

    def arrays(number: Any) -> list[Any]:
        parts = zip(tree.flatten(load(int(number))), flat, strict=True)
        return [np.asarray(part, spec.dtype.as_numpy_dtype) for part, spec in parts]

    def tensors(number: Any) -> Any:
        found = tf.numpy_function(arrays, [number], [spec.dtype for spec in flat])
        shaped = [tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(found, flat, strict=True)]
        return tree.pack_sequence_as(specs, shaped)

    return numbers.map(tensors)


def _spec(rows: int | None, part: Any) -> Any:
    array = np.asarray(part)
    return tf.TensorSpec((rows, *array.shape[1:]), array.dtype)
