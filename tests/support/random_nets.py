"""Networks of `keras.layers` composed at random, and the law that each equals the whole in windows or is refused.

As a script, `python random_nets.py COUNT SEED`, it tries COUNT networks and prints each one that differs.
"""

import keras
import numpy as np
from keras import layers, ops

import nets
import rnnstate as rs

FEATURES, STEPS, CUTS = 4, 13, ((0, 1), (1, 7), (7, 13))
# The same for a network with strides over time, in groups of as many steps as its total stride.
GROUPS, GROUP_CUTS = 5, ((0, 1), (1, 3), (3, 5))
# Attention that reaches back over all steps then equals plain causal attention.
SETTINGS = {"attention_window": STEPS}

BLOCKS = {
    "lstm": lambda h: layers.LSTM(4, return_sequences=True)(h),
    "gru": lambda h: layers.GRU(4, return_sequences=True)(h),
    "rnn": lambda h: layers.SimpleRNN(4, return_sequences=True)(h),
    "dense": lambda h: layers.Dense(4, activation="tanh")(h),
    "embedded": lambda h: layers.Embedding(5, 4)(ops.cast(h[..., 0] > 0, "int32")),
    "dropout": lambda h: layers.Dropout(0.5)(h),
    "spatial dropout": lambda h: layers.SpatialDropout1D(0.5)(h),
    "noise": lambda h: layers.GaussianNoise(0.5)(h),
    "layer norm": lambda h: layers.LayerNormalization()(h),
    "batch norm": lambda h: layers.BatchNormalization()(h),
    "group norm": lambda h: layers.GroupNormalization(2)(h),
    "rms norm": lambda h: layers.RMSNormalization()(h),
    "unit norm": lambda h: layers.UnitNormalization()(h),
    "unit norm over time": lambda h: layers.UnitNormalization(axis=1)(h),
    "softmax": lambda h: layers.Softmax()(h),
    "softmax over time": lambda h: layers.Softmax(axis=1)(h),
    "same convolution": lambda h: layers.Conv1D(4, 3, padding="same")(h),
    "causal convolution": lambda h: layers.Conv1D(4, 3, padding="causal")(h),
    "pointwise convolution": lambda h: layers.Conv1D(4, 1)(h),
    "separable convolution": lambda h: layers.SeparableConv1D(4, 3, padding="same")(h),
    "depthwise convolution": lambda h: layers.DepthwiseConv1D(2, padding="same")(h),
    "dilated convolution": lambda h: layers.Conv1D(4, 2, padding="causal", dilation_rate=3, activation="relu")(h),
    "grouped convolution": lambda h: layers.Conv1D(4, 3, padding="causal", groups=2)(h),
    "valid convolution": lambda h: layers.Conv1D(4, 2)(h),
    "strided convolution": lambda h: layers.Conv1D(4, 2, strides=2, padding="causal")(h),
    "strided by three": lambda h: layers.Conv1D(4, 5, strides=3, padding="causal")(h),
    "strided, valid": lambda h: layers.Conv1D(4, 2, strides=2, activation="tanh")(h),
    "strided, with gaps": lambda h: layers.DepthwiseConv1D(2, strides=3)(h),
    "strided, valid and longer": lambda h: layers.Conv1D(4, 3, strides=2)(h),
    "strided, both sides": lambda h: layers.Conv1D(4, 3, strides=2, padding="same")(h),
    "zeros, then strided": lambda h: layers.Conv1D(4, 3, strides=2)(layers.ZeroPadding1D((1, 0))(h)),
    "more zeros, then strided": lambda h: layers.SeparableConv1D(4, 3, strides=2)(layers.ZeroPadding1D((2, 0))(h)),
    "too many zeros, then strided": lambda h: layers.Conv1D(4, 3, strides=2)(layers.ZeroPadding1D((3, 0))(h)),
    "maximum of pairs": lambda h: layers.MaxPooling1D(2)(h),
    "mean of triples": lambda h: layers.AveragePooling1D(3, padding="same")(h),
    "maximum with gaps": lambda h: layers.MaxPooling1D(1, 2)(h),
    "overlapping maximum": lambda h: layers.MaxPooling1D(3, 2)(h),
    "zeros, then overlapping": lambda h: layers.AveragePooling1D(3, 2)(layers.ZeroPadding1D((1, 0))(h)),
    "two halves": lambda h: layers.Add()([layers.MaxPooling1D(2)(h), layers.Conv1D(4, 2, 2, padding="causal")(h)]),
    "half and whole": lambda h: layers.Multiply()([h, layers.MaxPooling1D(2)(h)]),
    "half plus whole": lambda h: h + layers.AveragePooling1D(2)(h),
    "nested strides": lambda h: _nested(layers.Conv1D(4, 3, strides=2, padding="causal"))(h),
    "same strides, twice": lambda h: _twice(layers.Conv1D(4, 2, strides=2, padding="causal"), h),
    "zeros, then depthwise": lambda h: layers.DepthwiseConv1D(3)(layers.ZeroPadding1D((2, 0))(h)),
    "zeros, then separable": lambda h: layers.SeparableConv1D(4, 2)(layers.ZeroPadding1D((1, 0))(h)),
    "more zeros than read": lambda h: layers.Conv1D(4, 2)(layers.ZeroPadding1D((2, 0))(h)),
    "zeros on both sides": lambda h: layers.Conv1D(4, 3)(layers.ZeroPadding1D(1)(h)),
    "zeros, read twice": lambda h: _branches(layers.ZeroPadding1D((2, 0))(h)),
    "transposed convolution": lambda h: layers.Conv1DTranspose(4, 3, padding="same")(h),
    "average pooling": lambda h: layers.AveragePooling1D(3, 1, padding="same")(h),
    "max pooling": lambda h: layers.MaxPooling1D(2, 1, padding="same")(h),
    "zeros, then pooling": lambda h: layers.MaxPooling1D(3, 1)(layers.ZeroPadding1D((2, 0))(h)),
    "zeros, then mean": lambda h: layers.AveragePooling1D(2, 1)(layers.ZeroPadding1D((1, 0))(h)),
    "more zeros than pooled": lambda h: layers.AveragePooling1D(2, 1)(layers.ZeroPadding1D((2, 0))(h)),
    "halved and doubled": lambda h: layers.UpSampling1D(2)(layers.MaxPooling1D(2, padding="same")(h)),
    "attention": lambda h: layers.MultiHeadAttention(2, 3)(h, h),
    "causal attention": lambda h: layers.MultiHeadAttention(2, 3)(h, h, use_causal_mask=True),
    "sliding window": lambda h: layers.MultiHeadAttention(2, 3, sliding_window=4)(h, h, use_causal_mask=True),
    "sliding window ahead": lambda h: layers.MultiHeadAttention(2, 3, sliding_window=4)(h, h),
    "grouped queries": lambda h: layers.GroupQueryAttention(3, 4, 2, sliding_window=3)(h, h, use_causal_mask=True),
    "across": lambda h: layers.MultiHeadAttention(1, 3)(h, layers.Dense(4)(h), use_causal_mask=True),
    "attention block": lambda h: layers.Add()([h, layers.MultiHeadAttention(1, 2)(h, h, use_causal_mask=True)]),
    "attention, then norm": lambda h: layers.LayerNormalization()(_with_attention(h, h)),
    "norm, then attention": lambda h: _with_attention(h, layers.LayerNormalization()(h)),
    "additive attention": lambda h: layers.AdditiveAttention()([h, h]),
    "dot attention, causal": lambda h: layers.Attention()([h, h], use_causal_mask=True),
    "dot attention": lambda h: layers.Attention()([h, h]),
    "padded and cropped": lambda h: layers.Cropping1D((0, 1))(layers.ZeroPadding1D((1, 0))(h)),
    "delayed": lambda h: layers.Cropping1D((0, 2))(layers.ZeroPadding1D((2, 0))(h)),
    "running sum": lambda h: 0.1 * ops.cumsum(h, axis=1),
    "running mean": lambda h: ops.cumsum(h, axis=1) / ops.cumsum(ops.ones_like(h), axis=1),
    "differences": lambda h: ops.diff(layers.ZeroPadding1D((1, 0))(h), axis=1),
    "permuted twice": lambda h: layers.Permute((2, 1))(layers.Permute((2, 1))(h)),
    "flattened": lambda h: layers.Reshape((-1, 4))(layers.Flatten()(h)),
    "reshaped": lambda h: layers.Reshape((-1, 4))(layers.Reshape((-1, 2, 2))(h)),
    "halves as steps": lambda h: layers.Reshape((-1, 4))(layers.Reshape((-1, 2))(h)),
    "time distributed": lambda h: layers.TimeDistributed(layers.Dense(4))(h),
    "masking": lambda h: layers.Masking()(h),
    "stacked cells": lambda h: layers.RNN([layers.GRUCell(3), layers.LSTMCell(4)], return_sequences=True)(h),
    "masked": lambda h: layers.Masking()(layers.ReLU()(h)),
    "masked tokens": lambda h: layers.Embedding(5, 4, mask_zero=True)(ops.cast(h[..., 0] > 0, "int32")),
    "masked gru": lambda h: layers.GRU(4, return_sequences=True)(layers.Masking()(ops.relu(h))),
    "activation": lambda h: layers.LeakyReLU()(layers.ELU()(h)),
    "parametric": lambda h: layers.PReLU(shared_axes=[1])(h),
    "standardized": lambda h: layers.Normalization(mean=0.5, variance=2.0)(h),
    "einsum": lambda h: layers.EinsumDense("btf,fg->btg", output_shape=(None, 4))(h),
    "spectral": lambda h: layers.SpectralNormalization(layers.Dense(4))(h),
    "averaged": lambda h: layers.Average()([h, layers.Maximum()([h, layers.Dense(4)(h)])]),
    "difference": lambda h: layers.Subtract()([h, layers.Multiply()([h, h])]),
    "products of steps": lambda h: layers.Dot(axes=(2, 1))([layers.Softmax()(layers.Dot(axes=2)([h, h])), h]),
    "products of features": lambda h: h + 0 * layers.Dot(axes=1)([h, h])[:, :1],
    "divided by the largest": lambda h: h / (1 + ops.max(ops.abs(h))),
    "divided by the norm": lambda h: layers.Lambda(lambda z: z / (1 + ops.norm(z, axis=1, keepdims=True)))(h),
    "sorted": lambda h: ops.sort(h, axis=1),
    "clipped": lambda h: ops.clip(h, -0.5, 0.5),
    "counted": lambda h: layers.Lambda(lambda z: z + ops.cast(ops.arange(ops.shape(z)[1]), "float32")[:, None])(h),
    "doubled": lambda h: layers.Concatenate()([h, h])[..., 1:5],
    "in a row": lambda h: layers.Concatenate(axis=1)([h, h])[:, ::2],
    "residual": lambda h: layers.Add()([h, layers.Dense(4)(h)]),
    "gated": lambda h: h * ops.sigmoid(layers.Dense(4)(h)),
    "excited": lambda h: h * ops.mean(h, axis=1, keepdims=True),
    "pooled and added": lambda h: layers.Add()([h, layers.Reshape((1, 4))(layers.GlobalAveragePooling1D()(h))]),
    "last of a gru": lambda h: h + layers.Reshape((1, 4))(layers.GRU(4)(h)),
    "cumulative": lambda h: layers.Lambda(lambda z: 0.1 * ops.cumsum(z, axis=1))(h),
    "flipped": lambda h: ops.flip(h, axis=1),
    "shifted": lambda h: ops.roll(h, 1, axis=1),
    "scaled": lambda h: layers.Lambda(lambda z: 0.5 * z)(h),
    "nested": lambda h: _nested(layers.Dense(4))(h),
    "nested convolution": lambda h: _nested(layers.Conv1D(4, 2, padding="same"))(h),
    "nested gru": lambda h: _nested(layers.GRU(4, return_sequences=True))(h),
    "mean of the window": lambda h: layers.GlobalAveragePooling1D()(h),
    "maximum of the window": lambda h: ops.max(h, axis=1),
    "last step": lambda h: h[:, -1],
    "repeated": lambda h: layers.RepeatVector(3)(layers.GRU(4)(h)),
}

