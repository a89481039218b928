"""Bidirectional layers: forward is carried, backward starts afresh in each window, and both are said."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import policies
import rnnstate as rs
from nets import difference, host
from policies import TOLERANCE

LENGTH = 3


def both(layer=layers.LSTM, merge="concat"):
    """Return a model of one bidirectional layer and a read-out."""
    inner = layer(5, return_sequences=True)
    net = nets.one(layers.Bidirectional(inner, merge_mode=merge, name="both"))
    return rs.StatefulModel(nets.randomized(net, scale=0.9))  # large enough for the product of both halves to tell


def by_hand(model, x, merge):
    """Return outputs in windows: forward over the whole series, backward over each window alone."""
    layer, read_out = model.net.layers
    forward = host(layer.forward_layer(x))
    parts = []
    for begin in range(0, x.shape[1], LENGTH):
        backward = layer.backward_layer(x[:, begin : begin + LENGTH])
        parts.append(host(backward)[:, ::-1])
    backward = np.concatenate(parts, axis=1)
    merged = {
        "concat": lambda: np.concatenate([forward, backward], axis=-1),
        "sum": lambda: forward + backward,
        "ave": lambda: (forward + backward) / 2,
        "mul": lambda: forward * backward,
    }[merge]()
    return host(read_out(merged))


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul"])
def test_forward_is_carried_and_backward_is_fresh(merge):
    """In every window, outputs are those of a forward pass over all so far and a backward pass over the window alone."""
    model, x = both(merge=merge), nets.values(2, 9, 2, seed=3)
    state, outputs = model.initial_state(2), []
    for begin in range(0, 9, LENGTH):
        y, state = model.step(x[:, begin : begin + LENGTH], state)
        outputs.append(host(y))
    expected = by_hand(model, x, merge)
    assert difference(np.concatenate(outputs, axis=1), expected) < TOLERANCE
    dropped, _ = model.step(x[:, LENGTH : 2 * LENGTH], model.initial_state(2))
    assert difference(dropped, expected[:, LENGTH : 2 * LENGTH]) > 1e-2
    assert difference(host(model.net(x)), expected) > 1e-2


def test_the_state_is_that_of_the_forward_direction():
    """Leaves are those of the forward layer alone; nothing of the backward layer is kept."""
    assert list(both().state_spec) == ["both/forward/h", "both/forward/c"]


def test_predict_and_fit_follow_the_same_policy():
    """`predict` gives the outputs of the policy, and `fit` ends in the forward state of each whole sequence."""
    model = both(layers.GRU)
    x, y = policies.data_of(model)
    windows = rs.Windows(x, y, length=LENGTH, batch_size=2)
    expected = by_hand(model, policies.stacked(x), "concat")
    outputs = model.predict(windows, verbose=0)
    for row, key in enumerate(x):
        assert difference(outputs[key], expected[row]) < TOLERANCE
    policies.trained(model, windows, rate=0.0)
    whole = model.net.layers[0].forward_layer
    final = host(whole(policies.stacked(x)))[:, -1]
    assert difference(model.states.read(windows.keys)["both/forward/h"], final) < TOLERANCE


def test_audit_says_so():
    """`audit` names the layer whose backward direction starts afresh."""
    findings = {(finding.code, finding.layer) for finding in rs.audit(both())}
    assert ("backward-fresh", "both") in findings


def test_backward_layers_start_afresh():
    """A lone backward layer has no state to carry, and a stateful one is refused by name."""
    back = layers.GRU(3, go_backwards=True, return_sequences=True, name="back")
    model = rs.StatefulModel(
        keras.Sequential([nets.series_input(), layers.GRU(3, return_sequences=True, name="gru"), back])
    )
    assert list(model.state_spec) == ["gru/h"]
    stateful = layers.GRU(3, go_backwards=True, stateful=True, name="back")
    net = keras.Sequential([nets.series_input((2, None, 2)), layers.GRU(3, return_sequences=True), stateful])
    with pytest.raises(rs.UnsupportedModelError, match="Layer `back` runs backward, so its state cannot be carried"):
        rs.StatefulModel(net)
