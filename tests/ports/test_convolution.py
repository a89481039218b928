"""Causal convolutions carry the inputs that their kernels still reach."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from nets import difference, host

BATCH, TIME, CHANNELS = 3, 19, 4


def causal():
    """Return two convolutions, one with groups and dilation."""
    x = keras.Input((None, CHANNELS))
    h = layers.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2, activation="tanh", name="one")(x)
    return keras.Model(x, layers.Conv1D(3, 2, padding="causal", name="two")(h))


def without_groups():
    """Return one convolution that every runtime knows: TensorFlow exports no groups."""
    return keras.Sequential([keras.Input((None, CHANNELS)), layers.Conv1D(3, 3, padding="causal", dilation_rate=2)])


def padded():
    """Return convolutions after zeros on the left, one padding before two of them."""
    x = keras.Input((None, CHANNELS))
    h = layers.DepthwiseConv1D(3, dilation_rate=2, name="depthwise")(layers.ZeroPadding1D((4, 0))(x))
    h = layers.ZeroPadding1D((2, 0))(h)
    return keras.Model(x, layers.Add()([layers.SeparableConv1D(5, 3, name="separable")(h), layers.Conv1D(5, 3)(h)]))


def pooled():
    """Return pools after zeros on the left, and a convolution that reads the same zeros as one of them."""
    x = keras.Input((None, CHANNELS))
    zeros = layers.ZeroPadding1D((2, 0))(x)
    h = layers.Add()([layers.AveragePooling1D(3, 1, name="mean")(zeros), layers.Conv1D(CHANNELS, 3)(zeros)])
    return keras.Model(x, layers.MaxPooling1D(4, 1, name="largest")(layers.ZeroPadding1D((3, 0))(h)))


def delayed():
    """Return the change over three steps, and cumulative sums with one and with two axes of features, called twice."""
    x = keras.Input((None, CHANNELS))
    change = layers.Subtract()([x, layers.Cropping1D((0, 3), name="delay")(layers.ZeroPadding1D((3, 0))(x))])
    y = keras.Input((None, 2, 2))
    total = keras.Model(y, ops.cumsum(layers.Rescaling(0.1)(y), axis=-3), name="total")
    sums = layers.Reshape((-1, CHANNELS))(total(total(layers.Reshape((-1, 2, 2))(x))))
    return keras.Model(x, layers.Concatenate()([change, sums, ops.cumsum(layers.Rescaling(0.1)(change), axis=1)]))


@cache
def model_of(build):
    """Return a model that tests share, because they never train it."""
    return nets.make(build)


def by_hand(model, x, start, reset, mask):
    """Return the outputs and the state of single steps, with resets and masked steps by hand."""
    initial, state, outputs = model.initial_state(len(x)).numpy(), dict(start), []

    def chosen(rows, one, other):
        return {
            name: np.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), one[name], leaf) for name, leaf in other.items()
        }

    for t in range(x.shape[1]):
        state = chosen(reset[:, t], initial, state)
        y, after = model.step(x[:, t : t + 1], state)
        outputs.append(host(y))
        state = chosen(mask[:, t], after.numpy(), state)
    return np.concatenate(outputs, axis=1), state


@pytest.mark.parametrize("build", [causal, padded, pooled, delayed])
def test_windows_equal_the_plain_network(build):
    """Windows of odd lengths equal Keras on the whole sequence; without carry they do not."""
    model, x = model_of(build), nets.values(BATCH, TIME, CHANNELS)
    whole = model.net(x)
    for carry in (True, False):
        state, outputs = model.initial_state(BATCH), []
        for begin, end in ((0, 1), (1, 8), (8, TIME)):
            y, final = model.step(x[:, begin:end], state)
            state = final if carry else state
            outputs.append(host(y))
        distance = difference(np.concatenate(outputs, axis=1), whole)
        assert distance < 1e-6 if carry else distance > 1e-2


@pytest.mark.parametrize("build", [causal, pooled, delayed])
def test_masks_and_resets(build):
    """A window with padding anywhere and resets anywhere equals single steps by hand, outputs and state."""
    model, x, rng = model_of(build), nets.values(BATCH, TIME, CHANNELS), np.random.default_rng(1)
    mask, reset = rng.uniform(size=(2, BATCH, TIME)) < np.array([0.7, 0.2])[:, None, None]
    start = {name: nets.values(*leaf.shape, seed=5) for name, leaf in model.initial_state(BATCH).numpy().items()}
    never, always = np.zeros_like(reset), np.ones_like(mask)
    for resets, masks in ((never, mask), (reset, always), (reset, mask)):
        y, state = model.step(
            x, start, mask=None if masks is always else masks, reset=None if resets is never else resets
        )
        expected, final = by_hand(model, x, start, resets, masks)
        assert np.abs(host(y) - expected)[masks].max() < 1e-6
        assert difference(state, final) < 1e-6


def test_a_step_that_the_network_masks_is_still_a_step():
    """Keras' convolutions read masked steps as they are, and so do windows."""
    x = nets.values(BATCH, TIME, CHANNELS)
    x[:, 3:5] = 0
    conv = layers.Conv1D(3, 3, padding="causal")
    model = nets.make(lambda: keras.Sequential([keras.Input((None, CHANNELS)), layers.Masking(), conv]))
    first, state = model.step(x[:, :4], model.initial_state(BATCH))
    second, _ = model.step(x[:, 4:], state)
    assert difference(np.concatenate([host(first), host(second)], axis=1), model.net(x)) < 1e-6


