"""The class of the layers that Keras has, from their class and configuration alone. Axis 1 is time.

`UNKNOWN` means that the table does not know the layer, or that it cannot tell from the configuration. A probe then tells.
A subclass counts as its base class if it inherits `call`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import layers

from rnnstate.network.time_mixing.axis import Axis, Verdict

Shape = tuple[int | None, ...]
Rule = Callable[[Any, Shape], Verdict]
PER_STEP, SUMMARISES, MIXES, UNKNOWN = Verdict.PER_STEP, Verdict.SUMMARISES, Verdict.MIXES, Verdict.UNKNOWN


def known(layer: Any, axes: Sequence[Axis], shapes: Sequence[Shape]) -> Verdict:
    """Return the class of one call of a layer.

    Args:
        layer: A built layer.
        axes: What each tensor of the call holds. At least one has a time axis.
        shapes: Their shapes.
    """
    kind = _class_of(layer)
    if not _stock_functions(layer):
        return UNKNOWN
    if kind in _MERGES:
        return _merged(layer, axes, shapes)
    if set(axes) != {Axis.STEPS}:
        return UNKNOWN
    if kind in _ATTENTION:
        return MIXES
    rule = _RULES.get(kind) if len(shapes) == 1 else None
    return UNKNOWN if rule is None else rule(layer, shapes[0])


def known_operation(operation: Any, axes: Sequence[Axis], shapes: Sequence[Shape], constants: Sequence[Any]) -> Verdict:
    """Return the class of one operation of `keras.ops`. Operations on single values and slices of features are known.

    Args:
        operation: The operation.
        axes: What each tensor of the call holds.
        shapes: Their shapes.
        constants: The other arguments.
    """
    if not type(operation).__module__.startswith("keras."):
        return UNKNOWN
    if type(operation).__name__ == "GetItem":
        return PER_STEP if _keeps_steps(constants, len(shapes[0])) else UNKNOWN
    own = type(operation).__name__ in _ELEMENTWISE
    aligned = set(axes) == {Axis.STEPS} and len({len(shape) for shape in shapes}) == 1
    plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in constants)
    return PER_STEP if own and aligned and plain and len({shape[1] for shape in shapes}) == 1 else UNKNOWN


def _keeps_steps(key: Sequence[Any], rank: int) -> bool:
    """Whether an index such as `[:, :, 0]` or `[..., :3]` takes all steps."""
    whole = slice(None)
    if key and key[0] is Ellipsis:
        return len(key) <= rank - 1 and all(isinstance(part, (int, slice)) for part in key[1:])
    return len(key) > 1 and all(part == whole for part in key[:2]) and all(isinstance(p, (int, slice)) for p in key[2:])


def _class_of(layer: Any) -> type | None:
    """Return the class of Keras that computes the layer; `None` if a class of the user changes how."""
    for kind in type(layer).__mro__:
        if kind.__module__.startswith("keras."):
            return kind
        if any(callable(value) and name not in _HARMLESS for name, value in vars(kind).items()):
            return None
    return None


def _stock_functions(layer: Any) -> bool:
    """True if the activation of the layer, if it has one, is Keras' own. All of these work along the last axis."""
    function = getattr(layer, "activation", None)
    return function is None or getattr(function, "__module__", "").startswith("keras.")


def _always(verdict: Verdict) -> Rule:
    return lambda layer, shape: verdict


def _along_last(layer: Any, shape: Shape) -> Verdict:
    """The layer works along the last axis, which is time in `(batch, time)`."""
    return PER_STEP if len(shape) > 2 else UNKNOWN


def _along(axes: Any, rank: int) -> Verdict:
    """The layer works along the given axes. The statistics or values of each step are its own if time is not among them."""
    numbers = axes if isinstance(axes, (list, tuple)) else [axes]
    return PER_STEP if all(axis is not None and axis % rank > 1 for axis in numbers) else MIXES


def _by_axis(layer: Any, shape: Shape) -> Verdict:
    return _along(layer.axis, len(shape))


def _normalization(layer: Any, shape: Shape) -> Verdict:
    """Fixed means and variances, `Normalization(axis=None)` has one of each."""
    return PER_STEP if layer.axis is None or not layer.axis else _along(layer.axis, len(shape))


def _prelu(layer: Any, shape: Shape) -> Verdict:
    """A slope for each step depends on the place of the step in its window."""
    return PER_STEP if 1 in (layer.shared_axes or ()) else MIXES


def _permute(layer: Any, shape: Shape) -> Verdict:
    return PER_STEP if layer.dims[0] == 1 else MIXES


def _flatten(layer: Any, shape: Shape) -> Verdict:
    return MIXES if shape[1] is None else SUMMARISES


