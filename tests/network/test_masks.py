"""Masks: padded steps leave every leaf of every layer as it was, wherever they are."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import policies
import rnnstate as rs
from nets import difference, host
from policies import TOLERANCE
from rnnstate.ports.recurrent import RecurrentPort

BATCH, TIME, VALID = 3, 7, 4
PLACES = {
    "right": [[0, 1, 2, 3]] * 3,
    "left": [[3, 4, 5, 6]] * 3,
    "middle": [[0, 1, 5, 6], [0, 3, 4, 6], [2, 3, 4, 5]],
}
NETS = ("two_branches", "stack_of_cells", "custom_cell", "conv_lstm", "nested_model", "nested_cell")


def padded(x, places):
    """Return the steps of `x` spread to some places among loud noise, and the mask."""
    full = np.full((BATCH, TIME, *x.shape[2:]), 9.0, "float32")
    mask = np.zeros((BATCH, TIME), dtype=bool)
    for row, steps in enumerate(places):
        full[row, steps], mask[row, steps] = x[row], True
    return full, mask


@pytest.mark.parametrize("name", NETS)
def test_padding_anywhere_changes_nothing(name):
    """Outputs and every leaf are those of the valid steps alone: padded right, left, and in the middle."""
    model, step = nets.shared(name), nets.stepper(name)
    features = (5, 2) if name == "conv_lstm" else (2,)
    x = nets.values(BATCH, VALID, *features, seed=5)
    start = model.initial_state(BATCH)
    y, expected = step(x, start)
    for places in PLACES.values():
        full, mask = padded(x, places)
        outputs, state = step(full, start, mask)
        assert difference(state, expected) < TOLERANCE
        valid = np.stack([host(outputs)[row, steps] for row, steps in enumerate(places)])
        assert difference(valid, y) < TOLERANCE
    _, unmasked = step(full, start)
    assert difference(unmasked, expected) > 1e-2


def test_state_is_that_of_the_last_valid_step_in_every_layer():
    """After a padded window each leaf of each layer is what `trace` has at that row's last valid step."""
    model = nets.make(nets.two_layers)
    x, counts = nets.values(BATCH, TIME, 2, seed=6), [3, 7, 1]
    mask = np.arange(TIME) < np.array(counts)[:, None]
    _, state = model.step(x, model.initial_state(BATCH), mask=mask)
    _, _, trace = model.trace(x, model.initial_state(BATCH))
    assert set(state) == {"lstm/h", "lstm/c", "gru/h"}
    for name, leaf in state.items():
        for row, count in enumerate(counts):
            assert difference(host(leaf)[row], host(trace[name])[row, count - 1]) < TOLERANCE


def test_padded_windows_in_fit_keep_the_last_valid_state():
    """Ragged sequences end `fit` in the states of their own last steps, not of the padded end."""
    model = nets.make(nets.two_layers)
    x, y = policies.data_of(model, (7, 2, 4))
    windows = rs.Windows(x, y, length=5, batch_size=3)
    policies.trained(model, windows, rate=0.0)
    for key, series in x.items():
        _, expected = model.step(series[None], model.initial_state(1))
        assert difference(model.states.read(key), expected) < TOLERANCE


def test_a_row_without_a_valid_step_stays():
    """A row whose mask is all false keeps its state bit for bit."""
    model = nets.make(nets.lstm)
    state = {name: nets.values(2, 5, seed=i) for i, name in enumerate(model.state_spec)}
    _, after = model.step(nets.values(2, 3, 2), state, mask=np.array([[True] * 3, [False] * 3]))
    assert after.numpy().rows([1]) == rs.State(state).rows([1])
    assert difference(after.rows([0]), rs.State(state).rows([0])) > 1e-2


def test_last_output_of_a_padded_window():
    """A layer that gives one output per window gives that of the last valid step, padded left or right."""
    model = rs.StatefulModel(nets.randomized(nets.last_step_custom()))
    x = nets.values(BATCH, VALID, 2, seed=5)
    expected, _ = model.step(x, model.initial_state(BATCH))
    for side in ("right", "left"):
        full, mask = padded(x, PLACES[side])
        y, _ = model.step(full, model.initial_state(BATCH), mask=mask)
        assert difference(y, expected) < TOLERANCE


