"""The table of all `keras.layers` in docs/layers.md: what `StatefulModel` does with each of them.

As a script, `python layer_table.py`, it writes the table between the markers of the page.
"""

import inspect
import re
from pathlib import Path

import keras
from keras import layers

from rnnstate.network.clone import carrying_clone
from rnnstate.network.time_mixing import follow

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"
START, END = "<!-- generated: layers -->", "<!-- end of layers -->"
CLASSES = ("per step", "carried", "one output for each window", "mixes time: refused", "not applicable")

# Layers that need arguments, or have more than one class, as they are called on a series `x`, with the shape of one row.
STEPS, WORDS, LINES, FRAMES, VOLUMES = (None, 4), (None,), (None, 4, 4), (None, 4, 4, 4), (None, 2, 2, 2, 2)
CALLS = {
    "Dense(4)(x)": STEPS,
    "EinsumDense('btf,fg->btg', (None, 4))(x)": STEPS,
    "Embedding(5, 4)(x)": WORDS,
    "ReversibleEmbedding(5, 4)(x)": WORDS,
    "Activation('tanh')(x)": STEPS,
    "PReLU()(x)": (5, 4),
    "PReLU(shared_axes=[1])(x)": STEPS,
    "Softmax(axis=1)(x)": STEPS,
    "Normalization(mean=0.0, variance=1.0)(x)": STEPS,
    "Discretization(bin_boundaries=[0.0])(x)": STEPS,
    "Rescaling(2.0)(x)": STEPS,
    "GroupNormalization(2)(x)": STEPS,
    "SpectralNormalization(Dense(4))(x)": STEPS,
    "UnitNormalization(axis=1)(x)": STEPS,
    "Dropout(0.5)(x)": STEPS,
    "AlphaDropout(0.5)(x)": STEPS,
    "GaussianDropout(0.5)(x)": STEPS,
    "GaussianNoise(0.5)(x)": STEPS,
    "SpatialDropout1D(0.5)(x)": STEPS,
    "Reshape((-1, 2, 2))(x)": STEPS,
    "Reshape((-1, 2))(x)": STEPS,
    "Permute((2, 1))(x)": STEPS,
    "Flatten()(x)": (5, 4),
    "RepeatVector(2)(GRU(4)(x))": STEPS,
    "Lambda(lambda z: 2 * z)(x)": STEPS,
    "Conv1D(4, 1)(x)": STEPS,
    "Conv1D(4, 3)(x)": STEPS,
    "Conv1D(4, 3, padding='same')(x)": STEPS,
    "Conv1D(4, 3, padding='causal')(x)": STEPS,
    "Conv1D(4, 3, padding='causal', strides=2)(x)": STEPS,
    "Conv1D(4, 3)(ZeroPadding1D((2, 0))(x))": STEPS,
    "Conv1D(4, 2, strides=2)(x)": STEPS,
    "Conv1D(4, 3, strides=2)(x)": STEPS,
    "Conv1D(4, 3, strides=2)(ZeroPadding1D((1, 0))(x))": STEPS,
    "DepthwiseConv1D(3)(x)": STEPS,
    "DepthwiseConv1D(3)(ZeroPadding1D((2, 0))(x))": STEPS,
    "SeparableConv1D(4, 3)(x)": STEPS,
    "SeparableConv1D(4, 3)(ZeroPadding1D((2, 0))(x))": STEPS,
    "Conv1DTranspose(4, 3)(x)": STEPS,
    "MultiHeadAttention(2, 4)(x, x)": STEPS,
    "MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)": STEPS,
    "GroupQueryAttention(4, 2, 1)(x, x)": STEPS,
    "GroupQueryAttention(4, 2, 1)(x, x, use_causal_mask=True)": STEPS,
    "Attention()([x, x])": STEPS,
    "AdditiveAttention()([x, x])": STEPS,
    "AveragePooling1D(2)(x)": STEPS,
    "MaxPooling1D(2)(x)": STEPS,
    "MaxPooling1D(3, 2)(x)": STEPS,
    "MaxPooling1D(3, 2)(ZeroPadding1D((1, 0))(x))": STEPS,
    "AveragePooling1D(3, 1, padding='same')(x)": STEPS,
    "AveragePooling1D(3, 1)(ZeroPadding1D((2, 0))(x))": STEPS,
    "MaxPooling1D(3, 1)(ZeroPadding1D((2, 0))(x))": STEPS,
    "Cropping1D(1)(x)": STEPS,
    "Cropping1D((0, 2))(ZeroPadding1D((2, 0))(x))": STEPS,
    "AdaptiveAveragePooling1D(2)(x)": STEPS,
    "AdaptiveMaxPooling1D(2)(x)": STEPS,
    "LSTM(4, return_sequences=True)(x)": STEPS,
    "LSTM(4)(x)": STEPS,
    "GRU(4, return_sequences=True)(x)": STEPS,
    "SimpleRNN(4, return_sequences=True)(x)": STEPS,
    "RNN(GRUCell(4), return_sequences=True)(x)": STEPS,
    "Bidirectional(GRU(4, return_sequences=True))(x)": STEPS,
    "ConvLSTM1D(4, 3, padding='same', return_sequences=True)(x)": LINES,
    "ConvLSTM2D(4, 3, padding='same', return_sequences=True)(x)": FRAMES,
    "ConvLSTM3D(2, 3, padding='same', return_sequences=True)(x)": VOLUMES,
    "TimeDistributed(Dense(4))(x)": STEPS,
    "Concatenate(axis=1)([x, x])": STEPS,
    "Dot(axes=2)([x, x])": STEPS,
    "Dot(axes=1)([x, x])": STEPS,
    "CategoryEncoding(5)(x)": WORDS,
}
MERGES = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
# Layers to which the question does not apply, and why.
OTHERS = {
    "is one step: `RNN` runs it over time": ("GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"),
    "computes nothing itself": ("InputLayer", "Layer", "Pipeline", "Wrapper"),
    "runs a program of another library: probed like a layer of your own": (
        "FlaxLayer",
        "JaxLayer",
        "TFSMLayer",
        "TorchModuleWrapper",
    ),
    "prepares data: use it before `Windows`": (
        "HashedCrossing",
        "Hashing",
        "IntegerLookup",
        "MelSpectrogram",
        "STFTSpectrogram",
        "StringLookup",
        "TextVectorization",
    ),
}
IMAGES = "takes images, which have no time axis: `TimeDistributed` runs it at each step"


