"""Law: nothing silent. What is wrong raises before anything is changed, and says where, what, and what to do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from fitting import targets_of, weights_of, windows_of
from nets import difference
from rnnstate.kernels import kernels

SHAPES = {"lstm/h": 5, "lstm/c": 5, "gru/h": 3}


def good(batch=3):
    """Return a state that fits `two_layers`."""
    return {leaf: nets.values(batch, units, seed=i) for i, (leaf, units) in enumerate(SHAPES.items())}


@pytest.fixture(scope="module")
def trained():
    """Return a model of two layers that has been trained on the usual windows."""
    model = nets.make(nets.two_layers)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(windows_of(1), verbose=0)
    return model


@pytest.fixture
def unchanged(trained):
    """Fail if a test changes a weight or a state of the trained model."""
    weights, states, keys = weights_of(trained), trained.states.read(), trained.states.keys
    yield trained
    assert difference(weights_of(trained), weights) == 0
    assert trained.states.keys == keys
    assert trained.states.read() == states


WRONG = [
    (lambda s: [s], rs.StateStructureError, r"mapping of leaf names.*`lstm/h`, `lstm/c`, `gru/h`. Received: list"),
    (
        lambda s: {**s, "lstm/x": s["lstm/h"]},
        rs.StateStructureError,
        r"must have the leaves `lstm/h`, `lstm/c`, `gru/h`. Received: unknown `lstm/x`",
    ),
    (
        lambda s: {**s, "gru/h": nets.values(3, 2)},
        rs.StateShapeError,
        r"`gru/h` must have shape \(batch=3, units=3\). Received: shape=\(3, 2\). To start from observed values of "
        r"another size, use `initial_state=rnnstate.initial.Observed\(\)`",
    ),
    (
        lambda s: {**s, "lstm/c": nets.values(1, 5)},
        rs.StateShapeError,
        r"`lstm/c` must have shape \(batch=3, units=5\). Received: shape=\(1, 5\). Give one row per sample",
    ),
    (
        lambda s: {**s, "lstm/c": nets.values(5)},
        rs.StateShapeError,
        r"`lstm/c` must have shape \(batch=3, units=5\). Received: shape=\(5,\)",
    ),
    (
        lambda s: {**s, "lstm/c": 0.5},
        rs.StateShapeError,
        r"`lstm/c` must have shape \(batch=3, units=5\). Received: shape=\(\)",
    ),
    (
        lambda s: {**s, "lstm/c": [[1.0, 2.0], [3.0]]},
        rs.StateShapeError,
        r"`lstm/c` must be an array. Received: .*inhomogeneous",
    ),
    (
        lambda s: {**s, "lstm/c": np.ones((3, 5), "int64")},
        rs.StateValueError,
        r'`lstm/c` must have a floating dtype \(float32\). Received: dtype=int64. Convert it with `.astype\("float32"\)`',
    ),
    (
        lambda s: {**s, "lstm/c": ops.ones((3, 5), "int32")},
        rs.StateValueError,
        r"`lstm/c` must have a floating dtype \(float32\). Received: dtype=int32",
    ),
    (
        lambda s: {**s, "gru/h": np.where(np.arange(9).reshape(3, 3) == 4, np.nan, 1.0)},
        rs.StateValueError,
        r"`gru/h` must hold finite values. Received: nan in row 1 \(1 of 9 values\)",
    ),
    (
        lambda s: {**s, "gru/h": np.full((3, 3), 1e60)},
        rs.StateValueError,
        r"`gru/h` must hold finite values. Received: 1e\+60 in row 0 \(9 of 9 values\)",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "text"), WRONG)
def test_a_wrong_leaf_changes_nothing(spoil, error, text, unchanged):
    """One wrong leaf is refused by `write`, `step` and `predict` alike; every state stays bit for bit as it was."""
    state = spoil(good())
    with pytest.raises(error, match=text):
        unchanged.states.write(["k2", "new", "k0"], state)
    with pytest.raises(error, match=text):
        unchanged.step(nets.values(3, 7, 2), state)
    with pytest.raises(error, match=text):
        unchanged.predict(rs.Windows(nets.series([5, 4, 3]), length=3, batch_size=2), initial_state=state, verbose=0)


@pytest.mark.parametrize("spoil", [lambda value: value * np.nan, lambda value: value / 0])
def test_tensors_that_are_not_finite_are_not_written(spoil, unchanged):
    """`write` looks at the values of the backend's tensors too: it runs on the host, where they can be seen."""
    tensors = {leaf: ops.convert_to_tensor(value) for leaf, value in good().items()}
    tensors["gru/h"] = spoil(tensors["gru/h"])
    with pytest.raises(rs.StateValueError, match=r"`gru/h` must hold finite values"):
        unchanged.states.write(["k2", "new", "k0"], tensors)


