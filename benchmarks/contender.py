"""One contender of the comparison, in a process of its own: it trains when it is told to, and says how long it took.

Every contender trains the same network (two LSTM layers and a read-out per step) from the same weights on the same
series with Adam, window after window, each window from the state in which the one before ended.
Lines on standard input: a number of epochs. Lines on standard output: JSON.
"""

import json
import os
import sys
import time

import numpy as np

STEPS = 20  # windows in an epoch, and training steps in a call where a library can do that


def data(size):
    """Return input and target series `(batch, time, features)`."""
    rng = np.random.default_rng(0)
    time_steps = size["window"] * STEPS
    x = rng.normal(size=(size["batch"], time_steps, size["features"])).astype("float32")
    return x, rng.normal(size=(size["batch"], time_steps, 1)).astype("float32")


def weights(size):
    """Return the weights in Keras' order and layout."""
    rng, units, inputs, arrays = np.random.default_rng(1), size["units"], size["features"], []
    for _ in range(2):
        shapes = ((inputs, 4 * units), (units, 4 * units), (4 * units,))
        arrays += [(rng.normal(size=shape) / units**0.5).astype("float32") for shape in shapes]
        inputs = units
    return [*arrays, (rng.normal(size=(units, 1)) / units**0.5).astype("float32"), np.zeros(1, "float32")]


def network(size, stateful):
    """Return the network in Keras."""
    import keras

    net = keras.Sequential(
        [
            keras.Input(batch_shape=(size["batch"] if stateful else None, size["window"], size["features"])),
            keras.layers.LSTM(size["units"], return_sequences=True, stateful=stateful),
            keras.layers.LSTM(size["units"], return_sequences=True, stateful=stateful),
            keras.layers.Dense(1),
        ]
    )
    net.set_weights(weights(size))
    return net


def rnnstate_fit(size, kernels="auto", many=True):
    """`StatefulModel.fit`: sequences carried by key."""
    import keras

    import rnnstate as rs

    x, y = data(size)
    model = rs.StatefulModel(network(size, stateful=False), kernels=kernels)
    count = STEPS if many and keras.config.backend() != "torch" else 1
    model.compile(keras.optimizers.Adam(1e-3), "mse", steps_per_execution=count)
    windows = rs.Windows(x, y, length=size["window"], batch_size=size["batch"])
    return lambda epochs: model.fit(windows, epochs=epochs, verbose=0).history["loss"][-1]


def keras_fit(size, stateful, jit="auto"):
    """Keras' own `fit`; its layers are reset by hand at the start of each epoch."""
    import keras

    x, y = data(size)
    cut = [slice(k * size["window"], (k + 1) * size["window"]) for k in range(STEPS)]
    x, y = (np.concatenate([series[:, part] for part in cut]) for series in (x, y))
    net = network(size, stateful)
    count = STEPS if keras.config.backend() != "torch" else 1
    net.compile(keras.optimizers.Adam(1e-3), "mse", steps_per_execution=count, jit_compile=jit)

    def train(epochs):
        for _ in range(epochs):
            for layer in net.layers[:2] if stateful else ():
                layer.reset_states()
            history = net.fit(x, y, batch_size=size["batch"], shuffle=False, verbose=0)
        return history.history["loss"][-1]

    return train


