"""The choice of the fast loop for a recurrent layer, and the arguments of the loop.

The configuration of the layer decides. The choice never changes a result.
"""

from typing import Any

from keras import activations, layers, ops

from rnnstate.kernels import kernels
from rnnstate.kernels.loops.definition import Loop
from rnnstate.ports.protocol import check_features
from rnnstate.state.state import Array

_KINDS = {layers.LSTMCell: "lstm", layers.GRUCell: "gru", layers.SimpleRNNCell: "rnn"}
_LAYERS = (layers.RNN, layers.LSTM, layers.GRU, layers.SimpleRNN)


def run_fast(
    layer: Any,
    x: Array,
    state: Any,
    mask: Array | None,
    training: bool,
    reset: Array | None = None,
    initial: Any = None,
    in_window: bool = False,
) -> tuple[Array, Any] | None:
    """Run a recurrent layer in a fast loop.

    Args:
        layer: The recurrent layer.
        x: Input `(batch, time, features)`.
        state: Leaves that the window starts from, in the nesting of the cell.
        mask: Boolean `(batch, time)` of the valid steps, or `None` if all steps are valid.
        training: Whether dropout is active.
        reset: Boolean `(batch, time)` of the steps before which the row returns to `initial`.
        initial: Leaves after a reset, in the nesting of the cell.
        in_window: Whether the mask is that of a window that continues another one. Masked steps at its start then repeat
            the last output of the window before, which is h.

    Returns:
        The layer's output, and the leaves after the last valid step. `None` if no fast loop supports this call.
    """
    if not _is_fast(layer, mask is not None or reset is not None, training):
        return None
    # PyTorch's operators read past the end of a wrong input without an error.
    check_features(layer, x, layer.cell.kernel.shape[0])
    mask = None if mask is None else ops.cast(mask, "bool")
    if layer.go_backwards:
        x, mask, reset = (None if part is None else ops.flip(part, axis=1) for part in (x, mask, reset))
    x, *leaves = (ops.cast(part, layer.compute_dtype) for part in (x, *state))
    start = None if initial is None else tuple(ops.cast(leaf, layer.compute_dtype) for leaf in initial)
    # A layer that runs backward reaches the start of a window last.
    repeats_h = in_window and not layer.go_backwards
    loop = Loop(
        str(_kind(layer.cell)), x, *_weights(layer.cell), tuple(leaves), mask, reset, start, repeats_h=repeats_h
    )
    outputs, final = kernels().recurrent_loop(loop._replace(**_dropout(layer.cell, loop, training)))
    return _output(layer, outputs, loop), list(final)


def repeats_h(layer: Any, training: bool, reset: Array | None) -> bool:
    """Return whether the layer, with the mask of a window, runs in a fast loop whose output at masked steps always is h."""
    return reset is None and _is_fast(layer, True, training)


def _is_fast(layer: Any, flags: bool, training: bool) -> bool:
    """Return whether a fast loop supports a call with or without a mask or resets."""
    if slow_because(layer) is not None:
        return False
    return bool(kernels().has_loop(_kind(layer.cell), flags, *_factors(layer.cell, training)))


def slow_because(layer: Any) -> str | None:
    """Return why a recurrent layer has no fast loop on this backend, or `None` if it has one."""
    kind = _kind(layer.cell)
    if kind is None or type(layer) not in _LAYERS:
        return f"only LSTM, GRU and SimpleRNN themselves have one, and this is {_named(layer)}"
    if _other_activations(layer.cell):
        return "its activations are not tanh and sigmoid"
    if layer.compute_dtype != layer.variable_dtype or layer.compute_dtype not in ("float32", "float64"):
        return f"it computes in {layer.compute_dtype} with weights in {layer.variable_dtype}"
    if max(layer.cell.dropout, layer.cell.recurrent_dropout) >= 1:
        return "it drops out everything"
    if layer.unroll:
        return "it is to be unrolled (`unroll=True`)"
    reason: str | None = kernels().no_loop_because(kind)
    return reason


def _kind(cell: Any) -> str | None:
    kind = _KINDS.get(type(cell))
    return "gru_before" if kind == "gru" and not cell.reset_after else kind


def _named(layer: Any) -> str:
    return type(layer.cell if type(layer) is layers.RNN else layer).__name__


def _other_activations(cell: Any) -> bool:
    recurrent = getattr(cell, "recurrent_activation", activations.sigmoid)
    return cell.activation is not activations.tanh or recurrent is not activations.sigmoid


def _weights(cell: Any) -> tuple[Array, Array, Array | None]:
    kernel, recurrent, bias = cell.kernel, cell.recurrent_kernel, cell.bias
    return kernel.value, recurrent.value, None if bias is None else bias.value


def _factors(cell: Any, training: bool) -> tuple[int, int]:
    """Return the number of dropout factors of the input and of h."""
    count = getattr(cell, "dropout_mask_count", 1)
    active, recurrent = (count if training and rate else 0 for rate in (cell.dropout, cell.recurrent_dropout))
    return active, recurrent


def _dropout(cell: Any, loop: Loop, training: bool) -> dict[str, Any]:
    """Draw the dropout factors of a window in Keras' order: input, then h. Keras draws in inference too, without use."""
    if (loop.reset is not None and not training) or not (cell.dropout or cell.recurrent_dropout):
        return {}
    factors = {
        "dropout": _listed(cell.get_dropout_mask(loop.x[:, 0])),
        "recurrent_dropout": _listed(cell.get_recurrent_dropout_mask(loop.state[0])),
    }
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()
    return factors if training else {}


def _listed(factors: Any) -> tuple[Array, ...]:
    return () if factors is None else tuple(factors) if isinstance(factors, (list, tuple)) else (factors,)


def _output(layer: Any, outputs: Array, loop: Loop) -> Array:
    # Without resets, a masked last output is zero, as in Keras. The loop for resets repeats the last valid output.
    if layer.zero_output_for_mask and loop.mask is not None and (layer.return_sequences or loop.reset is None):
        outputs = ops.where(loop.mask[:, :, None], outputs, ops.zeros_like(outputs))
    return outputs if layer.return_sequences else outputs[:, -1]
