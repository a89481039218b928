"""The numbers about states, against answers that are known by construction, and against gradients of PyTorch's own LSTM."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from rnnstate.insight.numbers.components import nearest_steps, participation_ratio, principal_components
from rnnstate.insight.numbers.context import ablations, context_curve, useful_context
from rnnstate.insight.numbers.distribution import distributions
from rnnstate.insight.numbers.exponents import gradient_by_lag, lyapunov_exponents
from rnnstate.insight.numbers.forgetting import forgetting_curves, half_life
from rnnstate.insight.numbers.gates import gate_values
from rnnstate.insight.numbers.jacobians import jacobians
from rnnstate.insight.numbers.positions import by_position, errors_by_position
from rnnstate.insight.numbers.units import growth, saturation, still_units
from rnnstate.insight.watched import watch

NOISE = 0.05 / 3**0.5  # root mean square of values that are uniform in -0.05 to 0.05
SERIES, TIME, LENGTH, FEATURES = 3, 47, 7, 2


def linear(recurrent, outputs=1):
    """Return a model whose state is s_t = s_{t-1} R + x_t K, and windows of noise with the right targets."""
    units = len(recurrent)
    rnn = layers.SimpleRNN(units, activation="linear", use_bias=False, return_sequences=True, name="rnn")
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, FEATURES)), rnn, layers.Dense(outputs, name="out")]))
    rnn.set_weights([rnn.get_weights()[0], np.asarray(recurrent, "float32")])
    x = nets.values(SERIES, TIME, FEATURES)
    y = np.stack(list(model.predict(rs.Windows(x, length=TIME, batch_size=SERIES), verbose=0).values()))
    noise = 0.05 * nets.values(*y.shape, seed=3)
    return model, rs.Windows(x, y + noise, length=LENGTH, batch_size=2)


@pytest.fixture(scope="module")
def gated():
    """An LSTM and a GRU inside an inner model, with random weights, and windows with targets."""
    inner = keras.Sequential([keras.Input((None, 5)), layers.GRU(3, return_sequences=True, name="gru")], name="inner")
    x = keras.Input((None, FEATURES))
    h = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    model = rs.StatefulModel(keras.Model(x, layers.Dense(1)(inner(h))))
    rng = np.random.default_rng(5)
    model.net.set_weights([rng.normal(size=w.shape, scale=0.7) for w in model.net.get_weights()])
    data = nets.values(SERIES, TIME, FEATURES)
    return model, rs.Windows(data, nets.values(SERIES, TIME, 1, seed=1), length=LENGTH, batch_size=2)


def rotation(units=5):
    """Return an orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(2).normal(size=(units, units)))[0]


def test_a_run_equals_predict_and_single_steps(gated):
    """The watched outputs are those of `predict`, and a step from a state before gives the state after."""
    model, windows = gated
    watched = watch(model, windows)
    predicted = model.predict(windows, verbose=0)
    assert np.abs(watched.outputs - np.stack([predicted[key] for key in watched.keys])).max() < 1e-5
    row, step = 1, 23
    before = {name: leaf[[row], step] for name, leaf in watched.before.items()}
    after = model.step(watched.sample.x[[row], step : step + 1], before)[1].numpy()
    other = model.step(watched.sample.x[[row], step + 1 : step + 2], before)[1].numpy()
    for name, leaf in watched.leaves.items():
        assert np.abs(after[name] - leaf[[row], step]).max() < 1e-5
        assert np.abs(other[name] - leaf[[row], step]).max() > 1e-4


def test_a_run_follows_resets_gaps_and_padding():
    """With resets, gaps and sequences of other lengths, the run still gives what `predict` gives."""
    model = rs.StatefulModel(nets.lstm())
    x = {"a": nets.values(17, FEATURES), "b": nets.values(11, FEATURES, seed=1)}
    resets = {"a": np.arange(17) == 5, "b": np.zeros(11)}
    times = {"a": np.r_[np.arange(9), np.arange(20, 28)], "b": np.arange(11)}
    windows = rs.Windows(x, length=3, batch_size=2, resets=resets, times=times, gap=2)
    watched = watch(model, windows, keys=["b", "a"])
    predicted = model.predict(windows, verbose=0)
    assert watched.valid.sum(axis=1).tolist() == [11, 17]
    for row, key in enumerate(["b", "a"]):
        assert np.abs(watched.outputs[row, : len(x[key])] - predicted[key]).max() < 1e-5
    assert np.argwhere(watched.resets).tolist() == [[1, 5]]
    plain = model.predict(rs.Windows(x, length=3, batch_size=2), verbose=0)
    assert np.abs(plain["a"] - predicted["a"]).max() > 1e-3


