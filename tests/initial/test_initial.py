"""Initial states: where a sequence starts, as layers that learn, save, load and say what is wrong."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import by_hand
import nets
import policies
import rnnstate as rs
from nets import difference
from policies import TOLERANCE
from rnnstate import initial

KINDS = {
    "zeros": initial.Zeros,
    "learned": initial.Learned,
    "noisy": lambda **kwargs: initial.Learned(noise=0.1, seed=3, **kwargs),
    "observed": initial.Observed,
    "mlp": lambda **kwargs: initial.Observed(units=7, activation="relu", **kwargs),
    "bridge": initial.Bridge,
    "given": initial.Given,
}


def stack(first=8, second=16):
    """Return the network that this library is named for: two layers of different sizes."""
    return keras.Sequential(
        [
            nets.series_input(),
            layers.LSTM(first, return_sequences=True, name="lstm"),
            layers.GRU(second, return_sequences=True, name="gru"),
            layers.Dense(1, name="read_out"),
        ]
    )


def model_of(kind, build=nets.gru, seed=0, **kwargs):
    """Return a model with an initial state of a kind, all its weights random."""
    start = KINDS[kind](**kwargs)
    model = rs.StatefulModel(nets.randomized(build(), seed), initial_state=start)
    if isinstance(start, initial.Observed):
        start.observe(2)
    nets.randomized(start, seed + 1)
    return model


def observed_for(model, rows, seed=30):
    """Return known values for a model, or `None` if it takes none."""
    if isinstance(model.start, initial.Given):
        return nets.values(rows, sum(int(np.prod(leaf.shape)) for leaf in model.state_spec.values()), seed=seed)
    return nets.values(rows, 2, seed=seed) if model.start.needs_observed else None


def windows_for(model, lengths=(9, 9), length=9, observed=None, **kwargs):
    """Return windows with targets, and known values of each sequence where the model takes them."""
    x, y = policies.data_of(model, lengths)
    observed = observed_for(model, len(x)) if observed is None else observed
    if observed is not None:
        kwargs["observed"] = dict(zip(x, observed, strict=True))
    return rs.Windows(x, y, length=length, batch_size=2, **kwargs)


def functional(model, units=None):
    """Return stock Keras with the weights of a model: known values, a Dense per leaf, and `initial_state=`."""
    x, known = keras.Input((None, 2)), keras.Input((2,))
    hidden = known if units is None else layers.Dense(units, activation="relu")(known)
    h, c, g = (layers.Dense(size)(hidden) for size in (8, 8, 16))
    y = layers.LSTM(8, return_sequences=True)(x, initial_state=[h, c])
    y = layers.Dense(1)(layers.GRU(16, return_sequences=True)(y, initial_state=g))
    stock = keras.Model([x, known], y)
    ours = {}
    for variable in model.trainable_variables:
        ours.setdefault(tuple(variable.shape), []).append(variable)
    for variable in stock.trainable_variables:  # Keras lists layers by depth; within a shape both go in one order
        variable.assign(nets.host(ours[tuple(variable.shape)].pop(0)))
    return stock


@pytest.mark.parametrize("units", [None, 7])
def test_observed_of_two_values_for_layers_of_8_and_16(units):
    """Two known values start layers of 8 and 16 units, and train as stock Keras trains the same functional model."""
    kind = {} if units is None else {"units": units, "activation": "relu"}
    model = rs.StatefulModel(nets.randomized(stack()), initial_state=initial.Observed(**kind))
    model.start.observe(2)
    windows = windows_for(model)
    stock = functional(model, units)
    inputs, y = windows[0]
    assert difference(model.predict(windows, verbose=0)["k1"], by_stock(stock, inputs)[1]) < TOLERANCE
    before = [nets.host(variable).copy() for variable in model.start.trainable_variables]
    _, history = policies.trained(model, windows, epochs=2)
    stock.compile(keras.optimizers.SGD(0.1), "mse")
    losses = [float(stock.train_on_batch([inputs["x"], inputs["observed"]], y)) for _ in range(2)]
    assert history["loss"] == pytest.approx(losses, abs=TOLERANCE)
    assert difference(model.predict(windows, verbose=0)["k1"], by_stock(stock, inputs)[1]) < TOLERANCE
    moved = [np.abs(nets.host(v) - old).max() for v, old in zip(model.start.trainable_variables, before, strict=True)]
    assert len(moved) == (6 if units is None else 8)
    assert min(moved) > 1e-6


def by_stock(stock, inputs):
    """Return what stock Keras predicts from the same inputs and known values."""
    return nets.host(stock([inputs["x"], inputs["observed"]]))


@pytest.mark.parametrize("kind", ["learned", "observed", "mlp", "bridge"])
def test_every_variable_learns(kind):
    """`fit` moves every variable of an initial state, and without it they would not be trained at all."""
    model = model_of(kind, build=nets.lstm)
    windows = windows_for(model)
    count = {"learned": 2, "observed": 4, "mlp": 6, "bridge": 4}[kind]
    assert len(model.start.trainable_variables) == count
    before = [nets.host(variable).copy() for variable in model.start.trainable_variables]
    policies.trained(model, windows)
    moved = [np.abs(nets.host(v) - old).max() for v, old in zip(model.start.trainable_variables, before, strict=True)]
    assert min(moved) > 1e-6


def expected_outputs(model, windows, key, cuts):
    """Return the outputs of a sequence that starts anew at each of some steps, by stock Keras code on `step`."""
    parts, row = [], list(windows.keys).index(key)
    for begin, end in cuts:
        inputs = windows[0][0]
        observed = inputs["observed"][row : row + 1] if "observed" in inputs else None
        x = windows_x(windows, key)[None, begin:end]
        parts.append(nets.host(model.step(x, model.initial_state(1, observed=observed))[0])[0])
    return np.concatenate(parts)


def windows_x(windows, key):
    """Return the inputs of a sequence."""
    return windows.assemble(inputs["x"] for inputs, *_ in windows)[key]


@pytest.mark.parametrize("kind", ["zeros", "learned", "mlp", "given"])
def test_where_it_acts(kind):
    """`at="start"` acts at a sequence's start alone, `at="window"` at every window, and both where a reset says."""
    resets = {"k0": np.arange(9) == 5, "k1": np.zeros(9)}
    cases = [
        ("start", {}, [(0, 9)]),
        ("window", {}, [(0, 3), (3, 6), (6, 9)]),
        ("start", {"resets": resets}, [(0, 5), (5, 9)]),
        ("window", {"resets": resets}, [(0, 3), (3, 5), (5, 6), (6, 9)]),
    ]
    for at, facts, cuts in cases:
        model = model_of(kind, at=at)
        windows = windows_for(model, length=3, **facts)
        outputs = model.predict(windows, verbose=0)
        assert difference(outputs["k0"], expected_outputs(model, windows, "k0", cuts)) < TOLERANCE
        if not facts:
            assert difference(outputs["k1"], expected_outputs(model, windows, "k1", cuts)) < TOLERANCE


