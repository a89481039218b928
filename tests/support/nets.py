"""The networks that the laws are tested on: small, with random weights and biases, every size a prime of its own."""

from functools import cache

import keras
import numpy as np
from keras import layers, ops

import rnnstate as rs

FEATURES = 2


@keras.saving.register_keras_serializable("tests")
class TwoSpeedCell(layers.Layer):
    """A cell of one's own: a slow leaf of 3, a fast leaf of 5, and a start that is not zero."""

    state_size = (3, 5)
    output_size = 5

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 5), name="kernel")
        self.fast_kernel = self.add_weight(shape=(5, 5), name="fast")
        self.slow_kernel = self.add_weight(shape=(3, 5), name="slow")
        self.back_kernel = self.add_weight(shape=(5, 3), name="back")

    def call(self, inputs, states, training=False):
        slow, fast = states
        fast = ops.tanh(inputs @ self.kernel + fast @ self.fast_kernel + slow @ self.slow_kernel)
        slow = 0.9 * slow + 0.1 * ops.tanh(fast @ self.back_kernel)
        return fast, [slow, fast]

    def get_initial_state(self, batch_size=None):
        return [ops.full((batch_size, 3), 0.75), ops.full((batch_size, 5), -0.5)]


@keras.saving.register_keras_serializable("tests")
class NestedCell(layers.Layer):
    """A cell whose state is nested: one leaf of 3 beside a pair of 5 and 7."""

    state_size = (3, (5, 7))
    output_size = 7

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1] + 15, 15), name="kernel")
        self.bias = self.add_weight(shape=(15,), name="bias")

    def call(self, inputs, states):
        one, (two, three) = states
        z = ops.concatenate([inputs, one, two, three], axis=-1) @ self.kernel + self.bias
        new = ops.tanh(z)
        one, two, three = new[:, :3], 0.5 * two + 0.5 * new[:, 3:8], new[:, 8:]
        return three, [one, [two, three]]

    def get_initial_state(self, batch_size=None):
        return [ops.full((batch_size, 3), 0.25), [ops.zeros((batch_size, 5)), ops.full((batch_size, 7), -0.25)]]


@keras.saving.register_keras_serializable("tests")
class MatrixCell(layers.Layer):
    """A cell with a matrix as memory, as in fast weights, and a vector; neither comes out first."""

    state_size = (3,)
    output_size = 3

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 9), name="kernel")

    def call(self, inputs, states):
        memory, total = states
        query, key, value = ops.split(ops.tanh(inputs @ self.kernel), 3, axis=-1)
        memory = 0.9 * memory + value[:, :, None] * key[:, None, :]
        total = 0.9 * total + key
        return ops.einsum("bvk,bk->bv", memory, query) + total, [memory, total]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, 3, 3)), ops.full((batch_size, 3), 0.5)]


def series_input(batch_shape=None, features=(FEATURES,)):
    """Return the input of a series of any length."""
    return keras.Input((None, *features), name="x") if batch_shape is None else keras.Input(batch_shape=batch_shape)


def one(layer, features=(FEATURES,)):
    """Return a network of one recurrent layer and a Dense read-out per step."""
    return keras.Sequential([series_input(features=features), layer, layers.Dense(2, name="read_out")])


def simple_rnn():
    """A SimpleRNN."""
    return one(layers.SimpleRNN(5, return_sequences=True, name="rnn"))


def gru(reset_after=True):
    """A GRU."""
    return one(layers.GRU(5, return_sequences=True, reset_after=reset_after, name="gru"))


def gru_before():
    """A GRU that resets before the product."""
    return gru(reset_after=False)


def lstm():
    """An LSTM."""
    return one(layers.LSTM(5, return_sequences=True, name="lstm"))


def stack_of_cells():
    """Cells of three sizes and two kinds in one layer."""
    cells = [layers.LSTMCell(5), layers.GRUCell(7), layers.LSTMCell(3)]
    return one(layers.RNN(cells, return_sequences=True, name="rnn"))


def custom_cell():
    """A cell of one's own with two leaves."""
    return one(layers.RNN(TwoSpeedCell(), return_sequences=True, name="rnn"))


def nested_cell():
    """A cell of one's own with nested leaves."""
    return one(layers.RNN(NestedCell(), return_sequences=True, name="rnn"))


def conv_lstm():
    """A convolutional LSTM on rows of five."""
    return one(layers.ConvLSTM1D(3, 2, padding="same", return_sequences=True, name="conv"), features=(5, FEATURES))


def nested_model():
    """A model inside a model."""
    inner = keras.Sequential(
        [keras.Input((None, 3)), layers.LSTM(5, return_sequences=True, name="lstm")], name="encoder"
    )
    x = series_input()
    y = inner(layers.Dense(3)(x))
    return keras.Model(x, layers.GRU(3, return_sequences=True, name="gru")(y))