@pytest.mark.once
def test_positions_are_counted_by_hand():
    """The mean at a position is over the windows that have it; the first window does not count."""
    errors = {"a": np.arange(8.0), "b": np.full(5, 100.0)}
    starts = {"a": np.array([0, 3, 6]), "b": np.array([0])}
    assert by_position(errors, starts, 3).tolist() == [(3 + 6) / 2, (4 + 7) / 2, 5]
    assert np.isnan(by_position({"b": errors["b"]}, starts, 3)).all()


@pytest.mark.once
def test_a_reset_shows_where_windows_begin():
    """A leaky integrator that is carried errs alike everywhere. Reset, it errs most where a window begins."""
    model, windows = linear([[0.8]])
    found = errors_by_position(model, windows)
    assert set(found) == {"carried", "reset"}
    assert np.abs(found["carried"] / NOISE - 1).max() < 0.4
    assert found["reset"][0] > 3 * found["carried"][0]
    assert found["reset"][0] > 2 * found["reset"][-1]


@pytest.mark.once
def test_positions_need_targets_per_step():
    """Without targets per step, or with other shapes, the error says what to give."""
    model, windows = linear([[0.8]])
    x = nets.values(2, 9, FEATURES)
    with pytest.raises(rs.DataError, match="needs `Windows` with one series of targets"):
        errors_by_position(model, rs.Windows(x, length=3, batch_size=2))
    with pytest.raises(
        rs.DataError, match=r"must have the shape of the outputs, \(1,\) at each step. Received: \(5,\)"
    ):
        errors_by_position(model, rs.Windows(x, nets.values(2, 9, 5), length=3, batch_size=2))
    absolute = errors_by_position(model, windows, error=lambda y, out: np.abs(y - out)[:, 0])
    assert (absolute["carried"] < errors_by_position(model, windows)["carried"]).all()


@pytest.mark.once
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_a_leaky_integrator_has_its_time_constant(decay):
    """s_t = decay * s_{t-1} + ...: the exponent is ln(decay), and the half-life is ln 2 / -ln(decay), both ways."""
    model, windows = linear([[decay]])
    watched = watch(model, windows)
    curves = forgetting_curves(model, watched)
    assert np.abs(curves - decay ** np.arange(curves.shape[1])).max() < 1e-4
    assert half_life(curves) == pytest.approx(np.log(2) / -np.log(decay), rel=1e-3)
    assert lyapunov_exponents([jacobians(model, watched).state])[0] == pytest.approx(np.log(decay), abs=1e-4)


@pytest.mark.once
def test_an_orthogonal_recurrence_forgets_nothing():
    """All exponents of an orthogonal recurrence are 0, and no half-life is found; times 0.9 they are ln(0.9)."""
    for factor in (1.0, 0.9):
        model, windows = linear(factor * rotation())
        watched = watch(model, windows)
        exponents = lyapunov_exponents([jacobians(model, watched, row).state for row in range(2)])
        assert np.abs(exponents - np.log(factor)).max() < 1e-3
        assert np.isinf(half_life(forgetting_curves(model, watched))) == (factor == 1.0)


@pytest.mark.once
def test_exponents_of_known_products():
    """Exponents are the logarithms of what directions are stretched by; an erased direction has -inf."""
    turn = rotation(3)
    step = turn @ np.diag([2.0, 0.5, 0.25]) @ turn.T
    assert np.abs(lyapunov_exponents([np.tile(step, (200, 1, 1))]) - np.log([2, 0.5, 0.25])).max() < 1e-6
    assert lyapunov_exponents([np.tile(np.diag([0.5, 0.0]), (30, 1, 1))])[1] < -30


