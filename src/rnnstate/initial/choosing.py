"""The argument `leaves`: which leaves an initial state computes. The others start as their layers do by themselves."""

from collections.abc import Sequence

from rnnstate.errors import StateStructureError
from rnnstate.messages import quoted
from rnnstate.state.spec import StateSpec, is_at


def chosen(spec: StateSpec, leaves: Sequence[str] | None) -> list[str]:
    """Return the leaves that `leaves` stands for, in the order of the model.

    Args:
        spec: The leaves of the model.
        leaves: Names of leaves, layers or nested networks. `None` stands for all leaves.

    Raises:
        StateStructureError: If a name is unknown, or there is none.

    Example:

    >>> spec = StateSpec({"lstm/h": rs.LeafSpec((8,)), "lstm/c": rs.LeafSpec((8,)), "gru/h": rs.LeafSpec((5,))})
    >>> chosen(spec, ["lstm"])
    ['lstm/h', 'lstm/c']
    """
    if leaves is None:
        return list(spec)
    if isinstance(leaves, str) or not all(isinstance(name, str) for name in leaves):
        raise StateStructureError(
            f"`leaves` must be a list of names, such as {list(spec)[:1]}. Received: leaves={leaves!r}."
        )
    unknown = [name for name in leaves if not any(is_at(leaf, name) for leaf in spec)]
    if unknown or not leaves:
        raise StateStructureError(
            f"`leaves` must name some of the leaves {quoted(spec, 9)}, or their layers. "
            f"Received: {quoted(unknown) or 'an empty list'}. Leave it out for all leaves."
        )
    return [leaf for leaf in spec if any(is_at(leaf, name) for name in leaves)]
