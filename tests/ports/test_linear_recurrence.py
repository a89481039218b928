"""`StatefulModel` carries MinGRU, MinLSTM and LRU, in inference, in training and in files."""

from functools import cache

import keras
import numpy as np
import pytest

import by_hand
import nets
import recurrences
import rnnstate as rs
from fitting import weights_of
from nets import difference, host
from recurrences import FEATURES, LAYERS, STATE, UNITS
from rnnstate import testing

BATCH, TIME = 3, 19
KINDS = sorted(LAYERS)


@cache
def model_of(kind):
    """Return a model that tests share, because they never train it."""
    return nets.make(lambda: recurrences.net_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_of_step(kind):
    """Windows of odd lengths equal the whole, `step` is pure, and a reset acts before its step."""
    model, x = model_of(kind), nets.values(BATCH, TIME, FEATURES)
    testing.assert_windows_equal_whole(model, x, lengths=(1, 7), atol=2e-6)
    testing.assert_explicit(model, x)
    reset = np.random.default_rng(1).uniform(size=(BATCH, TIME)) < 0.2
    testing.assert_reset_first(model, x, reset, atol=2e-6)
    assert difference(model.step(x, model.initial_state(BATCH))[0], model.net(x)) < 2e-6


def test_the_leaves():
    """A real state is the leaf `h`. A complex state is two real leaves."""
    shapes = {name: leaf.shape for kind in KINDS for name, leaf in model_of(kind).state_spec.items()}
    assert shapes == {
        "min_gru/h": (UNITS,),
        "min_lstm/h": (UNITS,),
        "lru/real": (STATE,),
        "lru/imaginary": (STATE,),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_trace(kind):
    """Padding at any place keeps the state, and `trace` gives the state after every step."""
    model, x = model_of(kind), nets.values(BATCH, TIME, FEATURES)
    start = {name: nets.values(*leaf.shape, seed=5) for name, leaf in model.initial_state(BATCH).numpy().items()}
    mask = np.random.default_rng(1).uniform(size=(BATCH, TIME)) < 0.7
    y, final = model.step(x, start, mask=mask)
    traced, end, trace = model.trace(x, start, mask=mask)
    weights = recurrences.weights_of(model.net.get_layer(kind))
    _, leaves = recurrences.unroll(kind, weights, x, list(start.values()), mask)
    expected = dict(zip(start, leaves, strict=True))
    assert difference(final, expected) < 5e-6
    assert difference(end, expected) < 5e-6
    assert difference({name: host(leaf)[:, -1] for name, leaf in trace.items()}, expected) < 5e-6
    assert np.abs(host(traced) - host(y))[mask].max() < 5e-6


@pytest.mark.parametrize("kind", KINDS)
def test_training_carries_and_is_saved(kind, tmp_path):
    """`fit` on windows equals training by hand from detached states, weights and states, and a saved model keeps both."""
    model, twin = (nets.make(lambda: recurrences.net_of(kind)) for _ in range(2))
    data = nets.series([11, 7, 3], features=FEATURES)
    targets = {key: nets.values(len(x), 2, seed=9) for key, x in data.items()}
    windows = rs.Windows(data, targets, length=5, batch_size=3)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(windows, epochs=2, verbose=0)
    loop = by_hand.Loop(twin, keras.optimizers.SGD(0.1))
    for _ in range(2):
        loop.epoch(windows)
    assert difference(weights_of(model), weights_of(twin)) < 1e-5
    assert difference(weights_of(model), weights_of(model_of(kind))) > 1e-3
    assert difference(model.states.read(list(data)).numpy(), loop.states(len(data)).numpy()) < 1e-5
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.states.read() == model.states.read()
    x = nets.values(BATCH, TIME, FEATURES)
    assert difference(again.step(x, again.initial_state(BATCH))[0], model.step(x, model.initial_state(BATCH))[0]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_predict_carries(kind):
    """`predict` in windows with padding equals the plain network on each sequence, also for one output per window."""
    model = model_of(kind)
    data = nets.series([11, 7, 3], features=FEATURES)
    predicted = model.predict(rs.Windows(data, length=4, batch_size=2), verbose=0)
    for key, x in data.items():
        assert difference(predicted[key], model.net(x[None])[0]) < 5e-6
    last = nets.make(lambda: recurrences.net_of(kind, return_sequences=False))
    ends = last.predict(rs.Windows(data, length=4, batch_size=2), verbose=0)
    for key, x in data.items():
        assert difference(ends[key][-1], last.net(x[None])[0]) < 5e-6


@pytest.mark.once
def test_export(tmp_path):
    """A file holds the step of all three layers, verified in its runtime. Plain Keras has no such layers."""
    x = nets.series_input(features=(FEATURES,))
    h = [layer(return_sequences=True, name=kind)(x) for kind, layer in LAYERS.items()]
    model = nets.make(lambda: keras.Model(x, keras.layers.Concatenate()(h)))
    exported = rs.export(model, tmp_path / "m.onnx", format="onnx")
    assert exported.largest_difference < 1e-5
    with pytest.raises(rs.ExportError, match=r'format="keras" holds stock layers alone\. Received: '):
        rs.export(model, tmp_path / "m.keras", format="keras")


@pytest.mark.once
def test_a_subclass_that_computes_itself_is_refused():
    """The port runs the layers as they are, so a subclass that overrides `call` needs its own port."""

    class Other(rs.layers.MinGRU):
        def call(self, sequences, initial_state=None, mask=None):
            return super().call(sequences, initial_state, mask) + 1

    net = keras.Sequential([nets.series_input(features=(FEATURES,)), Other(3, return_sequences=True, name="other")])
    with pytest.raises(rs.UnsupportedModelError, match=r"`other`.*its class Other overrides `call`.*register_port"):
        rs.StatefulModel(net)


def test_a_wrong_number_of_features_is_refused():
    """`model(x)` checks no input of the network. The message names the layer, and the expected and the received number."""
    model = model_of("lru")
    with pytest.raises(
        rs.DataError, match=rf"Layer `lru` must get {FEATURES} features.*shape=\(2, 5, {FEATURES + 1}\)"
    ):
        model(np.ones((2, 5, FEATURES + 1), "float32"))