def test_a_convolution_ends_the_mask_of_the_network():
    """A recurrent layer after a convolution sees no mask of the network, in windows as in Keras."""
    x = nets.values(BATCH, TIME, CHANNELS)
    x[:, 3:9] = 0
    parts = [layers.Masking(), layers.Conv1D(3, 3, padding="causal"), layers.GRU(2, return_sequences=True)]
    model = nets.make(lambda: keras.Sequential([keras.Input((None, CHANNELS)), *parts]))
    first, state = model.step(x[:, :5], model.initial_state(BATCH))
    second, _ = model.step(x[:, 5:], state)
    windows = np.concatenate([host(first), host(second)], axis=1)
    assert difference(windows, model.net(x)) < 1e-6
    assert np.abs(np.diff(windows[:, 3:9], axis=1)).max() > 1e-3


def test_training_carries_and_is_saved(tmp_path):
    """`fit` on sequences of unequal lengths leaves each key where `step` does, and a saved model keeps that."""
    model, data = nets.make(causal), nets.series([11, 7, 3], features=CHANNELS)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    targets = {key: nets.values(len(x), 3) for key, x in data.items()}
    model.fit(rs.Windows(data, targets, length=5, batch_size=2, order="lanes"), verbose=0)
    for key, x in data.items():
        assert difference(model.states.read(key), model.step(x[None], model.initial_state(1))[1].numpy()) < 1e-6
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").states.read() == model.states.read()


@pytest.mark.parametrize("build", [without_groups, padded, pooled, delayed])
@pytest.mark.once
def test_export(build, tmp_path):
    """An exported step model is verified in its runtime, chunk by chunk; the format of stock layers is refused by name."""
    rs.export(model_of(build), tmp_path / "m.onnx", format="onnx")
    with pytest.raises(rs.ExportError, match=r'format="keras" holds stock layers alone\. Received: '):
        rs.export(model_of(build), tmp_path / "m.keras", format="keras")


@pytest.mark.once
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.Conv1D(3, 3, padding="same"), r"up to 1 steps ahead.*padding=\"causal\""),
        (layers.Conv1D(3, 3), r"first 2 outputs do not exist.*padding=\"causal\".*ZeroPadding1D\(\(2, 0\)\)"),
        (layers.Conv1D(3, 3, strides=2), r"first outputs do not exist.*not per 2 steps.*ZeroPadding1D\(\(2, 0\)\)"),
        (layers.SeparableConv1D(3, 3, padding="same"), r"ZeroPadding1D\(\(2, 0\)\)"),
        (layers.MaxPooling1D(3, 1, padding="same"), r"ZeroPadding1D\(\(2, 0\)\).*padding=\"valid\""),
        (layers.AveragePooling1D(3, 2), r"reads 3 steps.*ZeroPadding1D\(\(2, 0\)\).*`pool_size=2`"),
    ],
)
def test_other_convolutions_are_refused(layer, reason):
    """A convolution that is not causal, or gives fewer outputs, is refused with the way out."""
    net = keras.Sequential([keras.Input((None, CHANNELS)), layer, layers.GRU(2, return_sequences=True)])
    with pytest.raises(rs.UnsupportedModelError, match=rf"`{layer.name}`.*cannot be carried as it is.*{reason}"):
        rs.StatefulModel(net)


@pytest.mark.once
def test_dilation_in_place_of_strides():
    """Without strides, and with later kernels spread out, every second output is one of those with strides."""

    def net(strides, dilation):
        x = keras.Input((None, CHANNELS))
        h = layers.Conv1D(3, 3, strides=strides, padding="causal", activation="tanh")(x)
        return keras.Model(x, layers.Conv1D(2, 2, dilation_rate=dilation, padding="causal")(h))

    x, strided, model = nets.values(BATCH, TIME, CHANNELS), nets.randomized(net(2, 1)), rs.StatefulModel(net(1, 2))
    model.net.set_weights(strided.get_weights())
    assert difference(host(model.step(x, model.initial_state(BATCH))[0])[:, ::2], strided(x)) < 1e-6