def names():
    """Return the name of each class of layers in `keras.layers`, once for all its aliases."""
    found = {}
    for name, value in sorted(vars(layers).items()):
        if inspect.isclass(value) and issubclass(value, keras.Layer):
            found.setdefault(value, []).append(name)
    return sorted(
        kind.__name__ if kind.__name__ in aliases else max(aliases, key=len) for kind, aliases in found.items()
    )


def row(call, shape):
    """Return the class of a call such as `Dense(4)(x)`, and the reason."""
    x = keras.Input(shape, dtype="int32" if shape == WORDS else None)
    net = keras.Model(x, eval(call, dict(vars(layers)), {"x": x}))
    window = 4 if "use_causal_mask" in call else None
    carrier, stand_ins = carrying_clone(net, attention_window=window)
    walk = follow(carrier)
    if walk.mixing:
        return CLASSES[3], walk.mixing[0].what.removeprefix("has an output at step t that ")
    leaves = [f"`{leaf}`" for layer in stand_ins for leaf in layer.port.spec(layer.layer)]
    if len(net.output.shape) < 3 or net.output.shape[1] is not None:
        return CLASSES[2], f"carries {', '.join(leaves)}" if leaves else "from the steps of its window"
    each = [f"one output for every {rate} steps" for rate in walk.rates.values()]
    kept = [f"carries {', '.join(leaves)}"] if leaves else ["carries nothing"] if each else []
    return (CLASSES[1], "; ".join(kept + each)) if kept else (CLASSES[0], "")


def rows():
    """Return `(layers, class, reason)` of every layer of Keras. Layers with one class and one reason share a row."""
    found = {}
    for name in names():
        for what, kind, reason in _of(name):
            found.setdefault((CLASSES.index(kind), reason), []).append(what)
    return [(sorted(set(which)), CLASSES[kind], reason) for (kind, reason), which in sorted(found.items())]


def _of(name):
    """Yield the calls of one layer, each with its class and reason."""
    reason = next((reason for reason, which in OTHERS.items() if name in which), None)
    if reason is None and (_of_images(getattr(layers, name)) or re.search("[23]D", name)) and "LSTM" not in name:
        reason = IMAGES
    if reason is not None:
        yield name, CLASSES[4], reason
        return
    calls = {call: shape for call, shape in CALLS.items() if re.match(rf"{name}\(", call)}
    if name in MERGES:
        calls[f"{name}()([x, x])"] = STEPS
    for call, shape in (calls or {f"{name}()(x)": STEPS}).items():
        yield (_shown(call), *row(call, shape))


def _of_images(kind):
    return "image_preprocessing" in kind.__module__


def _shown(call):
    """Return a call as the page shows it: the name alone, or the arguments that matter."""
    return re.sub(r"\(\)\((x|\[x, x\])\)$", "", call).removesuffix("(x)").replace("'", '"')


def table():
    """Return the lines of the table."""
    lines = ["| layers | class | why |", "|---|---|---|"]
    return lines + [f"| {', '.join(f'`{name}`' for name in which)} | {kind} | {why} |" for which, kind, why in rows()]


def shown():
    """Return the table that the page shows."""
    return PAGE.read_text().partition(START)[2].partition(END)[0].strip().splitlines()


def write():
    """Write the table into the page."""
    before, _, rest = PAGE.read_text().partition(START)
    block = "\n".join(table())
    PAGE.write_text(f"{before}{START}\n\n{block}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write()
