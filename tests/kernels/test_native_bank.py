"""Law: on JAX, native code takes and puts the rows of a bank as NumPy's indices do."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if keras.config.backend() != "jax":
    pytest.skip("native code takes the rows of a bank on JAX alone", allow_module_level=True)

import jax  # noqa: TID251

from rnnstate.kernels import jax as kernels
from rnnstate.kernels.native import loops

BANK = loops.native_bank()
SHAPES = [(), (3,), (5, 2), (0,)]
DTYPES = ["float32", "bfloat16", "int32", "bool"]


def a_bank(rng, rows, shape, dtype):
    """Return random rows of a leaf."""
    return jax.numpy.asarray(rng.integers(0, 100, (rows, *shape)) % (2 if dtype == "bool" else 100)).astype(dtype)


@settings(max_examples=20)
@given(
    leaves=st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1, max_size=4),
    capacity=st.integers(2, 37),
    batch=st.integers(1, 11),
    seed=st.integers(0, 2**16),
)
def test_rows_are_those_of_numpy(leaves, capacity, batch, seed):
    """Any leaves, sizes and slots: the rows are exact, and all other rows stay."""
    rng = np.random.default_rng(seed)
    banks = [a_bank(rng, capacity, *leaf) for leaf in leaves]
    new = [a_bank(rng, batch, *leaf) for leaf in leaves]
    slots = rng.permutation(max(capacity, batch))[:batch].astype("int32") % capacity
    before = [np.array(bank) for bank in banks]
    for bank, rows in zip(before, BANK.take(banks, slots), strict=True):
        assert np.array_equal(rows, bank[slots])
    for bank, rows, after in zip(before, new, BANK.put(banks, slots, new), strict=True):
        expected = bank.copy()
        expected[slots] = rows  # the last of two rows with one slot stays, as in native code
        assert np.array_equal(after, expected)
    assert all(np.array_equal(bank, old) for bank, old in zip(banks, before, strict=True))


def test_slots_outside_the_bank():
    """A slot outside the bank stands for the spare row 0, so that no other memory is read or written."""
    bank, slots = np.arange(10, dtype="float32").reshape(5, 2), np.array([7, -1, 3], "int32")
    assert np.array_equal(BANK.take([bank], slots)[0], bank[[0, 0, 3]])
    after = np.array(BANK.put([bank], slots, [np.full((3, 2), 9, "float32")])[0])
    assert np.array_equal(after[[0, 3]], np.full((2, 2), 9))
    assert np.array_equal(after[[1, 2, 4]], bank[[1, 2, 4]])


def test_a_donated_bank_is_changed_in_place():
    """A compiled step that gives its bank away gets the same memory back, and one that keeps its bank gets a copy."""
    slots, rows = np.array([3, 1], "int32"), [np.ones((2, 7), "float32")]
    for donated, same in (((0,), True), ((), False)):
        bank = jax.jit(lambda: jax.numpy.zeros((64, 7)))()  # an array of NumPy's memory cannot be given away
        place = bank.unsafe_buffer_pointer()
        after = jax.jit(BANK.put, donate_argnums=donated)([bank], slots, rows)[0]
        assert (after.unsafe_buffer_pointer() == place) == same
        assert np.array_equal(np.flatnonzero(np.asarray(after).any(axis=1)), [1, 3])


@pytest.mark.parametrize("native", [True, False])
def test_no_gradient_flows_through_the_bank(native, monkeypatch):
    """Rows that are taken or put are detached, by native code and by XLA; a gradient around them is the same."""
    monkeypatch.setattr(loops, "_can_run", lambda: native)
    bank = keras.Variable(np.arange(10, dtype="float32").reshape(5, 2), trainable=False)
    slots = np.array([4, 2], "int32")

    def loss(weights):
        with keras.StatelessScope([(bank, bank.value)]) as scope:
            (taken,) = kernels.take_rows([bank], slots)
            kernels.put_rows([bank], slots, [taken * weights])
            after = scope.get_current_value(bank)
        return (taken * weights).sum() + after.sum(), after

    gradient, after = jax.jit(jax.grad(loss, has_aux=True))(np.array([2.0, 3.0], "float32"))
    assert np.array_equal(gradient, [8 + 4, 9 + 5])  # with a gradient through the bank it would be twice as large
    assert np.array_equal(after[4], [16, 27])
    assert np.array_equal(after[0], [0, 1])


def test_other_rows_fail_the_check():
    """A version of JAX that passes other rows is found by the check at load."""
    from rnnstate.kernels.native.check import check_bank
    from rnnstate.kernels.native.xla_header import UnexpectedInterfaceError

    check_bank(BANK.take, BANK.put)
    with pytest.raises(UnexpectedInterfaceError, match="take and put the rows of a bank"):
        check_bank(BANK.take, lambda banks, slots, rows: BANK.put(banks, slots[::-1], rows))