def test_jacobians_are_the_recurrent_matrix():
    """The Jacobian of a linear recurrence is its matrix, at every step, and that of the output is the read-out."""
    matrix = 0.7 * rotation()
    model, windows = linear(matrix, outputs=2)
    found = jacobians(model, watch(model, windows), row=1)
    assert np.abs(found.state - matrix.T).max() < 1e-4
    assert np.abs(found.output - model.net.layers[1].get_weights()[0].T @ matrix.T).max() < 1e-4
    assert found.state.shape == (TIME, 5, 5)


@pytest.mark.once
def test_gradients_by_lag_are_those_of_autograd():
    """The gradient of the loss at a step by the states before is the one that PyTorch computes for its own LSTM."""
    import torch  # noqa: TID251 - the library to agree with

    own = torch.nn.LSTM(FEATURES, 5, batch_first=True)
    net = keras.Sequential([keras.Input((None, FEATURES)), layers.LSTM(5, return_sequences=True, name="lstm")])
    rs.weights.from_torch(own, net)
    model = rs.StatefulModel(net)
    x = nets.values(1, 30, FEATURES)
    watched = watch(model, rs.Windows(x, length=6, batch_size=1))
    found = jacobians(model, watched)
    residual = nets.values(30, 5, seed=4)
    lags = 9
    norms = gradient_by_lag(found, residual, lags)
    expected = []
    for lag in range(1, lags + 1):
        before = 30 - lag  # the state after `before` steps; the loss is at the last step
        with torch.no_grad():
            _, state = own(torch.tensor(x[:, :before]))
        state = [part.clone().requires_grad_() for part in state]
        y, _ = own(torch.tensor(x[:, before:]), tuple(state))
        (y[0, -1] * torch.tensor(residual[-1])).sum().backward()
        expected.append(float(np.sqrt(sum(float((part.grad**2).sum()) for part in state))))
    assert np.abs(norms[-1] / expected - 1).max() < 5e-3
    assert np.abs(norms[-2] / expected - 1).max() > 0.05


def test_gates_are_those_of_the_layers(gated):
    """With the computed gates, the equations of LSTM and GRU give the next states that the layers gave."""
    model, windows = gated
    watched = watch(model, windows)
    gates = gate_values(model, watched)
    assert set(gates) == {"lstm", "inner/gru"}
    assert {name: set(values) for name, values in gates.items()} == {
        "lstm": {"input", "forget", "output"},
        "inner/gru": {"update", "reset"},
    }
    c, h = watched.leaves["lstm/c"], watched.leaves["lstm/h"]
    assert np.abs(gates["lstm"]["output"] * np.tanh(c) - h).max() < 1e-5
    candidate = (c - gates["lstm"]["forget"] * watched.before["lstm/c"]) / gates["lstm"]["input"]
    assert np.abs(candidate).max() < 1 + 1e-4
    before, update = watched.before["inner/gru/h"], gates["inner/gru"]["update"]
    candidate = (watched.leaves["inner/gru/h"] - update * before) / (1 - update)
    assert np.abs(candidate).max() < 1 + 1e-3
    kernel, recurrent, bias = (np.asarray(w) for w in model.net.layers[1].get_weights())
    wrong = 1 / (
        1 + np.exp(-(watched.sample.x @ kernel + h @ recurrent + bias)[..., :5])
    )  # the state after, not before
    assert np.abs(wrong - gates["lstm"]["input"]).max() > 0.01


def stacked(**how):
    """Return a stack of an LSTM cell and a GRU cell."""
    return layers.RNN([layers.LSTMCell(5), layers.GRUCell(3)], return_sequences=True, **how)


