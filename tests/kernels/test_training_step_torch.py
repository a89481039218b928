"""Law: on PyTorch a traced training step gives bit for bit what Keras' step gives, and what it cannot give runs as it is."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
from fitting import targets_of, weights_of
from rnnstate.kernels import kernels
from traced_steps import UNITS, assert_same, data_of, net_of, resets_of, trained, untraced

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="these steps run on PyTorch alone")
if keras.config.backend() == "torch":
    from rnnstate.kernels.loops import blocks_torch
    from rnnstate.kernels.step import whole_torch

KINDS = {
    "plain": {},
    "padded": {"lengths": (35, 24)},
    "resets": {"resets": resets_of((35, 35))},
    "padded resets": {"lengths": (35, 24), "resets": resets_of((35, 24))},
    "steps before": {"burn_in": 3},
    "context": {"back": 11},
    "weights": {"sample_weight": {key: nets.values(len(x), seed=4) ** 2 for key, x in nets.series((35, 35)).items()}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_a_traced_step_is_the_step(cell, kind, kept, monkeypatch):
    """Weights, states and losses are those of Keras' steps, bit for bit."""
    found = trained(lambda: net_of(cell=cell), data_of(**KINDS[kind]), metrics=["mae"])
    assert set(kept) == {"resident"}
    untraced(monkeypatch)
    expected = trained(lambda: net_of(cell=cell), data_of(**KINDS[kind]), metrics=["mae"])
    assert_same(found, expected)
    other = trained(lambda: net_of(cell=cell), data_of(**KINDS[kind]), loss="mae", metrics=["mae"])
    assert not np.array_equal(found["0"], other["0"])  # the control: training depends on the loss


@pytest.mark.parametrize("start", ["learned", "observed"])
def test_initial_states_are_trained(start, kept, monkeypatch):
    """Gradients flow into an initial state that is learned, and into one that is computed from observed values."""
    data = nets.series((35, 35))
    known = {"observed": {key: nets.values(2, seed=8) for key in data}} if start == "observed" else {}
    layer = {"learned": rs.initial.Learned, "observed": rs.initial.Observed}[start]
    windows = data_of(resets=resets_of((35, 35)), **known) if start == "learned" else data_of(**known)
    found = trained(net_of, windows, initial_state=layer())
    assert kept == ["resident"]
    untraced(monkeypatch)
    assert_same(found, trained(net_of, windows, initial_state=layer()))


def test_frozen_and_backward_layers(kept, monkeypatch):
    """A layer that is not trained keeps its weights, and a layer may run in both directions."""

    def build():
        frozen = layers.GRU(UNITS, return_sequences=True, name="frozen")
        frozen.trainable = False
        both = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), name="both")
        return net_of(frozen, both, layers.Dense(UNITS, kernel_constraint="max_norm", bias_regularizer="l2"))

    found = trained(build, data_of())
    assert kept == ["resident"]
    untraced(monkeypatch)
    assert_same(found, trained(build, data_of()))


def test_without_native_loops(kept, monkeypatch):
    """PyTorch's own loop runs as one operator. Its backward pass has no operator, so autograd runs it."""
    monkeypatch.setenv("RNNSTATE_NATIVE", "off")
    blocks_torch.has_library.cache_clear()
    found = trained(net_of, data_of())
    assert kept == ["forward"]
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of()))
    blocks_torch.has_library.cache_clear()


def test_a_wrong_trace_is_not_kept(kept, monkeypatch):
    """The control of the rehearsal: a trace whose result differs in one bit is dropped, and the next one serves."""
    run = whole_torch.Whole.run

    def wrong(step, arrays):
        logs, gradients = run(step, arrays)
        return logs, [gradients[0] * (1 + 2**-23), *gradients[1:]]

    monkeypatch.setattr(whole_torch.Whole, "run", wrong)
    found = trained(net_of, data_of())
    assert kept == ["forward"]
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of()))


def two_outputs():
    """Return a network with two inputs of a layer, averages of batches, and two outputs."""
    x = nets.series_input()
    h = layers.BatchNormalization()(layers.GRU(UNITS, return_sequences=True, name="loop")(x))
    mixed = layers.Concatenate()([layers.LayerNormalization()(h), x])
    return keras.Model(x, {"one": layers.Dense(3, name="one")(h), "two": layers.Dense(3, name="two")(mixed)})


def test_averages_and_several_outputs(kept, monkeypatch):
    """Moving averages are assigned, and each output has its loss."""
    data = nets.series((35, 35))
    targets = {name: targets_of(data, 3, seed=seed) for name, seed in (("one", 3), ("two", 4))}
    windows = rs.Windows(data, targets, length=7, batch_size=2)
    found = trained(two_outputs, windows, loss={"one": "mse", "two": "mae"}, loss_weights={"one": 0.3, "two": 1.7})
    assert kept == ["resident"]
    untraced(monkeypatch)
    assert_same(
        found, trained(two_outputs, windows, loss={"one": "mse", "two": "mae"}, loss_weights={"one": 0.3, "two": 1.7})
    )


class Counting(layers.Layer):
    """A layer of a user, which counts its calls."""

    calls = 0

    def call(self, x):
        """Return the input."""
        Counting.calls += 1
        return x

    def compute_output_shape(self, shape):
        """Return it."""
        return shape


def counting_loss(y_true, y_pred):
    """Count the calls of a loss of a user."""
    Counting.calls += 1
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    "given",
    [
        {"build": lambda: net_of(Counting())},
        {"build": lambda: net_of(layers.Activation(lambda x: Counting()(x)))},
        {"build": lambda: net_of(layers.Lambda(lambda x: Counting()(x), output_shape=(None, UNITS)))},
        {"build": net_of, "loss": counting_loss},
        {"build": net_of, "loss": keras.losses.MeanAbsoluteError(), "metrics": [counting_loss]},
    ],
    ids=["layer", "activation", "lambda", "loss", "metric"],
)
def test_code_of_a_user_runs_at_each_step(given, kept):
    """Three epochs of five steps are fifteen calls, beside those that build the network."""
    Counting.calls = 0
    trained(**given, windows=data_of())
    assert Counting.calls >= 15
    assert kept == []


