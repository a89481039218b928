"""Laws of several processes: they give the result of one, and a process that ends leaves a run that others continue."""

import sys

import numpy as np
import pytest

import ranked
import rnnstate as rs
from rnnstate.scale.launch import launch

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def alone():
    """Return what one process knows after training."""
    return ranked.known(*ranked.fitted())


def run(processes, out, *arguments):
    """Run the program in several processes, and return what each rank knows at the end."""
    out.mkdir()
    launch([sys.executable, ranked.__file__, str(out), *map(str, arguments)], processes)
    return [dict(np.load(out / f"{rank}.npz")) for rank in range(processes)]


def difference(one, other):
    """Return the largest difference of arrays by name."""
    assert set(one) == set(other)
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_processes_give_the_result_of_one_and_continue_each_other(backend, alone, tmp_path):
    """A rank is killed in the middle of an epoch, and other processes continue: all equal one uninterrupted process."""
    if backend == "tensorflow":
        with pytest.raises(
            rs.UnsupportedModelError, match=r"JAX and on PyTorch.*KERAS_BACKEND=tensorflow.*MirroredStrategy"
        ):
            rs.scale.initialize("127.0.0.1:1", rank=0, ranks=2)
        return
    checkpoint = tmp_path / "checkpoints"
    with pytest.raises(rs.RankError, match=r"rank 1 was ended by signal 9, so all were ended.*continues"):
        run(2, tmp_path / "killed", checkpoint, 1, 2)
    ranks = run(2 if backend == "jax" else 3, tmp_path / "continued", checkpoint)
    assert max(difference(alone, one) for one in ranks) < TOLERANCE
    model, history = ranked.fitted(checkpoint)  # the run is complete: one process reads what the others wrote
    assert difference(alone, ranked.known(model, history)) < TOLERANCE
