"""Law: reset first. A reset acts before the step, on every leaf of the row, to the initial state, and on no other row."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import oracles
import policies
import rnnstate as rs
from nets import difference, host
from policies import TOLERANCE

BATCH, TIME = 5, 5  # as many rows, steps and units: a flag that is broadcast the wrong way does not crash
RESETS = np.zeros((BATCH, TIME), dtype=bool)
RESETS[[0, 1, 1, 2, 4, 4], [0, 2, 4, 1, 3, 4]] = True


class RunningTotal(keras.Layer):
    """Not recurrent in Keras' sense: adds up its input along time."""

    def call(self, x):
        return ops.cumsum(x, axis=1)


class RunningTotalPort(rs.Port):
    """Remembers the sum so far, which starts at 0.5."""

    def spec(self, layer):
        return {"total": rs.LeafSpec((2,))}

    def initial(self, batch_size):
        return {"total": ops.full((batch_size, 2), 0.5)}

    def call(self, x, state, mask=None, training=False):
        x = x if mask is None else ops.where(mask[..., None], x, 0.0)
        y = self.layer(x) + state["total"][:, None]
        return y, {"total": y[:, -1]}


rs.register_port(RunningTotal, RunningTotalPort)


def custom_port():
    """Return a network with a layer of one's own, which knows nothing of resets."""
    return keras.Sequential([nets.series_input(), RunningTotal(name="total"), layers.Dense(2)])


NETS = {
    name: nets.ZOO[name]
    for name in ("simple_rnn", "lstm", "stack_of_cells", "custom_cell", "conv_lstm", "two_branches")
}
NETS |= {"custom_port": custom_port, "last_step": nets.last_step, "matrix_cell": nets.matrix_cell}


def start_for(model, batch=BATCH):
    """Return a random state."""
    return {
        name: nets.values(batch, *leaf.shape, seed=20 + i) for i, (name, leaf) in enumerate(model.state_spec.items())
    }


def step_by_step(model, x, state, resets, mask=None):
    """Return outputs and state by one call per step, with rows put back in NumPy before each."""
    initial = model.initial_state(len(x)).numpy()
    outputs = []
    for t in range(x.shape[1]):
        leaves = {name: host(leaf).copy() for name, leaf in state.items()}
        for name, leaf in leaves.items():
            leaf[resets[:, t]] = initial[name][resets[:, t]]
        y, state = model.step(x[:, t : t + 1], leaves, None if mask is None else mask[:, t : t + 1])
        outputs.append(host(y))
    return outputs, state


@pytest.mark.parametrize("name", NETS)
def test_resets_inside_a_window_equal_steps(name):
    """Resets anywhere in a window give what single steps give with rows put back between them, in every leaf."""
    model = rs.StatefulModel(nets.randomized(NETS[name]()))
    features = (5, 2) if name == "conv_lstm" else (2,)
    x, start = nets.values(BATCH, TIME, *features, seed=3), start_for(model)
    y, state = model.step(x, start, reset=RESETS)
    outputs, expected = step_by_step(model, x, start, RESETS)
    whole = outputs[-1] if len(y.shape) == 2 else np.concatenate(outputs, axis=1)
    assert difference(y, whole) < TOLERANCE
    assert difference(state, expected) < TOLERANCE
    _, without = model.step(x, start)
    assert difference(without, expected) > 1e-2
    assert difference(without.rows([3]), expected.rows([3])) < TOLERANCE  # a row that no flag touches


@pytest.mark.parametrize("name", ["lstm", "custom_cell", "custom_port"])
def test_resets_and_masks(name):
    """A reset acts at masked steps too, and a mask between resets holds the state."""
    model = rs.StatefulModel(nets.randomized(NETS[name]()))
    x, start = nets.values(BATCH, TIME, 2, seed=3), start_for(model)
    mask = np.random.default_rng(5).random((BATCH, TIME)) < 0.6
    y, state = model.step(x, start, mask=mask, reset=RESETS)
    outputs, expected = step_by_step(model, x, start, RESETS, mask)
    assert difference(state, expected) < TOLERANCE
    assert difference(host(y)[mask], np.concatenate(outputs, axis=1)[mask]) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "oracle"), [("simple_rnn", oracles.simple_rnn), ("gru", oracles.gru), ("lstm", oracles.lstm)]
)
def test_resets_split_the_sequence(name, oracle):
    """A window with resets is several sequences end to end, each computed alone by the textbook equations."""
    model = nets.make(nets.ZOO[name])
    layer, (kernel, bias) = model.net.layers[0], (host(weight) for weight in model.net.layers[1].weights)
    weights = [host(weight) for weight in layer.weights]
    x, start = nets.values(BATCH, TIME, 2, seed=3), start_for(model)
    y, state = model.step(x, start, reset=RESETS)
    for row in range(BATCH):
        leaves = {leaf.split("/")[1]: value[row : row + 1] for leaf, value in start.items()}
        cuts = [0, *(t for t in np.flatnonzero(RESETS[row]) if t > 0), TIME]
        for begin, end in pairwise(cuts):
            if begin or RESETS[row, 0]:
                leaves = {leaf: np.zeros((1, 5)) for leaf in leaves}
            h, leaves = oracle(weights, x[row : row + 1, begin:end], leaves)
            assert difference(host(y)[row, begin:end], (h @ kernel + bias)[0]) < TOLERANCE
        for leaf, value in leaves.items():
            assert difference(host(state[f"{layer.name}/{leaf}"])[row : row + 1], value) < TOLERANCE