@pytest.mark.once
@pytest.mark.parametrize("both_ways", [False, True])
def test_stacks_and_forward_halves_have_gates(both_ways):
    """Each cell of a stack, also inside `Bidirectional`, has the gates with which its equations give its states."""
    first = layers.Bidirectional(stacked(), name="both") if both_ways else stacked(name="stack")
    upper = layers.LSTM(2, return_sequences=True, name="upper")
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, FEATURES)), first, upper, layers.Dense(1)]))
    rng = np.random.default_rng(7)
    model.net.set_weights([rng.normal(size=w.shape, scale=0.7) for w in model.net.get_weights()])
    windows = rs.Windows(nets.values(SERIES, TIME, FEATURES), length=LENGTH, batch_size=2)
    watched = watch(model, windows)
    outputs, state = model.predict(windows, return_state=True, verbose=0)
    assert np.abs(watched.outputs - np.stack([outputs[key] for key in watched.keys])).max() < 1e-5
    for name, leaf in state.numpy().items():
        assert np.abs(watched.leaves[name][:, -1] - leaf).max() < 1e-5
    place = "both/forward" if both_ways else "stack"
    gates = gate_values(model, watched)
    assert set(gates) == {f"{place}/0", f"{place}/1", "upper"}
    for name in (f"{place}/0", "upper"):
        h, c = watched.leaves[f"{name}/h"], watched.leaves[f"{name}/c"]
        assert np.abs(gates[name]["output"] * np.tanh(c) - h).max() < 1e-5
        assert np.abs(gates[name]["input"] * np.tanh(c) - h).max() > 0.01
    before, update = watched.before[f"{place}/1/h"], gates[f"{place}/1"]["update"]
    candidate = (watched.leaves[f"{place}/1/h"] - update * before) / (1 - update)
    assert np.abs(candidate).max() < 1 + 1e-3
    if both_ways:  # the control: one pass over everything gives other outputs, because its backward half sees more
        whole, _ = model.step(watched.sample.x, model.initial_state(SERIES))
        assert np.abs(keras.ops.convert_to_numpy(keras.ops.stop_gradient(whole)) - watched.outputs).max() > 0.01


