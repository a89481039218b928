"""`step` takes a compiled path that is kept, and gives what it gives without."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from nets import difference, host
from rnnstate.errors import StateShapeError
from serving import serving


class Traced(layers.Layer):
    """Counts how often it is called in Python."""

    calls = 0

    def call(self, x):
        """Count, and give back the input."""
        Traced.calls += 1
        return x


def with_count():
    """Return a model that counts its calls."""
    net = keras.Sequential([nets.series_input(), layers.LSTM(5, return_sequences=True, name="lstm"), Traced()])
    return rs.StatefulModel(nets.randomized(net))


def test_step_is_compiled_once():
    """After the first step of a shape, no Python of the network runs; another shape compiles anew."""
    model = with_count()
    state, x = model.initial_state(1), nets.values(1, 1, nets.FEATURES)
    with serving():
        _, state = model.step(x, state)
        before = Traced.calls
        for _ in range(3):
            _, state = model.step(x, state)
        assert Traced.calls == before
        model.step(nets.values(2, 1, nets.FEATURES), model.initial_state(2))
    assert Traced.calls > before


FLAGS = ("none", "mask", "rows", "steps")


def flagged(flags, picked):
    """Return arguments of a step with flags of a kind."""
    return {"none": {}, "mask": {"mask": picked}, "rows": {"reset": picked[:, 0]}, "steps": {"reset": picked}}[flags]


def check_against_the_network(model, x, given, tolerance=1e-6):
    """Compare compiled steps, the first and a later one, with the carried network in training mode, without dropout."""
    rows = len(keras.tree.flatten(x)[0])
    start = model.initial_state(rows).map(lambda leaf: leaf + 0.25)
    plain, before = model.step(x, start, **given, training=True)
    with serving():
        for quick, after in (model.step(x, start, **given) for _ in range(2)):
            for one, other in zip(keras.tree.flatten(quick), keras.tree.flatten(plain), strict=True):
                assert difference(one, other) < tolerance
            assert difference(after, before) < tolerance


@pytest.mark.parametrize("steps", [1, 3, 11])
@pytest.mark.parametrize("flags", FLAGS)
def test_step_equals_the_network(flags, steps):
    """With mask and resets too, the compiled step gives what the carried network gives, for short and long windows."""
    picked = np.random.default_rng(2).random((3, steps)) < 0.5
    check_against_the_network(nets.make(nets.two_layers), nets.values(3, steps, nets.FEATURES), flagged(flags, picked))


def bidirectional():
    """Return a bidirectional LSTM under a SimpleRNN."""
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    return keras.Sequential([nets.series_input(), both, layers.SimpleRNN(5, return_sequences=True, name="rnn")])


KINDS = (nets.gru_before, nets.stack_of_cells, nets.nested_cell, nets.conv_lstm, nets.shared_layer, bidirectional)


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)
def test_every_kind_of_layer(build):
    """Cells of one's own, stacks, convolutional and bidirectional layers are compiled with masks and resets too."""
    model, features = nets.make(build), (5, nets.FEATURES) if build is nets.conv_lstm else (nets.FEATURES,)
    picked = np.random.default_rng(3).random((2, 3)) < 0.5
    check_against_the_network(model, nets.values(2, 3, *features), {"mask": picked, "reset": picked[:, ::-1]})
    check_against_the_network(model, nets.values(2, 1, *features), {})


def test_several_inputs_and_outputs():
    """Inputs and outputs by name keep their names."""
    x = {
        "series": nets.values(2, 3, nets.FEATURES),
        "place": nets.values(2, 3),
        "kind": np.array([[1, 4, 0], [2, 2, 3]]),
    }
    check_against_the_network(nets.make(nets.several_inputs), x, {})


def test_one_array_in_two_places():
    """Leaves that are the same array in the first step are leaves of their own in later ones."""
    model = nets.make(nets.lstm)
    x, h = nets.values(2, 1, nets.FEATURES), ops.convert_to_tensor(nets.values(2, 5))
    with serving():
        model.step(x, {"lstm/h": h, "lstm/c": h})
        quick, _ = model.step(x, {"lstm/h": h, "lstm/c": -h})
    assert difference(quick, ops.stop_gradient(model.step(x, {"lstm/h": h, "lstm/c": -h}, training=True)[0])) < 1e-6


def assigned(model, path):
    """Assign one weight."""
    model.net.layers[-1].bias.assign(model.net.layers[-1].bias + 1.0)


def all_set(model, path):
    """Set all weights."""
    model.net.set_weights([0.5 * weight for weight in model.net.get_weights()])


def loaded(model, path):
    """Load the weights of another model."""
    nets.make(nets.lstm, seed=5).save_weights(path)
    model.load_weights(path)


def trained(model, path):
    """Train, which on JAX frees the arrays that held the weights before."""
    model.compile(keras.optimizers.SGD(0.5), "mse")
    y = model.step(nets.values(2, 6, nets.FEATURES), model.initial_state(2))[0]
    windows = rs.Windows(nets.values(2, 6, nets.FEATURES), host(y) + 1.0, length=3, batch_size=2)
    model.fit(windows, verbose=0)


