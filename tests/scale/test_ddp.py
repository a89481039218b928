"""PyTorch's DistributedDataParallel around a model: steps leave the bank to each rank, and its construction does not.

At its construction, DDP gives all parameters of rank 0 to all ranks, and Keras counts the rows of the bank as parameters
without gradients. In each step it adds up gradients and broadcasts buffers, and no row is a buffer.
"""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def ranks(backend, request):
    """Return what each rank knows after DDP has wrapped its model."""
    if backend != "torch":
        pytest.skip("DistributedDataParallel is a class of PyTorch")
    out = request.getfixturevalue("out_of_ranks")
    return [dict(np.load(path)) for path in sorted(out.glob("ddp-*.npz"))]


def test_ddp_does_not_broadcast_the_bank(ranks):
    """After steps, each rank has its own rows, and all ranks have the same gradients."""
    assert len(ranks) > 1
    for rank, known in enumerate(ranks):
        assert np.unique(np.abs(known["wrapped_before"])).tolist() == [rank + 3.0]
    for name in (name for name in ranks[0] if name.startswith("gradient")):
        assert np.abs(ranks[0][name]).max() > 0
        assert np.array_equal(ranks[0][name], ranks[1][name])


def test_a_rank_resumes_its_bank_after_wrapping(ranks):
    """Negative control: rows from before the wrapping are those of rank 0; loaded after it, they stay."""
    assert np.unique(np.abs(ranks[1]["wrapped_after"])).tolist() == [1.0]
    assert np.unique(np.abs(ranks[1]["wrapped_before"])).tolist() == [4.0]