def test_observed_series_gives_each_window_the_step_before():
    """From a series of known values, each window starts from those of the step before it."""
    model = model_of("observed", at="window")
    x, _ = policies.data_of(model)
    known = {key: nets.values(9, 2, seed=50 + i) for i, key in enumerate(x)}
    outputs = model.predict(rs.Windows(x, observed=known, length=3, batch_size=2), verbose=0)
    for key, series in x.items():
        for begin in (0, 3, 6):
            start = model.initial_state(1, observed=known[key][None, max(begin - 1, 0)])
            y, _ = model.step(series[None, begin : begin + 3], start)
            assert difference(outputs[key][begin : begin + 3], nets.host(y)[0]) < TOLERANCE


def test_values_before_burn_in():
    """With burn-in, a window's known values are those before all of its steps, and the steps lead from them to it."""
    model = model_of("observed", at="window")
    x, _ = policies.data_of(model, (9,))
    known = {"k0": nets.values(9, 2, seed=50)}
    outputs = model.predict(rs.Windows(x, observed=known, length=3, batch_size=1, burn_in=2), verbose=0)
    start = model.initial_state(1, observed=known["k0"][None, 3])
    y, _ = model.step(x["k0"][None, 4:9], start)
    assert difference(outputs["k0"][6:9], nets.host(y)[0, 2:]) < TOLERANCE


def test_given_equals_write():
    """Full states that come with the data train as the same states written by hand, c of an LSTM included."""
    given = rs.StatefulModel(nets.randomized(nets.two_layers()), initial_state=initial.Given())
    written = nets.make(nets.two_layers)
    sizes = {"lstm/h": 5, "lstm/c": 5, "gru/h": 3}
    state = {name: nets.values(2, size, seed=60 + i) for i, (name, size) in enumerate(sizes.items())}
    policies.trained(given, windows_for(given, length=3, observed=initial.pack(state)))
    windows = windows_for(written, length=3)
    written.states.write(windows.keys, state)
    policies.trained(written, windows)
    assert difference(policies.weights_of(given), policies.weights_of(written)) < TOLERANCE
    assert difference(given.states.read(windows.keys), written.states.read(windows.keys)) < TOLERANCE
    plain, _ = policies.trained(nets.make(nets.two_layers), windows_for(written, length=3))
    assert difference(policies.weights_of(plain), policies.weights_of(written)) > 1e-4


