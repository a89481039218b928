"""`class_weight`: the weight of each target, also where there is one per step, and calls in Keras' own form."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from fitting import targets_of, weights_of, windows_of
from nets import difference
from rnnstate.training.class_weights import ClassWeights

TABLE = {0: 0.5, 2: 3.0}


def net(per_step=True, classes=3):
    """Return a classifier of three classes, per step or per window."""
    rnn = layers.GRU(3, return_sequences=per_step, name="gru")
    return keras.Sequential([nets.series_input(), rnn, layers.Dense(classes, activation="softmax")])


def test_weights_per_step_train_as_sample_weights():
    """`class_weight` gives the weights of `sample_weight` by hand; no weights give others. Both multiply."""
    data = nets.series((7, 5, 3))
    y = {key: np.random.default_rng(i).integers(0, 3, size=len(x)) for i, (key, x) in enumerate(data.items())}
    table = np.array([0.5, 1.0, 3.0], "float32")
    weights = []
    for sample_weight, class_weight in (({k: table[v] for k, v in y.items()}, None), (None, TABLE), (None, None)):
        model = nets.make(net)
        model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        windows = rs.Windows(data, y, length=5, batch_size=2, targets="steps", sample_weight=sample_weight)
        model.fit(windows, class_weight=class_weight, verbose=0)
        weights.append(weights_of(model))
    assert difference(weights[0], weights[1]) < 1e-6
    assert difference(weights[0], weights[2]) > 1e-3


@pytest.mark.once
def test_forms_of_targets():
    """Whole numbers, columns of them and one-hot targets, per step and per window, have the weights of their classes."""
    steps = np.array([[0, 1, 2], [2, 2, 1]])
    expected = [[0.5, 1.0, 3.0], [3.0, 3.0, 1.0]]
    per_step, per_window = ClassWeights(net(), TABLE), ClassWeights(net(per_step=False), TABLE)
    for y in (steps, steps[..., None].astype("float32"), np.eye(3)[steps]):
        assert per_step(y).tolist() == expected
    for y in (steps[:, 0], steps[:, :1], np.eye(3)[steps[:, 0]]):
        assert per_window(y).tolist() == [0.5, 3.0]
    assert per_window(steps[:, 0], np.array([2.0, 0.0])).tolist() == [1.0, 0.0]
    x = nets.series_input()
    h = layers.GRU(3, return_sequences=True)(x)
    two = keras.Model(x, {"b": h, "a": layers.GRU(2)(h)})
    weights = ClassWeights(two, {"b": TABLE})({"a": steps[:, 0], "b": steps})
    assert weights["a"].tolist() == [1, 1]
    assert weights["b"].tolist() == expected
    with pytest.raises(rs.DataError, match=r"which of 2 outputs it weighs. Received: \{0: 0.5, 2: 3.0\}. Give"):
        ClassWeights(two, TABLE)


@pytest.mark.once
@pytest.mark.parametrize(
    ("table", "y", "text"),
    [
        ({0.5: 1.0}, [[0]], r"classes of `class_weight` must be whole numbers. Received: 0.5"),
        ({0: -1.0}, [[0]], r"must be finite and at least 0. Received: -1.0"),
        ([1.0], [[0]], r"must be a mapping \{class: weight\}. Received: list"),
        (TABLE, [[0.25]], r"targets must be classes. Received: the target 0.25"),
        (TABLE, np.zeros((2, 3, 4, 5)), r"targets must be whole numbers or one-hot.*shape \(2, 3, 4, 5\)"),
    ],
)
def test_wrong_weights_are_refused(table, y, text):
    """Tables and targets that have no classes are refused."""
    with pytest.raises(rs.DataError, match=text):
        ClassWeights(net(), table)(np.array(y))


X, Y = np.ones((4, 7, nets.FEATURES), "float32"), np.ones((4, 7, 1), "float32")
CALLS = [
    ("fit", (X, Y, 3, 10), {}, r"model.fit\(rnnstate.Windows\(x, y, length=7, batch_size=3\), epochs=10\)"),
    ("fit", (X, Y[:, 0, 0]), {}, r"Received: an array of shape \(4, 7, 2\).*batch_size=32, targets=\"sequence\"\)\)"),
    ("fit", (X, Y), {"validation_split": 0.2}, r"validation_data=rnnstate.Windows\(x_val, y_val, length=..., "),
    ("fit", ([1, 2],), {}, r"Received: list. Write: model.fit\(rnnstate.Windows\(x, length=96, batch_size=32\)\)"),
    ("fit", ("windows",), {"validation_split": 0.2}, r"`validation_split` would cut windows.*model.fit\(windows, val"),
    ("fit", ("windows",), {"validation_data": (X, Y)}, r"`validation_data` must be `rnnstate.Windows`.*tuple"),
    ("fit", ("windows", None, 5), {}, r"which hold targets, weights and batch size. Received: `batch_size`"),
    ("fit", ("windows", *[None] * 20), {}, r"takes at most 16 arguments by position. Received: 21"),
    ("evaluate", (X, Y, 3), {}, r"model.evaluate\(rnnstate.Windows\(x, y, length=7, batch_size=3\)\)"),
    ("predict", (X, 3), {}, r"model.predict\(rnnstate.Windows\(x, length=7, batch_size=3\)\)"),
]


@pytest.mark.once
@pytest.mark.parametrize(("method", "args", "kwargs", "text"), CALLS)
def test_keras_calls_are_answered_with_the_call_to_write(method, args, kwargs, text):
    """A call in Keras' own form raises a `DataError` with the call to write, and not Python's `TypeError`."""
    model = nets.shared("simple_rnn")
    windows = windows_of(2)
    with pytest.raises(rs.DataError, match=text):
        getattr(model, method)(*(windows if isinstance(part, str) else part for part in args), **kwargs)


def test_arguments_by_position():
    """`fit(windows, None, None, 2)` trains for two epochs, as in Keras."""
    data = nets.series((5, 3))
    model = nets.make(nets.small)
    model.compile("sgd", "mse")
    windows = rs.Windows(data, targets_of(data, 1), length=5, batch_size=2)
    assert len(model.fit(windows, None, None, 2, 0).history["loss"]) == 2
