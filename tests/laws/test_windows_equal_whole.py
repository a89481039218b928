"""Law: windows equal the whole. Cut anywhere, carried, the outputs and the final state are those of one pass."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import oracles
import rnnstate as rs
from nets import difference, host

TOLERANCE = 1e-6
TIME, BATCH = 17, 3


def inputs(name, batch=BATCH, time=TIME, seed=3):
    """Return a random batch for a network of the zoo."""
    features = (5, nets.FEATURES) if name == "conv_lstm" else (nets.FEATURES,)
    return nets.values(batch, time, *features, seed=seed)


def in_windows(step, start, x, length, carry=True):
    """Step through windows by hand; return the outputs of all steps and the final state."""
    outputs, state = [], start
    for begin in range(0, x.shape[1], length):
        y, state = step(x[:, begin : begin + length], state if carry else start)
        outputs.append(host(y))
    return np.concatenate(outputs, axis=1), state


def padded(x, valid, side):
    """Return the first `valid[i]` steps of each row, padded with noise on one side, and the mask."""
    rows, mask = np.full_like(x, 9.0), np.zeros(x.shape[:2], dtype=bool)
    for i, n in enumerate(valid):
        place = slice(0, n) if side == "right" else slice(x.shape[1] - n, None)
        rows[i, place], mask[i, place] = x[i, :n], True
    return rows, mask


@pytest.mark.parametrize("name", nets.ZOO)
def test_steps_equal_the_whole(name):
    """Stepping through windows gives what the plain Keras network gives for the whole; without carry it does not."""
    model, step, x = nets.shared(name), nets.stepper(name), inputs(name)
    start = model.initial_state(BATCH)
    whole, final = step(x, start)
    if name != "stateful":  # the plain network would move states of its own
        assert difference(whole, model.net(x)) < TOLERANCE
    for length in (1, 7):
        outputs, state = in_windows(step, start, x, length)
        assert difference(outputs, whole) < TOLERANCE
        assert difference(state, final) < TOLERANCE
    dropped, _ = in_windows(step, start, x, 7, carry=False)
    assert difference(dropped, whole) > 1e-2


@pytest.mark.parametrize("name", nets.ZOO)
def test_predict_equals_the_whole(name):
    """`predict` on ragged sequences gives each its outputs and its final state, as one pass over it alone."""
    model, step, x = nets.shared(name), nets.stepper(name), inputs(name)
    lengths = [17, 3, 7]
    data = {f"k{i}": x[i, :n] for i, n in enumerate(lengths)}
    outputs, state = model.predict(rs.Windows(data, length=7, batch_size=2), return_state=True, verbose=0)
    assert list(outputs) == list(data)
    for row, n in enumerate(lengths):
        y, final = step(x[:, :n], model.initial_state(BATCH))
        assert difference(outputs[f"k{row}"], host(y)[row]) < TOLERANCE
        assert difference(state.rows([row]), final.numpy().rows([row])) < TOLERANCE


@pytest.mark.parametrize(("length", "batch_size"), [(1, 5), (3, 4), (5, 1), (23, 3), (29, 2)])
def test_any_window_and_batch(length, batch_size):
    """No window length and no batch size changes a result, up to windows longer than every sequence."""
    model = nets.shared("stack_of_cells")
    data = nets.series([23, 1, 7, 19, 11])
    outputs, state = model.predict(rs.Windows(data, length=length, batch_size=batch_size), return_state=True, verbose=0)
    whole, final = model.predict(rs.Windows(data, length=23, batch_size=5), return_state=True, verbose=0)
    assert max(difference(outputs[key], whole[key]) for key in data) < TOLERANCE
    assert difference(state, final) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "oracle", "leaves"),
    [
        ("simple_rnn", oracles.simple_rnn, ["h"]),
        ("gru", oracles.gru, ["h"]),
        ("gru_before", oracles.gru, ["h"]),
        ("lstm", oracles.lstm, ["h", "c"]),
    ],
)
def test_windows_equal_the_definition(name, oracle, leaves):
    """Carried windows give the outputs, h and c of the textbook equations written in NumPy."""
    model, layer = nets.shared(name), nets.shared(name).net.layers[0]
    kernel, bias = (host(weight).astype("float64") for weight in model.net.layers[1].weights)
    weights = [host(weight) for weight in layer.weights]
    data = nets.series([17, 11, 5])
    outputs, state = model.predict(rs.Windows(data, length=3, batch_size=2), return_state=True, verbose=0)
    for row, (key, x) in enumerate(data.items()):
        h, final = oracle(weights, x[None].astype("float64"), {leaf: np.zeros((1, 5)) for leaf in leaves})
        assert difference(outputs[key], (h @ kernel + bias)[0]) < TOLERANCE
        for leaf in leaves:
            assert difference(state.rows([row])[f"{layer.name}/{leaf}"], final[leaf]) < TOLERANCE


def test_oracle_starts_from_given_leaves():
    """h and c are not mixed up: from distinct given leaves, one window equals the textbook LSTM."""
    model = nets.shared("lstm")
    h, c, x = nets.values(3, 5, seed=1), nets.values(3, 5, seed=2), inputs("lstm", time=3)
    weights = [host(weight) for weight in model.net.layers[0].weights]
    _, state = model.step(x, {"lstm/h": h, "lstm/c": c})
    _, final = oracles.lstm(weights, x, {"h": h, "c": c})
    assert difference(state["lstm/h"], final["h"]) < TOLERANCE
    assert difference(state["lstm/c"], final["c"]) < TOLERANCE
    _, swapped = oracles.lstm(weights, x, {"h": c, "c": h})
    assert difference(final["c"], swapped["c"]) > 1e-2


@pytest.mark.parametrize("name", nets.ZOO)
def test_masked_steps_do_not_exist(name):
    """With padding on either side the state is that of the last valid step; a row without one keeps its state."""
    model, step, x = nets.shared(name), nets.stepper(name), inputs(name)
    valid = [17, 7, 0]
    start = step(inputs(name, seed=5)[:, :7], model.initial_state(BATCH))[1].numpy()
    for side in ("right", "left"):
        rows, mask = padded(x, valid, side)
        y, state = step(rows, start, mask)
        for i, n in enumerate(valid[:2]):
            expected, final = step(x[:, :n], start)
            assert difference(host(y)[i][mask[i]], host(expected)[i]) < TOLERANCE
            assert difference(state.numpy().rows([i]), final.numpy().rows([i])) < TOLERANCE
        assert state.numpy().rows([2]) == start.rows([2])


def test_masks_of_the_network_count():
    """A `Masking` layer of the network's own and the padding of windows are both honoured."""
    net = keras.Sequential(
        [
            nets.series_input(),
            layers.Masking(mask_value=0.5),
            layers.LSTM(5, return_sequences=True, name="lstm"),
            layers.RNN(nets.TwoSpeedCell(), return_sequences=True, name="rnn"),
        ]
    )
    model = rs.StatefulModel(nets.randomized(net))
    x = nets.values(13, nets.FEATURES)
    gaps = [2, 3, 8]
    holey = x.copy()
    holey[gaps] = 0.5
    kept = np.setdiff1d(np.arange(13), gaps)
    _, expected = model.step(x[None, kept], model.initial_state(1))
    for length in (13, 5):
        _, state = model.predict(rs.Windows(holey, length=length, batch_size=1), return_state=True, verbose=0)
        assert difference(state, expected.numpy()) < TOLERANCE


