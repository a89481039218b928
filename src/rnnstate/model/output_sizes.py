"""The check that outputs per step have the size that their windows tell, before `predict` sorts them by time.

A layer that `time_mixing="allow"` lets in may give another number of steps than it takes, such as a pool with strides.
"""

from collections.abc import Sequence
from typing import Any

from keras import tree

from rnnstate.errors import DataError
from rnnstate.messages import counted
from rnnstate.network.outputs import output_names
from rnnstate.network.time_mixing import is_carried_without_strides, mixing_of


def check_sizes(net: Any, outputs: Any, per_step: Sequence[int], length: int) -> None:
    """Raise unless outputs have one entry for each step of a window, or for each group of steps.

    Args:
        net: The network.
        outputs: What Keras' `predict` returned, arrays `(rows, time, ...)`.
        per_step: For each output, for how many steps it has one entry; 0 for one entry per window.
        length: The steps of a window.

    Raises:
        DataError: If an output has another number of entries. The message names the layers that may be the cause.
    """
    for number, (output, rate) in enumerate(zip(tree.flatten(outputs), per_step, strict=True)):
        if not rate or output.shape[1:2] == (length // rate,):
            continue
        names = output_names(net) if len(per_step) > 1 else []
        name = f"output `{names[number]}`" if names else "an output"
        found = counted(output.shape[1], "entry", "entries") if output.ndim > 1 else "no time axis"
        causes = [str(node) for node in mixing_of(net, is_carried_without_strides)]
        cause = f' {causes[0]}, which `time_mixing="allow"` lets in.' if causes else ""
        raise DataError(
            f"`predict` sorts outputs by step, so an output must have one entry for each step of a window. Received: {name} "
            f"with {found} for windows of {counted(length, 'step')}.{cause} Call `predict_on_batch(*windows[i])` for the "
            "outputs of each window by itself."
        )