def test_the_mask_of_a_masking_layer_joins_that_of_the_window():
    """Steps that the network itself masks count for as little as padding."""
    net = [nets.series_input(), layers.Masking(9.0), layers.LSTM(5, return_sequences=True, name="lstm")]
    masking = rs.StatefulModel(nets.randomized(keras.Sequential(net)))
    x = nets.values(1, 5, 2, seed=3)
    x[0, 2] = 9.0
    _, state = masking.step(x, masking.initial_state(1), mask=np.array([[True, True, True, True, False]]))
    _, expected = masking.step(x[:, [0, 1, 3]], masking.initial_state(1))
    assert difference(state, expected) < TOLERANCE


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_steps_masked_by_the_network_repeat_h_in_every_loop(kind, reset, sequences):
    """Before its first valid step a row repeats h from before the window, in the fast loops as in Keras' own."""
    layer = getattr(layers, kind)(5, return_sequences=sequences, name="rec")
    net = nets.randomized(keras.Sequential([nets.series_input(), layers.Masking(), layer]))
    x, flags = nets.values(4, 7, 2), np.zeros((4, 7), bool)
    x[0, :3], x[1], x[2, 4:] = 0, 0, 0
    flags[0, 1], flags[2, 2] = reset, reset
    found = []
    for kernels in ("auto", "reference"):
        model = rs.StatefulModel(net, kernels=kernels)
        before = {name: nets.values(4, 5, seed=i) for i, name in enumerate(model.state_spec)}
        y, after = model.step(x, before, reset=flags if reset else None)
        found.append([nets.host(y), *map(nets.host, after.values())])
    assert max(difference(*pair) for pair in zip(*found, strict=True)) < TOLERANCE
    y = found[0][0][1, -1] if sequences else found[0][0][1]
    assert difference(y, before["rec/h"][1]) == 0
    assert difference(y, 0 * y) > 1e-2


def test_nothing_is_repeated_where_the_loop_gives_h(monkeypatch):
    """The fast loops give h at masked steps themselves, without a pass over the outputs. Keras' own loops need the pass."""
    passes, repeated = [], RecurrentPort._repeated
    monkeypatch.setattr(RecurrentPort, "_repeated", lambda *args: passes.append(1) or repeated(*args))
    net = keras.Sequential([nets.series_input(), layers.Masking(), layers.GRU(3, return_sequences=True)])
    counts = {}
    for kernels in ("auto", "reference"):
        model, before = rs.StatefulModel(net, kernels=kernels), len(passes)
        model.step(nets.values(3, 7, 2), model.initial_state(3))
        counts[kernels] = len(passes) - before
    assert counts["auto"] == 0
    assert counts["reference"]


@pytest.mark.parametrize("shape", [(3,), (7, 3), (3, 7, 1), (1, 7)])
def test_wrong_masks_are_refused(shape):
    """A mask must be (batch, time); nothing is broadcast."""
    model = nets.shared("gru")
    with pytest.raises(rs.StateShapeError, match=r"`mask` must be boolean with shape \(3, 7\). Received: shape="):
        model.step(nets.values(3, 7, 2), model.initial_state(3), mask=np.ones(shape, dtype=bool))


@pytest.mark.parametrize("kind", ["gru", "stack"])
def test_a_window_that_begins_with_masked_steps_repeats_the_last_output(kind):
    """Steps that the network masks give the output of the last valid step, also if that step is in an earlier window."""
    cells = {
        "gru": layers.GRU,
        "stack": lambda *units, **how: layers.RNN([layers.GRUCell(5), layers.LSTMCell(3)], **how),
    }
    net = keras.Sequential([nets.series_input(), layers.Masking(), cells[kind](3, return_sequences=True, name="rec")])
    model, x = rs.StatefulModel(nets.randomized(net)), nets.values(3, 11, 2)
    x[:, 2:9] = 0
    first, state = model.step(x[:, :4], model.initial_state(3))
    second, _ = model.step(x[:, 4:], state)
    windows = np.concatenate([nets.host(first), nets.host(second)], axis=1)
    assert difference(windows, model.net(x)) < TOLERANCE
    assert np.abs(windows[:, 4]).max() > 1e-3
    assert difference(windows[:, 1], windows[:, 8]) == 0