def test_bidirectional_resets_split_both_directions():
    """In a bidirectional layer nothing crosses a reset, neither forward nor backward."""
    layer = layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="both")
    model = rs.StatefulModel(nets.randomized(nets.one(layer)))
    x, resets = nets.values(2, 6, 2, seed=3), np.zeros((2, 6), dtype=bool)
    resets[0, 2] = resets[0, 5] = resets[1, 3] = True
    y, _ = model.step(x, model.initial_state(2), reset=resets)
    for row, cuts in ((0, [0, 2, 5, 6]), (1, [0, 3, 6])):
        for begin, end in pairwise(cuts):
            assert difference(host(y)[row, begin:end], host(model.net(x[row : row + 1, begin:end]))[0]) < TOLERANCE


def test_resets_split_a_layer_that_runs_backward():
    """A backward layer by itself is split by resets too, although nothing of it is carried."""
    back = layers.GRU(5, return_sequences=True, go_backwards=True, name="back")
    flip = layers.Lambda(lambda y: keras.ops.flip(y, axis=1))
    model = nets.make(
        lambda: keras.Sequential([nets.series_input(), layers.SimpleRNN(3, return_sequences=True), back, flip]),
        time_mixing="allow",  # for the flip
    )
    forward = model.net.layers[0]
    x, resets = nets.values(2, 6, 2, seed=3), np.zeros((2, 6), dtype=bool)
    resets[0, 2] = resets[0, 5] = resets[1, 3] = True
    y, state = model.step(x, model.initial_state(2), reset=resets)
    assert list(state) == [f"{forward.name}/h"]
    for row, cuts in ((0, [0, 2, 5, 6]), (1, [0, 3, 6])):
        for begin, end in pairwise(cuts):
            assert difference(host(y)[row, begin:end], host(model.net(x[row : row + 1, begin:end]))[0]) < TOLERANCE
    assert difference(y, model.net(x)) > 0.01


def test_counts_by_hand():
    """The counting cell starts again at its own initial count, before the step that is flagged."""
    model = policies.counting(start=100)
    x = np.arange(1, 11, dtype="float32").reshape(2, 5, 1)
    y, state = model.step(x, model.initial_state(2), reset=np.array([[0, 0, 1, 0, 0], [0, 1, 0, 0, 1]]) > 0)
    assert host(y)[..., 0].tolist() == [[101, 102, 101, 102, 103], [101, 101, 102, 103, 101]]
    assert host(y)[..., 1].tolist() == [[1, 3, 3, 7, 12], [6, 7, 15, 24, 10]]
    assert host(state["rnn/count"]).tolist() == [[103], [101]]


def test_the_mask_is_not_one_step_late():
    """KerasGRU4Rec's bug: a flag that acts after its step lets one step of an episode see the episode before it."""
    model = policies.counting()
    y, _ = model.step(np.ones((1, 5, 1)), model.initial_state(1), reset=np.array([[0, 0, 1, 0, 0]]) > 0)
    late = [1, 2, 3, 1, 2]
    assert host(y)[0, :, 0].tolist() == [1, 2, 1, 2, 3] != late