@pytest.mark.once
def test_what_needs_single_steps_is_refused_for_backward_layers():
    """Gradients by lag need single steps, a reset needs them too, and a backward direction that is carried has no steps."""
    net = nets.one(layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both"))
    x, model = nets.values(SERIES, TIME, FEATURES), rs.StatefulModel(net)
    windows = rs.Windows(x, length=LENGTH, batch_size=2)
    with pytest.raises(rs.UnsupportedModelError, match="must run forward to be derived step by step"):
        jacobians(model, watch(model, windows))
    resets = np.arange(TIME) == 9
    with pytest.raises(rs.UnsupportedModelError, match="must have windows without resets and gaps"):
        watch(model, rs.Windows(x, length=LENGTH, batch_size=2, resets=[resets] * SERIES))
    with pytest.raises(
        rs.UnsupportedModelError, match=r"must be recurrent and run forward. Received: `both/backward/h`"
    ):
        watch(rs.StatefulModel(net, carry_backward=True), windows)


@pytest.mark.once
def test_saturation_still_units_and_growth():
    """Shares are counted by hand; a unit that moves by less than a thousandth of its leaf stands still."""
    valid = np.array([[True, True, True, False]])
    gate = np.array([[[0.05, 0.5], [0.95, 0.92], [0.02, 0.95], [0.5, 0.5]]])
    low, high = saturation(gate, valid)
    assert np.abs(low - [2 / 3, 0]).max() < 1e-12
    assert np.abs(high - [1 / 3, 2 / 3]).max() < 1e-12
    leaf = np.array([[[1.0, 2.0, 0.0], [-1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [9.0, 9.0, 9.0]]])
    assert still_units(leaf, valid).tolist() == [False, True, True]
    norm = np.exp(0.1 * np.arange(40))[None]
    assert growth(norm, np.ones((1, 40), bool)) == pytest.approx(np.exp(2.0), rel=1e-6)
    assert growth(np.ones((1, 40)), np.ones((1, 40), bool)) == 1


@pytest.mark.once
def test_components_against_the_covariance():
    """Components are the eigenvectors of the covariance; d equal variances use d dimensions."""
    points = nets.values(211, 5) * np.array([5.0, 3.0, 1.0, 0.1, 0.0])
    coordinates, shares = principal_components(points)
    variances = np.sort(np.linalg.eigvalsh(np.cov(points.T, bias=True)))[::-1]
    assert np.abs(coordinates.var(axis=0) - variances[:2]).max() < 1e-4
    assert np.abs(shares - variances[:2] / variances.sum()).max() < 1e-6
    assert participation_ratio(points) == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-6)
    assert participation_ratio(np.concatenate([np.eye(7), -np.eye(7)])) == pytest.approx(7)


@pytest.mark.once
def test_nearest_states_are_the_planted_ones():
    """The nearest states are copies that were planted in other sequences, in the order of their distance."""
    vectors = nets.values(3, 60, 5)
    for place, noise in (((1, 20), 1e-3), ((2, 41), 2e-3), ((0, 50), 3e-3)):
        vectors[place] = vectors[0, 10] + noise
    valid = np.ones((3, 60), bool)
    assert nearest_steps(vectors, valid, 0, 10, count=3).tolist() == [[1, 20], [2, 41], [0, 50]]
    valid[1, 20] = False
    assert nearest_steps(vectors, valid, 0, 10, count=1).tolist() == [[2, 41]]


@pytest.mark.once
def test_errors_without_the_past():
    """Zeroed, shuffled and held states cost a leaky integrator what its equation says; enough context costs nothing."""
    model, windows = linear([[0.8]])
    watched = watch(model, windows)
    errors = ablations(model, watched)
    known, curve, best = context_curve(model, watched)
    assert errors["carried"] == pytest.approx(NOISE, rel=0.15)
    assert min(errors[way] for way in ("zeroed", "shuffled", "held")) > 2 * errors["carried"]
    assert known.tolist() == [0, 1, 2, 4, 8, 16, 28]
    assert curve[-1] == pytest.approx(best, rel=1e-2)
    assert 4 < useful_context(known, curve, best) <= 28


@pytest.mark.once
def test_context_of_zero_steps_is_a_reset():
    """With no step of the past, the error is that of windows from the initial state."""
    model, windows = linear([[0.8]])
    watched = watch(model, windows)
    _, curve, _ = context_curve(model, watched)
    wrong = []
    for start in (28, 35):
        steps = slice(start, start + LENGTH)
        y, _ = model.step(watched.sample.x[:, steps], model.initial_state(SERIES))
        wrong.append(keras.ops.convert_to_numpy(y) - watched.sample.y[:, steps])
    assert curve[0] == pytest.approx(float(np.sqrt(np.mean(np.square(wrong)))), rel=1e-4)
    assert ablations(model, watch(model, rs.Windows(watched.sample.x, length=LENGTH, batch_size=2))) == {}


@pytest.mark.once
@pytest.mark.parametrize("others", [(), (np.nan, -np.inf)], ids=["finite", "not finite"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 0.0])
def test_distributions_are_those_of_numpy(scale, others):
    """Statistics and histogram of each array agree with NumPy. Other values are counted."""
    stack = scale * np.random.default_rng(0).standard_normal((3, 7, 11)) + scale * np.arange(3)[:, None, None]
    stack[1].flat[: len(others)] = others
    for values, found in zip(stack, distributions(stack), strict=True):
        finite = values[np.isfinite(values)]
        expected = finite.mean(), finite.std(), finite.min(), finite.max()
        np.testing.assert_allclose(found[:4], expected, rtol=1e-12, atol=1e-45)
        counts, edges = np.histogram(finite, 20)
        np.testing.assert_array_equal(found.counts, counts)
        np.testing.assert_allclose(found.edges, edges, rtol=1e-12)
        assert (found.not_finite, found.size) == (77 - finite.size, finite.size)


@pytest.mark.once
def test_an_array_without_finite_values_has_no_statistics():
    """Its statistics are NaN, and its histogram is empty. An array without values likewise."""
    (nothing,), (empty,) = distributions(np.full((1, 3), np.nan)), distributions(np.zeros((1, 0)))
    assert np.isnan([nothing.mean, nothing.std, empty.mean]).all()
    assert (nothing.not_finite, nothing.counts.sum(), empty.not_finite) == (3, 0, 0)
