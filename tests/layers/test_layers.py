"""MinGRU, MinLSTM and LRU as Keras layers: what they compute, their gradients, masks, states, and how they are saved."""

import keras
import numpy as np
import pytest
from keras import ops

import by_hand
import nets
import recurrences
import rnnstate as rs
from nets import difference, host
from recurrences import FEATURES, LAYERS, UNITS
from rnnstate.layers import linear_scan

BATCH = 2
KINDS = sorted(LAYERS)


def case(layer, time):
    """Return an input, a mask, resets, and two states."""
    rng = np.random.default_rng(1)
    mask, reset = rng.uniform(size=(2, BATCH, time)) < np.array([0.8, 0.15])[:, None, None]
    start, initial = (
        [nets.values(BATCH, layer.state_size, seed=seed + n) for n in range(len(layer.state_names))]
        for seed in (10, 20)
    )
    return nets.values(BATCH, time, FEATURES), start, mask, reset, initial


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [False, True])
def test_equals_numpy(kind, flags):
    """From a given state, with a mask and resets inside the window, a layer gives what NumPy gives step by step."""
    layer = recurrences.layer_of(kind)
    x, start, mask, reset, initial = case(layer, 67)
    mask, reset = (mask, reset) if flags else (None, None)
    run = recurrences.compiled(lambda *given: layer.run(*given[:3], reset=given[3], initial=given[4]))
    y, final = run(x, start, mask, reset, initial)
    weights = recurrences.weights_of(layer)
    expected, leaves = recurrences.unroll(kind, weights, x, start, mask, reset, initial)
    valid = np.ones(x.shape[:2], bool) if mask is None else mask
    assert np.abs(host(y) - expected)[valid].max() < 5e-6
    assert max(difference(*pair) for pair in zip(final, leaves, strict=True)) < 5e-6
    other, _ = recurrences.unroll(kind, weights, x, [0 * leaf for leaf in start])
    assert np.abs(expected - other)[valid].max() > 1e-2


def weighed(y, final):
    """Return a sum of outputs and final leaves with random weights."""
    parts = [ops.convert_to_tensor(part) for part in (y, *final)]
    weights = [ops.convert_to_tensor(nets.values(*part.shape, seed=30 + n)) for n, part in enumerate(parts)]
    return sum(ops.sum(part * weight) for part, weight in zip(parts, weights, strict=True))


def single_steps(layer, x, start, mask, reset, initial):
    """Run windows of one step, with resets by hand."""
    state, outputs = start, []
    for t in range(x.shape[1]):
        state = [ops.where(reset[:, t, None], one, leaf) for one, leaf in zip(initial, state, strict=True)]
        y, state = layer.run(x[:, t : t + 1], state, mask[:, t : t + 1])
        outputs.append(y)
    return ops.concatenate(outputs, axis=1), state


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, monkeypatch):
    """Gradients of weights, input and states in parallel equal those of single steps, and NumPy's differences in float64."""
    layer = recurrences.layer_of(kind)
    x, start, mask, reset, initial = case(layer, 7)
    given = [keras.Variable(array) for array in (x, *start, *initial)]
    variables, count = [*layer.trainable_variables, *given], len(start)

    def gradients(run):
        def forward():
            values = [variable.value for variable in given]
            y, final = run(values[0], values[1 : 1 + count], values[1 + count :])
            return weighed(ops.where(mask[:, :, None], y, ops.zeros_like(y)), final), 0.0

        return [host(gradient) for gradient in by_hand.gradients_of(forward, variables)()[1]]

    loop = gradients(lambda x, start, again: single_steps(layer, x, start, mask, reset, again))
    monkeypatch.setattr(linear_scan, "_block", lambda: 3)
    for written_out in (16, 2) if kind == "lru" else (16,):  # blocks written out, and blocks in a loop
        monkeypatch.setattr(linear_scan, "WRITTEN_OUT", written_out)
        parallel = gradients(lambda x, start, again: layer.run(x, start, mask, reset=reset, initial=again))
        assert all(difference(*pair) < 1e-5 for pair in zip(parallel, loop, strict=True))
    slope = along_gradients(parallel, layer, given)
    assert abs(slope - by_differences(kind, layer, given, mask, reset)) < 1e-5 * max(1, abs(slope))
    assert abs(slope - by_differences(kind, layer, given, mask, np.zeros_like(reset))) > 1e-2


