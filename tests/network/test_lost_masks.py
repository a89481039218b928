"""Attention over masked steps: the mask stays with the series, or the network is refused."""

import keras
import pytest
from keras import layers

import random_nets
import rnnstate as rs
from rnnstate.network.masks import attached_mask

CONV = {"padding": "causal", "name": "c"}


def attention(h):
    """Return causal attention from a series to itself."""
    return layers.MultiHeadAttention(2, 3)(h, h, use_causal_mask=True)


def grouped(h):
    """Return causal attention that leaves the mask of its input on, in every release of Keras."""
    return layers.GroupQueryAttention(2, 2, 1)(h, h, use_causal_mask=True)


def on_series(build):
    """Return a network that masks steps of a series, then does what `build` says."""
    x = keras.Input((None, 4))
    return keras.Model(x, build(layers.Masking()(x)))


def recurrent(layer):
    """Return blocks in which a recurrent layer stands between attention and a convolution."""
    return lambda h: layers.Conv1D(2, 3, **CONV)(layer(3, return_sequences=True)(attention(h)))


def nested(layer):
    """Return attention, and after it a nested network of one layer."""
    return lambda h: keras.Sequential([keras.Input((None, 4)), layer], name="inner")(attention(h))


REFUSED = {
    "convolution": (lambda h: layers.Conv1D(2, 3, **CONV)(attention(h)), r"`c` \(Conv1D\) reads the masked steps of"),
    "operation": (lambda h: h + grouped(h), r"Operation `add.*reads the masked steps.*`Add` \(in place of `\+`\)"),
    "another mask": (
        lambda h: layers.Add(name="c")([layers.Masking(1.0)(h), grouped(h)]),
        r"`c` \(Add\) reads the mask",
    ),
    "no mask": (
        lambda h: layers.Concatenate(name="c")([h[..., :2], grouped(h)]),
        r"`c` \(Concatenate\) reads the mask",
    ),
    "masked again": (lambda h: layers.LSTM(3)(layers.Masking()(attention(h))), r"NotEqual\) reads the masked steps"),
    "mask of the call": (lambda h: layers.LSTM(3, name="c")(attention(h), mask=h[..., 0] > 0), r"`c` \(LSTM\) reads"),
    "last step": (lambda h: attention(h)[:, -1], r"GetItem\) reads the masked steps of"),
    "largest step": (lambda h: layers.GlobalMaxPooling1D(name="c")(attention(h)), r"`c` \(GlobalMaxPooling1D\) reads"),
    "running sum": (lambda h: keras.ops.cumsum(attention(h), axis=1), r"RunningSum\) reads the masked steps of"),
    "skip of an LRU": (recurrent(rs.layers.LRU), r"`c` \(Conv1D\) reads the masked steps of"),
    "nested": (nested(layers.Conv1D(2, 3, **CONV)), r"`inner/c` \(Conv1D\) reads the masked steps of"),
}
CARRIED = {
    "before attention": lambda h: attention(layers.Conv1D(2, 3, **CONV)(h)),
    "to the output": lambda h: layers.Dense(2)(layers.Dropout(0.1)(attention(h))),
    "residual": lambda h: layers.LayerNormalization()(layers.Add()([h, attention(layers.LayerNormalization()(h))])),
    "joined features": lambda h: layers.LSTM(2)(layers.Concatenate()([h, grouped(h)])),
    "lstm": recurrent(layers.LSTM),
    "minimal gru": recurrent(rs.layers.MinGRU),
    "both directions": lambda h: layers.Bidirectional(layers.GRU(2, return_sequences=True))(attention(h)),
    "mean of the window": lambda h: layers.GlobalAveragePooling1D()(attention(h)),
    "positions": lambda h: attention(rs.layers.PositionEmbedding()(attention(h))),
    "nested": nested(layers.Dense(3)),
}


@pytest.mark.once
@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_a_lost_mask_is_refused(build, message):
    """The error names the layer that reads masked steps of attention, and `time_mixing="allow"` lets the network run."""
    net = on_series(build)
    with pytest.raises(rs.UnsupportedModelError, match=message):
        rs.StatefulModel(net, attention_window=5)
    assert rs.StatefulModel(net, attention_window=5, time_mixing="allow").time_mixing == "allow"


@pytest.mark.once
@pytest.mark.parametrize("build", CARRIED.values(), ids=CARRIED)
def test_a_kept_mask_is_carried(build):
    """A network is not refused where the mask stays, or where a layer leaves the masked steps out."""
    model = rs.StatefulModel(on_series(build), attention_window=5)
    assert any("attention" in leaf or "query" in leaf for leaf in model.state_spec), list(model.state_spec)


@pytest.mark.once
def test_without_a_mask_nothing_is_refused():
    """The control: the same layers without masked steps are carried."""
    x = keras.Input((None, 4))
    for name in ("convolution", "operation", "nested"):
        assert len(rs.StatefulModel(keras.Model(x, REFUSED[name][0](x)), attention_window=5).state_spec) > 0


LOST = ("masked tokens", "causal attention", "causal convolution")


def test_masked_steps_in_windows():
    """Windows of a network that keeps the mask equal the whole at all valid steps. A network that loses it is refused."""
    assert random_nets.outcome(["masked tokens", "norm, then attention"]) == "equal"
    assert random_nets.outcome(LOST) == "refused"


@pytest.mark.once
def test_windows_without_the_mask_differ():
    """The control: what is refused does differ."""
    assert random_nets.outcome(LOST, time_mixing="allow") == "different"


def test_attention_that_takes_the_mask_off_its_input():
    """A second attention layer that reads the sum of both is refused if Keras has taken the mask off one of them."""
    twice = ["masked tokens", "attention, then norm", "causal attention"]
    assert random_nets.outcome(twice) == ("refused" if takes_masks_off() else "equal")


@pytest.mark.once
def test_a_series_for_attention_alone():
    """Residual blocks keep the mask if attention reads a series that no other layer reads."""
    assert random_nets.outcome(["masked tokens", "norm, then attention", "norm, then attention"]) == "equal"


def takes_masks_off():
    """Return whether `MultiHeadAttention` of this release of Keras takes the mask off the tensor that it attends to."""
    masked = layers.Masking()(keras.ops.ones((1, 3, 4)))
    attention(masked)
    return attached_mask(masked) is None
