"""JAX on the CPU: the native loops, which replace the loops of XLA.

XLA runs each step of a loop as some dozen small operations of about 2 us each. A native loop is one compiled function: a
step of 8 units takes half a microsecond, and the cores share the rows of a batch.

    native_loop ──►  _run                  (outputs, final), differentiable
                       ├─ forward:  _forward    and its own gradient by XLA
                       └─ backward: _gradients  and its own gradient by XLA

Native code projects the input as well. XLA does so before the loop if there are few rows but several steps, or if dropout
has a factor for each gate: `x` and `kernel` are then empty.
"""

import importlib
import warnings
from functools import cache, partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from rnnstate.kernels.loops.definition import GATES, Array, Leaves, Loop, biases, product
from rnnstate.kernels.loops.products_jax import over_steps, project, rows_back
from rnnstate.kernels.loops.scanned import Inputs, backward, forward, held
from rnnstate.kernels.native.library import (
    ROWS_FOR_STRIPS,
    STEPS_OF_SUMS,
    is_supported,
    lie_in_strips,
    line_of_sums,
    lines_of_sums,
    strip_count,
)
from rnnstate.kernels.native.xla_header import UnexpectedInterfaceError

_NATIVE = {"lstm": 0, "gru": 1, "rnn": 2}
_FORWARD, _BACK, _SUMS, _GRADIENT_OF_X = range(4)
_KEEPS = ("lstm", "gru")


def has_native_loop(loop: Loop) -> bool:
    """Tell whether a loop can run as native code."""
    return loop.kind in _NATIVE and not loop.recurrent_dropout and loop.x.dtype == jnp.float32 and _can_run()


def _can_run() -> bool:
    return jax.default_backend() == "cpu" and keras.distribution.distribution() is None and has_library()


def native_bank() -> ModuleType | None:
    """Return the module that takes and puts the rows of a bank, or `None` where native code cannot run."""
    return importlib.import_module("rnnstate.kernels.native.bank_call") if _can_run() else None


@cache
def has_library() -> bool:
    """Tell whether native code can run: the library is there or can be compiled, and all checks pass.

    The answer is kept for the process. If something fails, one warning says what.
    """
    if not is_supported():
        return False
    try:
        _native_code()
    except UnexpectedInterfaceError as error:
        warnings.warn(
            f"The native loops were not written for this version of JAX, so XLA's own loops run, which are slower. {error} "
            "Results are the same. Report the version to the authors of rnnstate, or install the JAX of its last release.",
            stacklevel=2,
        )
        return False
    except Exception as error:
        warnings.warn(
            f"The native loops cannot be loaded, so XLA's own loops run, which are slower. Received: {error!r}. "
            "Install rnnstate from a wheel for this platform, or install a C compiler.",
            stacklevel=2,
        )
        return False
    return True


