"""PyTorch: the native loops on the CPU, or else PyTorch's own operators, on the CPU and on CUDA.

With the operators, masks and resets cut the rows into segments. The operators have no dropout of h, no separate dropout for
each gate, and no GRU whose reset gate acts before the product. In these cases the hoisted loop runs step by step.
"""

from itertools import groupby

import torch

from rnnstate.kernels.loops.definition import Array, Leaves, Loop, begins_with_h
from rnnstate.kernels.loops.native_torch import has_native_loop, native_loop
from rnnstate.kernels.loops.segments_torch import cut
from rnnstate.kernels.loops.stepwise_torch import hoisted

_OPERATORS = {"lstm": torch.lstm, "gru": torch.gru, "rnn": torch.rnn_tanh}
_STEPS = {"lstm": torch.lstm_cell, "gru": torch.gru_cell, "rnn": torch.rnn_tanh_cell}
_FEW = 8  # with flags, a window of up to this many steps runs faster step by step than in segments


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Return whether this loop is faster than Keras' loop in Python. It always is."""
    return True


def no_loop_because(kind: str) -> str | None:
    """Return `None`: this backend has a fast loop for each kind of layer."""
    return None


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop.

    Without gradients and flags, an operator of PyTorch runs: it is as fast, and a step that is traced uses it too.
    """
    flags, steps = loop.mask is not None or loop.reset is not None, loop.x.shape[1]
    pays = torch.is_grad_enabled() or (flags and steps > _FEW)
    return native_loop(loop) if steps > 1 and pays and has_native_loop(loop) else loop_of_torch(loop)


def loop_of_torch(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop with the operators of PyTorch, or step by step where they lack something."""
    if loop.kind not in _OPERATORS or loop.recurrent_dropout or len(loop.dropout) > 1:
        return hoisted(loop)
    if loop.dropout:
        loop = loop._replace(x=loop.x * loop.dropout[0][:, None], dropout=())
    flags, steps = loop.mask is not None or loop.reset is not None, loop.x.shape[1]
    if steps == 1 or (flags and steps <= _FEW and not torch.is_grad_enabled()):
        return _each_step(loop)
    if (loop.mask is None or bool(loop.mask.all())) and (loop.reset is None or not bool(loop.reset.any())):
        return _native(loop.kind, loop.x, loop.state, _weights(loop))
    return _segmented(loop)


def _native(kind: str, x: Array, state: Leaves, weights: list[Array], batch_first: bool = True) -> tuple[Array, Leaves]:
    """Run the operator on rows of equal length."""
    leaves, weights = [leaf[None].contiguous() for leaf in state], [weight.contiguous() for weight in weights]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first; `train` is slower, and only gradients need it
    settings = (len(weights) > 2, 1, 0.0, torch.is_grad_enabled(), False, batch_first)
    outputs, *final = _OPERATORS[kind](x, leaves if kind == "lstm" else leaves[0], weights, *settings)
    return outputs, tuple(leaf[0] for leaf in final)


def _each_step(loop: Loop) -> tuple[Array, Leaves]:
    """Run the operator step by step. No decision here depends on the values of the flags."""
    state, outputs, y = loop.state, [], _before(loop)
    weights = _weights(loop)
    for t in range(loop.x.shape[1]):
        before = state if loop.reset is None else _where(loop.reset[:, t], loop.initial or loop.state, state)
        after = _STEPS[loop.kind](loop.x[:, t], before if loop.kind == "lstm" else before[0], *weights)
        state = after if loop.kind == "lstm" else (after,)
        (y,) = state[:1] if loop.mask is None else _where(loop.mask[:, t], state[:1], (y,))
        state = state if loop.mask is None else _where(loop.mask[:, t], state, before)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def _where(rows: Array, ones: Leaves, others: Leaves) -> Leaves:
    return tuple(torch.where(rows[:, None], one, other) for one, other in zip(ones, others, strict=True))


def _segmented(loop: Loop) -> tuple[Array, Leaves]:
    """Run the segments between resets as separate rows, without the masked steps."""
    batch, time, features = loop.x.shape
    mask = torch.ones((batch, time), dtype=torch.bool, device=loop.x.device) if loop.mask is None else loop.mask
    segments = cut(mask, loop.reset)
    starts = tuple(
        torch.where(segments.begun[:, None], leaf[segments.row], start[segments.row])
        for leaf, start in zip(loop.state, loop.initial or loop.state, strict=True)
    )
    if not len(segments.steps):  # the weights still receive a gradient of zeros
        outputs = _native(loop.kind, loop.x, loop.state, _weights(loop))[0]
        return torch.where(mask[:, :, None], outputs, _before(loop)[:, None]), tuple(
            start[segments.last] for start in starts
        )
    x = loop.x.reshape(batch * time, features)[segments.steps]
    outputs, ends = _blocks(loop, x, tuple(start[segments.order] for start in starts), segments.batch_sizes)
    final = [start.index_copy(0, segments.order, end)[segments.last] for start, end in zip(starts, ends, strict=True)]
    held = outputs[segments.held.clamp(min=0)]
    return torch.where(segments.held[:, :, None] >= 0, held, _before(loop)[:, None]), tuple(final)


def _before(loop: Loop) -> Array:
    """Return the output before the first valid step of each row."""
    return loop.state[0] if begins_with_h(loop) else torch.zeros_like(loop.state[0])


def _blocks(loop: Loop, steps: Array, state: Leaves, batch_sizes: list[int]) -> tuple[Array, Leaves]:
    """Run packed steps `(steps, features)`. The steps up to the next end of a row form a block of equal lengths.

    The packed form of PyTorch's operators computes the same and takes two to four times as long.
    """
    weights, done, outputs, ended = _weights(loop), 0, [], []
    for rows, times in [(rows, len(list(same))) for rows, same in groupby(batch_sizes)]:
        ended.append(tuple(leaf[rows:] for leaf in state))
        x = steps[done : done + rows * times].reshape(times, rows, -1)
        y, state = _native(loop.kind, x, tuple(leaf[:rows] for leaf in state), weights, batch_first=False)
        outputs.append(y.flatten(0, 1))
        done += rows * times
    return torch.cat(outputs), tuple(map(torch.cat, zip(state, *ended[::-1], strict=True)))


def _weights(loop: Loop) -> list[Array]:
    """Return the weights in PyTorch's layout: transposed, with a bias for each product. A GRU's gates are r, z, n."""
    kernels = [_reordered(loop.kind, kernel.T) for kernel in (loop.kernel, loop.recurrent)]
    if loop.bias is None:
        return kernels
    pair = loop.bias if loop.kind == "gru" else (loop.bias, torch.zeros_like(loop.bias))
    return [*kernels, *(_reordered(loop.kind, bias) for bias in pair)]


def _reordered(kind: str, gates: Array) -> Array:
    if kind != "gru":
        return gates
    z, r, new = gates.chunk(3)
    return torch.cat([r, z, new])
