"""Write `docs/layers.md`: what each layer of `keras.layers` does with time. Run it with `python scripts/layer_table.py`.

Each layer is built with common arguments, put after an LSTM, and classified as `StatefulModel` does.
"""

import inspect
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

from rnnstate.network.time_mixing.walk import is_carried, mixing_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "layers.md"
BEGIN, END = "<!-- the table: scripts/layer_table.py -->", "<!-- end of the table -->"
STEPS, FEATURES = 8, 4

# Arguments of the constructor, where the layer has no default for them or the default fits no series of 4 features.
ARGUMENTS = {
    "ActivityRegularization": [{"l1": 0.1}],
    "Activation": [{"activation": "relu"}],
    "AdaptiveAveragePooling1D": [{"output_size": 4}],
    "AdaptiveMaxPooling1D": [{"output_size": 4}],
    "AlphaDropout": [{"rate": 0.5}],
    "AveragePooling1D": [{}, {"pool_size": 1}],
    "BatchNormalization": [{}, {"axis": 1}],
    "Conv1D": [
        {"filters": 4, "kernel_size": 1},
        {"filters": 4, "kernel_size": 3, "padding": "causal"},
        {"filters": 4, "kernel_size": 3, "padding": "same"},
        {"filters": 4, "kernel_size": 3},
    ],
    "Conv1DTranspose": [{"filters": 4, "kernel_size": 3, "padding": "same"}],
    "Cropping1D": [{"cropping": [1, 0]}],
    "Dense": [{"units": 4}],
    "DepthwiseConv1D": [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": "causal"},
        {"kernel_size": 3, "padding": "same"},
    ],
    "Discretization": [{"bin_boundaries": [0.0]}],
    "Dropout": [{"rate": 0.5}],
    "EinsumDense": [{"equation": "btf,fu->btu", "output_shape": [None, 4]}],
    "Embedding": [{"input_dim": 5, "output_dim": 4}],
    "GRU": [{"units": 4, "return_sequences": True}, {"units": 4}],
    "GaussianDropout": [{"rate": 0.5}],
    "GaussianNoise": [{"stddev": 0.5}],
    "GroupNormalization": [{"groups": 2}],
    "LSTM": [{"units": 4, "return_sequences": True}, {"units": 4}],
    "LayerNormalization": [{}, {"axis": 1}],
    "MaxPooling1D": [{}, {"pool_size": 1}],
    "Permute": [{"dims": [2, 1]}, {"dims": [1, 2]}],
    "PReLU": [{"shared_axes": [1]}, {}],
    "Rescaling": [{"scale": 0.5}],
    "Reshape": [{"target_shape": [-1, 2, 2]}, {"target_shape": [-1, 2]}],
    "SeparableConv1D": [
        {"filters": 4, "kernel_size": 1},
        {"filters": 4, "kernel_size": 3, "padding": "causal"},
        {"filters": 4, "kernel_size": 3, "padding": "same"},
    ],
    "SimpleRNN": [{"units": 4, "return_sequences": True}, {"units": 4}],
    "Softmax": [{}, {"axis": 1}],
    "SpatialDropout1D": [{"rate": 0.5}],
    "UnitNormalization": [{}, {"axis": 1}],
    "ZeroPadding1D": [{"padding": [1, 0]}],
}
INNER = {"Bidirectional": lambda: layers.GRU(4, return_sequences=True), "TimeDistributed": lambda: layers.Dense(4)}
INNER |= {"RNN": lambda: layers.GRUCell(4), "SpectralNormalization": lambda: layers.Dense(4)}
PAIRS = {"Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"}
ATTENTION = {"AdditiveAttention": {}, "Attention": {}, "GroupQueryAttention": {"head_dim": 2, "num_query_heads": 2}}
ATTENTION["GroupQueryAttention"]["num_key_value_heads"] = 1
ATTENTION["MultiHeadAttention"] = {"num_heads": 2, "key_dim": 2}
OWN = {"Lambda": "A probe tells what its function does."}
IMAGES = ("1DTranspose", "2D", "3D")


def kinds():
    """Return the layer classes of Keras, each under its longest name, without base classes, inputs and cells."""
    found = {}
    for name, kind in vars(layers).items():
        if inspect.isclass(kind) and issubclass(kind, keras.Layer):
            found[kind.__name__] = kind
    left_out = ("Layer", "InputLayer", "Wrapper", "LSTMCell", "GRUCell", "SimpleRNNCell", "StackedRNNCells")
    return {name: found[name] for name in sorted(found) if name not in left_out}


def made(name, kind, settings):
    """Return a layer, and how a network calls it on a series."""
    if name in INNER:
        return kind(INNER[name](), **({"return_sequences": True} if name == "RNN" else {})), lambda one, h: one(h)
    if name in PAIRS:
        return kind(**({"axes": (2, 2)} if name == "Dot" else {})), lambda one, h: one([h, h])
    if name in ATTENTION:
        both = name in ("AdditiveAttention", "Attention")
        return kind(**ATTENTION[name]), lambda one, h: one([h, h]) if both else one(h, h)
    return kind(**settings), lambda one, h: one(h)


def described(name, kind, settings):
    """Return what a layer does with time."""
    if name in OWN:
        return OWN[name]
    try:
        layer, call = made(name, kind, settings)
        whole = name in ("Embedding", "CategoryEncoding")
        x = keras.Input((STEPS,), dtype="int32") if whole else keras.Input((STEPS, FEATURES))
        y = call(layer, x)
        net = keras.Model(x, y)
        found = mixing_of(net)
    except Exception:  # it takes no series: an image, a text, or a function of another library
        return "takes no series `(batch, time, features)`"
    if is_carried(layer):
        return "carried"
    if found:
        return f"mixes time: {found[0].what}"
    return "per step" if len(y.shape) > 1 and y.shape[1] == STEPS else "one output for each window"


def table():
    """Return the lines of the table."""
    lines = ["| layer | with | class |", "|---|---|---|"]
    for name, kind in kinds().items():
        for settings in ARGUMENTS.get(name, [{}]):
            shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            lines.append(f"| `{name}` | {f'`{shown}`' if shown else ''} | {described(name, kind, settings)} |")
    return lines


def page(text):
    """Return the text of the page with the current table."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([before + BEGIN, "", *table(), "", END + after])


if __name__ == "__main__":
    text = page(PAGE.read_text())
    if "--check" in sys.argv:
        sys.exit(text != PAGE.read_text())
    PAGE.write_text(text)