def test_a_step_of_a_user_runs_at_each_step(kept):
    """So do a `train_step` of a subclass, the hooks of PyTorch, and each step with `run_eagerly=True`."""

    class Own(rs.StatefulModel):
        steps = 0

        def train_step(self, data):
            Own.steps += 1
            return super().train_step(data)

    seen = []
    model, hooked, eager = (kind(nets.randomized(net_of())) for kind in (Own, rs.StatefulModel, rs.StatefulModel))
    hooked.net.layers[-1].register_forward_hook(lambda *_: seen.append(1))
    for one in (model, hooked, eager):
        one.compile("adam", "mse", run_eagerly=one is eager)
        one.fit(data_of(), epochs=3, verbose=0)
    assert Own.steps == 15
    assert len(seen) >= 15
    assert kept == []


def with_dropout(rate=0.5):
    """Return a network that drops values of layers, inputs of loops, and h within a loop."""
    drops = {"dropout": 0.3, "return_sequences": True}
    looped = layers.GRU(UNITS, name="gru", **drops), layers.LSTM(UNITS, name="lstm", recurrent_dropout=0.2, **drops)
    return net_of(layers.Dropout(rate), *looped, layers.Dropout(0.2))


def test_dropout_is_drawn_at_each_step(kept, monkeypatch):
    """Each step draws new numbers from PyTorch's generator, in the order in which Keras draws them."""
    found = trained(with_dropout, data_of(burn_in=3))
    drawn = kernels().random_state()["cpu"]
    assert kept == ["resident"]
    untraced(monkeypatch)
    assert_same(found, trained(with_dropout, data_of(burn_in=3)))
    assert np.array_equal(drawn, kernels().random_state()["cpu"])  # the generator went on by as many numbers
    assert not np.array_equal(found["0"], trained(lambda: with_dropout(0.4), data_of(burn_in=3))["0"])  # the control


@pytest.mark.parametrize(
    "layer",
    [lambda: layers.GaussianNoise(0.5, seed=1), lambda: layers.Dropout(0.5, noise_shape=(None, 1, UNITS), seed=1)],
)
def test_numbers_of_own_generators_are_drawn_at_each_step(layer, kept, monkeypatch):
    """Where Keras makes a generator from a seed, it runs each step itself."""
    found = trained(lambda: net_of(layer()), data_of())
    assert kept == [None]
    untraced(monkeypatch)
    assert_same(found, trained(lambda: net_of(layer()), data_of()))


def test_a_changed_layer_is_noticed(kept, monkeypatch):
    """A callback changes a layer between two steps. The next step has the change, and is traced anew later."""

    def build():
        nonlocal net
        net = net_of()
        return net

    def change(epoch, logs=None):
        if epoch == 1:
            net.layers[-1].activation = keras.activations.tanh

    net = None
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=change)]
    found = trained(build, data_of(), callbacks)
    assert kept == ["resident", "resident"]
    untraced(monkeypatch)
    assert_same(found, trained(build, data_of(), callbacks))
    assert not np.array_equal(found["0"], trained(build, data_of())["0"])  # the control: the change changes something


def test_code_that_a_layer_gets_later_runs_at_each_step(kept):
    """A callback gives a layer a function of the user. The trace before it is no longer used, and no other one is kept."""

    def counted(x):
        Counting.calls += 1
        return x

    def change(epoch, logs=None):
        if epoch == 1:
            net.layers[-1].activation = counted

    net, Counting.calls = net_of(), 0
    trained(lambda: net, data_of(), [keras.callbacks.LambdaCallback(on_epoch_begin=change)])
    assert kept == ["resident", None]
    assert Counting.calls == 10


def test_a_training_that_goes_on_is_the_whole_training(tmp_path, kept, monkeypatch):
    """A checkpoint before the trace and one after it go on to the same bits. A trace of its own follows."""
    found = []
    for folder, stops in (("whole", [4]), ("parts", [1, 3, 4])):
        for until in stops:
            keras.utils.set_random_seed(3)
            model = rs.StatefulModel(nets.randomized(net_of()))
            model.compile("adam", "mse")
            model.fit(data_of((35,)), epochs=until, verbose=0, checkpoint=str(tmp_path / folder))
        found.append(weights_of(model))
    assert set(kept) == {"resident"}
    assert_same(*found)


def test_gradients_stay_with_the_variables(kept):
    """After a traced step, PyTorch's gradients are those of this step, as a callback may read them."""
    norms = []

    def note(batch, logs=None):
        norms.append([float(ops.norm(variable.value.grad)) for variable in model.trainable_variables])

    keras.utils.set_random_seed(3)
    model = rs.StatefulModel(nets.randomized(net_of()))
    model.compile("adam", "mse")
    model.fit(data_of(), epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)])
    assert kept == ["resident"]
    assert len({tuple(norm) for norm in norms}) == 10


def test_single_batches(kept, monkeypatch):
    """`train_on_batch` runs the same steps."""
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model, windows = rs.StatefulModel(nets.randomized(net_of())), data_of()
        model.compile("adam", "mse")
        losses = [model.train_on_batch(*windows[i]) for _ in range(2) for i in range(len(windows))]
        found.append({**weights_of(model), "losses": np.array(losses)})
        untraced(monkeypatch)
    assert kept == ["resident"]
    assert_same(*found)