@pytest.mark.once
@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda h: ops.diff(h, axis=1), r"fewer outputs than steps.*A delay by n steps.*subtract it"),
        (lambda h: layers.ZeroPadding1D((1, 0))(h[:, :-1]), r"some of the steps.*A delay by n steps"),
        (lambda h: ops.roll(h, 1, axis=1), r"moves the last steps.*A delay by n steps"),
        (lambda h: ops.pad(h, ((0, 0), (1, 0), (0, 0))), r"moves all steps.*A delay by n steps"),
        (lambda h: layers.Cropping1D((1, 0))(h), r"removes steps.*A delay by n steps"),
        (lambda h: ops.cumsum(ops.cast(h > 0, "int32"), axis=1), r"sum of floating numbers over axis 1"),
        (lambda h: ops.cumprod(h, axis=1), r"`cumprod.*depends on all steps up to t"),
    ],
)
def test_operations_that_look_back_are_refused(operation, reason):
    """An operation over time without a port is refused, with the way out where there is one."""
    x = keras.Input((None, CHANNELS))
    net = keras.Model(x, layers.GRU(2, return_sequences=True)(ops.cast(operation(x), "float32")))
    with pytest.raises(rs.UnsupportedModelError, match=reason):
        rs.StatefulModel(net)


@pytest.mark.once
def test_sums_of_steps_of_a_decoder_are_no_memory():
    """A sum over steps made from one value of the window carries nothing; a nested network cannot hide it."""
    x, z = keras.Input((None, CHANNELS)), keras.Input((None, 2))
    last = layers.RepeatVector(5)(layers.GRU(2, name="gru")(x))
    assert list(rs.StatefulModel(keras.Model(x, ops.cumsum(last, axis=1))).state_spec) == ["gru/h"]
    with pytest.raises(rs.UnsupportedModelError, match="sums values that are no steps of the window"):
        rs.StatefulModel(keras.Model(x, keras.Model(z, ops.cumsum(z, axis=1))(last)))


@pytest.mark.once
def test_repair_leaves_operations_and_paddings():
    """`repair` carries stateful layers alone: zeros, convolutions and sums stay as they are."""
    x = keras.Input(batch_shape=(2, None, CHANNELS))
    h = ops.cumsum(layers.Conv1D(4, 3)(layers.ZeroPadding1D((2, 0))(x)), axis=1)
    net = nets.randomized(keras.Model(x, layers.LSTM(3, stateful=True, return_sequences=True)(h)))
    values = nets.values(2, 7, CHANNELS)
    assert difference(rs.repair(net)(values), net(values)) < 1e-6


@pytest.mark.once
def test_a_padding_that_does_not_fit_is_refused():
    """Zeros that other layers read too, or of another number than the kernel reads, are refused."""
    x = keras.Input((None, CHANNELS))
    other = layers.ZeroPadding1D((3, 0), name="zeros")(x)
    net = keras.Model(x, layers.GRU(2, return_sequences=True)(layers.Conv1D(3, 3)(other)))
    with pytest.raises(rs.UnsupportedModelError, match="`zeros`"):
        rs.StatefulModel(net)


@pytest.mark.once
def test_zeros_before_a_fixed_number_of_steps():
    """A network for windows of two steps, fewer than its kernel reads, equals one for windows of any length."""
    x = nets.values(BATCH, 4, CHANNELS)
    wholes = []
    for steps in (2, None):
        parts = [keras.Input((steps, CHANNELS)), layers.ZeroPadding1D((2, 0)), layers.Conv1D(3, 3)]
        model = nets.make(lambda parts=parts: keras.Sequential(parts))
        first, state = model.step(x[:, :2], model.initial_state(BATCH))
        wholes.append(np.concatenate([host(first), host(model.step(x[:, 2:], state)[0])], axis=1))
    assert difference(wholes[0], wholes[1]) < 1e-6
    assert difference(wholes[1], model.net(x)) < 1e-6


@pytest.mark.once
def test_a_pool_that_reads_two_series_is_refused():
    """A pool has no weights that tell its number of channels, so it is carried where it reads one series alone."""
    x, pool, zeros = keras.Input((None, CHANNELS)), layers.MaxPooling1D(3, 1, name="pool"), layers.ZeroPadding1D((2, 0))
    parts = [pool(zeros(h)) for h in (x, layers.Dense(2)(x))]
    with pytest.raises(rs.UnsupportedModelError, match=r"zero_padding1d.*So do 3 more"):
        rs.StatefulModel(keras.Model(x, layers.Concatenate()(parts)))


def test_a_wrong_number_of_features_is_refused():
    """`model(x)` checks no input of the network. The message names the layer, and the expected and the received number."""
    net = [keras.Input((None, CHANNELS)), layers.Conv1D(3, 3, padding="causal", name="conv")]
    model = rs.StatefulModel(keras.Sequential(net))
    with pytest.raises(
        rs.DataError, match=rf"Layer `conv` must get {CHANNELS} features.*shape=\(2, 5, {CHANNELS + 1}\)"
    ):
        model(np.ones((2, 5, CHANNELS + 1), "float32"))
