"""`repair`: stateful layers that carry in `fit`, `evaluate` and `predict` on every backend, with the same weights."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import nets
import rnnstate as rs
import stateful_nets as models
from rnnstate.errors import StateStructureError, UnsupportedModelError

BATCH, TIME, CUTS = models.BATCH, 11, [(0, 4), (4, 8), (8, 11)]

every_net = pytest.mark.parametrize("build", models.LEAVES, ids=lambda build: build.__name__)


def series_for(model):
    """Return one random sequence per row, in the shape that the model takes."""
    return nets.values(BATCH, TIME, *model.inputs[0].shape[2:], seed=3)


def whole(model, x):
    """Return one pass of a stock model, called directly, over whole sequences from the initial state."""
    return nets.host(model(x))


def in_windows(model, x, between=lambda: None):
    """Return the outputs of `predict`, one window after another."""
    outputs = []
    for start, end in CUTS:
        outputs.append(model.predict(x[:, start:end], batch_size=BATCH, verbose=0))
        between()
    return np.concatenate(outputs, axis=1)


@every_net
def test_windows_through_predict_equal_the_whole(build):
    """Windows carried from call to call give the outputs of one pass. With a reset between windows they do not."""
    stock = build()
    model = rs.repair(stock)
    x = series_for(stock)
    expected = whole(stock, x)
    assert nets.difference(in_windows(model, x), expected) < 1e-6
    rs.reset(model)
    assert nets.difference(in_windows(model, x, between=lambda: rs.reset(model)), expected) > 1e-2


def test_stock_layers_carry_nothing_on_jax():
    """The control: windows of a stock model equal one pass on PyTorch and TensorFlow, but not on JAX."""
    stock = models.lstm()
    x = series_for(stock)
    carried = in_windows(stock, x)
    difference = nets.difference(carried, whole(models.lstm(), x))
    assert (difference > 1e-2) if models.on_jax() else (difference < 1e-6)


def adding_up(units=1):
    """Return a model whose output is its state plus the sum of its inputs. Its losses show from which state it started."""
    layer = layers.SimpleRNN(
        units,
        activation="linear",
        kernel_initializer="ones",
        recurrent_initializer="ones",
        use_bias=False,
        stateful=True,
        name="rnn",
    )
    model = rs.repair(keras.Sequential([keras.Input(batch_shape=(2, None, 1)), layer]))
    model.compile(keras.optimizers.SGD(0.0), loss=lambda y, y_pred: ops.mean(y_pred))
    return model


class Losses(keras.callbacks.Callback):
    """Records the loss of each batch, where Keras logs the mean since the beginning of the epoch."""

    def __init__(self):
        super().__init__()
        self.values = []
        self.sum = 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.values.append(round(total - self.sum))
        self.sum = total

    def on_epoch_end(self, epoch, logs=None):
        self.sum = 0.0


def fit_ones(model, *callbacks, epochs=1):
    """Train on three batches of ones and return the loss of each batch."""
    losses = Losses()
    ones = np.ones((6, 1, 1), "float32")
    model.fit(ones, ones[:, 0], batch_size=2, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks, losses])
    return losses.values


def test_fit_carries():
    """Each batch of `fit` starts from the state in which the previous batch ended, also across epochs."""
    assert fit_ones(adding_up(), epochs=2) == [1, 2, 3, 4, 5, 6]


def test_fit_starts_from_what_was_written_and_what_was_reset():
    """A model that was already compiled and trained starts from a written state, and from zero after a reset."""
    model = adding_up()
    fit_ones(model)
    rs.write(model, {"rnn/h": np.array([[50.0], [70.0]])})
    assert fit_ones(model) == [61, 62, 63]
    rs.reset(model)
    assert fit_ones(model) == [1, 2, 3]


@pytest.mark.parametrize("through", ["self.model", "a closure"])
def test_a_state_written_in_a_callback_is_what_the_step_starts_from(through):
    """A batch starts from the state that a callback sets before it, whichever way the callback reaches the model."""
    model = adding_up()

    class Set(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            target = self.model if through == "self.model" else model
            rs.write(target, {"rnn/h": np.full((2, 1), 100.0 * (batch + 1))})

    assert fit_ones(model, Set(), epochs=2) == [101, 201, 301, 101, 201, 301]


def test_a_state_read_in_a_callback_is_that_after_the_step():
    """After a batch, a callback reads the state in which that batch ended."""
    model, seen = adding_up(), []

    class Read(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(rs.read(self.model)["rnn/h"][0, 0]))

    fit_ones(model, Read())
    assert seen == [1.0, 2.0, 3.0]


def test_evaluate_carries():
    """`evaluate` carries too, from the state in which `predict` ended: both share one state, as in Keras."""
    model = adding_up()
    ones = np.ones((6, 1, 1), "float32")
    assert model.predict(ones, batch_size=2, verbose=0)[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert model.evaluate(ones, ones[:, 0], batch_size=2, verbose=0) == pytest.approx(5.0)  # of 4, 5 and 6


@pytest.mark.parametrize("build", [models.lstm, models.gru, models.stack, models.conv, models.nested, models.both_ways])
def test_repaired_models_train(build):
    """Training reaches every weight, on PyTorch too, and lowers the loss."""
    model = rs.repair(build())
    model.compile("sgd", "mse")
    x = series_for(model)
    before, targets, losses = model.get_weights(), whole(build(), x) + 1.0, []
    for _ in range(2):
        rs.reset(model)
        losses.append(float(model.train_on_batch(x, targets)))
    assert losses[1] < losses[0] == pytest.approx(1.0, abs=1e-5)
    assert all((one != other).any() for one, other in zip(before, model.get_weights(), strict=True))


def test_training_equals_that_of_a_stateful_model():
    """A repaired model and a StatefulModel, trained on the same windows, end with the same weights and states."""
    x, targets = nets.values(BATCH, 12, 2), nets.values(BATCH, 12, 7, seed=2)
    repaired, explicit = rs.repair(models.lstm_gru()), rs.StatefulModel(models.lstm_gru())
    for model in (repaired, explicit):
        model.compile(keras.optimizers.SGD(0.1), "mse")
    for start in (0, 4, 8):
        repaired.train_on_batch(x[:, start : start + 4], targets[:, start : start + 4])
    explicit.fit(rs.Windows(x, targets, length=4, batch_size=BATCH), verbose=0)
    pairs = zip(repaired.get_weights(), explicit.net.get_weights(), strict=True)
    assert max(nets.difference(one, other) for one, other in pairs) < 1e-6
    assert nets.difference(rs.read(repaired), explicit.states.read(range(BATCH))) < 1e-6


def test_stock_training_on_each_backend():
    """The control: the audit says that stock training crashes exactly where it does."""
    stock = models.lstm()
    stock.compile("sgd", "mse")
    x = series_for(stock)
    crashes = any(finding.code == "training-crashes" for finding in rs.audit(stock))
    if crashes:
        with pytest.raises(RuntimeError, match="inplace"):
            stock.fit(x, x[..., :1], batch_size=BATCH, epochs=2, verbose=0)
    else:
        stock.fit(x, x[..., :1], batch_size=BATCH, epochs=2, verbose=0)
    assert not crashes or keras.config.backend() == "torch"


@every_net
def test_weights_are_shared(build):
    """Both models have one set of weights: equal, in the same order, and training one changes the other."""
    stock = build()
    model = rs.repair(stock)
    assert all(np.array_equal(one, other) for one, other in zip(stock.get_weights(), model.get_weights(), strict=True))
    assert model.count_params() == stock.count_params()
    model.compile("sgd", "mse")
    before = stock.get_weights()
    x = series_for(stock)
    model.train_on_batch(x, whole(build(), x) + 1.0)
    assert all((one != other).any() for one, other in zip(before, stock.get_weights(), strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(stock.get_weights(), model.get_weights(), strict=True))


def test_the_original_is_not_changed():
    """The stock model keeps its state, and the repaired model does not change it."""
    stock = models.lstm()
    model = rs.repair(stock)
    rs.write(model, models.random_state(models.LEAVES[models.lstm]))
    model.predict(series_for(stock), batch_size=BATCH, verbose=0)
    assert all(nets.difference(variable, np.zeros((BATCH, 5))) == 0 for variable in stock.layers[0].states)


@every_net
def test_saved_models_keep_their_states(build, tmp_path):
    """A `.keras` file gives back weights and states, and the loaded model carries on from them."""
    model = rs.repair(build())
    rs.write(model, models.random_state(models.LEAVES[build]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert rs.read(loaded) == rs.read(model)
    x = series_for(model)[:, :4]
    predictions = [m.predict(x, batch_size=BATCH, verbose=0) for m in (model, loaded)]
    assert nets.difference(*predictions) == 0
    assert rs.read(loaded) == rs.read(model)


def test_bidirectional_carries_forward_only():
    """The forward half equals that of the whole sequence. The backward half equals that of each window alone."""
    stock = models.both_ways()
    model = rs.repair(stock)
    x = series_for(stock)
    y = in_windows(model, x)
    assert nets.difference(y[..., :5], whole(stock, x)[..., :5]) < 1e-6
    alone = [whole(models.both_ways(), x[:, start:end])[..., 5:] for start, end in CUTS]
    assert nets.difference(y[..., 5:], np.concatenate(alone, axis=1)) < 1e-6


def test_masked_steps_leave_the_state():
    """The state after a window is the state of its last valid step."""
    model = rs.repair(models.net(layers.Masking(), layers.LSTM(5, stateful=True, return_sequences=True, name="lstm")))
    x = nets.values(BATCH, 7, 2)
    model.predict(x[:, :4], batch_size=BATCH, verbose=0)
    expected = rs.read(model)
    rs.reset(model)
    model.predict(np.concatenate([x[:, :4], np.zeros((BATCH, 3, 2), "float32")], 1), batch_size=BATCH, verbose=0)
    assert nets.difference(rs.read(model), expected) < 1e-6


def test_mixed_precision_keeps_states_in_float32():
    """Under mixed precision the states stay float32, and are carried."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = rs.repair(models.lstm())
    x = series_for(model)
    model.predict(x, batch_size=BATCH, verbose=0)
    state = rs.read(model)
    assert {str(value.dtype) for value in state.values()} == {"float32"}
    assert all(np.abs(value).max() > 1e-2 for value in state.values())