def test_leaves_may_be_left_out_of_write_alone(unchanged):
    """`step` needs every leaf; unlisted leaves are listed, three at most."""
    state = {"lstm/h": good()["lstm/h"]}
    with pytest.raises(rs.StateStructureError, match=r"Received: no `lstm/c`, `gru/h`"):
        unchanged.step(nets.values(3, 7, 2), state)
    with pytest.raises(rs.StateStructureError, match=r"unknown `a`, `b`, `c`, ... \(4 in all\) and no `lstm/h`"):
        unchanged.step(nets.values(3, 7, 2), dict.fromkeys("abcd", 1.0))


def test_the_same_architecture_under_other_names(unchanged):
    """A state of a twin with other layer names is refused with the way to rename it."""
    spec = rs.StateSpec({"lstm_4/h": rs.LeafSpec((5,)), "lstm_4/c": rs.LeafSpec((5,)), "gru_9/h": rs.LeafSpec((3,))})
    other = dict(zip(spec, good().values(), strict=True))
    with pytest.raises(rs.StateStructureError, match=r"under other names: use `spec.adopt\(state\)`"):
        unchanged.step(nets.values(3, 7, 2), other)
    unchanged.step(nets.values(3, 7, 2), unchanged.state_spec.adopt(other))


def test_keys(unchanged):
    """Unknown and repeated keys are named, three at most, with the total."""
    with pytest.raises(rs.UnknownKeyError, match=r"^No state is known for 2 of 3 keys, first: `u7`, `9`. Known: `k0`"):
        unchanged.states.read(["u7", "k1", 9])
    with pytest.raises(rs.UnknownKeyError, match=r"No state is known for 1 of 1 keys, first: `u7`"):
        unchanged.states.reset("u7")
    with pytest.raises(rs.StateStructureError, match=r"Each key must be given once. Received: `k0`, `k1`, `k0`"):
        unchanged.states.write(["k0", "k1", "k0"], good())
    fresh = nets.make(nets.lstm)
    with pytest.raises(
        rs.UnknownKeyError, match=r"Known: no key yet. Train on these sequences, or `write` their state"
    ):
        fresh.states.read(["a"])


@pytest.mark.parametrize("name", ["mask", "reset"])
def test_flags_of_a_wrong_shape(name, unchanged):
    """A mask or a reset of another shape is refused, never broadcast."""
    with pytest.raises(rs.StateShapeError, match=rf"`{name}` must be boolean with shape \(3.*Received: shape=\(1,"):
        unchanged.step(nets.values(3, 7, 2), good(), **{name: np.ones((1, 7) if name == "mask" else (1,), bool)})


def test_data_that_are_no_windows(unchanged):
    """Arrays are refused by `fit`, `evaluate` and `predict`, with the way to wrap them."""
    x = nets.values(3, 7, 2)
    for method in ("fit", "evaluate", "predict"):
        with pytest.raises(
            rs.DataError, match=rf"`{method}` takes `rnnstate.Windows`.*shape \(3, 7, 2\). Write: model"
        ):
            getattr(unchanged, method)(x)
        with pytest.raises(rs.DataError, match=r"`x` must be `rnnstate.Windows`.*Received: generator. Wrap the data"):
            getattr(unchanged, method)(part for part in x)
    with pytest.raises(rs.DataError, match=r"`validation_data` must be `rnnstate.Windows`.*Received: tuple"):
        unchanged.fit(windows_of(1), validation_data=(x, x), verbose=0)


def test_shuffle_is_refused(unchanged):
    """Shuffled windows would start from the state of another time."""
    with pytest.raises(
        rs.DataError, match=r"`shuffle` must be False.*the state of another time. Received: shuffle=True"
    ):
        unchanged.fit(windows_of(1), shuffle=True)


