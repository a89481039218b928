"""Networks of `keras.layers` composed at random, and the law that each equals the whole in windows or is refused."""

import keras
import numpy as np
from keras import layers, ops

import nets
import rnnstate as rs

FEATURES, STEPS, CUTS = 4, 13, ((0, 1), (1, 6), (6, 13))

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
    "transposed convolution": lambda h: layers.Conv1DTranspose(4, 3, padding="same")(h),
    "average pooling": lambda h: layers.AveragePooling1D(3, 1, padding="same")(h),
    "max pooling": lambda h: layers.MaxPooling1D(2, 1, padding="same")(h),
    "halved and doubled": lambda h: layers.UpSampling1D(2)(layers.MaxPooling1D(2, padding="same")(h)),
    "attention": lambda h: layers.MultiHeadAttention(2, 3)(h, h),
    "causal attention": lambda h: layers.MultiHeadAttention(2, 3)(h, h, use_causal_mask=True),
    "dot attention": lambda h: layers.Attention()([h, h]),
    "padded and cropped": lambda h: layers.Cropping1D((0, 1))(layers.ZeroPadding1D((1, 0))(h)),
    "permuted twice": lambda h: layers.Permute((2, 1))(layers.Permute((2, 1))(h)),
    "flattened": lambda h: layers.Reshape((-1, 4))(layers.Flatten()(h)),
    "reshaped": lambda h: layers.Reshape((-1, 4))(layers.Reshape((-1, 2, 2))(h)),
    "halves as steps": lambda h: layers.Reshape((-1, 4))(layers.Reshape((-1, 2))(h)),
    "time distributed": lambda h: layers.TimeDistributed(layers.Dense(4))(h),
    "masking": lambda h: layers.Masking()(h),
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
    """Return `unfit`, `refused`, `per window`, `equal` or `different` for a network of the named blocks."""
    net = compose(names, seed)
    if net is None:
        return "unfit"
    try:
        model = rs.StatefulModel(net, **settings)
    except rs.UnsupportedModelError:
        return "refused"
    if len(net.output.shape) < 3 or net.output.shape[1] is not None:
        return "per window"
    x = nets.values(2, STEPS, FEATURES, seed=seed)
    whole = nets.host(net(x))
    state, parts = model.initial_state(2), []
    for start, end in CUTS:
        y, state = model.step(x[:, start:end], state)
        parts.append(nets.host(y))
    parts = np.concatenate(parts, axis=1)
    equal = parts.shape == whole.shape and np.allclose(parts, whole, rtol=1e-4, atol=1e-5, equal_nan=True)
    return "equal" if equal else "different"


def main(count, seed):
    """Compose `count` networks at random, print how many had each outcome, and every one that differs."""
    rng, counts, names = np.random.default_rng(seed), {}, list(BLOCKS)
    for number in range(count):
        blocks = [str(name) for name in rng.choice(names, size=rng.integers(1, 4))]
        blocks.insert(int(rng.integers(0, len(blocks) + 1)), "gru")
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
