"""No network mixes time unnoticed: each node is per step, carried, a summary of the window, or refused."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from rnnstate.network.time_mixing import mixing_of


def net_of(build, steps=None):
    """Return a network of one LSTM, then what `build` adds."""
    x = keras.Input((steps, 4), name="x")
    return keras.Model(x, build(layers.LSTM(4, return_sequences=True, name="lstm")(x)))


def squeezed(h):
    """Scale each step by a summary of the window."""
    return layers.Multiply(name="scale")([h, layers.Reshape((1, 4))(layers.GlobalAveragePooling1D()(h))])


def encoder_decoder(h):
    """One forecast of five steps for each window."""
    return layers.GRU(3, return_sequences=True)(layers.RepeatVector(5)(layers.LSTM(3, name="encoder")(h)))


PER_STEP = {
    "dense": lambda h: layers.Dense(3, activation="softmax")(h),
    "normalization": lambda h: layers.LayerNormalization()(layers.BatchNormalization()(h)),
    "noise": lambda h: layers.SpatialDropout1D(0.5)(layers.Dropout(0.5)(h)),
    "kernel of one step": lambda h: layers.Conv1D(3, 1)(h),
    "operations": lambda h: ops.tanh(h) + h[..., :1] * 2,
    "reshape of features": lambda h: layers.Reshape((-1, 2, 2))(h),
    "bidirectional": lambda h: layers.Bidirectional(layers.GRU(2, return_sequences=True))(h),
    "time distributed": lambda h: layers.TimeDistributed(layers.Dense(3))(h),
    "encoder and decoder": encoder_decoder,
    "last step": lambda h: layers.Dense(2)(h[:, -1]),
    "mean of the window": lambda h: layers.Dense(2)(layers.GlobalAveragePooling1D()(h)),
}
MIXING = {
    "convolution": (lambda h: layers.Conv1D(4, 3, padding="same", name="c")(h), r"`c` \(Conv1D\).*steps t-1 to t\+1"),
    "lambda": (
        lambda h: layers.Lambda(lambda z: ops.cumsum(z, axis=1), name="c")(h),
        r"`c` \(Lambda\).*all steps up to t",
    ),
    "operation": (lambda h: ops.flip(h, axis=1), r"Operation `flip.*depends on all steps of the window"),
    "strides": (
        lambda h: layers.MaxPooling1D(3, 2, padding="same", name="c")(h),
        r"`c` \(MaxPooling1D\) turns 8 steps.*\(batch, 4, 4\)",
    ),
    "summary": (squeezed, r"`scale` \(Multiply\) joins each step with a summary"),
    "activation": (
        lambda h: layers.Dense(4, activation=lambda z: ops.roll(z, 1, axis=1), name="c")(h),
        r"`c` \(Dense\).*depends on",
    ),
    "nested": (
        lambda h: keras.Sequential([keras.Input((None, 4)), layers.ZeroPadding1D((1, 0), name="pad")], name="inner")(h),
        r"`inner/pad` \(ZeroPadding1D\)",
    ),
}


@pytest.mark.parametrize("build", PER_STEP.values(), ids=PER_STEP)
def test_networks_that_are_not_refused(build):
    """A network without a node that mixes time is found to have none, with any and with a fixed number of steps."""
    assert mixing_of(net_of(build)) == []
    assert mixing_of(net_of(build, steps=7)) == []


@pytest.mark.parametrize(("build", "message"), MIXING.values(), ids=MIXING)
def test_networks_that_mix_time_are_refused_by_name(build, message):
    """The error names the node and its dependence, and `time_mixing="allow"` lets the network run."""
    net = net_of(build)
    with pytest.raises(rs.UnsupportedModelError, match=message):
        rs.StatefulModel(net)
    assert rs.StatefulModel(net, time_mixing="allow").time_mixing == "allow"


@pytest.mark.once
def test_an_output_whose_size_nothing_tells_is_refused():
    """Entries that are made from one value of the window are no steps, so their number must be known."""

    def net(sizes):
        decoder = layers.EinsumDense("btf,fg->btg", output_shape=sizes, name="c")
        return net_of(lambda h: decoder(layers.RepeatVector(5)(layers.GRU(4)(h))))

    with pytest.raises(rs.UnsupportedModelError, match=r"Layer `c` \(EinsumDense\), with shape \(batch, None, ...\)"):
        rs.StatefulModel(net((None, 3)))
    model = rs.StatefulModel(net((5, 3)))
    assert model.predict(rs.Windows({"a": nets.values(8, 4)}, length=4, batch_size=1))["a"].shape == (2, 5, 3)


def test_time_mixing_takes_two_values():
    """Any other value is refused."""
    with pytest.raises(ValueError, match=r'`time_mixing` must be "refuse" or "allow"'):
        rs.StatefulModel(nets.small(), time_mixing="warn")


def test_a_walk_changes_nothing():
    """A probe leaves variables as they are, and adds no losses."""

    class Counting(layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            self.add_loss(ops.mean(x))
            return x * 2

    net = net_of(Counting(name="count"))
    net(np.ones((2, 3, 4)))
    before, losses = float(nets.host(net.get_layer("count").calls)), len(net.losses)
    assert mixing_of(net) == []
    assert float(nets.host(net.get_layer("count").calls)) == before
    assert len(net.losses) <= losses


class Total(layers.Layer):
    """Adds up all earlier steps."""

    def call(self, x):
        """Add up."""
        return ops.cumsum(x, axis=1)


class TotalPort(rs.Port):
    """Carries the sum."""

    def spec(self, layer):
        """Return one leaf."""
        return {"total": rs.LeafSpec((4,))}

    def call(self, x, state, mask=None, training=False):
        """Go on from the sum."""
        y = self.layer(x) + state["total"][:, None]
        return y, {"total": y[:, -1]}


class ChoosyPort(TotalPort):
    """Carries some layers of the class alone."""

    @staticmethod
    def refuses(layer):
        """Choose by name."""
        return None if layer.name == "carried" else "Its name is wrong."


def test_a_port_makes_a_layer_carry(monkeypatch):
    """A layer with a port is carried. A port class may leave out layers that it cannot carry."""
    from rnnstate.ports import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    assert [found.path for found in mixing_of(net_of(Total(name="carried")))] == ["carried"]
    rs.register_port(Total, ChoosyPort)
    assert mixing_of(net_of(Total(name="carried"))) == []
    assert "carried/total" in rs.StatefulModel(net_of(Total(name="carried"))).state_spec
    assert [found.path for found in mixing_of(net_of(Total(name="other")))] == ["other"]


def test_saved_models(tmp_path):
    """The value is saved. A model file without it loads, with a warning if its network mixes time."""
    net = net_of(lambda h: layers.Conv1D(4, 3, padding="same", name="c")(h))
    model = rs.StatefulModel(net, time_mixing="allow")
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").time_mixing == "allow"
    config = model.get_config()
    del config["time_mixing"]
    with pytest.warns(UserWarning, match=r"mixes time: Layer `c`.*loaded with `time_mixing=\"allow\"`"):
        assert rs.StatefulModel.from_config(config).time_mixing == "allow"
    plain = rs.StatefulModel(nets.small())
    assert "time_mixing" not in plain.get_config()
    assert rs.StatefulModel.from_config(plain.get_config()).time_mixing == "refuse"


def test_audit_reports_what_mixes_time():
    """The audit of a plain network and of a model names the layer, and no longer advises to wrap the network as it is."""
    net = net_of(lambda h: layers.AveragePooling1D(3, 1, padding="same", name="pool")(h))
    for model in (net, rs.StatefulModel(net, time_mixing="allow")):
        (finding,) = [found for found in rs.audit(model) if found.code == "time-mixing"]
        assert (finding.level, finding.layer) == ("warning", "pool")
        assert "steps t-1 to t+1" in finding.message
    (fresh,) = [found for found in rs.audit(net) if found.code == "fresh"]
    assert "refuses this network because of `pool`" in fresh.hint


def test_windows_of_an_allowed_network_differ_from_the_whole():
    """The control: what is refused by default does differ."""
    net = nets.randomized(net_of(lambda h: layers.Conv1D(4, 3, padding="same")(h)))
    model, x = rs.StatefulModel(net, time_mixing="allow"), nets.values(3, 7, 4)
    whole = nets.host(net(x))
    first, state = model.step(x[:, :4], model.initial_state(3))
    last, _ = model.step(x[:, 4:], state)
    parts = np.concatenate([nets.host(first), nets.host(last)], axis=1)
    assert np.abs(parts - whole).max() > 0.01
