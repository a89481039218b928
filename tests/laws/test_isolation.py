"""Law: a sequence's result depends on that sequence alone, and inference never touches training."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import fitted, targets_of, weights_of, windows_of
from nets import difference

TOLERANCE = 1e-6


def test_inference_leaves_the_training_states_bit_for_bit():
    """`evaluate`, `predict`, `step` and plain calls change neither training states nor weights."""
    windows = windows_of(1)
    model, _ = fitted(nets.small, windows, 1)
    states, weights = model.states.read(), weights_of(model)
    other = windows_of(1, (23, 19, 3, 7, 2), length=4, batch_size=2)
    model.evaluate(other, verbose=0)
    model.predict(other, verbose=0)
    model.predict(
        other, initial_state={n: np.ones((5, *leaf.shape)) for n, leaf in model.state_spec.items()}, verbose=0
    )
    model(nets.values(3, 5, 2))
    model.step(nets.values(3, 5, 2), model.initial_state(3), training=True)
    assert model.states.read() == states
    assert difference(weights_of(model), weights) == 0


def test_validation_changes_nothing():
    """`fit` with validation gives, bit for bit, the weights and states of `fit` without."""
    windows = windows_of(1)
    plain, _ = fitted(nets.small, windows)
    validated, history = fitted(nets.small, windows, validation_data=windows_of(1, (9, 4), length=3, batch_size=2))
    assert difference(weights_of(plain), weights_of(validated)) == 0
    assert plain.states.read() == validated.states.read()
    assert len(history.history["val_loss"]) == 2


def test_validation_starts_fresh_each_time():
    """With weights that do not move, every validation gives what `evaluate` gives: no state is left over."""
    other = windows_of(1, (9, 4), length=3, batch_size=2)
    model, history = fitted(nets.small, windows_of(1), 3, keras.optimizers.SGD(0.0), validation_data=other)
    losses = history.history["val_loss"]
    assert losses == pytest.approx([losses[0]] * 3, abs=TOLERANCE)
    assert model.evaluate(other, verbose=0) == pytest.approx(losses[0], abs=TOLERANCE)
    assert history.history["loss"] == pytest.approx([history.history["loss"][0]] * 3, abs=TOLERANCE)


def test_repeated_inference_is_equal():
    """Two predictions in a row are equal bit for bit, and so are two evaluations, whatever ran in between."""
    model = nets.shared("stack_of_cells")
    windows = rs.Windows(nets.series([17, 11, 5]), length=7, batch_size=2)
    first, state = model.predict(windows, return_state=True, verbose=0)
    model.predict(rs.Windows(nets.series([3, 2], seed=5), length=7, batch_size=2), verbose=0)
    second, again = model.predict(windows, return_state=True, verbose=0)
    assert difference(first, second) == 0
    assert state == again


def test_order_of_sequences_does_not_matter():
    """Permuting the sequences permutes the results and nothing else."""
    model = nets.shared("stack_of_cells")
    data = nets.series([17, 11, 5, 13, 2])
    names = ["k3", "k0", "k4", "k2", "k1"]
    one, state = model.predict(rs.Windows(data, length=7, batch_size=2), return_state=True, verbose=0)
    permuted = {name: data[name] for name in names}
    other, moved = model.predict(rs.Windows(permuted, length=7, batch_size=2), return_state=True, verbose=0)
    assert list(other) == names
    assert max(difference(one[name], other[name]) for name in names) < TOLERANCE
    assert difference(state.rows([int(name[1]) for name in names]), moved) < TOLERANCE


def test_neighbours_do_not_matter():
    """Other sequences in the batch, even absurd ones, do not change a sequence's result."""
    model = nets.shared("stack_of_cells")
    data = nets.series([17, 11, 5])
    one, state = model.predict(rs.Windows(data, length=7, batch_size=3), return_state=True, verbose=0)
    loud = {**data, "k1": data["k1"] * 1e3, "k2": -data["k2"] * 1e3}
    other, moved = model.predict(rs.Windows(loud, length=7, batch_size=3), return_state=True, verbose=0)
    assert difference(one["k0"], other["k0"]) < TOLERANCE
    assert difference(state.rows([0]), moved.rows([0])) < TOLERANCE
    assert difference(one["k1"], other["k1"]) > 1e-2


def test_rows_of_a_step_are_independent():
    """Permuting the rows of `step` permutes outputs and states; resetting one row leaves the others."""
    model, step = nets.shared("custom_cell"), nets.stepper("custom_cell")
    x, order = nets.values(3, 7, 2), [2, 0, 1]
    start = step(nets.values(3, 7, 2, seed=1), model.initial_state(3))[1].numpy()
    y, state = step(x, start)
    moved_y, moved = step(x[order], start.rows(order))
    assert difference(nets.host(y)[order], moved_y) < TOLERANCE
    assert difference(state.numpy().rows(order), moved.numpy()) < TOLERANCE


def test_padding_holds_any_value():
    """What stands in padded steps reaches no result, not even a value that is not finite."""
    model, step = nets.shared("lstm"), nets.stepper("lstm")
    x = nets.values(3, 7, 2)
    mask = np.arange(7) < np.array([[7], [3], [0]])
    loud = np.where(mask[..., None], x, 1e6).astype("float32")
    y, state = step(x, model.initial_state(3), mask)
    other, moved = step(loud, model.initial_state(3), mask)
    assert difference(state, moved) < TOLERANCE
    assert difference(nets.host(y)[mask], nets.host(other)[mask]) < TOLERANCE


def test_training_sequences_with_other_keys_is_the_same():
    """Names of sequences mean nothing: other keys, with other slots, give the same weights."""
    data = nets.series((15, 15, 15))
    y = targets_of(data, 1)
    one, _ = fitted(nets.small, rs.Windows(data, y, length=5, batch_size=3))
    other = nets.make(nets.small)
    other.states.write([("a", 1), 7, "k0"], {"lstm/h": np.ones((3, 5), "float32")})
    other.compile(keras.optimizers.Adam(0.01), "mse")
    names = dict(zip(data, (11, "x", ("k0", 2)), strict=True))
    renamed = [{names[key]: part for key, part in parts.items()} for parts in (data, y)]
    other.fit(rs.Windows(*renamed, length=5, batch_size=3), epochs=2, verbose=0)
    assert difference(weights_of(one), weights_of(other)) < TOLERANCE
    assert difference(one.states.read(), other.states.read(list(names.values()))) < TOLERANCE
