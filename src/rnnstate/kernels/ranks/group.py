"""Which rank this process is, and how many there are. Until `connect` there is one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Args:
        rank: The number of this process, from 0 on.
        ranks: How many processes there are.
    """

    rank: int = 0
    ranks: int = 1


_joined = Group()


def group() -> Group:
    """Return the group of this process."""
    return _joined


def join(new: Group) -> Group:
    """Make this process a member of a group, and return the group."""
    global _joined
    _joined = new
    return new