def test_given_states_go_before_those_at_every_window():
    """A state given to `predict` starts its sequence even where another initial state acts at every window."""
    model = model_of("learned", at="window")
    windows = windows_for(model, length=3)
    state = {"gru/h": nets.values(2, 5, seed=9)}
    outputs = model.predict(windows, initial_state=state, verbose=0)
    usual = model.predict(windows, verbose=0)
    first, _ = model.step(windows[0][0]["x"], state)
    assert difference(outputs["k1"][:3], nets.host(first)[1]) < TOLERANCE
    assert difference(outputs["k1"][3:], usual["k1"][3:]) < TOLERANCE
    assert difference(outputs["k1"][:3], usual["k1"][:3]) > 1e-2


def test_a_cells_own_start_is_honoured():
    """A cell whose `get_initial_state` is not zero starts there, and what is learned is added to it."""
    for kind in ("zeros", "learned"):
        model = rs.StatefulModel(nets.custom_cell(), initial_state=KINDS[kind]())
        state = model.initial_state(3).numpy()
        np.testing.assert_array_equal(state["rnn/0"], np.full((3, 3), 0.75, "float32"))
        np.testing.assert_array_equal(state["rnn/1"], np.full((3, 5), -0.5, "float32"))
    model.start.set_weights([np.full(3, 0.25), np.full(5, 0.5)])
    state = model.initial_state(2).numpy()
    assert state == {"rnn/0": np.ones((2, 3), "float32"), "rnn/1": np.zeros((2, 5), "float32")}


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(kind, tmp_path):
    """A `.keras` file keeps the kind, its settings and its weights: the loaded model predicts the same."""
    model = model_of(kind, at="window" if kind == "mlp" else "start")
    windows = windows_for(model, length=3)
    model.compile("sgd", "mse")
    path = tmp_path / "m.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert loaded.start.get_config() == model.start.get_config()
    assert difference(loaded.predict(windows, verbose=0), model.predict(windows, verbose=0)) == 0
    if kind == "noisy":
        assert loaded.start.noise == 0.1


def test_noise_acts_in_training_alone():
    """Noise has the standard deviation that was asked for, differs from row to row, and is quiet at inference."""
    model = rs.StatefulModel(
        nets.one(layers.GRU(50, return_sequences=True, name="gru")), initial.Learned(noise=0.2, seed=5)
    )
    noisy = nets.host(model.start.state(100, training=True)["gru/h"])
    assert noisy.std() == pytest.approx(0.2, rel=0.05)
    assert np.abs(noisy[0] - noisy[1]).max() > 0.1
    assert np.abs(nets.host(model.start.state(100)["gru/h"])).max() == 0


def test_bridge_trains_encoder_and_decoder_together():
    """A decoder starts from an encoder's state of another size, and gradient flows back into the encoder."""
    encoder = nets.make(nets.lstm)
    decoder = rs.StatefulModel(nets.randomized(nets.gru()), initial_state=initial.Bridge())
    decoder.start.observe(10)

    def forward(x):
        _, state = encoder.step(x, encoder.initial_state(3), training=True)
        y, _ = decoder.step(x, decoder.initial_state(3, observed=state), training=True)
        return ops.mean(ops.square(y)), ops.zeros(())

    recurrent = encoder.net.get_layer("lstm").trainable_variables
    _, gradients = by_hand.gradients_of(forward, recurrent)(nets.values(3, 5, 2))
    assert min(np.abs(nets.host(gradient)).max() for gradient in gradients) > 1e-5


def test_pack_is_undone_by_given():
    """Packed leaves come out as they went in, whatever their rank."""
    model = rs.StatefulModel(nets.conv_lstm(), initial_state=initial.Given())
    state = {name: nets.values(2, *leaf.shape, seed=i) for i, (name, leaf) in enumerate(model.state_spec.items())}
    assert model.initial_state(2, observed=initial.pack(state)) == state
    assert model.initial_state(2, observed=state) == state


def test_wrong_when():
    """An unknown moment is refused at once."""
    with pytest.raises(ValueError, match=r"`at` must be one of \('start', 'window'\). Received: at='batch'"):
        initial.Learned(at="batch")


def test_wrong_kind():
    """What is no initial state is refused, with those there are."""
    with pytest.raises(ValueError, match=r'`initial_state` must be "zeros" or a layer of `rnnstate.initial`'):
        rs.StatefulModel(nets.gru(), initial_state="ones")


