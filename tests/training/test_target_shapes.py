"""Targets of another shape than their output are refused where an elementwise loss would broadcast them."""

import keras
import numpy as np
import pytest
from keras import layers, losses, ops

import nets
import rnnstate as rs
from fitting import weights_of
from nets import difference

ROWS, STEPS, LENGTH = 3, 14, 7


def net_of(units=1, sequences=True, activation=None):
    """Return a network with one output."""
    return keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.GRU(5, return_sequences=sequences),
            layers.Dense(units, activation=activation, name="out"),
        ]
    )


def windows_of(y, **kwargs):
    """Return windows with these targets of all rows."""
    return rs.Windows(nets.values(ROWS, STEPS, 2), y, length=LENGTH, batch_size=ROWS, **kwargs)


def targets(*shape):
    """Return targets between 0 and 1, as some losses ask."""
    return np.clip(np.abs(nets.values(ROWS, STEPS, *shape, seed=3)), 0.1, 0.9)


def model_of(net, loss, **kwargs):
    """Return a compiled model."""
    model = rs.StatefulModel(net)
    model.compile(keras.optimizers.SGD(0.01), loss, **kwargs)
    return model


STRINGS = [
    "mse",
    "mae",
    "mape",
    "msle",
    "huber",
    "log_cosh",
    "kld",
    "poisson",
    "cosine_similarity",
    "hinge",
    "MeanSquaredError",
]
CLASSES = [
    losses.MeanSquaredError(),
    losses.Huber(0.5),
    losses.CosineSimilarity,
    losses.BinaryCrossentropy(from_logits=True),
]
FUNCTIONS = [losses.mean_squared_error, losses.binary_crossentropy, losses.squared_hinge]


def named(loss):
    """Return the name of a test."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


@pytest.mark.parametrize("loss", [*STRINGS, *CLASSES, *FUNCTIONS], ids=named)
def test_two_columns_for_one(loss):
    """The output, both shapes and the loss are named, by `fit`, `evaluate` and validation; no weight has moved."""
    model = model_of(net_of(activation="sigmoid"), loss)
    model.fit(windows_of(targets(1)), verbose=0)
    before, states = weights_of(model), model.states.read()
    text = r"shape of the output, \(batch, time, 1\), because the loss `\w+` pairs.*Received: batch shape \(3, 7, 2\)"
    for run in (model.fit, model.evaluate, lambda x, **_: model.fit(windows_of(targets(1)), validation_data=x)):
        with pytest.raises(rs.DataError, match=text):
            run(windows_of(targets(2)), verbose=0)
    with pytest.raises(rs.DataError, match=text):
        model.train_on_batch(*windows_of(targets(2))[0])
    assert difference(weights_of(model), before) == 0
    assert model.states.read() == states


WRONG = {
    "one column for three": (net_of(3), targets(1), {}, r"\(batch, time, 3\).*\(3, 7, 1\)"),
    "no column for three": (net_of(3), targets(), {}, r"\(batch, time, 3\).*\(3, 7\)"),
    "one more axis": (net_of(3), targets(1, 3), {}, r"\(batch, time, 3\).*\(3, 7, 1, 3\)"),
    "per window": (net_of(1, False), targets(2), {"targets": "last"}, r"\(batch, 1\).*\(3, 2\)"),
    "per window, one for two": (net_of(2, False), targets(1), {"targets": "last"}, r"\(batch, 2\).*\(3, 1\)"),
    "per window, none for three": (net_of(3, False), targets(), {"targets": "last"}, r"\(batch, 3\).*\(3,\)"),
}


@pytest.mark.parametrize(("net", "y", "kwargs", "text"), WRONG.values(), ids=WRONG)
def test_other_shapes(net, y, kwargs, text):
    """What would be broadcast along an axis, in either direction, is refused."""
    with pytest.raises(rs.DataError, match=text):
        model_of(net, "mse").fit(windows_of(y, **kwargs), verbose=0)


def skipping(y_true, y_pred):
    """Return a loss for targets that hold the weight of each target in a second column."""
    return ops.mean(y_true[..., 1:] * ops.square(y_true[..., :1] - y_pred), axis=-1)


class Skipping(rs.StatefulModel):
    """A model with a loss that reads the first column alone."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of the first column."""
        return super().compute_loss(x, y[..., :1], y_pred, sample_weight, training)