# Blocks that mix time. Most networks have none of them, because one of them is enough for a network to be refused.
# fmt: off
MIXING = frozenset(
    [
        "group norm", "unit norm over time", "softmax over time", "same convolution", "separable convolution",
        "depthwise convolution", "valid convolution", "more zeros than read", "zeros on both sides",
        "more zeros than pooled", "strided, valid and longer", "strided, both sides", "too many zeros, then strided",
        "overlapping maximum", "half and whole", "half plus whole", "same strides, twice",
        "transposed convolution", "average pooling", "max pooling", "halved and doubled", "attention",
        "sliding window ahead", "across", "additive attention", "dot attention, causal", "dot attention",
        "differences", "permuted twice", "flattened", "halves as steps", "products of steps",
        "products of features", "divided by the largest", "divided by the norm", "sorted", "counted", "in a row", "excited",
        "pooled and added", "last of a gru", "cumulative", "flipped", "shifted", "nested convolution",
    ]
)
# fmt: on
CALM = sorted(set(BLOCKS) - MIXING)
MASKS = ("masked", "masked tokens", "masked gru")
ATTENTION = (
    "causal attention",
    "sliding window",
    "grouped queries",
    "attention block",
    "attention, then norm",
    "norm, then attention",
)
# Blocks with a memory that is carried: a network must have one.
CARRIERS = (
    "lstm",
    "gru",
    "rnn",
    "stacked cells",
    "nested gru",
    "causal convolution",
    "dilated convolution",
    "strided convolution",
    "strided by three",
    "zeros, then strided",
    "more zeros, then strided",
    "zeros, then overlapping",
    "two halves",
    "nested strides",
    "zeros, then depthwise",
    "zeros, read twice",
    "zeros, then pooling",
    "delayed",
    "running sum",
    "running mean",
    "causal attention",
    "sliding window",
    "grouped queries",
)