def test_state_of_any_rank_is_masked():
    """A cell with a matrix and a vector as leaves is masked row by row, also where a size equals the batch."""
    model = rs.StatefulModel(nets.randomized(nets.matrix_cell()))
    data = nets.series([17, 11, 5])
    windows = rs.Windows(data, length=7, batch_size=3)
    outputs, state = model.predict(windows, return_state=True, verbose=0)
    for row, (key, x) in enumerate(data.items()):
        y, final = model.step(x[None], model.initial_state(1))
        assert difference(outputs[key], host(y)[0]) < TOLERANCE
        assert difference(state.rows([row]), final.numpy()) < TOLERANCE


@pytest.mark.parametrize("build", [nets.last_step, nets.last_step_custom])
def test_one_output_per_window(build):
    """With `return_sequences=False` each window gives the whole's output at its last valid step."""
    model, per_step = nets.make(build), nets.randomized(build(return_sequences=True))
    x = inputs("lstm")
    whole = host(per_step(x))
    data = {row: x[row, :n] for row, n in enumerate([17, 11, 5])}
    outputs = model.predict(rs.Windows(data, length=7, batch_size=2), verbose=0)
    for row, ends in enumerate([[6, 13, 16], [6, 10], [4]]):
        assert difference(outputs[row], whole[row, ends]) < TOLERANCE