def _reshape(layer: Any, shape: Shape) -> Verdict:
    """A reshape of the features alone keeps axis 1. It is per step."""
    features = _size(shape[2:])
    target = tuple(layer.target_shape)
    if features is None:
        return UNKNOWN
    if target and target[0] in (-1, shape[1]) and -1 not in target[1:] and _size(target[1:]) == features:
        return PER_STEP
    if target and target[0] == shape[1] and target.count(-1) == 1:
        return PER_STEP  # the one free axis takes the features
    return SUMMARISES if shape[1] is not None and len(target) == 1 else MIXES


def _size(shape: Sequence[int | None]) -> int | None:
    sizes = [size for size in shape if size is not None]
    return math.prod(sizes) if len(sizes) == len(shape) else None


def _convolution(layer: Any, shape: Shape) -> Verdict:
    """A kernel of one step is a Dense layer."""
    if layer.data_format != "channels_last" or len(shape) != 3:
        return UNKNOWN
    return PER_STEP if tuple(layer.kernel_size) == (1,) and tuple(layer.strides) == (1,) else MIXES


def _pooling(layer: Any, shape: Shape) -> Verdict:
    if layer.data_format != "channels_last":
        return UNKNOWN
    return PER_STEP if tuple(layer.pool_size) == (1,) and tuple(layer.strides) == (1,) else MIXES


def _global_pooling(layer: Any, shape: Shape) -> Verdict:
    return SUMMARISES if layer.data_format == "channels_last" else UNKNOWN


def _inner(layer: Any, shape: Shape) -> Verdict:
    """A wrapper that changes the weights of its layer, not what the layer does with its input."""
    return known(layer.layer, [Axis.STEPS], [shape])


def _merged(layer: Any, axes: Sequence[Axis], shapes: Sequence[Shape]) -> Verdict:
    """Several series, and static values that are the same for each step."""
    if any(axis in (Axis.LAST, Axis.SUMMARY) for axis in axes):
        return UNKNOWN
    series = [shape for axis, shape in zip(axes, shapes, strict=True) if axis is Axis.STEPS]
    static = [shape for axis, shape in zip(axes, shapes, strict=True) if axis is Axis.STATIC]
    if len({len(shape) for shape in series}) > 1 or len({shape[1] for shape in series}) > 1:
        return UNKNOWN
    if isinstance(layer, layers.Concatenate):
        return UNKNOWN if static else _along(layer.axis, len(series[0]))
    same = all(len(shape) == len(series[0]) and shape[1] == 1 for shape in static)
    return PER_STEP if same and len(series[0]) > 2 else UNKNOWN


# Methods of a subclass that leave the computation of its base class as it is.
_HARMLESS = ("__init__", "get_config", "from_config")
_MERGES = (
    layers.Concatenate,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)
_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention, layers.Attention, layers.AdditiveAttention)
# Noise is drawn for each window: `SpatialDropout1D` drops a feature for a whole window. In inference these do nothing.
_NOISE = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
)
_RULES: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            layers.Identity,
            layers.ActivityRegularization,
            layers.Embedding,
            layers.ReLU,
            layers.LeakyReLU,
            layers.ELU,
            layers.TimeDistributed,
            layers.Discretization,
            *_NOISE,
        ),
        _always(PER_STEP),
    ),
    **dict.fromkeys((layers.Dense, layers.Activation, layers.Masking), _along_last),
    **dict.fromkeys(
        (
            layers.BatchNormalization,
            layers.LayerNormalization,
            layers.RMSNormalization,
            layers.UnitNormalization,
            layers.Softmax,
        ),
        _by_axis,
    ),
    **dict.fromkeys((layers.Conv1D, layers.DepthwiseConv1D, layers.SeparableConv1D), _convolution),
    **dict.fromkeys((layers.AveragePooling1D, layers.MaxPooling1D), _pooling),
    **dict.fromkeys(
        (
            layers.GlobalAveragePooling1D,
            layers.GlobalMaxPooling1D,
            layers.GlobalAveragePooling2D,
            layers.GlobalMaxPooling2D,
            layers.GlobalAveragePooling3D,
            layers.GlobalMaxPooling3D,
        ),
        _global_pooling,
    ),
    layers.Normalization: _normalization,
    layers.PReLU: _prelu,
    layers.Permute: _permute,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.GroupNormalization: _always(MIXES),
    layers.SpectralNormalization: _inner,
}
# fmt: off
_ELEMENTWISE = frozenset(
    [
        "Absolute", "Add", "Cast", "Ceil", "Clip", "Cos", "Cosh", "Divide", "Elu", "Equal", "Erf", "Exp", "Expm1",
        "Floor", "Gelu", "Greater", "GreaterEqual", "HardSigmoid", "HardTanh", "Isfinite", "Isnan", "LeakyRelu",
        "Less", "LessEqual", "Log", "Log1p", "LogicalAnd", "LogicalNot", "LogicalOr", "Maximum", "Minimum",
        "Multiply", "Negative", "NotEqual", "Power", "Relu", "Relu6", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign",
        "Silu", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Square", "Subtract", "Tan", "Tanh", "TrueDivide",
        "Where",
    ]
)
# fmt: on