@pytest.mark.parametrize(
    "extra",
    [{"y": 1}, {"batch_size": 3}, {"sample_weight": 1}, {"validation_split": 0.5}, {"validation_batch_size": 2}],
)
def test_what_belongs_to_windows(extra, unchanged):
    """Arguments that windows hold already are refused by name."""
    (name,) = extra
    with pytest.raises(rs.DataError, match=rf"(which hold targets|validation_split.* would cut).*Received: .*{name}"):
        unchanged.fit(windows_of(1), **extra)


def test_targets_that_do_not_fit(unchanged):
    """No targets, and targets of the other kind than the network's outputs, are refused: they would broadcast."""
    data = nets.series([10, 10])
    with pytest.raises(rs.DataError, match=r"`x` must have targets. Received: windows without `y`"):
        unchanged.fit(rs.Windows(data, length=5, batch_size=2))
    with pytest.raises(rs.DataError, match=r"`validation_data` must have targets"):
        unchanged.fit(windows_of(1), validation_data=rs.Windows(data, length=5, batch_size=2))
    per_window = rs.Windows(data, {key: nets.values(2, 1) for key in data}, length=5, batch_size=2)
    with pytest.raises(rs.DataError, match=r"one output per step, so targets must be per step.*batch shape \(2, 1\)"):
        unchanged.fit(per_window)


@pytest.mark.parametrize("shape", [(10, 2), (10,)])
def test_targets_per_step_for_a_network_per_window(shape):
    """Targets per step are refused by a network with one output per window, single numbers per step too."""
    model = nets.make(nets.last_step)
    model.compile("sgd", "mse")
    data = nets.series([10, 10])
    windows = rs.Windows(data, {key: nets.values(*shape) for key in data}, length=5, batch_size=2)
    with pytest.raises(rs.DataError, match=r"one output per window.*targets must be one per window.*targets=.last."):
        model.fit(windows)


def test_windows_of_another_length_than_the_network():
    """A network of a fixed number of steps takes windows of that length alone."""
    model = rs.StatefulModel(keras.Sequential([keras.Input((7, 2), name="x"), layers.GRU(3, return_sequences=True)]))
    with pytest.raises(rs.DataError, match=r"Windows must be 7 steps long.*Received: length=5. Use `length=7`"):
        model.predict(rs.Windows(nets.values(10, 2), length=5, batch_size=1))


def test_replicas_are_refused(unchanged, monkeypatch):
    """A strategy whose replicas would keep banks of their own is refused."""
    monkeypatch.setattr(kernels(), "has_replicas", lambda: True)
    with pytest.raises(rs.UnsupportedModelError, match=r"one copy of its bank. Received: a distribution strategy"):
        unchanged.predict(windows_of(1))


class Subclassed(keras.Model):
    """A network whose graph cannot be seen."""

    def __init__(self):
        super().__init__(name="hidden")
        self.lstm = layers.LSTM(3)

    def call(self, x):
        return self.lstm(x)


@keras.saving.register_keras_serializable("tests")
class Wrapping(layers.Layer):
    """A layer that hides a recurrent one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.GRU(3, return_sequences=True, name="inside")

    def call(self, x):
        return self.inner(x)


def encoder_decoder():
    """Return a network that hands one layer's state to another."""
    x = nets.series_input()
    _, h = layers.GRU(3, return_sequences=True, return_state=True, name="encoder")(x)
    return keras.Model(x, layers.GRU(3, return_sequences=True, name="decoder")(x, initial_state=h))