def native_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop."""
    loop, (bias, recurrent_bias) = in_shape(loop), biases(loop)
    inputs = Inputs(
        bias,
        loop.recurrent,
        recurrent_bias if loop.kind == "gru" and loop.bias is not None else None,
        loop.state,
        None if loop.reset is None else loop.initial or loop.state,
        loop.mask,
        loop.reset,
        (),
    )
    factors = tuple(factor[:, None] for factor in loop.dropout)
    if len(factors) < 2 and _projects(loop.x):
        x = loop.x * factors[0] if factors else loop.x
        bias = jnp.broadcast_to(bias, loop.kernel.shape[1:]).astype(x.dtype)
        outputs, final = _run(loop.kind, x, loop.kernel, inputs._replace(projected=bias))
    else:
        projected = product(factors, loop.x, loop.kernel, GATES[loop.kind], project) + bias
        outputs, final = _run(loop.kind, _none(3), _none(2), inputs._replace(projected=projected))
    return held(loop, outputs), final


def _projects(x: Array) -> bool:
    """Return whether native code projects the input. XLA is faster for few rows with several steps.

    JAX moves a program of a thousand multiplications or more to another thread. The move takes longer than a step of one
    row. JAX does not count the multiplications in native code, so it runs this program in the calling thread.
    """
    if not all(isinstance(size, int) for size in x.shape):  # Keras asks for the shapes of results with symbols as sizes
        return False
    return bool(x.size > 0 and (x.shape[1] == 1 or x.shape[0] >= ROWS_FOR_STRIPS))


def in_shape(loop: Loop) -> Loop:
    """Return a loop whose arrays have the exact shapes and dtypes. Native code reads its arrays without a check."""
    (batch, time, features), units = loop.x.shape, loop.recurrent.shape[0]
    width = GATES[loop.kind] * units

    def leaves(given: Leaves | None) -> Any:
        return given and tuple(jnp.broadcast_to(leaf, (batch, units)).astype(loop.x.dtype) for leaf in given)

    def flags(given: Array | None) -> Any:
        return None if given is None else jnp.broadcast_to(given, (batch, time)).astype(bool)

    return loop._replace(
        kernel=jnp.broadcast_to(loop.kernel, (features, width)),
        recurrent=jnp.broadcast_to(loop.recurrent, (units, width)),
        state=leaves(loop.state),
        initial=leaves(loop.initial),
        mask=flags(loop.mask),
        reset=flags(loop.reset),
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(kind: str, x: Array, kernel: Array, inputs: Inputs) -> tuple[Array, Leaves]:
    """Run a loop. `inputs.projected` is the bias of the projected input, or the projected input if `x` is empty."""
    _, outputs, _, final = _forward(kind, x, kernel, inputs)
    return outputs, final


def _save(kind: str, x: Array, kernel: Array, inputs: Inputs) -> Any:
    gates, outputs, kept, final = _forward(kind, x, kernel, inputs)
    return (outputs, final), (x, kernel, (inputs._replace(projected=None), outputs, gates, kept))


def _back(kind: str, saved: Any, gradients: Any) -> tuple[Array, Array, Inputs]:
    x, kernel, loop = saved
    d_x, sums_x, found = _gradients(kind, x, kernel, loop, gradients)
    return (d_x, sums_x[:-1], found._replace(projected=sums_x[-1])) if x.size else (x, kernel, found)


_run.defvjp(_save, _back)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward(kind: str, x: Array, kernel: Array, inputs: Inputs) -> tuple[Array, Array, Array, Leaves]:
    """Return the gates, h, the array `kept` for the backward pass, and the final leaves."""
    bias = _none(1) if inputs.bias is None else inputs.bias
    input_bias, projected = (inputs.projected, []) if x.size else (_none(1), [inputs.projected])
    batch, time, _ = (x if x.size else inputs.projected).shape
    (units, width), leaves = inputs.recurrent.shape, len(inputs.state)
    arrays = [*_common(inputs), inputs.recurrent, bias, x, kernel, input_bias]
    shapes = [
        (batch, time, units),
        (batch, time, units * (kind in _KEEPS)),
        (leaves, batch, units),
        (batch, 1, width + x.shape[-1]),
    ]
    shapes = shapes if projected else [(batch, time, width), *shapes]
    strips = (units + kernel.shape[0], width) if _lie_in_strips(batch, time) else None
    gates, outputs, kept, final, _ = _call(kind, _FORWARD, arrays, projected, shapes, strips)
    return gates, outputs, kept, tuple(final)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(kind: str, x: Array, kernel: Array, saved: Any, gradients: Any) -> tuple[Array, Array, Inputs]:
    """Return the gradients of x, of the kernel with the bias as its last row, and of the inputs with the projected input."""
    inputs, outputs, gates, kept = saved
    d_outputs, d_final = gradients
    batch, time, units = outputs.shape
    leaves = (len(inputs.state), batch, units)
    common = _common(inputs)
    recurrent, strips = _turned(inputs.recurrent, batch, time)
    arrays = [*common, recurrent, d_outputs, jnp.stack(d_final), outputs, _none(1)]
    shapes = [leaves, leaves, (batch, 1, inputs.recurrent.shape[1])]
    d_projected, d_kept, d_state, d_initial, _ = _call(kind, _BACK, arrays, [gates, kept], shapes, strips)
    sums_x, sums_h = _sums(kind, common, (x, d_projected), (outputs, d_kept))
    d_bias = None if inputs.bias is None else sums_h[units]
    d_initial = None if inputs.initial is None else tuple(d_initial)
    d_x = _gradient_of_x(d_projected, kernel) if x.size else x
    return d_x, sums_x, Inputs(d_projected, sums_h[:units], d_bias, tuple(d_state), d_initial, None, None, ())


def _gradient_of_x(d_projected: Array, kernel: Array) -> Array:
    """Return `d_projected @ kernel.T` for the rows of all steps."""
    (batch, time, _), features, empty = d_projected.shape, kernel.shape[0], _none(3)
    turned, strips = _turned(kernel, batch * time, 1)
    arrays = [
        empty,
        empty,
        _none(2, bool),
        _none(2, bool),
        _none(2),
        _none(1),
        d_projected,
        turned,
        jnp.zeros(features),
    ]
    return _call("lstm", _GRADIENT_OF_X, arrays, [], [(batch, time, features), *[(0,)] * 4], strips)[0]


def _turned(kernel: Array, rows: int, steps: int) -> tuple[Array, tuple[int, int] | None]:
    """Return a kernel whose transpose is a factor, and the shape of its strips. Native code transposes it into strips."""
    in_strips = _lie_in_strips(rows, steps)
    return (kernel, (kernel.shape[1], kernel.shape[0])) if in_strips else (kernel.T, None)


def _lie_in_strips(rows: Any, steps: Any) -> bool:
    return isinstance(rows, int) and isinstance(steps, int) and lie_in_strips(rows, steps)


def _sums(
    kind: str, common: list[Array], given: tuple[Array, Array], after: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return `[x, 1].T @ d_x`, and `[h before the step, 1].T` times the gradient of the recurrent product.

    Without a bias of this product, as only a GRU has one, the second factor has no ones.
    """
    (x, d_x), (outputs, d_kept) = given, after
    (units, width), features = (outputs.shape[2], d_x.shape[2]), x.shape[2]
    arrays = [*common, _none(2), d_x, x, outputs, d_kept if kind == "gru" else _none(3)]
    spare = (strip_count(width), STEPS_OF_SUMS, line_of_sums(units + features))
    shapes = [(features + 1, width) if x.size else (0, 0), (units + (kind == "gru"), width), (0,), (0,), spare]
    sums_x, sums_h, *_ = _call(kind, _SUMS, arrays, [], shapes, (lines_of_sums(units + features), width))
    return sums_x, sums_h