def direction(layer, given):
    """Return the values of weights, input and states in float64, and a random direction for each."""
    values = [host(v).astype("float64") for v in (*layer.trainable_variables, *given)]
    return values, [nets.values(*np.shape(value), seed=40 + n).astype("float64") for n, value in enumerate(values)]


def along_gradients(gradients, layer, given):
    """Return the slope along the direction by gradients."""
    _, way = direction(layer, given)
    return sum(float(np.sum(one * other)) for one, other in zip(gradients, way, strict=True))


def by_differences(kind, layer, given, mask, reset):
    """Return the slope along the direction by NumPy's central difference."""
    names, count = [variable.name for variable in layer.trainable_variables], len(layer.state_names)
    values, way = direction(layer, given)

    def loss(step):
        moved = [value + step * along for value, along in zip(values, way, strict=True)]
        weights, (x, *states) = dict(zip(names, moved, strict=False)), moved[len(names) :]
        y, final = recurrences.unroll(kind, weights, x, states[:count], mask, reset, states[count:])
        parts = enumerate((y, *final))
        return sum(np.sum(part * nets.values(*part.shape, seed=30 + n).astype("float64")) for n, part in parts)

    return (loss(1e-5) - loss(-1e-5)) / 2e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_output_and_the_state(kind):
    """Without `return_sequences`, the output is that of the last valid step. `return_state` adds the final leaves."""
    every = recurrences.layer_of(kind)
    last = LAYERS[kind](return_state=True)
    last.build((None, None, FEATURES))
    last.set_weights(every.get_weights())
    x, start, *_ = case(every, 7)
    mask = np.arange(7) < np.array([[7], [4]])
    whole, final = recurrences.compiled(every.run)(x, start, mask)
    y, *leaves = recurrences.compiled(lambda *given: last(given[0], initial_state=given[1], mask=given[2]))(
        x, start, mask
    )
    assert difference(y, host(whole)[[0, 1], [6, 3]]) < 1e-6
    assert max(difference(*pair) for pair in zip(leaves, final, strict=True)) < 1e-6
    shapes = last.compute_output_shape((None, None, FEATURES))
    assert [shape[1:] for shape in shapes] == [tuple(part.shape[1:]) for part in (y, *leaves)]


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_network(kind, tmp_path):
    """A mask reaches the layer in a network, also next to an initial state from the network, and the file keeps both."""
    x, start = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    layer = LAYERS[kind](return_sequences=True, return_state=True, name="layer")
    states = [keras.layers.Dense(layer.state_size, name=f"start_{name}")(start) for name in layer.state_names]
    y, *final = layer(keras.layers.Masking()(x), initial_state=states)
    net = nets.randomized(keras.Model([x, start], [y, *final]))
    net.save(tmp_path / "net.keras")
    series, known = nets.values(BATCH, 7, FEATURES), nets.values(BATCH, UNITS, seed=1)
    series[0, 3:] = 0
    outputs = recurrences.compiled(keras.saving.load_model(tmp_path / "net.keras"))([series, known])
    inner = [net.get_layer(f"start_{name}")(known) for name in layer.state_names]
    expected, leaves = recurrences.compiled(layer.run)(series, inner, mask=(series != 0).any(-1))
    assert max(difference(*pair) for pair in zip(outputs, (expected, *leaves), strict=True)) < 1e-6
    unmasked, _ = recurrences.compiled(layer.run)(series, inner)
    assert difference(unmasked, expected) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_alone(kind):
    """Dropout drops the same features at each step of a window, in training. Dropping everything leaves the biases."""
    layer = recurrences.layer_of(kind, dropout=0.5, seed=3)
    x = np.ones((BATCH, 1, FEATURES), "float32")
    plain = host(layer(x))
    assert difference(recurrences.layer_of(kind)(x), plain) < 1e-7
    x = np.ones((BATCH, 7, FEATURES), "float32")
    first, second = (host(layer._dropped(ops.convert_to_tensor(x), training=True)) for _ in range(2))
    assert set(np.unique(first)) <= {0.0, 2.0}
    assert (first == first[:, :1]).all()
    assert not (first == second).all()
    assert difference(layer(x[:, :1], training=True), plain) > 1e-3


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_is_complete(kind):
    """A layer made from the configuration of another has the same configuration and the same weights' shapes."""
    options = {"dropout": 0.25, "seed": 7, "return_state": True}
    own = {"r_min": 0.5, "r_max": 0.9, "max_phase": 1.0} if kind == "lru" else {"kernel_regularizer": "l2"}
    layer = LAYERS[kind](**options, **own)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert {**options, **own}.keys() <= layer.get_config().keys()