def test_a_reset_reaches_every_use_of_h():
    """hgru4rec's bug: a reset h in the candidate and the old h in the update gate. Every gate must see the reset h."""
    model = nets.make(nets.gru_before)
    W, U, b = (host(weight).astype("float64") for weight in model.net.layers[0].weights)
    x, h = nets.values(3, 1, 2, seed=3), nets.values(3, 5, seed=4)
    _, state = model.step(x, {"gru/h": h}, reset=np.ones((3, 1), dtype=bool))
    _, right = oracles.gru((W, U, b), x, {"h": np.zeros((3, 5))})
    z = oracles.sigmoid(x[:, 0] @ W + h @ U + b)[:, :5]
    half = z * h + (1 - z) * np.tanh(x[:, 0] @ W[:, 10:] + b[10:])
    assert difference(state["gru/h"], right["h"]) < TOLERANCE
    assert difference(half, right["h"]) > 1e-2


@pytest.mark.parametrize("where", ["before the window", "inside it"])
def test_flags_are_not_broadcast_from_the_right(where):
    """Haiku's warning: flags (batch,) against leaves (batch, units), batch == units, would reset columns for rows."""
    model = nets.make(nets.matrix_cell)
    start = {name: nets.values(3, *leaf.shape, seed=8) for name, leaf in model.state_spec.items()}
    assert {leaf.shape for leaf in start.values()} == {(3, 3, 3), (3, 3)}
    flags = np.array([True, False, False])
    reset = flags if where == "before the window" else np.stack([flags, flags * False], axis=1)
    x = nets.values(3, 2, 2, seed=9)
    _, state = model.step(x, start, reset=reset)
    _, kept = model.step(x, start)
    _, fresh = model.step(x, model.initial_state(3))
    assert difference(state.rows([0]), fresh.rows([0])) < TOLERANCE
    assert difference(state.rows([1, 2]), kept.rows([1, 2])) < TOLERANCE
    assert difference(fresh, kept) > 1e-2


@pytest.mark.parametrize("start", ["zeros", "learned"])
def test_resets_in_fit_equal_separate_sequences(start):
    """Training on one sequence with a reset is training on two sequences; without the reset it is not."""
    models = [
        rs.StatefulModel(nets.randomized(nets.two_layers()), "zeros" if start == "zeros" else rs.initial.Learned())
        for _ in range(3)
    ]
    x, y = policies.data_of(models[0], (9,))
    x, y = x["k0"], y["k0"]
    cut = {"length": 3, "batch_size": 1}
    halves = [{"a": part[:6], "b": part[6:]} for part in (x, y)]
    for model, windows in zip(
        models,
        (rs.Windows(x, y, resets=np.arange(9) == 6, **cut), rs.Windows(*halves, **cut), rs.Windows(x, y, **cut)),
        strict=True,
    ):
        policies.trained(model, windows)
    joined, split, plain = (policies.weights_of(model) for model in models)
    assert difference(joined, split) < TOLERANCE
    assert difference(plain, split) > 1e-4
    assert difference(models[0].states.read(0), models[1].states.read("b")) < TOLERANCE


def test_resets_inside_windows_of_a_dataset():
    """`predict` on ragged windows with resets anywhere counts each episode from its own start."""
    model = policies.counting(start=10)
    flags = {"a": np.isin(np.arange(7), (0, 2, 5)), "b": np.isin(np.arange(4), 3)}
    x = {key: np.ones((len(row), 1), "float32") for key, row in flags.items()}
    outputs = model.predict(rs.Windows(x, resets=flags, length=3, batch_size=2), verbose=0)
    assert outputs["a"][:, 0].tolist() == [11, 12, 11, 12, 13, 11, 12]
    assert outputs["b"][:, 0].tolist() == [11, 12, 13, 11]


def test_no_gradient_crosses_a_reset():
    """What lies before a reset has no part in the gradient: it equals that of the steps after it alone."""
    model, other = nets.make(nets.gru), nets.make(nets.gru)
    x, y = policies.data_of(model, (6, 6))
    weight = {key: np.arange(6) >= 3 for key in x}
    flags = {key: np.arange(6) == 3 for key in x}
    policies.trained(model, rs.Windows(x, y, sample_weight=weight, resets=flags, length=6, batch_size=2))
    after = [{key: part[3:] for key, part in data.items()} for data in (x, y)]
    policies.trained(other, rs.Windows(*after, length=3, batch_size=2), rate=0.05)  # Keras divides by all six steps
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE


@pytest.mark.parametrize("shape", [(3,), (5, 3), (1, 7), (5, 7, 1)])
def test_wrong_flags_are_refused(shape):
    """`reset` is (batch,) or (batch, time); nothing is broadcast."""
    model = nets.shared("gru")
    with pytest.raises(rs.StateShapeError, match=r"`reset` must be boolean with shape \(5,.*\). Received: shape="):
        model.step(nets.values(5, 7, 2), model.initial_state(5), reset=np.ones(shape, dtype=bool))
