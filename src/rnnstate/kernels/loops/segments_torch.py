"""Windows with masked steps and resets, cut into rows that PyTorch's operators can run.

A reset cuts a row into segments. The part after the reset starts from the initial state and does not depend on the part
before it, so each segment becomes a separate row. The segments lose their masked steps, are sorted by length, and are
packed step by step:

    row 0   a0 a1 | b0 b1 b2      segments by length   b0 b1 b2      packed   b0 c0 a0  b1 c1 a1  b2
    row 1   c0 -- c1                                   c0 c1                  batch_sizes = 3, 3, 1
            | reset   - masked                         a0 a1
"""

from typing import NamedTuple

import torch

from rnnstate.kernels.loops.definition import Array


class Segments(NamedTuple):
    """How the steps of windows `(batch, time)` are packed.

    Args:
        row: Row of each segment, `(segments,)`. The segments of a row follow one another.
        begun: Boolean `(segments,)`: true if the segment starts from the state of its row, false if it starts at a reset.
        last: Last segment of each row, `(batch,)`.
        order: Segments that have valid steps, the longest first.
        steps: Index of each valid step in the flattened windows, in packed order.
        batch_sizes: Number of segments that have a first step, a second step, and so on.
        held: Packed index of the last valid step up to each step, `(batch, time)`, or -1 if there is none.
    """

    row: Array
    begun: Array
    last: Array
    order: Array
    steps: Array
    batch_sizes: list[int]
    held: Array


def cut(mask: Array, reset: Array | None) -> Segments:
    """Cut windows into segments, and pack their valid steps.

    Args:
        mask: Boolean `(batch, time)` of the valid steps.
        reset: Boolean `(batch, time)`: a segment begins with this step, valid or not.
    """
    number = torch.zeros_like(mask, dtype=torch.int64) if reset is None else reset.cumsum(1)
    last = (number[:, -1] + 1).cumsum(0) - 1
    first = torch.cat([last.new_zeros(1), last[:-1] + 1])
    row = torch.repeat_interleave(number[:, -1] + 1)
    begun = torch.zeros_like(row, dtype=torch.bool).index_fill(0, first, True)
    steps = mask.reshape(-1).nonzero()[:, 0]
    segment = (first[:, None] + number).reshape(-1)[steps]
    order, batch_sizes, packed = _pack(segment, len(row))
    count = mask.reshape(-1).cumsum(0).reshape(mask.shape)
    before = count[:, :1] - mask[:, :1].long()
    places = torch.cat([packed, packed.new_zeros(1)])  # one index to pick if no step is valid
    held = torch.where(count > before, places[(count - 1).clamp(min=0)], -1)
    return Segments(row, begun, last, order, steps[packed.argsort()], batch_sizes.tolist(), held)


def _pack(segment: Array, segments: int) -> tuple[Array, Array, Array]:
    """Return the order of the segments, the batch sizes, and the packed index of each valid step."""
    lengths = torch.bincount(segment, minlength=segments)
    sorted_lengths, order = lengths.sort(descending=True, stable=True)
    longest = int(sorted_lengths[0])
    batch_sizes = (lengths[:, None] > torch.arange(longest, device=segment.device)).sum(0)
    offsets = batch_sizes.cumsum(0) - batch_sizes
    within = torch.arange(len(segment), device=segment.device) - (lengths.cumsum(0) - lengths)[segment]
    return order[: int((lengths > 0).sum())], batch_sizes, offsets[within] + order.argsort()[segment]