def torch_loop(size, compiled=False, threads=None):
    """`torch.nn.LSTM` in a hand-written loop: the state is detached and carried."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    units = size["units"]
    x, y = (torch.from_numpy(part) for part in data(size))
    lstm = torch.nn.LSTM(size["features"], units, num_layers=2, batch_first=True)
    dense = torch.nn.Linear(units, 1)
    arrays = [torch.from_numpy(array) for array in weights(size)]
    with torch.no_grad():
        for layer in range(2):
            kernel, recurrent, bias = arrays[3 * layer : 3 * layer + 3]
            for name, value in (("weight_ih", kernel.T), ("weight_hh", recurrent.T), ("bias_ih", bias)):
                getattr(lstm, f"{name}_l{layer}").copy_(value)
            getattr(lstm, f"bias_hh_l{layer}").zero_().requires_grad_(False)
        dense.weight.copy_(arrays[6].T)
        dense.bias.copy_(arrays[7])
    kept = [p for p in [*lstm.parameters(), *dense.parameters()] if p.requires_grad]
    adam = torch.optim.Adam(kept, 1e-3, eps=1e-7)

    def step(x, y, h, c):
        outputs, (h, c) = lstm(x, (h, c))
        loss = torch.nn.functional.mse_loss(dense(outputs), y)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss.detach(), h.detach(), c.detach()

    run = torch.compile(step) if compiled else step

    def train(epochs):
        for _ in range(epochs):
            h = c = torch.zeros(2, size["batch"], units)
            losses = []
            for k in range(STEPS):
                part = slice(k * size["window"], (k + 1) * size["window"])
                loss, h, c = run(x[:, part], y[:, part], h, c)
                losses.append(loss)
        return float(torch.stack(losses).mean())

    return train


def flax_loop(size):
    """Flax NNX with optax, all windows of an epoch scanned in one compiled call."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            cells = (nnx.OptimizedLSTMCell(n, size["units"], rngs=rngs) for n in (size["features"], size["units"]))
            self.first, self.second = (nnx.RNN(cell, return_carry=True) for cell in cells)
            self.dense = nnx.Linear(size["units"], 1, rngs=rngs)

        def __call__(self, x, carry):
            one, x = self.first(x, initial_carry=carry[0])
            two, x = self.second(x, initial_carry=carry[1])
            return self.dense(x), (one, two)

    net = Net(nnx.Rngs(0))
    graph, params = nnx.split(net)
    adam = optax.adam(1e-3, eps=1e-7)

    def step(state, batch):
        params, moments, carry = state

        def loss(params):
            y, after = nnx.merge(graph, params)(batch[0], carry)
            return jnp.mean((y - batch[1]) ** 2), after

        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = adam.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments, carry), value

    epoch = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0)
    zeros = jnp.zeros((size["batch"], size["units"]))
    shape = (size["batch"], STEPS, size["window"], -1)
    batches = tuple(np.ascontiguousarray(part.reshape(shape).swapaxes(0, 1)) for part in data(size))
    kept = [params, adam.init(params)]

    def train(epochs):
        for _ in range(epochs):
            fresh = jax.tree.map(jnp.array, ((zeros, zeros), (zeros, zeros)))
            (kept[0], kept[1], _), losses = epoch((*kept, fresh), batches)
        return float(losses.mean())

    return train


CONTENDERS = {
    "rnnstate-jax": ("jax", rnnstate_fit),
    "rnnstate-jax-reference": ("jax", lambda size: rnnstate_fit(size, kernels="reference")),
    "rnnstate-jax-one-step": ("jax", lambda size: rnnstate_fit(size, many=False)),
    "rnnstate-torch": ("torch", rnnstate_fit),
    "rnnstate-tensorflow": ("tensorflow", rnnstate_fit),
    "keras-tensorflow": ("tensorflow", lambda size: keras_fit(size, stateful=True)),
    "keras-tensorflow-xla": ("tensorflow", lambda size: keras_fit(size, stateful=True, jit=True)),
    "keras-jax": ("jax", lambda size: keras_fit(size, stateful=False)),
    "torch-lstm": ("torch", torch_loop),
    "torch-lstm-one-thread": ("torch", lambda size: torch_loop(size, threads=1)),
    "torch-lstm-compiled": ("torch", lambda size: torch_loop(size, compiled=True)),
    "flax-nnx": ("jax", flax_loop),
}
# Keras on JAX carries nothing; Flax' layout of the weights is another one, so it starts from weights of its own.
OTHER_RESULTS = ("keras-jax", "keras-jax-predict", "flax-nnx")


def serve(contenders, name, size, per_run):
    """Build a contender, say what its first two runs give, then time what is asked for."""
    backend, build = contenders[name]
    os.environ["KERAS_BACKEND"] = backend
    run = build(size)
    print(json.dumps({"first": [float(run(1)) for _ in range(2)]}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - start
        print(json.dumps({"ms": 1e3 * seconds / (int(line) * per_run)}), flush=True)


if __name__ == "__main__":
    serve(CONTENDERS, sys.argv[1], json.loads(sys.argv[2]), STEPS)