def sequential(*stack):
    """Return a network of these layers."""
    return keras.Sequential([nets.series_input(), *stack], name="net")


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (Subclassed, r"must be a Functional or Sequential Keras model.*Received: `hidden`, a subclassed.*Subclassed"),
        (lambda: layers.LSTM(3), r"must be a Functional or Sequential Keras model.*Received: LSTM. Build it with"),
        (lambda: keras.Sequential([layers.LSTM(3)], name="raw"), r"must be built. Received: `raw`.*keras.Input"),
        (lambda: sequential(layers.Dense(3)), r"at least one layer with a memory. Received: `net` without any"),
        (lambda: sequential(Wrapping(name="wrap")), r"Received: `inside` inside `wrap` \(Wrapping\).*register_port"),
        (
            lambda: keras.Sequential(
                [keras.Input(batch_shape=(3, 5, 2)), layers.GRU(3), layers.Reshape((3, 1)),
                 layers.GRU(3, go_backwards=True, stateful=True, name="back")]
            ),
            r"Layer `back` runs backward.*Received: stateful=True. Set `stateful=False`",
        ),
        (
            lambda: keras.Model(x := nets.series_input(), layers.Bidirectional(
                layers.GRU(3, return_state=True), name="both")(x)),
            r"Layer `both` must have `return_state=False`.*Received: return_state=True",
        ),
        (encoder_decoder, r"Layer `decoder` must take its state from the sequence.*`initial_state=`. Remove"),
    ],
)  # fmt: skip
def test_networks_out_of_reach(build, text):
    """A network whose state cannot be made explicit is refused, with what to do instead."""
    with pytest.raises(rs.UnsupportedModelError, match=text):
        rs.StatefulModel(build())


def test_unknown_initial_state():
    """`initial_state` is a known word or a layer."""
    with pytest.raises(ValueError, match=r'`initial_state` must be "zeros".*Received: initial_state=.ones.'):
        rs.StatefulModel(nets.lstm(), initial_state="ones")


def test_states_of_another_model_are_not_loaded(tmp_path):
    """A weights file of another model leaves the states of this one as they were."""
    other = nets.make(nets.gru)
    other.states.write(["a"], {})
    model = nets.make(nets.lstm)
    model.states.write(["b"], {"lstm/h": nets.values(1, 5)})
    before = model.states.read()
    store = {}
    other.save_own_variables(store)
    with pytest.raises((rs.SpecMismatchError, KeyError), match=r"leaf"):
        model.load_own_variables(store)
    assert model.states.keys == ("b",)
    assert model.states.read() == before
    store["leaf_0"] = np.zeros((1, 7), "float32")
    store["leaf_1"] = np.zeros((1, 7), "float32")
    with pytest.raises(
        rs.SpecMismatchError, match=r"leaf `lstm/h` of shape \(batch=1, units=5\). Received: .*\(1, 7\)"
    ):
        model.load_own_variables(store)
    assert model.states.read() == before


class Interrupt(keras.callbacks.Callback):
    """Stops like Ctrl-C does, at the first batch of a kind."""

    def on_predict_batch_begin(self, batch, logs=None):
        raise KeyboardInterrupt

    def on_test_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


class InterruptTraining(keras.callbacks.Callback):
    """Stops like Ctrl-C does, after some batches."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.batches:
            raise KeyboardInterrupt


def test_interrupted_inference_costs_nothing(unchanged):
    """`predict` and `evaluate` that are interrupted leave weights and training states bit for bit."""
    with pytest.raises(KeyboardInterrupt):
        unchanged.predict(windows_of(1), callbacks=[Interrupt()], verbose=0)
    assert unchanged.get_weights()
    with pytest.raises(KeyboardInterrupt):
        unchanged.evaluate(windows_of(1), callbacks=[Interrupt()], verbose=0)
    assert unchanged.get_weights()


def test_a_step_that_fails_costs_nothing(unchanged):
    """A `predict` and a `fit` that fail in their first step, here on wrong features, leave the model whole."""
    data = nets.series([10, 10], features=7)
    windows = rs.Windows(data, targets_of(data, 1), length=5, batch_size=2)
    for run in (unchanged.predict, unchanged.evaluate):
        with pytest.raises(Exception, match=r"(?s)(7|shape)"):  # each backend has words of its own
            run(windows, verbose=0)
    assert unchanged.get_weights()


def test_an_interrupted_fit_keeps_what_was_learnt():
    """After Ctrl-C in `fit`, weights and states are those after the last finished step, and training goes on."""
    windows = windows_of(1, (15, 15, 15))
    model = nets.make(nets.two_layers)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = weights_of(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(windows, callbacks=[InterruptTraining(2)], verbose=0)
    assert difference(weights_of(model), before) > 1e-4
    assert np.isfinite(model.states.read()["lstm/h"]).all()
    model.fit(windows, verbose=0)
    model.predict(windows, verbose=0)
