"""Flax NNX with optax: one compiled call scans all windows of an epoch and carries the state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from rnnstate.bench.contenders.task import (
    EPSILON,
    LEARNING_RATE,
    Repeat,
    Task,
    batches,
    repeated,
    serve_on_jax,
    weights,
)


class _Net(nnx.Module):
    """The network with the weights of the task; Flax orders the gates of its LSTM as Keras does."""

    def __init__(self, task: Task) -> None:
        rngs = nnx.Rngs(0)
        sizes = [task.features, *[task.units] * (task.layers - 1)]
        cells = [nnx.OptimizedLSTMCell(size, task.units, rngs=rngs) for size in sizes]
        self.loops = nnx.List([nnx.RNN(cell, return_carry=True) for cell in cells])
        self.dense = nnx.Linear(task.units, 1, rngs=rngs)
        arrays = [jnp.asarray(array) for array in weights(task)]
        for layer, cell in enumerate(cells):
            kernel, recurrent, bias = arrays[3 * layer : 3 * layer + 3]
            cell.dense_i.kernel[...] = kernel
            cell.dense_h.kernel[...] = recurrent
            cell.dense_h.bias[...] = bias
        self.dense.kernel[...], self.dense.bias[...] = arrays[-2:]

    def __call__(self, x: Any, carry: Any) -> Any:
        after = []
        for loop, before in zip(self.loops, carry, strict=True):
            one, x = loop(x, initial_carry=before)
            after.append(one)
        return self.dense(x), after


def _zeros(task: Task) -> Any:
    shape = (task.batch, task.units)
    return [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(task.layers)]


def train(task: Task) -> Repeat:
    """Return a training that runs an epoch per call."""
    # `rest` holds random generators, which have no gradient.
    graph, params, rest = nnx.split(_Net(task), nnx.Param, ...)
    adam = optax.adam(LEARNING_RATE, eps=EPSILON)

    def step(state: Any, batch: Any) -> Any:
        params, moments, carry = state

        def loss(params: Any) -> Any:
            y, after = nnx.merge(graph, params, rest)(batch[0], carry)
            return jnp.mean((y - batch[1]) ** 2), after

        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = adam.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments, carry), value

    epoch = jax.jit(lambda state, data: jax.lax.scan(step, state, data), donate_argnums=0)
    data = tuple(jnp.asarray(part) for part in batches(task))
    kept = [params, adam.init(params)]

    def epochs(count: int) -> float:
        for _ in range(count):
            (kept[0], kept[1], _), losses = epoch((*kept, _zeros(task)), data)
        return float(losses.mean())

    return epochs


def step(task: Task) -> Repeat:
    """Return a compiled step, from NumPy to NumPy."""
    serve_on_jax()
    graph, params = nnx.split(_Net(task))
    run = jax.jit(lambda params, x, carry: nnx.merge(graph, params)(x, carry))
    kept = [_zeros(task)]

    def call(x: Any) -> Any:
        y, kept[0] = run(params, x, kept[0])
        return np.asarray(y)

    return repeated(call, task)