def test_only_the_forward_direction_is_carried():
    """A bidirectional layer carries its forward half; the backward half starts fresh in each window."""
    forward, backward = layers.LSTM(5, return_sequences=True), layers.GRU(3, return_sequences=True, go_backwards=True)
    wrapped = layers.Bidirectional(forward, backward_layer=backward, name="both")
    net = nets.randomized(keras.Sequential([nets.series_input(), wrapped]))
    model, x = rs.StatefulModel(net), inputs("lstm")
    assert list(model.state_spec) == ["both/forward/h", "both/forward/c"]
    outputs, _ = in_windows(model.step, model.initial_state(BATCH), x, 7)
    assert difference(outputs[..., :5], host(net(x))[..., :5]) < TOLERANCE
    fresh = np.concatenate([host(net(x[:, start : start + 7])) for start in (0, 7, 14)], axis=1)
    assert difference(outputs[..., 5:], fresh[..., 5:]) < TOLERANCE
    assert difference(outputs[..., :5], fresh[..., :5]) > 1e-2


@pytest.mark.parametrize("mode", ["sum", "mul", "ave", "concat"])
def test_directions_are_merged_as_in_keras(mode):
    """Both directions of one window are merged as the plain layer does."""
    wrapped = layers.Bidirectional(layers.GRU(3, return_sequences=mode != "ave"), merge_mode=mode)
    net = nets.randomized(keras.Sequential([nets.series_input(), wrapped]))
    model, x = rs.StatefulModel(net), inputs("gru", time=5)
    assert difference(model.step(x, model.initial_state(BATCH))[0], net(x)) < TOLERANCE


def test_several_inputs_and_outputs():
    """Named inputs, one of them static, and named outputs keep their names and carry."""
    model = nets.make(nets.several_inputs)
    data = {
        key: {"series": x, "place": nets.values(3, seed=50 + i), "kind": np.arange(len(x)) % 5}
        for i, (key, x) in enumerate(nets.series([17, 11, 5]).items())
    }
    outputs, state = model.predict(
        rs.Windows(data, length=7, batch_size=2, static="place"), return_state=True, verbose=0
    )
    for row, (key, parts) in enumerate(data.items()):
        y, final = model.step({name: part[None] for name, part in parts.items()}, model.initial_state(1))
        whole = model.net({name: part[None] for name, part in parts.items()})
        assert set(outputs[key]) == {"mean", "spread"}
        for name in whole:
            assert difference(outputs[key][name], host(whole[name])[0]) < TOLERANCE
            assert difference(y[name], whole[name]) < TOLERANCE
        assert difference(state.rows([row]), final.numpy()) < TOLERANCE


def test_pieces_start_from_the_initial_state():
    """Pieces of one sequence are sequences of their own."""
    model, x = nets.shared("lstm"), nets.values(19, nets.FEATURES)
    outputs = model.predict(rs.Windows(x, length=3, batch_size=4, pieces=4), verbose=0)
    assert list(outputs) == [(0, piece) for piece in range(4)]
    bounds = np.cumsum([0, *(len(y) for y in outputs.values())])
    for (_, piece), y in outputs.items():
        alone = x[bounds[piece] : bounds[piece + 1]]
        assert difference(y, host(model.net(alone[None]))[0]) < TOLERANCE


def test_given_initial_states_are_where_predict_starts():
    """`predict` in two parts, the second from the first's states, equals one pass over the whole."""
    model = nets.shared("stack_of_cells")
    data = nets.series([17, 11, 5])
    cut = {key: len(x) // 2 for key, x in data.items()}
    head = rs.Windows({key: x[: cut[key]] for key, x in data.items()}, length=3, batch_size=2)
    tail = rs.Windows({key: x[cut[key] :] for key, x in data.items()}, length=3, batch_size=2)
    first, state = model.predict(head, return_state=True, verbose=0)
    second, final = model.predict(tail, initial_state=state, return_state=True, verbose=0)
    whole, expected = model.predict(rs.Windows(data, length=3, batch_size=2), return_state=True, verbose=0)
    for key in data:
        assert difference(np.concatenate([first[key], second[key]]), whole[key]) < TOLERANCE
    assert difference(final, expected) < TOLERANCE
    fresh = model.predict(tail, verbose=0)
    assert difference(second["k0"], fresh["k0"]) > 1e-2


def test_one_length_after_another():
    """A model that has run windows of one length runs those of another: no axis loses its size on the way."""
    model, data = nets.make(nets.custom_cell), nets.series([7, 5])
    y = {key: nets.values(len(x), 2) for key, x in data.items()}
    model.compile(keras.optimizers.SGD(0.0), "mse")
    outputs = []
    for length in (3, 5):
        windows = rs.Windows(data, y, length=length, batch_size=2)
        model.fit(windows, verbose=0)
        outputs.append(model.predict(windows, verbose=0))
    assert difference(*outputs) < TOLERANCE
