"""Ports: a layer with a memory of its own carries once it says what it remembers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from fitting import targets_of
from nets import difference, host
from rnnstate.ports import registry as ports

WIDTH = 3


@keras.saving.register_keras_serializable("tests")
class MovingAverage(layers.Layer):
    """The mean of the last three inputs; before the first step, inputs count as zero."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, before=None):
        before = ops.zeros_like(x[:, : WIDTH - 1]) if before is None and x.shape[1] else before
        if before is None:
            return x
        joined = ops.concatenate([before, x], axis=1)
        time = ops.shape(x)[1]
        return sum(joined[:, i : i + time] for i in range(WIDTH)) / WIDTH

    def compute_output_shape(self, input_shape, *_):
        return input_shape


class MovingAveragePort(rs.Port):
    """Remembers the last two valid inputs."""

    def spec(self, layer):
        return {"last": rs.LeafSpec((WIDTH - 1, 3))}

    def call(self, x, state, mask=None, training=False):
        before = ops.cast(state["last"], x.dtype)
        if mask is None:
            return self.layer(x, before), {"last": ops.concatenate([before, x], axis=1)[:, 1 - WIDTH :]}
        outputs = []
        for t in range(x.shape[1]):
            valid = mask[:, t, None, None]
            outputs.append(self.layer(x[:, t : t + 1], before))
            before = ops.where(valid, ops.concatenate([before, x[:, t : t + 1]], axis=1)[:, 1:], before)
        return ops.concatenate(outputs, axis=1), {"last": before}


class DuckPort:
    """A port that inherits nothing: the protocol is all that counts."""

    def __init__(self, layer):
        self.port = MovingAveragePort(layer)

    def spec(self, layer):
        return self.port.spec(layer)

    def initial(self, batch_size):
        return {"last": ops.full((batch_size, WIDTH - 1, 3), 0.5)}

    def call(self, x, state, mask=None, training=False):
        return self.port.call(x, state, mask=mask, training=training)


@pytest.fixture
def registry(monkeypatch):
    """Let a test register ports that are gone afterwards."""
    monkeypatch.setattr(ports, "_REGISTRY", dict(ports._REGISTRY))


def averaging():
    """Return a network with a moving average before and after an LSTM's place in the graph."""
    return keras.Sequential(
        [
            nets.series_input(),
            layers.Dense(3, name="in"),
            MovingAverage(name="average"),
            layers.LSTM(3, return_sequences=True, name="lstm"),
            MovingAverage(name="smooth"),
        ]
    )


def test_a_layer_of_ones_own_carries(registry):
    """Windows of any length equal the whole, right down to windows shorter than the memory."""
    rs.register_port(MovingAverage, MovingAveragePort)
    model, data = nets.make(averaging), nets.series([17, 11, 5])
    assert list(model.state_spec) == ["average/last", "lstm/h", "lstm/c", "smooth/last"]
    for length in (1, 7):
        outputs, state = model.predict(rs.Windows(data, length=length, batch_size=2), return_state=True, verbose=0)
        for row, (key, x) in enumerate(data.items()):
            assert difference(outputs[key], host(model.net(x[None]))[0]) < 1e-6
            final = model.step(x[None], model.initial_state(1))[1].numpy()
            assert difference(state.rows([row]), final) < 1e-6


def test_without_a_port_nothing_is_carried():
    """Negative control: unregistered, the same layer is refused; allowed, it forgets at each window and has no leaf."""
    with pytest.raises(rs.UnsupportedModelError, match=r"Layer `average` .* depends on steps t-2 to t"):
        nets.make(averaging)
    model, x = nets.make(averaging, time_mixing="allow"), nets.values(3, 14, 2)
    assert list(model.state_spec) == ["lstm/h", "lstm/c"]
    first, state = model.step(x[:, :7], model.initial_state(3))
    second, _ = model.step(x[:, 7:], state)
    whole = host(model.net(x))
    assert difference(np.concatenate([host(first), host(second)], axis=1), whole) > 1e-2


def test_masks_reach_a_port(registry):
    """Padding on either side leaves a port's memory at the last valid step."""
    rs.register_port(MovingAverage, MovingAveragePort)
    model, x = nets.make(averaging), nets.values(3, 7, 2)
    _, expected = model.step(x[:, :4], model.initial_state(3))
    pad = np.full((3, 3, 2), 9.0, "float32")
    for parts, mask in (((x[:, :4], pad), [True] * 4 + [False] * 3), ((pad, x[:, :4]), [False] * 3 + [True] * 4)):
        _, state = model.step(np.concatenate(parts, axis=1), model.initial_state(3), mask=np.tile(mask, (3, 1)))
        assert difference(state, expected) < 1e-6


def test_a_port_trains_and_is_saved(registry, tmp_path):
    """`fit` carries a port's leaves, and a saved model comes back with them."""
    rs.register_port(MovingAverage, MovingAveragePort)
    model, data = nets.make(averaging), nets.series([10, 10])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(rs.Windows(data, targets_of(data, 3), length=5, batch_size=2), verbose=0)
    _, final = model.step(np.stack(list(data.values())), model.initial_state(2))
    assert difference(model.states.read(), final.numpy()) < 1e-6
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").states.read() == model.states.read()


def test_a_port_need_not_inherit(registry):
    """A class with the three methods is a port, with an initial state of its own."""
    rs.register_port(MovingAverage, DuckPort)
    model, x = nets.make(averaging), nets.values(3, 11, 2)
    np.testing.assert_array_equal(host(model.initial_state(2)["smooth/last"]), np.full((2, 2, 3), 0.5, "float32"))
    whole, final = model.step(x, model.initial_state(3))
    first, state = model.step(x[:, :4], model.initial_state(3))
    second, state = model.step(x[:, 4:], state)
    assert difference(np.concatenate([host(first), host(second)], axis=1), whole) < 1e-6
    assert difference(state, final) < 1e-6


def test_the_nearest_class_wins(registry):
    """A subclass takes the port of its nearest ancestor that has one."""

    class Special(MovingAverage):
        pass

    rs.register_port(MovingAverage, MovingAveragePort)
    assert isinstance(ports.find_port(Special()), MovingAveragePort)
    rs.register_port(Special, DuckPort)
    assert isinstance(ports.find_port(Special()), DuckPort)
    assert isinstance(ports.find_port(MovingAverage()), MovingAveragePort)
    assert ports.find_port(layers.Dense(3)) is None


def test_wrong_classes_are_refused(registry):
    """What is no layer class, or lacks a method, cannot be registered, and the message says what is missing."""

    class Half:
        def spec(self, layer):
            return {}

    for wrong in (MovingAverage(), int, "MovingAverage"):
        with pytest.raises(TypeError, match=r"`layer_class` must be a subclass of `keras.Layer`. Received"):
            rs.register_port(wrong, MovingAveragePort)
    with pytest.raises(TypeError, match=r"must have `spec`, `initial` and `call`.*without \['initial', 'call'\]"):
        rs.register_port(MovingAverage, Half)


def test_a_port_that_says_nothing(registry):
    """A port without `spec` or `call` is named when it is used."""

    class Empty(rs.Port):
        pass

    rs.register_port(MovingAverage, Empty)
    with pytest.raises(rs.UnsupportedModelError, match=r"must say what its layer remembers.*Empty.*without `spec`"):
        nets.make(averaging)
    with pytest.raises(rs.UnsupportedModelError, match=r"must run its layer.*Empty.*without `call`"):
        Empty(None).call(None, {})
