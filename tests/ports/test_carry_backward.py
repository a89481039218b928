"""`carry_backward`: the backward direction goes on from where the backward pass over the previous window ended."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers

import nets
import oracles
import policies
import rnnstate as rs
from nets import difference, host
from policies import TOLERANCE
from rnnstate import testing

LENGTH = 3
ORACLES = {layers.LSTM: oracles.lstm, layers.GRU: oracles.gru, layers.SimpleRNN: oracles.simple_rnn}
KINDS = pytest.mark.parametrize("kind", ORACLES, ids=lambda kind: kind.__name__)


def wrapped(kind, **kwargs):
    """Return a bidirectional layer."""
    forward, backward = (kind(5, return_sequences=True, go_backwards=back, **kwargs) for back in (False, True))
    return layers.Bidirectional(forward, backward_layer=backward, name="both")


def both(kind=layers.LSTM, **kwargs):
    """Return a model of one bidirectional layer and a read-out."""
    net = nets.randomized(nets.one(wrapped(kind)), scale=0.9)
    return rs.StatefulModel(net, carry_backward=True, **kwargs)


def zeros(layer, batch):
    """Return the leaves that a layer starts from."""
    return {name: np.zeros((batch, layer.units)) for name in (("h", "c") if isinstance(layer, layers.LSTM) else ("h",))}


def by_hand(model, x, cuts, mask=None):
    """Return outputs and final leaves in NumPy, of windows that begin at `cuts`, both directions carried."""
    layer, read_out = model.net.layers
    sides = {"forward": layer.forward_layer, "backward": layer.backward_layer}
    state = {side: zeros(inner, len(x)) for side, inner in sides.items()}
    outputs = []
    for begin, end in zip(cuts, [*cuts[1:], x.shape[1]], strict=True):
        parts = []
        for side, inner in sides.items():
            turn = slice(None, None, -1 if side == "backward" else 1)
            valid = None if mask is None else mask[:, begin:end][:, turn]
            weights = [host(weight) for weight in inner.weights]
            y, state[side] = ORACLES[type(inner)](weights, x[:, begin:end][:, turn], state[side], valid)
            parts.append(y[:, turn])
        outputs.append(np.concatenate(parts, axis=-1))
    kernel, bias = (host(weight) for weight in read_out.weights)
    leaves = {f"both/{side}/{name}": leaf for side, part in state.items() for name, leaf in part.items()}
    return np.concatenate(outputs, axis=1) @ kernel + bias, leaves


def in_windows(model, x, cuts):
    """Return outputs and the final state of windows that begin at `cuts`."""
    state, outputs = model.initial_state(len(x)), []
    for begin, end in zip(cuts, [*cuts[1:], x.shape[1]], strict=True):
        y, state = model.step(x[:, begin:end], state)
        outputs.append(host(y))
    return np.concatenate(outputs, axis=1), state.numpy()


@KINDS
@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_both_directions_go_on_from_window_to_window(kind, kernels):
    """Outputs and leaves are those of NumPy loops; a fresh backward direction, and one window, give others."""
    model, x = both(kind, kernels=kernels), nets.values(2, 11, 2, seed=3)
    cuts = [0, 3, 5, 10]
    outputs, state = in_windows(model, x, cuts)
    expected, leaves = by_hand(model, x, cuts)
    assert difference(outputs, expected) < TOLERANCE
    assert list(model.state_spec) == list(leaves)
    assert difference(state, leaves) < TOLERANCE
    fresh = rs.StatefulModel(model.net)
    assert difference(in_windows(fresh, x, cuts)[0], expected) > 1e-2
    assert difference(model.step(x, model.initial_state(2))[0], expected) > 1e-2


@KINDS
def test_it_is_what_stateful_layers_of_keras_do(kind):
    """Windows called one by one on Keras' own stateful layer give the same outputs."""
    model, x = both(kind), nets.values(2, 9, 2, seed=4)
    inputs = keras.Input(batch_shape=(2, LENGTH, 2))
    stock = keras.Sequential([inputs, wrapped(kind, stateful=True), layers.Dense(2)])
    stock.set_weights(model.net.get_weights())
    cuts = range(0, 9, LENGTH)
    expected = np.concatenate([host(stock(x[:, begin : begin + LENGTH])) for begin in cuts], axis=1)
    assert difference(in_windows(model, x, [*cuts])[0], expected) < TOLERANCE


@KINDS
def test_predict_and_fit_carry_it_over_padded_windows(kind):
    """In compiled steps a padded window hands on what its valid steps made of the carried state."""
    model = both(kind)
    x, y = policies.data_of(model, lengths=(8, 5, 4))
    windows = rs.Windows(x, y, length=LENGTH, batch_size=2)
    outputs, state = model.predict(windows, return_state=True, verbose=0)
    policies.trained(model, windows, rate=0.0)
    for row, (key, one) in enumerate(x.items()):
        expected, leaves = by_hand(model, one[None], [*range(0, len(one), LENGTH)])
        assert difference(outputs[key], expected[0]) < TOLERANCE
        assert difference(state.rows([row]), leaves) < TOLERANCE
        assert difference(model.states.read([key]), leaves) < TOLERANCE
    testing.assert_isolated(model, x, length=LENGTH)


