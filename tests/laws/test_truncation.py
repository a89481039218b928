"""Law: no gradient crosses a window boundary unless the user asks for it; with it, it is that of full BPTT."""

import keras
import numpy as np
import pytest
from keras import ops

import by_hand
import nets
import rnnstate as rs
from fitting import targets_of, weights_of
from nets import difference


def losses(model, x, y, cut):
    """Return a loss of two windows of 5 steps, chained by hand, cut between them or not."""

    def forward(x, y):
        first, state = model.step(x[:, :5], model.initial_state(3))
        second, _ = model.step(x[:, 5:], state.detach() if cut else state)
        return by_hand.mse(y[:, 5:], second) + 0 * ops.sum(first), state

    return by_hand.gradients_of(forward, model.trainable_variables)(x, y)[1]


def whole(model, x, y):
    """Return the gradients of the same loss, on the last 5 of 10 steps in one pass."""

    def forward(x, y):
        outputs, state = model.step(x, model.initial_state(3))
        return by_hand.mse(y[:, 5:], outputs[:, 5:]), state

    return by_hand.gradients_of(forward, model.trainable_variables)(x, y)[1]


def stacked(gradients):
    """Return gradients by place."""
    return {str(i): nets.host(gradient) for i, gradient in enumerate(gradients)}


@pytest.mark.parametrize("build", [nets.two_layers, nets.custom_cell])
def test_chained_steps_give_the_gradient_of_the_whole(build):
    """Steps chained without `detach` give the gradient of full BPTT; with it, another one."""
    model = nets.make(build)
    x, y = nets.values(3, 10, 2), nets.values(3, 10, 1, seed=1)
    full = stacked(whole(model, x, y))
    assert difference(stacked(losses(model, x, y, cut=False)), full) < 1e-6
    assert difference(stacked(losses(model, x, y, cut=True)), full) > 1e-3


def test_fit_cuts_the_gradient():
    """The second window's training step in `fit` is the hand-made step from the detached state, and not BPTT's."""
    data = nets.series((10, 10, 10))
    y = targets_of(data, 1)
    model = nets.make(nets.small)
    before = weights_of(model)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    # Weight 0 on the first window: all that is learnt comes from the second, whose gradient must stop at its start.
    weight = {key: np.repeat([0.0, 1.0], 5) for key in data}
    model.fit(rs.Windows(data, y, sample_weight=weight, length=5, batch_size=3), verbose=0)
    x, y = np.stack(list(data.values())), np.stack(list(y.values()))
    fresh = nets.make(nets.small)
    after = weights_of(model)
    moved = {name: before[name] - after[name] for name in before}
    assert difference(moved, stacked(losses(fresh, x, y, cut=True))) < 1e-6
    assert difference(moved, stacked(losses(fresh, x, y, cut=False))) > 1e-3


def test_detach_keeps_the_value():
    """`detach` cuts the gradient and leaves every value bit for bit; of NumPy states it is the identity."""
    model = nets.shared("lstm")
    state = model.step(nets.values(3, 7, 2), model.initial_state(3))[1]
    assert state.detach() == state
    assert state.numpy().detach() == state
