"""`StatefulModel(net, carry=[...])`: the named layers carry, the others start fresh in each window."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from nets import difference, host
from policies import TOLERANCE


def encoder_decoder():
    """Return an encoder of 5 units and a decoder of 3 units over 2 made-up steps, with random weights."""
    return nets.randomized(
        keras.Sequential(
            [
                nets.series_input(),
                layers.LSTM(5, name="encoder"),
                layers.RepeatVector(2),
                layers.LSTM(3, return_sequences=True, name="decoder"),
            ]
        )
    )


def two_layers(second=layers.GRU):
    """Return two layers on the steps of the sequence."""
    return nets.randomized(
        keras.Sequential(
            [
                nets.series_input(),
                layers.LSTM(5, return_sequences=True, name="first"),
                second(3, return_sequences=True, name="second"),
            ]
        )
    )


def test_a_decoder_that_does_not_carry():
    """The encoder goes on where it stopped, and the decoder starts from zeros, as stock Keras computes it by hand."""
    net, x = encoder_decoder(), nets.values(7, 10, 2)
    model = rs.StatefulModel(net, carry=["encoder"])
    assert list(model.state_spec) == ["encoder/h", "encoder/c"]
    state = model.initial_state(7)
    for window in (x[:, :5], x[:, 5:]):
        y, state = model.step(window, state)
    encoder, repeat, decoder = net.layers
    assert difference(y, decoder(repeat(encoder(x)))) < TOLERANCE
    carried = rs.StatefulModel(net)
    state = carried.initial_state(7)
    for window in (x[:, :5], x[:, 5:]):
        other, state = carried.step(window, state)
    assert difference(other, y) > 1e-2


def test_predict_carries_the_named_layers_alone():
    """In `predict`, the first layer goes on where it stopped, and the second one starts anew in each window."""
    net = two_layers()
    model, x = rs.StatefulModel(net, carry=["first"]), {"a": nets.values(6, 2), "b": nets.values(6, 2, seed=1)}
    outputs = model.predict(rs.Windows(x, length=3, batch_size=2), verbose=0)
    first, second = net.layers
    expected = second(first(x["b"][None])[:, 3:])
    assert difference(outputs["b"][3:], host(expected)[0]) < TOLERANCE
    assert difference(outputs["b"][3:], host(net(x["b"][None]))[0, 3:]) > 1e-3


@pytest.mark.parametrize("second", [layers.GRU, nets.TwoSpeedCell])
def test_masks_and_resets_act_on_a_layer_that_does_not_carry(second):
    """Inside a window, padding is skipped and a reset returns the row to the initial state, in every layer."""
    if second is nets.TwoSpeedCell:

        def second(units, **kwargs):
            return layers.RNN(nets.TwoSpeedCell(), **kwargs)

    net = two_layers(second)
    model = rs.StatefulModel(net, carry=["first"])
    x = nets.values(3, 7, 2)
    mask, reset = np.ones((3, 7), bool), np.zeros((3, 7), bool)
    mask[0, :2], reset[:, 4] = False, True
    y, _ = model.step(x, model.initial_state(3), mask=mask, reset=reset)
    parts = [
        model.step(part, model.initial_state(3), mask=m)[0] for part, m in ((x[:, :4], mask[:, :4]), (x[:, 4:], None))
    ]
    assert difference(y[1:], np.concatenate([host(part) for part in parts], axis=1)[1:]) < TOLERANCE
    short, _ = model.step(x[:1, 2:4], model.initial_state(1))
    assert difference(y[:1, 2:4], short) < TOLERANCE
    whole, _ = model.step(x, model.initial_state(3))
    assert difference(y, whole) > 1e-2


def test_nested_networks_and_a_loaded_model(tmp_path):
    """A nested network stands for its layers. A `.keras` file keeps the choice; a model without one has no such entry."""
    net = nets.randomized(nets.nested_model())
    model = rs.StatefulModel(net, carry=["encoder"])
    assert list(model.state_spec) == ["encoder/lstm/h", "encoder/lstm/c"]
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    x = nets.values(3, 7, 2)
    state = model.initial_state(3).map(lambda leaf: leaf + 0.5)
    assert loaded.state_spec == model.state_spec
    assert difference(loaded.step(x, state)[0], model.step(x, state)[0]) < TOLERANCE
    assert "carry" not in rs.StatefulModel(net).get_config()
    path = rs.StatefulModel(net, carry=["gru"])
    assert list(path.state_spec) == ["gru/h"]


def test_both_directions_of_a_layer_that_does_not_carry():
    """A bidirectional layer that does not carry starts fresh in both directions."""
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    net = nets.randomized(
        keras.Sequential([nets.series_input(), layers.GRU(5, return_sequences=True, name="gru"), both])
    )
    model, x = rs.StatefulModel(net, carry=["gru"]), nets.values(2, 6, 2)
    _, state = model.step(x[:, :3], model.initial_state(2))
    y, _ = model.step(x[:, 3:], state)
    assert difference(y, both(net.layers[0](x)[:, 3:])) < TOLERANCE


@pytest.mark.once
@pytest.mark.parametrize(
    ("carry", "text"),
    [
        (["frist"], "that can carry: `first`, `second`. Received: `frist`"),
        ([], "Received: an empty list"),
        ("first", "must be a list of the names of layers that carry: `first`, `second`. Received: carry='first'"),
        (["first", 3], "must be a list"),
    ],
)
def test_unknown_names(carry, text):
    """A name that is no layer with a memory is refused with those there are."""
    with pytest.raises(rs.UnsupportedModelError, match=text):
        rs.StatefulModel(two_layers(), carry=carry)


@pytest.mark.once
def test_the_layers_of_the_network_are_shown(capsys):
    """`get_layer` and `summary` are about the network, by name, path and index, with the learned start."""
    net = nets.nested_model()
    model = rs.StatefulModel(net, initial_state=rs.initial.Learned())
    assert model.get_layer("gru") is net.get_layer("gru")
    assert model.get_layer("encoder/lstm") is net.get_layer("encoder").layers[0]
    assert model.get_layer(index=1) is net.layers[1]
    assert model.get_layer(model.start.name) is model.start
    model.summary(expand_nested=True)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("lstm (LSTM)", "gru (GRU)", "(Learned)", f"{model.count_params():,}"))
    assert "PortLayer" not in shown
    with pytest.raises(ValueError, match=r"The network has the layers .*`gru`.*Received: `grus`"):
        model.get_layer("grus")
    frozen = rs.StatefulModel(net)
    frozen.get_layer("gru").trainable = False
    assert len(frozen.trainable_variables) == len(model.trainable_variables) - 3
