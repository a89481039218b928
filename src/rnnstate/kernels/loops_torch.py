"""PyTorch: its native recurrent operators, on the CPU and on CUDA, wherever they compute the same as Keras' cells.

They know neither masks nor resets nor dropout of h, and no GRU whose reset gate acts before the product; Keras' loop, in
Python, runs there.
"""

import torch

from rnnstate.kernels.loops_reference import Array, Leaves, Loop


def has_loop(kind: str, flags: bool, dropout: int, recurrent_dropout: int) -> bool:
    """Tell whether there is a native operator that computes this loop."""
    return not flags and dropout < 2 and recurrent_dropout == 0 and no_loop_because(kind) is None


def no_loop_because(kind: str) -> str | None:
    """Say why this backend has no fast loop for a kind of layer, or `None` if it has one."""
    return "PyTorch has no GRU with `reset_after=False`" if kind == "gru_before" else None


def recurrent_loop(loop: Loop) -> tuple[Array, Leaves]:
    """Run a loop natively."""
    x = loop.x * loop.dropout[0][:, None] if loop.dropout else loop.x
    weights = _weights(loop)
    state = [leaf[None].contiguous() for leaf in loop.state]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first; without gradients to keep, `train` is slower
    settings = (len(weights) > 2, 1, 0.0, torch.is_grad_enabled(), False, True)
    if loop.kind == "lstm":
        outputs, *final = torch.lstm(x, state, weights, *settings)
    else:
        run = torch.gru if loop.kind == "gru" else torch.rnn_tanh
        outputs, *final = run(x, state[0], weights, *settings)
    return outputs, tuple(leaf[0] for leaf in final)


def _weights(loop: Loop) -> list[Array]:
    """Return the weights in PyTorch's layout: transposed, with a bias for each product, and the GRU's gates as r, z, n."""
    kernels = [_reordered(loop.kind, kernel.T).contiguous() for kernel in (loop.kernel, loop.recurrent)]
    if loop.bias is None:
        return kernels
    pair = loop.bias if loop.kind == "gru" else (loop.bias, torch.zeros_like(loop.bias))
    return [*kernels, *(_reordered(loop.kind, bias).contiguous() for bias in pair)]


def _reordered(kind: str, gates: Array) -> Array:
    if kind != "gru":
        return gates
    z, r, new = gates.chunk(3)
    return torch.cat([r, z, new])