def _branches(h):
    """Return the sum of two convolutions that read the same steps."""
    return layers.Add()([layers.Conv1D(4, 3)(h), layers.Conv1D(4, 2, dilation_rate=2)(h)])


def _twice(layer, h):
    """Return a series to which one layer with strides was applied two times: its two inputs have different rates."""
    return layer(layer(h))


def _with_attention(h, attended):
    """Return a series plus attention from and to another one."""
    return layers.Add()([h, layers.MultiHeadAttention(1, 2)(attended, attended, use_causal_mask=True)])


class ValidSteps(layers.Layer):
    """Returns which steps of a series Keras does not mask, `(batch, time, 1)`."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, x, mask=None):
        """Return the mask, or true for each step if there is none."""
        return ops.ones_like(x[..., :1], dtype="bool") if mask is None else mask[..., None]

    def compute_output_spec(self, x, mask=None):
        """Return what `call` returns."""
        return keras.KerasTensor((*x.shape[:-1], 1), dtype="bool")


def _nested(layer):
    return keras.Sequential([keras.Input((None, FEATURES)), layer])


def compose(names, seed=0):
    """Return a network of the named blocks, with random weights; `None` if they do not fit together."""
    x = keras.Input((None, FEATURES))
    h = x
    try:
        for name in names:
            h = BLOCKS[name](h)
        return nets.randomized(keras.Model(x, h), seed)
    except (ValueError, TypeError, IndexError, RuntimeError):
        return None


def outcome(names, seed=0, **settings):
    """Return what happens to a network of the named blocks.

    - `unfit`: the blocks do not fit together.
    - `refused`: `StatefulModel` refuses the network because it mixes time, or because it has nothing to carry.
    - `per window`: the network has one output for each window.
    - `equal`, `different`: windows equal one pass of Keras over the whole sequence, or they do not.
    """
    net = compose(names, seed)
    if net is None:
        return "unfit"
    try:
        model = rs.StatefulModel(net, **SETTINGS | settings)
        stride = model.strides.total
        if stride > 1:
            model = rs.StatefulModel(net, **SETTINGS | {"attention_window": GROUPS * stride} | settings)
    except rs.UnsupportedModelError:
        return "refused"
    if len(net.output.shape) < 3 or net.output.shape[1] is not None:
        return "per window"
    steps = GROUPS * stride if stride > 1 else STEPS
    cuts = [(begin * stride, end * stride) for begin, end in GROUP_CUTS] if stride > 1 else CUTS
    x = nets.values(2, steps, FEATURES, seed=seed)
    whole, valid = (nets.host(part) for part in keras.Model(net.input, [net.output, ValidSteps()(net.output)])(x))
    if whole.shape[1] != steps // max(
        1, model.strides.outputs[0]
    ):  # a symbolic shape may have lost the fixed number of steps
        return "per window"
    state, parts = model.initial_state(2), []
    for start, end in cuts:
        y, state = model.step(x[:, start:end], state)
        parts.append(nets.host(y))
    parts = np.concatenate(parts, axis=1)
    same = parts.shape == whole.shape and np.isclose(parts, whole, rtol=1e-4, atol=1e-5, equal_nan=True)
    equal = bool(np.all(same | ~valid))  # Keras' attention gives a masked step a mean over steps that it may not see
    return "equal" if equal else "different"


def drawn(rng):
    """Return the names of some blocks. One of them has a memory; in a quarter of the networks attention follows a mask."""
    names = sorted(BLOCKS) if rng.integers(3) == 0 else CALM
    blocks = [str(name) for name in rng.choice(names, size=rng.integers(0, 5))]
    blocks.insert(int(rng.integers(0, len(blocks) + 1)), str(rng.choice(CARRIERS)))
    if rng.integers(4) == 0:
        place = int(rng.integers(0, len(blocks) + 1))
        blocks[place:place] = [str(rng.choice(MASKS)), str(rng.choice(ATTENTION))]
    return blocks


def main(count, seed):
    """Compose `count` networks at random, print how many had each outcome, and every one that differs."""
    rng, counts = np.random.default_rng(seed), {}
    for number in range(count):
        blocks = drawn(rng)
        found = outcome(blocks, seed=number)
        counts[found] = counts.get(found, 0) + 1
        if found == "different":
            print(number, blocks, flush=True)  # noqa: T201
        if number % 250 == 249:
            print(number + 1, counts, flush=True)  # noqa: T201
            keras.utils.clear_session(free_memory=True)
    print(counts)  # noqa: T201


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]), int(sys.argv[2]))
