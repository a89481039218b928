"""PyTorch: `torch.distributed`. Steps run one operation after the other, so Keras' own functions stay."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed

from rnnstate.errors import DataError
from rnnstate.kernels.ranks.group import Group

GONE: tuple[type[Exception], ...] = (RuntimeError,)


def connect(address: str | None, rank: int | None, ranks: int | None) -> Group:
    """Connect this process with the others.

    Args:
        address: `host:port` of rank 0. `None` needs the environment that `torchrun` sets.
        rank: The number of this process.
        ranks: How many processes there are.

    Raises:
        DataError: If neither says which rank this process is.
    """
    if not torch.distributed.is_initialized():
        if address is None and "RANK" not in os.environ:
            raise DataError(
                "Each process must know its rank. Received: no `address`, and no RANK in the environment. Start the program "
                "with `torchrun --nproc-per-node N PROGRAM`, or give `address`, `rank` and `ranks`."
            )
        given = {} if address is None else {"init_method": f"tcp://{address}", "rank": rank, "world_size": ranks}
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", **given)
    return Group(torch.distributed.get_rank(), torch.distributed.get_world_size())


def compiled(keras_function: Callable[..., Any], step: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Return Keras' function, which runs steps in Python."""
    del step, count
    return keras_function


def all_sum(tensors: list[Any]) -> list[Any]:
    """Return the sums of tensors over all ranks. All of them travel as one vector."""
    vector = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(vector)
    parts = vector.split([tensor.numel() for tensor in tensors])
    return [part.reshape(t.shape).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]


def all_gather(data: bytes) -> list[bytes]:
    """Return the bytes of all ranks, by rank."""
    count, device = torch.distributed.get_world_size(), "cuda" if torch.cuda.is_available() else "cpu"
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(count)]
    torch.distributed.all_gather(sizes, torch.tensor([len(data)], device=device))
    room = int(max(size.item() for size in sizes))
    own = torch.from_numpy(np.frombuffer(data.ljust(room, b"\0"), np.uint8).copy()).to(device)
    rows = [torch.empty_like(own) for _ in range(count)]
    torch.distributed.all_gather(rows, own)
    return [row.cpu().numpy()[: size.item()].tobytes() for row, size in zip(rows, sizes, strict=True)]
