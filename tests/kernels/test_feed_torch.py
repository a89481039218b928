"""Law: on PyTorch, Keras gets the same batches from this loader as from PyTorch's own loader."""

import keras
import numpy as np
import pytest

import nets

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="this loader is for PyTorch")
if keras.config.backend() == "torch":
    import torch  # noqa: TID251

    from rnnstate.kernels.feed_torch import Batches

DTYPES = ("bool", "int32", "int64", "uint32", "float16", "float32", "float64")


class Given(keras.utils.PyDataset):
    """Three batches of arrays of all kinds."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        x = {dtype: (nets.values(2, 5, seed=index) > 0).astype(dtype) for dtype in DTYPES}
        return x, [nets.values(2, 3, seed=index), None], (keras.ops.ones(2), 7.0)


def flat(batch):
    """Return the leaves of a batch by place."""
    return keras.tree.flatten(batch)


def test_batches_are_those_of_keras():
    """Each array becomes the tensor that Keras makes of it, in a memory that is not shared, twice the same."""
    data, loader = Given(), Batches(Given())
    assert len(loader) == 3
    for _ in range(2):
        for index, batch in enumerate(loader):
            expected = keras.tree.map_structure(
                lambda part: None if part is None else keras.ops.convert_to_tensor(part), data[index]
            )
            assert type(batch) is tuple
            for one, other in zip(flat(batch), flat(expected), strict=True):
                assert one is other if other is None else one.dtype == other.dtype and torch.equal(one, other)
    assert index == 2


def test_arrays_are_copied():
    """A step may not write into the data of the user."""
    array = nets.values(2, 3)
    (batch,) = Batches([(array,)])
    batch[0].fill_(7.0)
    assert np.array_equal(array, nets.values(2, 3))
    assert not np.array_equal(array, batch[0].numpy())


def test_an_epoch_draws_as_many_numbers():
    """The loader of PyTorch draws from the global generator, and dropout draws the numbers after it."""
    torch.manual_seed(3)
    list(torch.utils.data.DataLoader([np.zeros(2)] * 3, batch_size=None))
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert not torch.equal(torch.rand(2), expected)  # the control: the loader draws
    torch.manual_seed(3)
    list(Batches([np.zeros(2)] * 3))
    assert torch.equal(torch.rand(2), expected)
