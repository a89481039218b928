"""Gaps in time: what is left of a carried state after missing steps."""

import keras
import numpy as np
import pytest

import by_hand
import nets
import policies
import rnnstate as rs
from nets import difference
from policies import TOLERANCE

GAPS = np.array([0, 0, 0, 6, 0, 0, 0])


@pytest.mark.parametrize(
    ("gap", "counts", "totals"),
    [
        ("keep", [101, 102, 103, 104, 105, 106, 107], [1, 2, 3, 4, 5, 6, 7]),
        ("reset", [101, 102, 103, 101, 102, 103, 104], [1, 2, 3, 1, 2, 3, 4]),
        (3, [101, 102, 103, 101.75, 102.75, 103.75, 104.75], [1, 2, 3, 1.75, 2.75, 3.75, 4.75]),
    ],
)
def test_counting_over_a_gap(gap, counts, totals):
    """Six missing steps keep, reset, or at a half-life of three quarter what was added to the initial state."""
    model = policies.counting(start=100)
    windows = rs.Windows(np.ones((7, 1)), gaps=GAPS, gap=gap, length=2, batch_size=1)
    outputs, state = model.predict(windows, return_state=True, verbose=0)
    np.testing.assert_allclose(outputs[0][:, 0], counts)
    np.testing.assert_allclose(outputs[0][:, 1], totals)
    assert state["rnn/count"][0, 0] == counts[-1]


@pytest.mark.parametrize("start", ["zeros", "learned"])
def test_decay_equals_a_loop(start):
    """In `fit`, a state decays toward the initial state of today's weights by the power of its half-life."""
    model, other = (
        rs.StatefulModel(nets.randomized(nets.gru()), "zeros" if start == "zeros" else rs.initial.Learned())
        for _ in range(2)
    )
    x, y = policies.data_of(model, (7,))
    windows = rs.Windows(x, y, gaps={"k0": GAPS}, gap=4.0, length=3, batch_size=1)
    policies.trained(model, windows, epochs=2, rate=0.3)
    optimizer, keep = keras.optimizers.SGD(0.3), 0.5 ** (6 / 4)
    for _ in range(2):
        state = None
        for begin, end in ((0, 3), (3, 6), (6, 7)):
            state = window(
                other, optimizer, state, keep if begin == 3 else 1.0, x["k0"][None, begin:end], y["k0"][None, begin:end]
            )
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE
    assert difference(model.states.read("k0"), state) < TOLERANCE


def window(model, optimizer, state, keep, x, y):
    """Train on one window whose state has decayed; return where it ends."""

    def forward(x, y, state):
        start = model.initial_state(1)
        if state is not None:
            start = rs.State({name: leaf + keep * (state[name] - leaf) for name, leaf in start.items()})
        y_pred, final = model.step(x, start, training=True)
        return by_hand.mse(y, y_pred), final

    state = None if state is None else state.map(keras.ops.convert_to_tensor)
    (_, final), gradients = by_hand.gradients_of(forward, model.trainable_variables)(x, y, state)
    by_hand.apply(optimizer, gradients, model.trainable_variables)
    return final.detach().numpy()


def test_times_and_gaps_agree():
    """Times with a jump of seven hours are six missing steps of an hour, with burn-in before windows too."""
    model = nets.make(nets.gru)
    x, y = policies.data_of(model, (7,))
    times = {"k0": np.datetime64("2024-01-01T00") + np.cumsum(GAPS + 1).astype("timedelta64[h]")}
    ways = ({"times": times}, {"gaps": {"k0": GAPS}}, {"gaps": {"k0": GAPS}, "burn_in": 2})
    states = []
    for way in ways:
        windows = rs.Windows(x, y, gap=2.0, length=2, batch_size=1, **way)
        policies.trained(model, windows, rate=0.0)
        states.append(model.states.read("k0"))
    assert difference(states[0], states[1]) < TOLERANCE
    assert difference(states[0], states[2]) < TOLERANCE
    policies.trained(model, rs.Windows(x, y, length=2, batch_size=1), rate=0.0)
    assert difference(states[0], model.states.read("k0")) > 1e-2


def learning():
    """Return a model with a learned initial state."""
    return rs.StatefulModel(nets.randomized(nets.gru()), initial_state=rs.initial.Learned())


@pytest.mark.parametrize("way", [{}, {"back": 5}, {"back": 6}, {"burn_in": 2}], ids=str)
def test_what_follows_a_gap_that_resets_trains_as_a_sequence_of_its_own(way):
    """A series with a gap gives the weights, learned initial state included, of its two parts as two sequences."""
    model, other = learning(), learning()
    x, y = policies.data_of(model, (13,))
    gaps = {"k0": np.arange(13) == 6}
    cut = {"length": 3, "batch_size": 1, **way}
    policies.trained(model, rs.Windows(x, y, gaps={"k0": gaps["k0"].astype(int)}, gap="reset", **cut), rate=0.5)
    parts = [
        {name: data["k0"][part] for name, part in zip("ab", (slice(6), slice(6, 13)), strict=True)} for data in (x, y)
    ]
    policies.trained(other, rs.Windows(*parts, **cut), rate=0.5)
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE
    assert difference(model.states.read("k0"), other.states.read("b")) < TOLERANCE


def accumulated(back):
    """Return the weights after one step with the mean gradient of the four windows before and after a gap."""
    model = learning()
    x, y = policies.data_of(model, (12,))
    model.compile(keras.optimizers.SGD(0.5, gradient_accumulation_steps=4), "mse")
    gaps = {"k0": (np.arange(12) == 6).astype(int)}
    model.fit(rs.Windows(x, y, gaps=gaps, length=3, batch_size=1, back=back), verbose=0)
    return policies.weights_of(model)


def test_gradient_reaches_the_initial_state_that_a_gap_resets_to():
    """Where `back` covers all steps since the gap, it is that of full BPTT before the gap and after."""
    other = learning()
    x, y = (policies.stacked(data).reshape(2, 6, 2) for data in policies.data_of(other, (12,)))

    def forward(x, y):
        return by_hand.mse(y, other.step(x, other.initial_state(2), training=True)[0]), keras.ops.zeros(())

    variables = other.trainable_variables
    _, gradients = by_hand.gradients_of(forward, variables)(x, y)
    by_hand.apply(keras.optimizers.SGD(0.5), gradients, variables)
    expected = policies.weights_of(other)
    assert difference(accumulated(6), expected) < TOLERANCE
    assert difference(accumulated(3), expected) > 1e-5