def two_branches():
    """Two recurrent branches, joined."""
    x = series_input()
    left = layers.LSTM(5, return_sequences=True, name="left")(x)
    right = layers.GRU(3, return_sequences=True, name="right")(layers.Dense(7, activation="tanh")(x))
    return keras.Model(x, layers.Dense(2)(layers.Concatenate()([left, right])))


def shared_layer():
    """One layer at two places, with a memory at each."""
    x = series_input()
    shared = layers.LSTM(2, return_sequences=True, name="shared")
    return keras.Model(x, layers.Concatenate()([shared(x), shared(layers.Dense(2)(x))]))


def stateful(batch=3):
    """Keras' own stateful layers, with a fixed batch."""
    return keras.Sequential(
        [
            series_input((batch, None, FEATURES)),
            layers.LSTM(5, return_sequences=True, stateful=True, name="lstm"),
            layers.GRU(3, return_sequences=True, stateful=True, name="gru"),
        ]
    )


def two_layers():
    """Two recurrent layers of two sizes."""
    return keras.Sequential(
        [
            series_input(),
            layers.LSTM(5, return_sequences=True, name="lstm"),
            layers.GRU(3, return_sequences=True, name="gru"),
            layers.Dense(1, name="read_out"),
        ]
    )


def small():
    """Return one LSTM with one output per step: what to train where more layers would prove no more."""
    read_out = layers.Dense(1, name="read_out")
    return keras.Sequential([series_input(), layers.LSTM(5, return_sequences=True, name="lstm"), read_out])


def last_step(return_sequences=False):
    """Return a network with one output for each window."""
    last = layers.GRU(3, return_sequences=return_sequences, name="gru")
    return keras.Sequential([series_input(), layers.LSTM(5, return_sequences=True, name="lstm"), last, layers.Dense(2)])


def last_step_custom(return_sequences=False):
    """Return a network with one output for each window, from a cell whose first leaf is not its output."""
    last = layers.RNN(TwoSpeedCell(), return_sequences=return_sequences, name="rnn")
    return keras.Sequential([series_input(), last, layers.Dense(2)])


def matrix_cell():
    """A cell of one's own with a matrix as memory."""
    return one(layers.RNN(MatrixCell(), return_sequences=True, name="rnn"))


def several_inputs():
    """Return a network with a series, a series of categories, a vector per sequence, and two named outputs."""
    series, kind = keras.Input((None, FEATURES), name="series"), keras.Input((None,), dtype="int32", name="kind")
    place = keras.Input((3,), name="place")
    joined = layers.Concatenate()([series, layers.Embedding(5, 3, name="embedding")(kind)])
    h = layers.LSTM(5, return_sequences=True, name="lstm")(joined)
    h = layers.GRU(3, return_sequences=True, name="gru")(
        layers.Add()([h, layers.Reshape((1, 5))(layers.Dense(5)(place))])
    )
    outputs = {"mean": layers.Dense(1, name="mean")(h), "spread": layers.Dense(2, name="spread")(h)}
    return keras.Model({"series": series, "kind": kind, "place": place}, outputs)


ZOO = {
    build.__name__: build
    for build in (
        simple_rnn,
        gru,
        gru_before,
        lstm,
        stack_of_cells,
        custom_cell,
        nested_cell,
        conv_lstm,
        nested_model,
        two_branches,
        shared_layer,
        stateful,
    )
}


def randomized(net, seed=0, scale=0.6):
    """Give every weight and bias of a network a random value, large enough for its memory to matter."""
    rng = np.random.default_rng(seed)
    for variable in net.trainable_variables:
        variable.assign(rng.uniform(-scale, scale, size=variable.shape).astype("float32"))
    return net


def make(build, seed=0, **kwargs):
    """Return a new model around a network with random weights."""
    return rs.StatefulModel(randomized(build(), seed), **kwargs)


@cache
def shared(name):
    """Return a model of the zoo that tests share, because they never train it."""
    return make(ZOO[name])


@cache
def stepper(name):
    """Return `step` of a shared model; compiled on JAX, where each plain call would compile its loops anew."""
    step = shared(name).step
    if keras.config.backend() != "jax":
        return step
    import jax  # noqa: TID251

    return jax.jit(step)


def values(*shape, seed=0):
    """Return random values in -1 to 1 as float32."""
    return np.random.default_rng(seed).uniform(-1, 1, size=shape).astype("float32")


def series(lengths, features=FEATURES, seed=0):
    """Return a random sequence of each length, by key."""
    shape = (features,) if isinstance(features, int) else features
    return {f"k{i}": values(n, *shape, seed=seed + i) for i, n in enumerate(lengths)}


def host(value):
    """Return a tensor as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(value))


def difference(one, other):
    """Return the largest absolute difference of two arrays of the same shape, or of the leaves of two states."""
    if hasattr(one, "keys"):
        assert list(one) == list(other)
        return max(difference(one[name], other[name]) for name in one)
    one, other = host(one), host(other)
    assert one.shape == other.shape, (one.shape, other.shape)
    return float(np.abs(one.astype("float64") - other).max())
