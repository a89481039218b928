"""What is found in a network, and what `StatefulModel` does about it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnnstate.errors import UnsupportedModelError

MODES = ("refuse", "allow")


@dataclass(frozen=True)
class Mixing:
    """One node of a network that mixes time, with nothing to carry what it needs of earlier windows.

    Args:
        path: The path of the layer, or the name of the operation.
        name: The layer or operation as messages name it.
        kind: The class of the layer; empty for an operation of `keras.ops`.
        what: What it does, as words that follow its name.
        tried: False if it cannot run on random inputs, so that nothing is known about it.
        reason: Why the layer cannot be carried as it is, with the way out; empty if nothing is known about its class.

    Example:

    >>> str(Mixing("flip", "Operation `flip` (Flip)", "", "has an output at step t that depends on all steps"))
    'Operation `flip` (Flip) has an output at step t that depends on all steps'
    """

    path: str
    name: str
    kind: str
    what: str
    reason: str = ""
    tried: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.what}"

    @property
    def way_out(self) -> str:
        """What the user can do."""
        if self.reason:
            return f"The {'layer' if self.kind else 'operation'} cannot be carried as it is: {self.reason}"
        if not self.kind:
            return "Do this in a layer of your own, and register a port for it (`rnnstate.register_port`)"
        return (
            "Use a layer that works on each step alone, or one that looks back and has a port, or register a port: "
            f"`rnnstate.register_port({self.kind}, YourPort)`"
        )


def read_mode(time_mixing: Any) -> str:
    """Return the value of `time_mixing`.

    Raises:
        ValueError: If it is neither `"refuse"` nor `"allow"`.
    """
    if time_mixing not in MODES:
        raise ValueError(f'`time_mixing` must be "refuse" or "allow". Received: time_mixing={time_mixing!r}.')
    return str(time_mixing)


def refuse_mixing(found: Sequence[Mixing]) -> None:
    """Raise if a network mixes time.

    Raises:
        UnsupportedModelError: If something was found. The message names the first node.
    """
    if not found:
        return
    first, more = found[0], len(found) - 1
    others = f" So do {more} more." if more > 1 else " So does 1 more." if more else ""
    raise UnsupportedModelError(
        "Every layer must work on each step alone, or have a port that carries what it needs of earlier windows. Received: "
        f"{first}. No port carries them, so windows would differ from one pass over the whole sequence.{others} "
        f'{first.way_out}. If each window should be taken by itself, use `StatefulModel(net, time_mixing="allow")`.'
    )


def refuse_unsized(outputs: Sequence[str]) -> None:
    """Raise if an output has an axis of any size that holds no steps of the window.

    Args:
        outputs: The layers that give such outputs, as messages name them.

    Raises:
        UnsupportedModelError: If there are any. The message names the first layer.
    """
    if outputs:
        raise UnsupportedModelError(
            "An output of the network must have one entry for each step of the window, or a number of entries that its "
            f"shape tells. Received: {outputs[0]}, with shape (batch, None, ...). Its entries are made from values of the "
            "whole window, so they are no steps, and None does not tell how many there are. Give their number in the layer "
            "that makes them, such as `output_shape=(5, 3)` in place of `output_shape=(None, 3)`."
        )


def mode_of_old_file(found: Sequence[Mixing]) -> str:
    """Return the mode of a model whose file has none, and warn if its network mixes time.

    Release 0.1.0 let every network mix time. Such a file must load, and do what it did.
    """
    if not found:
        return "refuse"
    warnings.warn(
        f"The file holds a network that mixes time: {found[0]}, and no port carries them. Windows differ from one pass over "
        'the whole sequence. The model is loaded with `time_mixing="allow"`.',
        stacklevel=4,
    )
    return "allow"
