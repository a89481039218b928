"""TBPTT(k1, k2): move on by `length` steps, propagate back through `back`; and gradient into the initial state."""

import keras
import numpy as np
import pytest
from keras import ops

import by_hand
import nets
import policies
import rnnstate as rs
from nets import difference
from policies import TOLERANCE


def small(initial="zeros"):
    """Return a model with random weights."""
    return rs.StatefulModel(nets.randomized(nets.gru()), initial_state=initial)


@pytest.mark.parametrize("back", [5, 6, 8])
def test_back_equals_truncation_by_hand(back):
    """Windows of 3 with `back` 5, 6 and 8 give the weights, losses and states of hand-made TBPTT."""
    model, other = nets.make(nets.two_layers), nets.make(nets.two_layers)
    x, y = policies.data_of(model)
    windows = rs.Windows(x, y, length=3, batch_size=2, back=back)
    _, history = policies.trained(model, windows)
    loop = policies.Lead(other, back - 3, through=True)
    final = loop.epoch(policies.stacked(x), policies.stacked(y), 3)
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE
    assert difference(model.states.read(windows.keys), final) < TOLERANCE
    assert history["loss"][0] == pytest.approx(np.mean(loop.losses), abs=TOLERANCE)


def test_back_changes_the_gradient():
    """Negative control: without the steps before a window the gradient, and so the weights, are others."""
    model, other = small(), small()
    x, y = policies.data_of(model)
    policies.trained(model, rs.Windows(x, y, length=3, batch_size=2, back=5))
    policies.trained(other, rs.Windows(x, y, length=3, batch_size=2))
    assert difference(policies.weights_of(model), policies.weights_of(other)) > 1e-4


def accumulated(back, initial):
    """Return the weights after one step with the mean gradient of all windows of an epoch."""
    model = small(initial)
    x, y = policies.data_of(model)
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=3), "mse")
    model.fit(rs.Windows(x, y, length=3, batch_size=2, back=back), verbose=0)
    return policies.weights_of(model)


def test_back_over_the_whole_sequence_is_full_bptt():
    """Where `back` covers the sequence, the gradient is that of full BPTT, of a learned initial state too."""
    other = small(rs.initial.Learned())
    x, y = policies.data_of(other)

    def forward(x, y):
        return by_hand.mse(y, other.step(x, other.initial_state(2), training=True)[0]), ops.zeros(())

    variables = other.trainable_variables
    _, gradients = by_hand.gradients_of(forward, variables)(policies.stacked(x), policies.stacked(y))
    by_hand.apply(keras.optimizers.SGD(0.1), gradients, variables)
    expected = policies.weights_of(other)
    assert difference(accumulated(9, rs.initial.Learned()), expected) < TOLERANCE
    assert difference(accumulated(6, rs.initial.Learned()), expected) > 1e-5


def test_gradient_with_respect_to_the_initial_state():
    """The gradient of a loss with respect to given h and c is that of finite differences; `detach` makes it zero."""
    model = nets.make(nets.lstm)
    h, c = keras.Variable(nets.values(3, 5, seed=1)), keras.Variable(nets.values(3, 5, seed=2))
    x, y = nets.values(3, 7, 2, seed=3), nets.values(3, 7, 2, seed=4)

    def loss_from(state):
        return by_hand.mse(y, model.step(x, state, training=True)[0])

    def forward():
        state = rs.State({"lstm/h": h.value, "lstm/c": c.value})
        return loss_from(state), ops.zeros(())

    def detached():
        state = rs.State({"lstm/h": h.value, "lstm/c": c.value})
        return loss_from(state.detach()) + 0.0 * ops.sum(h.value + c.value), ops.zeros(())

    _, gradients = by_hand.gradients_of(forward, [h, c])()
    for leaf, gradient in zip((0, 1), gradients, strict=True):
        for place in ((0, 0), (2, 3)):
            losses = []
            for sign in (1, -1):
                values = [nets.host(h).copy(), nets.host(c).copy()]
                values[leaf][place] += sign * 1e-2
                losses.append(float(nets.host(loss_from(dict(zip(("lstm/h", "lstm/c"), values, strict=True))))))
            assert nets.host(gradient)[place] == pytest.approx((losses[0] - losses[1]) / 2e-2, abs=2e-4)
    assert max(np.abs(nets.host(g)).max() for g in gradients) > 1e-2
    _, none = by_hand.gradients_of(detached, [h, c])()
    assert max(np.abs(nets.host(g)).max() for g in none) == 0