CLASSES_OF_STEPS = np.arange(ROWS * STEPS).reshape(ROWS, STEPS) % 4
RIGHT = {
    "without the last axis": (net_of(), targets(), {}, "mse"),
    "with the last axis": (net_of(), targets(1), {}, "mse"),
    "with one more axis": (net_of(), targets(1, 1), {}, "mse"),
    "three columns": (net_of(3), targets(3), {}, losses.MeanAbsoluteError()),
    "per window": (net_of(1, False), targets(), {"targets": "last"}, "mse"),
    "weights": (net_of(), targets(1), {"sample_weight": targets()}, "mse"),
    "classes": (net_of(4), CLASSES_OF_STEPS, {}, losses.SparseCategoricalCrossentropy(from_logits=True)),
    "classes with an axis": (net_of(4, activation="softmax"), CLASSES_OF_STEPS[..., None], {}, "crossentropy"),
    "one-hot": (net_of(4, activation="softmax"), np.eye(4)[CLASSES_OF_STEPS], {}, "categorical_crossentropy"),
    "a loss of a user": (net_of(), targets(2), {}, skipping),
    "two losses": (net_of(), targets(2), {}, [skipping]),
}


@pytest.mark.parametrize(("net", "y", "kwargs", "loss"), RIGHT.values(), ids=RIGHT)
def test_what_keras_takes_trains(net, y, kwargs, loss):
    """Negative control: none of these is refused."""
    model = model_of(net, loss)
    model.fit(windows_of(y, **kwargs), verbose=0)
    assert np.isfinite(model.evaluate(windows_of(y, **kwargs), verbose=0))


def test_a_model_with_a_loss_of_its_own():
    """Targets of a subclass that computes its loss may have any shape."""
    model = Skipping(net_of())
    model.compile("sgd", "mse")
    history = model.fit(windows_of(targets(2)), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def two_outputs():
    """Return a network with an output of one value and one of three, per step."""
    x = keras.Input((None, 2))
    h = layers.GRU(5, return_sequences=True)(x)
    return keras.Model(x, {"one": layers.Dense(1, name="one")(h), "three": layers.Dense(3, name="three")(h)})


@pytest.mark.parametrize("loss", ["mse", {"one": "mse", "three": "mae"}, ["mse", "mse"]], ids=str)
def test_several_outputs(loss):
    """The output is named. Right shapes, and another order of the names, train."""
    model = model_of(two_outputs(), loss)
    with pytest.raises(rs.DataError, match=r"output for `three`, \(batch, time, 3\).*batch shape \(3, 7, 1\)"):
        model.fit(windows_of({"three": targets(1), "one": targets(1)}, by="input"), verbose=0)
    model.fit(windows_of({"three": targets(3), "one": targets()}, by="input"), verbose=0)


def test_the_loss_of_one_output():
    """A loss of a user for one output says nothing about the other one."""
    model = model_of(two_outputs(), {"one": skipping, "three": "mse"})
    model.fit(windows_of({"one": targets(2), "three": targets(3)}, by="input"), verbose=0)
    with pytest.raises(rs.DataError, match=r"output for `three`"):
        model.fit(windows_of({"one": targets(2), "three": targets(2)}, by="input"), verbose=0)


class Own(keras.utils.PyDataset):
    """Batches that a user made, whose targets have one step, or one row, for all."""

    def __init__(self, cut):
        super().__init__()
        self.windows, self.cut = windows_of(targets(1)), cut
        self.keys = self.windows.keys

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        inputs, y = self.windows[index]
        return {**inputs, "start": self.windows.plan.start[index].astype("int32")}, y[self.cut]


@pytest.mark.parametrize(("cut", "shape"), [(np.s_[:, :1], r"\(3, 1, 1\)"), (np.s_[:1], r"\(1, 7, 1\)")])
def test_batches_of_a_user(cut, shape):
    """One target for all steps or all rows is refused."""
    model = model_of(net_of(), "mse")
    with pytest.raises(rs.DataError, match=rf"\(batch, time, 1\).*Received: batch shape {shape}"):
        model.fit(Own(cut), verbose=0)
    model.fit(Own(np.s_[:]), verbose=0)