def test_resets_split_windows_in_both_directions():
    """Resets inside a window do what windows cut there do, each row by itself, and the state is the last episode's."""
    model, x = both(), nets.values(3, 7, 2, seed=6)
    reset = np.zeros((3, 7), dtype=bool)
    reset[0, [2, 5]], reset[1, 0] = True, True
    start = rs.State({name: nets.values(3, *leaf.shape, seed=9) for name, leaf in model.state_spec.items()})
    y, final = model.step(x, start, reset=reset)
    for row, cuts in enumerate([[0, 2, 5, 7], [0, 7], [0, 7]]):
        state = start.rows([row])
        for begin, end in pairwise(cuts):
            state = model.initial_state(1) if reset[row, begin] else state
            if row == 0 and begin == 0:  # of an episode that ends in this window: nothing later leads to its last step
                state = {**state, **{n: leaf for n, leaf in model.initial_state(1).items() if "backward" in n}}
            part, state = model.step(x[row : row + 1, begin:end], state)
            assert difference(y[row : row + 1, begin:end], part) < TOLERANCE
        assert difference(final.rows([row]), state) < TOLERANCE
    mask = np.arange(7) < np.array([[6], [7], [4]])
    padded, after = model.step(x, start, mask=mask, reset=reset)
    shorter, expected = model.step(x[:1, :6], start.rows([0]), reset=reset[:1, :6])
    assert difference(host(padded)[:1, :6], shorter) < TOLERANCE
    assert difference(after.rows([0]), expected) < TOLERANCE


@pytest.mark.parametrize("cell", [None, nets.TwoSpeedCell], ids=["gru", "custom"])
def test_a_layer_that_runs_backward_by_itself_is_carried(cell):
    """Its leaves appear, also where it says `stateful=True`; a masked window equals the shorter one."""
    kwargs = {"go_backwards": True, "return_sequences": True, "stateful": True, "name": "back"}
    layer = layers.GRU(3, **kwargs) if cell is None else layers.RNN(cell(), **kwargs)
    net = keras.Sequential([nets.series_input((2, None, 2)), layer])
    model, x = rs.StatefulModel(nets.randomized(net), carry_backward=True), nets.values(2, 5, 2)
    assert list(model.state_spec) == (["back/h"] if cell is None else ["back/0", "back/1"])
    start = rs.State({name: nets.values(2, *leaf.shape, seed=9) for name, leaf in model.state_spec.items()})
    y, final = model.step(x, start, mask=np.arange(5)[None] < np.array([[4], [4]]))
    expected, leaves = model.step(x[:, :4], start)
    assert difference(host(y)[:, -4:], expected) < TOLERANCE
    assert difference(final, leaves) < TOLERANCE
    assert difference(model.step(x[:, :4], model.initial_state(2))[0], expected) > 1e-2
    flags = np.zeros((2, 5), dtype=bool)
    flags[:, 3] = True
    y, final = model.step(x, start, reset=flags)
    later, leaves = model.step(x[:, 3:], model.initial_state(2))
    assert difference(host(y)[:, :2], later) < TOLERANCE
    assert difference(final, leaves) < TOLERANCE


def test_it_is_saved_with_the_model(tmp_path):
    """A loaded model has the leaves, carries both directions, and stands where the saved one stood."""
    model = both(initial_state=rs.initial.Learned())
    x, y = policies.data_of(model, lengths=(8, 5))
    windows = rs.Windows(x, y, length=LENGTH, batch_size=2)
    policies.trained(model, windows)
    model.save(tmp_path / "m.keras")
    back = keras.saving.load_model(tmp_path / "m.keras")
    assert back.carry_backward
    assert list(back.state_spec) == [f"both/{side}/{leaf}" for side in ("forward", "backward") for leaf in "hc"]
    assert back.states.read() == model.states.read()
    outputs, expected = (each.predict(windows, verbose=0) for each in (back, model))
    assert difference(outputs, expected) < TOLERANCE


def test_audit_says_that_it_is_not_a_pass_over_the_whole():
    """The finding is a note, for a user has asked for it."""
    model = both()
    found = {finding.code: finding for finding in rs.audit(model)}
    assert found["backward-carried"].level == "note"
    assert "from one pass over the whole sequence" in str(found["backward-carried"])
    assert "backward-fresh" not in found
    with pytest.raises(AssertionError, match=r"outputs of windows of 2 must agree"):
        testing.assert_windows_equal_whole(model, nets.values(2, 7, 2), lengths=(2,))


@pytest.mark.parametrize("lead", [{"burn_in": 2}, {"back": 5}], ids=["burn_in", "back"])
def test_steps_before_a_window_are_refused(lead):
    """A backward pass cannot be led to by steps that come before the window."""
    model = both()
    model.compile("sgd", "mse")
    x, y = policies.data_of(model)
    windows = rs.Windows(x, y, length=LENGTH, batch_size=2, **lead)
    with pytest.raises(rs.DataError, match=r"With `carry_backward`.*Received: `x` with .* 2 steps before each window"):
        model.fit(windows, verbose=0)