# XLA cannot differentiate native code. For a gradient of a gradient, it differentiates the hoisted loops, which compute the
# same values.


def _forward_by_xla(kind: str, x: Array, kernel: Array, inputs: Inputs) -> tuple[Array, Array, Array, Leaves]:
    if x.size:
        inputs = inputs._replace(projected=project(x, kernel) + inputs.projected)
    final, (states, gates) = forward(kind, _by_time(inputs), scan, save=True)
    if kind == "rnn":
        return inputs.projected, _swapped(states[0]), jnp.zeros((*inputs.projected.shape[:2], 0)), final
    kept = states[1] if kind == "lstm" else gates[3]
    return _swapped(jnp.concatenate(gates[: GATES[kind]], axis=-1)), _swapped(states[0]), _swapped(kept), final


def _gradients_by_xla(kind: str, x: Array, kernel: Array, saved: Any, gradients: Any) -> tuple[Array, Array, Inputs]:
    inputs, outputs, gates, kept = saved
    parts = tuple(jnp.split(_swapped(gates), GATES[kind], axis=-1))
    parts = {"lstm": (*parts, jnp.tanh(_swapped(kept))), "gru": (*parts, _swapped(kept)), "rnn": ()}[kind]
    states = (_swapped(outputs), _swapped(kept)) if kind == "lstm" else (_swapped(outputs),)
    d_outputs, d_final = gradients
    found = backward(kind, (_by_time(inputs), states, parts), (_swapped(d_outputs), d_final), scan)
    found = found._replace(projected=_swapped(found.projected))
    if not x.size:
        return x, _none(2), found
    d_bias = jnp.sum(found.projected, axis=(0, 1))
    sums_x = jnp.concatenate([over_steps(x, found.projected), d_bias[None]])
    return rows_back(kernel, found.projected), sums_x, found


def scan(step: Any, carry: Any, given: Any, reverse: bool) -> Any:
    """Scan in the way that the hoisted loops expect."""
    return jax.lax.scan(step, carry, given, reverse=reverse)


def _by_time(inputs: Inputs) -> Inputs:
    mask, reset = (None if flag is None else _swapped(flag)[:, :, None] for flag in (inputs.mask, inputs.reset))
    projected = None if inputs.projected is None else _swapped(inputs.projected)
    return inputs._replace(projected=projected, mask=mask, reset=reset)


def _swapped(array: Array) -> Array:
    return jnp.swapaxes(array, 0, 1)


_forward.defvjp(
    lambda kind, *given: (_forward(kind, *given), given),
    lambda kind, given, higher: jax.vjp(partial(_forward_by_xla, kind), *given)[1](higher),
)
_gradients.defvjp(
    lambda kind, *given: (_gradients(kind, *given), given),
    lambda kind, given, higher: jax.vjp(partial(_gradients_by_xla, kind), *given)[1](higher),
)


def _common(inputs: Inputs) -> list[Array]:
    """Return the arguments of both directions: the leaves at the start, the leaves after a reset, and the flags."""
    initial = _none(3) if inputs.initial is None else jnp.stack(inputs.initial)
    flags = (_none(2, bool) if flag is None else flag for flag in (inputs.mask, inputs.reset))
    return [jnp.stack(inputs.state), initial, *flags]


def _none(axes: int, dtype: Any = jnp.float32) -> Array:
    return jnp.zeros((0,) * axes, dtype)


def _call(kind: str, work: int, arrays: list[Array], overwritten: list[Array], shapes: Any, strips: Any) -> Any:
    """Call native code. `strips` is the shape of the factor that is laid in strips, or `None`."""
    settings = np.array([_NATIVE[kind], work], np.int32)
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return _native_code().call_rows(settings, arrays, overwritten, results, strips)


@cache
def _native_code() -> ModuleType:
    """Return the module that XLA calls, after all checks. The library is loaded with the first use."""
    check = importlib.import_module("rnnstate.kernels.native.check")
    check.check_header()
    code = importlib.import_module("rnnstate.kernels.native.xla_call")
    check.check_numbers(code.call_rows)
    bank = importlib.import_module("rnnstate.kernels.native.bank_call")
    check.check_bank(bank.take, bank.put)
    return code
