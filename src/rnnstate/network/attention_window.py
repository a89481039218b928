"""The check of the argument `attention_window` of `StatefulModel`."""

from collections.abc import Iterator, Mapping
from typing import Any

from rnnstate.messages import quoted
from rnnstate.ports.attention import Window, is_attention


def checked_window(window: Any, net: Any) -> Window:
    """Return how many earlier steps attention layers remember, or raise.

    Args:
        window: One positive whole number, a mapping from the names of attention layers to numbers, or `None`.
        net: The network.

    Raises:
        ValueError: If a number is not positive and whole, or a name belongs to no attention layer.
    """
    if window is None:
        return None
    numbers: dict[str | None, Any] = dict(window) if isinstance(window, Mapping) else {None: window}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            where = "" if name is None else f" for layer {name!r}"
            raise ValueError(
                f"`attention_window` must be a whole number of steps from 1 up. Received: {number!r}{where}. It says how "
                "many earlier steps each step attends to."
            )
    known = [layer.name for layer in _layers(net) if is_attention(layer)]
    if isinstance(window, Mapping) and (unknown := [name for name in window if name not in known]):
        raise ValueError(
            f"`attention_window` must name attention layers of the network: {quoted(known) or 'it has none'}. "
            f"Received: {quoted(unknown)}."
        )
    return dict(window) if isinstance(window, Mapping) else window


def _layers(net: Any) -> Iterator[Any]:
    for layer in getattr(net, "layers", ()):
        yield layer
        yield from _layers(layer)