def test_back_must_cover_the_window():
    """Fewer steps back than a window has are refused, and burn-in beside it too."""
    x = nets.values(20, 2)
    with pytest.raises(rs.DataError, match=r"`back` must be at least `length`, 5. Received: back=3"):
        rs.Windows(x, length=5, batch_size=1, back=3)
    with pytest.raises(rs.DataError, match="`burn_in` and `back` exclude each other"):
        rs.Windows(x, length=5, batch_size=1, back=8, burn_in=2)


class Rates(keras.callbacks.Callback):
    """Notes the learning rate that other callbacks see after each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(nets.host(self.model.optimizer.learning_rate)))


def varied(seed=1):
    """Return a model, and windows of drawn lengths."""
    model = small()
    x, y = policies.data_of(model, (17, 17))
    return model, rs.Windows(x, y, length=5, batch_size=2, vary=rs.Vary(low=2, std=1.5, half=0.3), seed=seed)


def test_drawn_lengths_scale_the_learning_rate():
    """Two epochs of drawn lengths equal a loop in which each batch has a rate in proportion to its steps."""
    model, windows = varied()
    other, same = varied()
    rates = Rates()
    policies.trained(model, windows, epochs=2, callbacks=[rates])
    loop = by_hand.Loop(other, keras.optimizers.SGD(0.1))
    scales = []
    for epoch in range(2):
        same.epoch = epoch
        for index in range(len(same)):
            loop.optimizer.learning_rate = 0.1 * same.scales[index]
            inputs, y = same[index]
            loop._batch(inputs, y, None)
        scales.append(tuple(same.scales))
    assert len({*scales[0], *scales[1]}) > 3
    assert scales[0] != scales[1]
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE
    assert rates.seen == pytest.approx([0.1] * len(rates.seen))


def test_unscaled_rates_are_another_training():
    """Negative control: the same windows with one rate for all lead to other weights."""
    model, windows = varied()
    other, same = varied()
    policies.trained(model, windows)
    loop = by_hand.Loop(other, keras.optimizers.SGD(0.1))
    loop.epoch(same)
    assert difference(policies.weights_of(model), policies.weights_of(other)) > 1e-4


class Stop(keras.callbacks.Callback):
    """Fails in the middle of a batch."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            raise RuntimeError("stopped")


def test_the_rate_is_the_usual_one_after_a_failure():
    """A `fit` that fails within a batch leaves the optimizer with its usual learning rate."""
    model, windows = varied()
    with pytest.raises(RuntimeError, match="stopped"):
        policies.trained(model, windows, callbacks=[Stop()])
    assert float(nets.host(model.optimizer.learning_rate)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimizer": keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))}, "CosineDecay"),
        ({"optimizer": "sgd", "steps_per_execution": 3}, "steps_per_execution=3"),
    ],
    ids=["schedule", "several batches in a call"],
)
def test_rates_that_cannot_be_scaled_are_refused(options, text):
    """Drawn lengths with a schedule, or several batches in one call, are refused before anything is trained."""
    model, windows = varied()
    before = policies.weights_of(model)
    model.compile(loss="mse", **options)
    with pytest.raises(rs.DataError, match=f"With `vary`, the learning rate .* Received: {text}"):
        model.fit(windows, verbose=0)
    assert difference(policies.weights_of(model), before) == 0


def test_shuffled_windows_are_those_of_the_epoch():
    """Each epoch of `fit` meets the windows of that epoch, and another meets others: equal to a loop."""
    model, other = small(), small()
    x, y = policies.data_of(model, (7, 5, 8, 3))
    cut = {"length": 3, "batch_size": 2, "order": "shuffled", "seed": 3}
    policies.trained(model, rs.Windows(x, y, **cut), epochs=3)
    same = rs.Windows(x, y, **cut)
    loop = by_hand.Loop(other, keras.optimizers.SGD(0.1))
    plans = []
    for epoch in range(3):
        same.epoch = epoch
        plans.append(same.plan.sequence.tolist())
        loop.epoch(same)
    assert plans[0] != plans[1]
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE
