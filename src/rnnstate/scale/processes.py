"""Data-parallel training: several processes train one model, each on its own sequences.

`initialize` makes a process one of several. Everything else stays as it is: each process builds the same model and the same
`Windows`, and `fit`, `evaluate` and `predict` share the rows of each batch among the processes.
"""

import os

from rnnstate.errors import DataError

# The kernels are imported at the call: they start Keras, which the process that starts the others does not need.


def initialize(address: str | None = None, rank: int | None = None, ranks: int | None = None) -> None:
    """Make this process one of several that train one model. Call it before anything uses a device.

    Each process runs the same program. `fit`, `evaluate` and `predict` then take the rows of each batch that belong to this
    process, and give the same results in all of them: those of one process, up to rounding. `batch_size` is that of the
    batch of all processes together.

    Args:
        address: `host:port` of rank 0, which all processes can reach. Without it, the environment says everything: RANK,
            WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as `torchrun` and `rnnstate train --processes` set them. On JAX also
            Slurm, Open MPI, Kubernetes and Cloud TPU, which JAX finds by itself.
        rank: The number of this process, from 0 on.
        ranks: How many processes there are.

    Raises:
        DataError: If only some of the three arguments are given, or the environment of PyTorch names no rank.
        UnsupportedModelError: On TensorFlow, whose replicas would keep separate states.

    Example:

    >>> rs.scale.initialize("10.0.0.1:29500", rank=0, ranks=2)  # doctest: +SKIP
    >>> rs.scale.rank(), rs.scale.ranks()
    (0, 1)
    """
    given = [name for name, value in (("address", address), ("rank", rank), ("ranks", ranks)) if value is None]
    if 0 < len(given) < 3:
        raise DataError(f"`address`, `rank` and `ranks` belong together. Received: no `{given[0]}`. Give all, or none.")
    if address is None and "RANK" in os.environ:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    from rnnstate.kernels.ranks import rank_kernels
    from rnnstate.kernels.ranks.group import join

    join(rank_kernels().connect(address, rank, ranks))


def leave() -> None:
    """Let this process go on alone: `predict` runs all sequences in it, and waits for no other process."""
    from rnnstate.kernels.ranks.group import Group, join

    join(Group())


def rank() -> int:
    """Return the number of this process, from 0 on. Let only rank 0 write files.

    Example:

    >>> rs.scale.rank()
    0
    """
    from rnnstate.kernels.ranks.group import group

    return group().rank


def ranks() -> int:
    """Return how many processes train together: 1 before `initialize`.

    Example:

    >>> rs.scale.ranks()
    1
    """
    from rnnstate.kernels.ranks.group import group

    return group().ranks
