"""Law: a traced step whose arrays stay in memory gives what Keras' step gives, and does not touch what a caller keeps."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from traced_steps import UNITS, assert_same, data_of, net_of, resets_of, trained, untraced

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="these steps run on PyTorch alone")
if keras.config.backend() == "torch":
    import torch  # noqa: TID251

    from rnnstate.kernels.step import resident_torch, small_torch, training_torch

KINDS = {
    "plain": {},
    "padded resets": {"lengths": (35, 24), "resets": resets_of((35, 24))},
    "context": {"back": 11},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_a_step_on_new_memory_is_the_step(cell, kind, kept, monkeypatch):
    """Where the arrays are too large to stay, the list of operators runs, bit for bit as Keras' steps."""
    monkeypatch.setattr(training_torch, "MOST", 0)
    found = trained(lambda: net_of(cell=cell), data_of(**KINDS[kind]))
    assert set(kept) == {"whole"}
    untraced(monkeypatch)
    assert_same(found, trained(lambda: net_of(cell=cell), data_of(**KINDS[kind])))


def fitted(note, epochs=3, change=None):
    """Train with a function after each batch, and another one before each epoch."""
    keras.utils.set_random_seed(3)
    model = rs.StatefulModel(nets.randomized(net_of()))
    model.compile("adam", "mse")
    calls = {
        "on_train_batch_end": lambda batch, logs: note(model),
        "on_epoch_begin": lambda *_: change and change(model),
    }
    model.fit(data_of(), epochs=epochs, verbose=0, callbacks=[keras.callbacks.LambdaCallback(**calls)])
    return [np.array(weight) for weight in model.get_weights()]


def test_gradients_that_a_caller_keeps_stay_the_same(kept):
    """A callback keeps the gradients of each step. Later steps do not write into them."""
    held, copies = [], []

    def note(model):
        gradients = [variable.value.grad for variable in model.trainable_variables]
        held.append(gradients)
        copies.append([gradient.clone() for gradient in gradients])

    fitted(note)
    assert kept == ["resident"]
    assert all(
        torch.equal(one, other) for pair in zip(held, copies, strict=True) for one, other in zip(*pair, strict=True)
    )
    assert not torch.equal(copies[-1][0], copies[-2][0])  # the control: gradients differ from step to step


def test_a_variable_at_another_place_is_noticed(kept, monkeypatch):
    """A callback gives a variable other memory. The steps after it read and write that memory."""

    def move(model):
        for variable in model.trainable_variables:
            variable.value.data = variable.value.data.clone() + 0.01

    found = fitted(lambda model: None, change=move)
    assert kept == ["resident"]
    untraced(monkeypatch)
    expected = fitted(lambda model: None, change=move)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not np.array_equal(found[0], fitted(lambda model: None)[0])  # the control: the move changes something


def test_autograd_notices_that_a_step_has_written(kept):
    """A graph from before a step cannot be differentiated after it, as after Keras' step."""
    graphs, errors = [], []

    def note(model):
        kernel = model.trainable_variables[0].value
        if graphs:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                graphs[-1].backward()
            errors.append(1)
        graphs.append((kernel * kernel).sum())

    fitted(note)
    assert kept == ["resident"]
    assert len(errors) == 14


def test_an_operation_that_is_wrong_in_one_bit_is_not_kept(kept, monkeypatch):
    """The control of the rehearsal: the same step on new memory serves in its place."""
    encode = small_torch.Encoder.words

    def wrong(encoder, name, to, given, options):
        if name == "mul" and to.dim() > 1:
            name = "add"
        return encode(encoder, name, to, given, options)

    monkeypatch.setattr(small_torch.Encoder, "words", wrong)
    found = trained(net_of, data_of())
    assert kept == ["whole"]
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of()))


def test_operators_without_an_operation(kept, monkeypatch):
    """Without native operations, each operator writes to its place."""
    monkeypatch.setattr(small_torch, "_RULES", {})
    found = trained(lambda: net_of(layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(UNITS)), data_of())
    assert kept == ["resident"]
    untraced(monkeypatch)
    expected = trained(lambda: net_of(layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(UNITS)), data_of())
    assert_same(found, expected)


def test_shapes_share_the_memory_that_may_stay(kept, monkeypatch):
    """The first shape of batches may take all of it. Steps of other shapes then run on new memory."""
    sizes = []
    measure = resident_torch.size_of
    monkeypatch.setattr(
        "rnnstate.kernels.step.whole_torch.size_of", lambda graph: sizes.append(measure(graph)) or sizes[-1]
    )
    trained(net_of, data_of())
    monkeypatch.setattr(training_torch, "MOST", sizes[0] + 1)
    kept.clear()
    model = rs.StatefulModel(nets.randomized(net_of()))
    model.compile("adam", "mse")
    for windows in (data_of(), data_of(back=11)):
        model.fit(windows, epochs=2, verbose=0)
    assert kept[0] == "resident"
    assert set(kept[1:]) == {"whole"}