@pytest.mark.parametrize("change", [assigned, all_set, loaded, trained])
def test_new_weights_count_at_once(change, tmp_path):
    """The compiled step uses the weights of the moment, however they came to be: it gives what the plain path gives."""
    model = nets.make(nets.lstm)
    x, state = nets.values(1, 1, nets.FEATURES), model.initial_state(1)
    with serving():
        before = [host(model.step(x, state)[0]) for _ in range(3)][-1]
    change(model, tmp_path / "model.weights.h5")
    with serving():
        after, plain = (host(model.step(x, state, training=training)[0]) for training in (False, True))
    assert difference(after, before) > 1e-3
    assert difference(after, plain) < 1e-6


def test_a_layer_may_assign():
    """What a layer assigns in a step is there after it, and in the next step."""

    class Count(layers.Layer):
        def build(self, input_shape):
            self.total = self.add_weight(shape=(), initializer="zeros", trainable=False, name="total")

        def call(self, x):
            self.total.assign(self.total + 1.0)
            return 0.0 * x + self.total

    count = Count()
    model = rs.StatefulModel(keras.Sequential([nets.series_input(), layers.GRU(3, return_sequences=True), count]))
    x, state, begin = nets.values(1, 1, nets.FEATURES), model.initial_state(1), float(count.total)
    with serving():
        seen = [float(host(model.step(x, state)[0])[0, 0, 0]) for _ in range(3)]
    assert seen == [begin + step for step in (1.0, 2.0, 3.0)]
    assert float(count.total) == begin + 3.0


def test_seeds_go_on():
    """A layer that draws in inference draws anew at every step."""

    class Noise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(5)

        def call(self, x):
            return x + keras.random.normal(ops.shape(x), seed=self.seed)

    model = rs.StatefulModel(keras.Sequential([nets.series_input(), layers.GRU(3, return_sequences=True), Noise()]))
    x, state = nets.values(1, 1, nets.FEATURES), model.initial_state(1)
    with serving():
        drawn = [host(model.step(x, state)[0]) for _ in range(3)]
    assert difference(drawn[0], drawn[1]) > 1e-3
    assert difference(drawn[1], drawn[2]) > 1e-3


def test_gradients_pass_through_step(backend):
    """Differentiating through `step` still works: inside a trace, the plain path runs."""
    model = nets.make(nets.gru)
    x, start = nets.values(2, 5, nets.FEATURES), host(model.initial_state(2)["gru/h"]) + 0.5
    with serving():
        model.step(x, {"gru/h": start})

    def loss(h):
        return ops.sum(model.step(x, {"gru/h": h})[0])

    if backend == "jax":
        import jax  # noqa: TID251

        gradient = jax.grad(loss)(start)
    elif backend == "torch":
        import torch  # noqa: TID251

        h = torch.tensor(start, requires_grad=True)
        gradient = torch.autograd.grad(loss(h), h)[0]
    else:
        import tensorflow as tf  # noqa: TID251

        h = tf.constant(start)
        with tf.GradientTape() as tape:
            tape.watch(h)
            value = loss(h)
        gradient = tape.gradient(value, h)
    small = 1e-2 * np.eye(2, 5, dtype="float32")
    expected = (float(loss(start + small)) - float(loss(start - small))) / 2
    assert abs(float((host(gradient) * small).sum()) - expected) < 1e-4


def test_traces_see_the_network(backend):
    """Inside a trace of JAX the network itself is traced, and nothing of the trace is left behind."""
    model = with_count()
    x, state = nets.values(3, 1, nets.FEATURES), model.initial_state(3)
    expected = host(model.step(x, state)[0])
    transforms = [lambda step: step]
    if backend == "jax":
        import jax  # noqa: TID251

        transforms += [jax.jit, jax.vmap]
    for transform in transforms:
        before, mapped = Traced.calls, transform is not transforms[0] and transform.__name__ == "vmap"
        # vmap takes the rows one by one, as batches of one.
        given = x[:, None] if mapped else x
        leaves = state.map(lambda leaf, mapped=mapped: leaf[:, None] if mapped else leaf)
        y = host(transform(lambda x, state: model.step(x, state)[0])(given, leaves))
        assert difference(y.reshape(expected.shape), expected) < 1e-6
        assert (Traced.calls > before) == (backend == "torch" or transform is not transforms[0])
        assert difference(model.step(x, state)[0], expected) < 1e-6


def test_checks_come_first():
    """A wrong state is refused after a compiled step as before it."""
    model = nets.make(nets.gru)
    x = nets.values(2, 5, nets.FEATURES)
    with serving():
        model.step(x, model.initial_state(2))
    with serving(), pytest.raises(StateShapeError, match="`gru/h` must have shape"):
        model.step(x, model.initial_state(3))
