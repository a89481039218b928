"""JAX: each process runs its own compiled step, which meets the steps of the other processes in `psum`.

`shard_map` over a mesh with one device of each process runs the step of one process, with its fast loops, on the arrays of
this process. All specs are `P()`: no array is cut, because each process hands over its own rows already. To JAX such an
array looks like the same array in all processes. It is not: weights are equal, and banks, batches and metrics are those of
each process. Nothing but the step reads these arrays, so nothing relies on it.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnnstate.errors import UnsupportedModelError
from rnnstate.kernels.ranks.group import Group

_AXIS = "ranks"
GONE: tuple[type[Exception], ...] = (jax.errors.JaxRuntimeError,)


def connect(address: str | None, rank: int | None, ranks: int | None) -> Group:
    """Connect this process with the others.

    Args:
        address: `host:port` of rank 0. `None` leaves all three to JAX, which knows Slurm, MPI, Kubernetes and TPU pods.
        rank: The number of this process.
        ranks: How many processes there are.
    """
    if not jax.distributed.is_initialized():
        given: dict[str, Any] = {"coordinator_address": address, "num_processes": ranks, "process_id": rank}
        local = os.environ.get("LOCAL_RANK")
        if local is not None and jax.config.jax_platforms != "cpu":
            given["local_device_ids"] = [int(local)]
        jax.distributed.initialize(**given)
    return Group(jax.process_index(), jax.process_count())


def compiled(keras_function: Callable[..., Any], step: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Return a function that runs up to `count` steps on batches of this process.

    Args:
        keras_function: Keras' function, which is not used: it would run outside of the mesh.
        step: Takes the state of the model and a batch; returns logs and the new state.
        count: How many steps a call runs, in one scan.
    """
    del keras_function
    mesh = _mesh()
    here = NamedSharding(mesh, PartitionSpec())

    def one_step(state: Any, batch: Any) -> Any:
        logs, state = step(state, batch)
        return state, logs

    def many(state: Any, batches: Any) -> Any:
        state, logs = jax.lax.scan(one_step, state, batches)
        return state, jax.tree.map(lambda log: log[-1], logs)

    single, scanned = (_over_ranks(function, mesh) for function in (one_step, many))

    def run(state: Any, iterator: Iterator[Any]) -> Any:
        batches = list(islice(iterator, count))
        if not batches:
            raise StopIteration
        if np.ndim(batches[0][0]["slot"]) != 1:
            raise UnsupportedModelError(
                "Several processes need batches one by one. Received: stacked batches, as Keras 3.16 makes them. "
                "Compile with `steps_per_execution=1`."
            )
        state = _spread(state, here)
        if len(batches) == count and count > 1:
            state, logs = scanned(state, _spread(jax.tree.map(lambda *parts: np.stack(parts), *batches), here))
        else:
            for batch in batches:
                state, logs = single(state, _spread(batch, here))
        return _own((logs, state))

    return run


def all_sum(tensors: list[Any]) -> list[Any]:
    """Return the sums of tensors over all ranks. All of them travel as one vector."""
    vector = jax.lax.psum(jnp.concatenate([jnp.ravel(tensor) for tensor in tensors]), _AXIS)
    ends = np.cumsum([tensor.size for tensor in tensors])
    parts = jnp.split(vector, ends[:-1])
    return [part.reshape(t.shape).astype(t.dtype) for part, t in zip(parts, tensors, strict=True)]


def all_gather(data: bytes) -> list[bytes]:
    """Return the bytes of all ranks, by rank."""
    sizes = multihost_utils.process_allgather(np.array(len(data), np.int32)).ravel()
    # Each size compiles a function, so sizes are rounded up.
    room = 1 << int(sizes.max()).bit_length()
    padded = np.frombuffer(data.ljust(room, b"\0"), np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), room)
    return [row[:size].tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)]


def _mesh() -> Mesh:
    """Return a mesh of the first device of each process."""
    first: dict[int, Any] = {}
    for device in jax.devices():
        first.setdefault(device.process_index, device)
    return Mesh(np.array([first[rank] for rank in sorted(first)]), (_AXIS,))


def _over_ranks(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    spec = PartitionSpec()
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    compiled_step: Callable[..., Any] = jax.jit(mapped, donate_argnums=0)
    return compiled_step


def _spread(tree: Any, here: NamedSharding) -> Any:
    """Return arrays of this process as its parts of arrays of the mesh."""
    device = jax.local_devices()[0]
    local = jax.device_put(tree, device)
    return jax.tree.map(lambda part: jax.make_array_from_single_device_arrays(part.shape, here, [part]), local)


def _own(tree: Any) -> Any:
    """Return the parts of this process."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)