def test_only_stateful_layers_are_repaired():
    """A layer that is not stateful stays as it is, and its state stays fresh."""
    first = layers.LSTM(5, return_sequences=True, name="fresh")
    model = rs.repair(models.net(first, layers.GRU(7, stateful=True, name="gru")))
    assert model.layers[0] is first
    assert list(rs.read(model)) == ["gru/h"]


def test_what_cannot_be_repaired():
    """A model without stateful layers, a subclassed model and a stateful backward layer are refused with a hint."""
    with pytest.raises(StateStructureError, match=r"without any.*rnnstate\.StatefulModel"):
        rs.repair(nets.lstm())
    with pytest.raises(UnsupportedModelError, match=r"a subclassed model of class Subclassed.*keras\.Model\(inputs"):
        rs.repair(models.subclassed())
    with pytest.raises(UnsupportedModelError, match=r"`back` runs backward.*`stateful=False`"):
        rs.repair(models.net(layers.LSTM(5, stateful=True, go_backwards=True, name="back")))


def test_a_repaired_model_is_a_network_like_any_other():
    """A repaired model can be repaired again or become a StatefulModel, and both share its weights."""
    stock = models.nested()
    repaired = rs.repair(stock)
    x = series_for(stock)
    expected = whole(stock, x)
    assert nets.difference(in_windows(rs.repair(repaired), x), expected) < 1e-6
    model = rs.StatefulModel(repaired)
    assert list(model.state_spec) == list(models.LEAVES[models.nested])
    assert nets.difference(model.step(x, model.initial_state(BATCH))[0], expected) < 1e-6