@pytest.mark.once
def test_lru_begins_on_its_ring():
    """The absolute values of lambda begin between r_min and r_max, the angles below max_phase; gamma fits both."""
    layer = rs.layers.LRU(3, state_size=400, r_min=0.6, r_max=0.9, max_phase=0.5, seed=1)
    layer.build((None, None, 2))
    radius, angle = np.exp(-np.exp(host(layer.nu))), np.exp(host(layer.theta))
    assert radius.min() >= 0.6 - 1e-5
    assert radius.max() <= 0.9 + 1e-5
    assert radius.std() > 0.05
    assert 0 < angle.min() < angle.max() <= 0.5 + 1e-6
    assert np.abs(np.exp(2 * host(layer.log_gamma)) - (1 - radius**2)).max() < 1e-5


@pytest.mark.once
def test_half_precision_keeps_the_recurrence_whole():
    """Under mixed precision the decays and the state are float32, so a slow decay does not round to 1."""
    layer = rs.layers.MinGRU(1, bias_initializer=keras.initializers.Constant(-7.0), dtype="mixed_bfloat16")
    layer.build((None, None, 1))
    y, (h,) = layer.run(ops.zeros((1, 200, 1), "bfloat16"), [ops.ones((1, 1))])
    z = 1 / (1 + np.exp(7.0))
    expected = (1 - z) ** 200 - 7.0 * (1 - (1 - z) ** 200)
    assert abs(float(host(h)[0, 0]) - expected) < 1e-4
    assert "bfloat16" in str(y.dtype)


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.layers.MinGRU(0), r"`units` must be a positive whole number\. Received: units=0"),
        (lambda: rs.layers.MinLSTM(2, dropout=1.5), r"`dropout` must be in 0 to 1\. Received: dropout=1\.5"),
        (lambda: rs.layers.LRU(2, state_size=2.5), r"`state_size` must be .* Received: state_size=2\.5"),
        (lambda: rs.layers.LRU(2, r_min=0.9, r_max=0.5), r"Received: r_min=0\.9, r_max=0\.5"),
        (lambda: rs.layers.LRU(2, max_phase=0.0), r"`max_phase` must be positive\. Received: max_phase=0\.0"),
    ],
)
def test_wrong_arguments(make, message):
    """A wrong argument is refused, and the message says what was received."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_initial_state(kind):
    """A state of another size or number of leaves is refused, never broadcast."""
    layer = recurrences.layer_of(kind, name="layer")
    x, start, *_ = case(layer, 3)
    for wrong in ([leaf[:, :1] for leaf in start], [*start, start[0]]):
        with pytest.raises(
            rs.StateShapeError, match=r"`initial_state` of layer `layer` must have the leaves .*Received: "
        ):
            layer(x, initial_state=wrong)
