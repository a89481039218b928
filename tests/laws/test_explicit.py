"""Law: explicit. `step(x, state) -> (y, state)` is pure; and reset first, on every leaf, to the initial state."""

import keras
import numpy as np
import pytest

import nets
from nets import difference

TOLERANCE = 1e-6
NAMES = ["stack_of_cells", "custom_cell", "conv_lstm", "shared_layer"]


def start_of(name, batch=3):
    """Return a state in which every leaf has random values of its own."""
    spec = nets.shared(name).state_spec
    return {leaf: nets.values(batch, *row.shape, seed=20 + i) for i, (leaf, row) in enumerate(spec.items())}


def inputs(name, batch=3, time=7):
    """Return a random batch for a network of the zoo."""
    return nets.values(batch, time, *((5, 2) if name == "conv_lstm" else (2,)), seed=3)


@pytest.mark.parametrize("name", NAMES)
def test_step_is_a_function(name):
    """The same arguments give the same results; the state given, the banks and the weights stay as they are."""
    model, x = nets.shared(name), inputs(name)
    given = start_of(name)
    kept = {leaf: value.copy() for leaf, value in given.items()}
    variables = [nets.host(variable).copy() for variable in model.variables]
    first = model.step(x, given)
    second = model.step(x, given)
    assert difference(first[0], second[0]) == 0
    assert first[1] == second[1]
    assert difference(given, kept) == 0
    assert all(np.array_equal(nets.host(v), old) for v, old in zip(model.variables, variables, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_leaf_matters(name):
    """Another value in any one leaf, in any one row, changes that row's result and no other's."""
    model, step, x = nets.shared(name), nets.stepper(name), inputs(name)
    given = start_of(name)
    y, _ = step(x, model.initial_state(3).replace(**given))
    for leaf in given:
        moved = {**given, leaf: given[leaf].copy()}
        moved[leaf][1] += 0.5
        other, _ = step(x, model.initial_state(3).replace(**moved))
        changed = np.abs(nets.host(y) - nets.host(other)).reshape(3, -1).max(axis=1)
        assert changed[1] > 1e-4
        assert changed[[0, 2]].max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_reset_acts_before_the_step(name):
    """A reset row starts from the initial state in every leaf, not from zero; the others go on untouched."""
    model, x, given = nets.shared(name), inputs(name), start_of(name)
    y, state = model.step(x, given, reset=[False, True, False])
    plain_y, plain = model.step(x, given)
    fresh_y, fresh = model.step(x, model.initial_state(3))
    for rows, expected_y, expected in (([0, 2], plain_y, plain), ([1], fresh_y, fresh)):
        assert difference(nets.host(y)[rows], nets.host(expected_y)[rows]) < TOLERANCE
        assert difference(state.numpy().rows(rows), expected.numpy().rows(rows)) < TOLERANCE
    assert difference(plain.numpy().rows([1]), fresh.numpy().rows([1])) > 1e-4


def test_the_initial_state_is_that_of_the_cell():
    """A cell that starts from values of its own does so, in `initial_state`, `predict` and a plain call alike."""
    model = nets.shared("custom_cell")
    state = model.initial_state(2).numpy()
    np.testing.assert_array_equal(state["rnn/0"], np.full((2, 3), 0.75, "float32"))
    np.testing.assert_array_equal(state["rnn/1"], np.full((2, 5), -0.5, "float32"))
    x = inputs("custom_cell")
    assert difference(model(x), model.net(x)) < TOLERANCE


def test_plain_mappings_lists_and_tensors_are_states():
    """A dictionary of arrays or tensors in any order is taken wherever a state is."""
    model, x, given = nets.shared("lstm"), inputs("lstm"), start_of("lstm")
    expected = model.step(x, given)[1]
    backward = dict(reversed(given.items()))
    tensors = {leaf: keras.ops.convert_to_tensor(value) for leaf, value in backward.items()}
    lists = {leaf: value.tolist() for leaf, value in given.items()}
    for state in (backward, tensors, lists):
        result = model.step(x, state)[1]
        assert list(result) == list(expected)
        assert difference(result, expected) < TOLERANCE


def test_step_compiles(backend):
    """`step` goes through the backend's own compiler or differentiation with states in and out."""
    model, x, given = nets.shared("lstm"), inputs("lstm"), start_of("lstm")
    y, expected = model.step(x, given)
    if backend == "jax":
        import jax  # noqa: TID251

        compiled = jax.jit(lambda x, state: model.step(x, state))
    elif backend == "tensorflow":
        import tensorflow as tf  # noqa: TID251

        compiled = tf.function(lambda x, state: (lambda y, s: (y, dict(s)))(*model.step(x, state)))
        given = {leaf: tf.constant(value) for leaf, value in given.items()}
    else:
        import torch  # noqa: TID251

        def compiled(x, state):
            with torch.inference_mode():
                return model.step(x, state)

    result, state = compiled(x, given)
    assert difference(result, y) < TOLERANCE
    assert difference(dict(state), dict(expected)) < TOLERANCE


def test_training_flag_reaches_the_layers():
    """Dropout is active in `step(training=True)` alone."""
    net = nets.one(keras.layers.LSTM(5, return_sequences=True, dropout=0.5, name="lstm"))
    model = nets.rs.StatefulModel(nets.randomized(net))
    x, start = inputs("lstm"), model.initial_state(3)
    quiet, noisy = model.step(x, start)[0], model.step(x, start, training=True)[0]
    assert difference(quiet, net(x)) < TOLERANCE
    assert difference(quiet, noisy) > 1e-2
