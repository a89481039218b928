"""What counts in the loss and the metrics of a batch: the steps that are data, and the targets that belong to a window.

output         target      mask of the predictions    weight in the loss
per step       per step    the valid steps            the user's
per s steps    per step    the valid groups           the user's, at the last step of each group
per window     per window  rows with a valid step     the user's
per window     per sequence    in metrics: rows that end their sequence    1 where the sequence ends, else 0
"""

from dataclasses import dataclass
from typing import Any

from keras import ops, tree

from rnnstate.network.masks import mask_output
from rnnstate.network.outputs import by_output, output_names
from rnnstate.network.strides import Strides
from rnnstate.windows.batch import Batch, is_batch


@dataclass
class Scored:
    """Targets, predictions and weights of a batch, in the structure of the predictions.

    Args:
        y: Targets.
        y_pred: Predictions, with masks attached.
        sample_weight: Weights, or `None`.
    """

    y: Any
    y_pred: Any
    sample_weight: Any


def scored(net: Any, strides: Strides, inputs: Any, y: Any, y_pred: Any, sample_weight: Any, metrics: bool) -> Scored:
    """Return what the loss or the metrics of a batch are computed from.

    Args:
        net: The network.
        strides: Its strides, which say for how many steps each output has one entry.
        inputs: The inputs of the batch. Plain inputs have no masks, and all of their targets count.
        y: Targets; a mapping by output name where the network has several outputs.
        y_pred: Predictions, as the network returns them.
        sample_weight: Weights in the form of `y`, one for all outputs, or `None`.
        metrics: Whether it is for metrics. They count no window but the last of a sequence, where the target is that of
            the sequence. The loss counts these windows with weight 0, as if a user had weighed them by hand.
    """
    batch = Batch.from_keras(inputs) if is_batch(inputs) else None
    mask = None if batch is None or batch.mask is None else ops.cast(batch.mask[:, batch.lead :], "bool")
    ends = by_output(net, None if batch is None else batch.ends, "ends")
    flat = tree.flatten(y_pred)
    last = [end > 0 if end is not None and metrics else None for end in ends]
    parts = zip(flat, strides.outputs, last, strict=True)
    masked = [mask_output(tensor, mask, per_step, counts) for tensor, per_step, counts in parts]
    names = output_names(net) if len(flat) > 1 else []
    y, sample_weight = (strides.at_outputs(given, flat, names) for given in (y, sample_weight))
    if not metrics:
        sample_weight = _ended(net, ends, sample_weight)
    return Scored(
        _in_structure(net, y, y_pred), tree.pack_sequence_as(y_pred, masked), _in_structure(net, sample_weight, y_pred)
    )


def _ended(net: Any, ends: list[Any], sample_weight: Any) -> Any:
    """Return the weights, times 1 at the last windows of sequences and 0 at others, where a target is per sequence."""
    if all(end is None for end in ends):
        return sample_weight
    given = by_output(net, sample_weight, "sample_weight")
    shared = next(end for end in ends if end is not None)
    weights = [
        (ops.ones_like(shared) if own is None else own) if end is None else (end if own is None else end * own)
        for end, own in zip(ends, given, strict=True)
    ]
    return weights if len(weights) > 1 else weights[0]


def _in_structure(net: Any, given: Any, y_pred: Any) -> Any:
    """Return what is given by output name in the structure of the predictions, if all outputs are named."""
    if not isinstance(given, (dict, list)) or not tree.is_nested(y_pred):
        return next(iter(given.values())) if isinstance(given, dict) and len(given) == 1 else given
    parts = by_output(net, given, "y")
    return given if any(part is None for part in parts) else tree.pack_sequence_as(y_pred, parts)
