"""`trace`: the state after every step. `rollout`: the output fed back. Both equal single steps."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import by_hand
import nets
import rnnstate as rs
from nets import difference, host
from policies import TOLERANCE

BATCH, TIME = 3, 5


def single_steps(model, x, state, mask=None):
    """Return outputs and states after each step, `(batch, time, ...)`, by one call per step."""
    outputs, states = [], []
    for t in range(TIME):
        y, state = model.step(x[:, t : t + 1], state, None if mask is None else mask[:, t : t + 1])
        outputs.append(host(y))
        states.append({name: host(leaf) for name, leaf in state.items()})
    return np.concatenate(outputs, axis=1), {name: np.stack([s[name] for s in states], axis=1) for name in state}


@pytest.mark.parametrize("name", ["two_branches", "stack_of_cells", "custom_cell", "conv_lstm", "nested_model"])
def test_trace_equals_single_steps(name):
    """Outputs, and every leaf of every layer after every step, are those of stepping one by one."""
    model = nets.shared(name)
    x = nets.values(BATCH, TIME, *((5, 2) if name == "conv_lstm" else (2,)), seed=3)
    start = {n: nets.values(BATCH, *leaf.shape, seed=20 + i) for i, (n, leaf) in enumerate(model.state_spec.items())}
    y, final, trace = model.trace(x, start)
    outputs, states = single_steps(model, x, start)
    assert difference(y, outputs) < TOLERANCE
    assert difference(trace.numpy(), states) < TOLERANCE
    assert {n: tuple(leaf.shape) for n, leaf in trace.items()} == {
        n: (BATCH, TIME, *leaf.shape) for n, leaf in model.state_spec.items()
    }
    assert difference(final, trace.map(lambda leaf: leaf[:, -1])) == 0


def test_trace_honours_masks():
    """At a masked step every leaf stays what it was."""
    model = nets.shared("lstm")
    x, mask = nets.values(BATCH, TIME, 2, seed=3), np.random.default_rng(1).random((BATCH, TIME)) < 0.5
    _, _, trace = model.trace(x, model.initial_state(BATCH), mask=mask)
    _, states = single_steps(model, x, model.initial_state(BATCH), mask)
    assert difference(trace.numpy(), states) < TOLERANCE
    row, step = np.argwhere(~mask[:, 1:])[0]
    for leaf in trace.numpy().values():
        np.testing.assert_array_equal(leaf[row, step + 1], leaf[row, step])


def test_trace_of_several_inputs():
    """Series, categories and static inputs are traced into named outputs."""
    model = nets.make(nets.several_inputs)
    x = {
        "series": nets.values(2, TIME, 2),
        "kind": np.arange(2 * TIME, dtype="int32").reshape(2, TIME) % 5,
        "place": nets.values(2, 3, seed=1),
    }
    y, final, trace = model.trace(x, model.initial_state(2))
    expected, state = model.step(x, model.initial_state(2))
    assert set(y) == {"mean", "spread"}
    assert max(difference(y[name], expected[name]) for name in y) < TOLERANCE
    assert difference(final, state) < TOLERANCE
    assert tuple(trace["lstm/c"].shape) == (2, TIME, 5)


def test_trace_of_an_output_per_window():
    """A network with one output per window gives one per step."""
    model, steps = nets.make(nets.last_step), nets.make(lambda: nets.last_step(return_sequences=True))
    x = nets.values(BATCH, TIME, 2, seed=3)
    y, _, _ = model.trace(x, model.initial_state(BATCH))
    assert difference(y, steps.step(x, steps.initial_state(BATCH))[0]) < TOLERANCE


@pytest.mark.parametrize(
    "layer",
    [
        layers.GRU(3, go_backwards=True, return_sequences=True, name="back"),
        layers.Bidirectional(layers.GRU(3, return_sequences=True), name="back"),
    ],
    ids=["go_backwards", "Bidirectional"],
)
def test_trace_refuses_backward_layers(layer):
    """A backward layer has no state after a step; the error names it."""
    forward = layers.GRU(3, return_sequences=True)
    model = rs.StatefulModel(keras.Sequential([nets.series_input(), forward, layer]))
    with pytest.raises(rs.UnsupportedModelError, match=r"Received: `back`, which runs backward. Use `step`"):
        model.trace(nets.values(2, 3, 2), model.initial_state(2))


def test_trace_refuses_a_wrong_state():
    """The given state is checked as in `step`."""
    model = nets.shared("lstm")
    with pytest.raises(rs.StateShapeError, match=r"`lstm/h` must have shape \(batch=3, units=5\)"):
        model.trace(nets.values(3, 4, 2), model.initial_state(2))


def free(known=0):
    """Return a model with two outputs, which take two outputs and some known values in."""
    net = keras.Sequential(
        [
            keras.Input((None, 2 + known)),
            layers.LSTM(5, return_sequences=True, name="lstm"),
            layers.GRU(3, return_sequences=True, name="gru"),
            layers.Dense(2),
        ]
    )
    return rs.StatefulModel(nets.randomized(net))


def by_steps(model, x0, state, steps, known=None, truth=None):
    """Feed back by hand."""
    outputs, feed = [], x0
    for t in range(steps):
        x = feed if known is None else np.concatenate([feed, known[:, t]], axis=-1)
        y, state = model.step(x[:, None], state)
        outputs.append(host(y)[:, 0])
        feed = outputs[-1] if truth is None else truth[:, t]
    return np.stack(outputs, axis=1), state


def state_of(model):
    """Return a random state."""
    return {n: nets.values(BATCH, *leaf.shape, seed=20 + i) for i, (n, leaf) in enumerate(model.state_spec.items())}


def test_rollout_equals_a_loop():
    """Running free equals feeding back by hand, in outputs and state, from a row `(batch, features)` or one step."""
    model, x0 = free(), nets.values(BATCH, 2, seed=4)
    y, state = model.rollout(x0, state_of(model), steps=6)
    outputs, final = by_steps(model, x0, state_of(model), 6)
    assert difference(y, outputs) < TOLERANCE
    assert difference(state, final) < TOLERANCE
    assert difference(model.rollout(x0[:, None], state_of(model), steps=6)[0], y) == 0


def test_rollout_with_known_inputs():
    """Known inputs of every step stand behind what is fed back."""
    model, x0, known = free(3), nets.values(BATCH, 2, seed=4), nets.values(BATCH, 6, 3, seed=5)
    y, state = model.rollout(x0, state_of(model), steps=6, inputs=known)
    outputs, final = by_steps(model, x0, state_of(model), 6, known)
    assert difference(y, outputs) < TOLERANCE
    assert difference(state, final) < TOLERANCE


def test_teacher_forcing():
    """With ratio 1 a rollout is `step` on the truth; with 0 it is free; between, each row draws by itself, seeded."""
    model, x0, truth = free(), nets.values(BATCH, 2, seed=4), nets.values(BATCH, 6, 2, seed=6)
    start = state_of(model)
    forced, state = model.rollout(x0, start, steps=6, targets=truth, teacher=1.0)
    expected, final = model.step(np.concatenate([x0[:, None], truth[:, :-1]], axis=1), start)
    assert difference(forced, expected) < TOLERANCE
    assert difference(state, final) < TOLERANCE
    free_run, _ = model.rollout(x0, start, steps=6, targets=truth, teacher=0.0)
    assert difference(free_run, model.rollout(x0, start, steps=6)[0]) == 0
    mixed = [host(model.rollout(x0, start, steps=6, targets=truth, teacher=0.5, seed=seed)[0]) for seed in (1, 1, 2)]
    assert difference(mixed[0], mixed[1]) == 0
    assert difference(mixed[0], mixed[2]) > 1e-3
    assert min(difference(mixed[0], other) for other in (forced, free_run)) > 1e-3


def test_gradients_flow_through_a_rollout():
    """Training through the free run moves the first input's gradient and all weights."""
    model, x0 = free(), nets.values(BATCH, 2, seed=4)
    start = state_of(model)

    def forward(x0):
        y, state = model.rollout(x0, start, steps=4)
        return ops.mean(ops.square(y)) + ops.mean(ops.square(state["lstm/c"])), ops.zeros(())

    _, gradients = by_hand.gradients_of(forward, model.trainable_variables)(x0)
    assert min(np.abs(host(gradient)).max() for gradient in gradients) > 1e-5


@pytest.mark.parametrize(
    ("x0", "options", "text"),
    [
        ((3, 4), {}, r"feeds 2 outputs back into 5 features.*x0 with 4 features"),
        ((3, 2), {}, r"`inputs` \(batch, steps, 3\). Received: x0 with 2 features, inputs of shape \(3, 6, 0\)"),
        ((3, 2), {"inputs": np.zeros((3, 4, 3))}, r"inputs of shape \(3, 4, 3\)"),
        ((3, 2), {"inputs": np.zeros((3, 6, 3)), "teacher": 0.5}, "`teacher` needs the true outputs"),
    ],
)
def test_rollouts_that_do_not_fit_are_refused(x0, options, text):
    """What is fed back must be as many values as come out, for every step; the error says both."""
    model = free(3)
    with pytest.raises(rs.DataError, match=text):
        model.rollout(np.zeros(x0, "float32"), model.initial_state(3), steps=6, **options)


def test_rollout_takes_one_step():
    """More than one first step is no first input."""
    model = free()
    with pytest.raises(
        rs.StateShapeError, match=r"`x0` must have shape \(batch, features\). Received: shape=\(3, 4, 2\)"
    ):
        model.rollout(np.zeros((3, 4, 2)), model.initial_state(3), steps=2)