@pytest.mark.parametrize("kind", ["observed", "bridge", "given"])
def test_known_values_are_missing(kind):
    """A kind that needs known values says so, in `initial_state`, `fit`, `evaluate` and `predict`."""
    model = model_of(kind)
    model.compile("sgd", "mse")
    windows = windows_for(model_of("zeros"))
    with pytest.raises(rs.DataError, match="Give `observed="):
        model.initial_state(3)
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(
            rs.DataError, match=r"needs known values of each sequence. Received: windows without `observed`"
        ):
            method(windows)


def test_known_values_for_a_model_that_takes_none():
    """Known values that nothing would use are refused, not ignored."""
    model = model_of("learned")
    model.compile("sgd", "mse")
    windows = windows_for(model, observed=nets.values(2, 3))
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(rs.DataError, match=r"`initial_state=Learned\(\)` takes no observed values"):
            method(windows)


@pytest.mark.parametrize(
    ("kind", "shape", "text"),
    [
        ("observed", (3, 5), r"must have shape \(batch, 2\), as before. Received: 5 values per row"),
        ("observed", (3, 2, 1), r"must have shape \(batch, values\). Received: shape=\(3, 2, 1\)"),
        (
            "given",
            (3, 7),
            r"packed state must have shape \(batch, 5\): \[5\] values of \['gru/h'\]. Received: shape=\(3, 7\)",
        ),
    ],
)
def test_known_values_of_a_wrong_shape(kind, shape, text):
    """Known values of another shape than before, or than the leaves, are refused with both."""
    with pytest.raises(rs.StateShapeError, match=text):
        model_of(kind).initial_state(3, observed=nets.values(*shape))


def test_known_values_of_another_number_of_rows():
    """Known values for another number of rows are refused, never broadcast."""
    for kind in ("observed", "given"):
        model = model_of(kind)
        with pytest.raises(rs.StateShapeError, match="3"):
            model.initial_state(3, observed=observed_for(model, 1))


def some_leaves(kind, leaves, **kwargs):
    """Return a model of two layers whose initial state computes some leaves alone, with random weights."""
    start = {"observed": initial.Observed, "bridge": initial.Bridge, "learned": initial.Learned}[kind](
        leaves=leaves, **kwargs
    )
    model = rs.StatefulModel(nets.randomized(nets.two_layers()), initial_state=start)
    if kind != "learned":
        start.observe(2)
    return model, nets.randomized(start, 5)


@pytest.mark.parametrize("kind", ["observed", "bridge", "learned"])
def test_some_leaves(kind, tmp_path):
    """The named leaves are computed, the others start from the layer's own state, and a `.keras` file keeps the choice."""
    whole, start = some_leaves(kind, None)
    assert "leaves" not in start.get_config()
    for leaves, computed in ((["lstm/c"], {"lstm/c"}), (["gru", "lstm/h"], {"gru/h", "lstm/h"})):
        model, start = some_leaves(kind, leaves)
        assert len(start.trainable_variables) == len(computed) * (1 if kind == "learned" else 2)
        known = observed_for(model, 7)
        state = model.initial_state(7, observed=known)
        assert {name for name, leaf in state.items() if np.abs(nets.host(leaf)).max() > 0} == computed
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        assert difference(loaded.initial_state(7, observed=known), state) < TOLERANCE
    assert all(np.abs(nets.host(leaf)).max() > 0 for leaf in whole.initial_state(7, observed=known).values())


@pytest.mark.parametrize("kind", ["observed", "learned"])
def test_some_leaves_learn(kind):
    """`fit` trains what computes the named leaves."""
    model, start = some_leaves(kind, ["lstm"])
    before = [nets.host(variable).copy() for variable in start.trainable_variables]
    policies.trained(model, windows_for(model))
    assert (
        min(np.abs(nets.host(v) - old).max() for v, old in zip(start.trainable_variables, before, strict=True)) > 1e-6
    )


@pytest.mark.once
@pytest.mark.parametrize(
    ("leaves", "text"),
    [
        (["lstm/x"], "name some of the leaves `lstm/h`, `lstm/c`, `gru/h`, or their layers. Received: `lstm/x`"),
        ([], "Received: an empty list"),
        ("lstm", "must be a list of names, such as .*Received: leaves='lstm'"),
    ],
)
def test_unknown_leaves(leaves, text):
    """A name that is no leaf and no layer is refused with those there are."""
    for kind in ("observed", "learned"):
        with pytest.raises(rs.StateStructureError, match=text):
            some_leaves(kind, leaves)
