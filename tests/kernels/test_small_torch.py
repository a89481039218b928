"""Law: an operation of native code gives bit for bit what the operator of PyTorch gives, or PyTorch runs the operator."""

import keras
import numpy as np
import pytest

from native_calls import all_levels, at_level

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="these operations serve PyTorch alone")
if keras.config.backend() == "torch":
    import torch  # noqa: TID251

    from rnnstate.kernels.step.small_torch import Encoder, Operations

LEVELS = all_levels()
# Lengths that do and do not fill the vectors of each level, and the blocks of PyTorch's operators.
LENGTHS = [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 67, 257, 2049, 16411]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, -3e38, 1e-38]


def floats(*shape, seed=0):
    """Return numbers of many sizes, with special ones among them."""
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(shape) * 10.0 ** rng.integers(-12, 12, shape)
    special = rng.choice(SPECIAL, shape)
    return torch.from_numpy(np.where(rng.random(shape) < 0.1, special, numbers).astype("float32"))


def flags(*shape, seed=0):
    """Return flags."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < 0.5)


def indices(count, rows, dtype="int64"):
    """Return indices of rows, each at most once."""
    return torch.from_numpy(np.random.default_rng(3).permutation(rows)[:count].astype(dtype))


def bits(tensor):
    """Return the bits of a tensor. All NaN have the same bits."""
    array = tensor.detach().numpy().copy()
    if array.dtype == np.float32:
        array[np.isnan(array)] = np.nan
        return array.view(np.int32)
    return array


def native(name, to, *given, **options):
    """Run an operator as operations of native code. Return its result, or `None` if only PyTorch runs it."""
    encoder = Encoder()
    words = encoder.words(name, to, given, options)
    if words is None:
        return None
    Operations(words)()
    return to


def both(name, *given, **options):
    """Run an operator as operations and on PyTorch. Return both results."""
    operator = torch.rsub if name == "rsub" else getattr(torch.ops.aten, name)
    expected = operator(*given, **options)
    return native(name, torch.full_like(expected, 1), *given, **options), expected


# An operator, and what makes its arguments for a length.
NUMBERS = {
    "add": lambda n: (floats(n), floats(n, seed=1)),
    "sub": lambda n: (floats(n), floats(n, seed=1)),
    "mul": lambda n: (floats(n), floats(n, seed=1)),
    "div": lambda n: (floats(n), floats(n, seed=1)),
    "add number": lambda n: (floats(n), 1e-7),
    "mul number": lambda n: (floats(n), 0.999),
    "div number": lambda n: (floats(n), 3),
    "mul one": lambda n: (floats(n), floats(1, seed=1)[0]),
    "rsub": lambda n: (floats(n), 1),
    "neg": lambda n: (floats(n),),
    "pow": lambda n: (floats(n), 2),
    "pow one": lambda n: (floats(n), 1.0),
    "lt": lambda n: (floats(n), floats(n, seed=1)),
    "le": lambda n: (floats(n), 0),
    "eq": lambda n: (floats(n), 1.0),
    "gt": lambda n: (floats(n), 1.0),
    "ge": lambda n: (floats(n), floats(n, seed=1)),
}
# Other operators, on arrays with several axes, on flags and on whole numbers.
OTHERS = {
    "add rows": ("add", lambda: (floats(7, 5, 3), floats(3, seed=1)), {}),
    "add turned": ("add", lambda: (floats(7, 5), floats(7, seed=1)[:, None]), {}),
    "logical_and": ("logical_and", lambda: (flags(37), flags(37, seed=1)), {}),
    "logical_or": ("logical_or", lambda: (flags(37), flags(37, seed=1)), {}),
    "logical_not": ("logical_not", lambda: (flags(37),), {}),
    "where rows": ("where", lambda: (flags(13)[:, None], floats(13, 7), floats(13, 7, seed=1)), {}),
    "where many": ("where", lambda: (flags(613)[:, None], floats(613, 67), floats(1, seed=1)[0]), {}),
    "where one": ("where", lambda: (flags(13), floats(13), floats(1, seed=1)[0]), {}),
    "index_select": ("index_select", lambda: (floats(17, 5), 0, indices(11, 17)), {}),
    "index_select numbers": ("index_select", lambda: (floats(17), 0, indices(11, 17)), {}),
    "ints to longs": ("_to_copy", lambda: (indices(7, 17, "int32"),), {"dtype": "int64"}),
    "longs to floats": ("_to_copy", lambda: (indices(7, 17) * 16777217,), {"dtype": "float32"}),
    "ints to floats": ("_to_copy", lambda: (indices(7, 17, "int32") * 16777217,), {"dtype": "float32"}),
    "flags to floats": ("_to_copy", lambda: (flags(13, 7).T,), {"dtype": "float32"}),
    "clone": ("clone", lambda: (floats(13, 7).T,), {}),
    "clone flags": ("clone", lambda: (flags(37),), {}),
    "add ints": ("add", lambda: (indices(7, 17, "int32"), 1), {}),
    "add longs": ("add", lambda: (indices(7, 17), indices(7, 17)), {}),
    "mean of one": ("mean", lambda: (floats(7, 5, 1), [-1]), {}),
    "sum of one": ("sum", lambda: (floats(1)[0],), {}),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name, level):
    """Lengths that fill vectors and lengths that do not, and numbers of many sizes."""
    for length in LENGTHS:
        with at_level(level):
            found, expected = both(name.split()[0], *NUMBERS[name](length))
        assert np.array_equal(bits(found), bits(expected)), length
    assert len(np.unique(bits(expected))) > 1  # the control: a wrong operand would show


@pytest.mark.parametrize("name", OTHERS)
def test_other_operators(name):
    """Axes of different lengths and distances, flags, whole numbers, and rows at indices."""
    operator, given, options = OTHERS[name]
    found, expected = both(operator, *given(), **{key: getattr(torch, kind) for key, kind in options.items()})
    assert np.array_equal(bits(found), bits(expected))
    assert len(np.unique(bits(expected))) > 1 or expected.numel() == 1


@pytest.mark.parametrize("level", [name for name in LEVELS if name != "baseline"])
def test_scaled_sums(level):
    """PyTorch rounds a product and a sum once. The control: two roundings differ."""
    for length in LENGTHS:
        a, b = floats(length), floats(length, seed=1) / 1e3
        expected = a.clone().add_(b, alpha=0.1)
        with at_level(level):
            found = native("add_", a.clone(), a, b, alpha=0.1)
        assert np.array_equal(bits(found), bits(expected)), length
    assert not np.array_equal(bits(found), bits(a + b * 0.1))


def test_in_place():
    """An operator may overwrite an operand, and lists of tensors take one operation each."""
    ones, others = [floats(5, 3), floats(7)], [floats(5, 3, seed=1), floats(7, seed=1)]
    expected = [one * 0.9 + other for one, other in zip(ones, others, strict=True)]
    native("_foreach_mul_", ones, ones, 0.9)
    native("_foreach_add_", ones, ones, others)
    assert all(np.array_equal(bits(one), bits(other)) for one, other in zip(ones, expected, strict=True))


def test_copies_of_transposed_matrices():
    """The columns of a matrix lie next to each other in memory, and the rows of its copy do."""
    given = floats(37, 21).T
    found = native("copy_", torch.empty(21, 37), torch.empty(21, 37), given)
    assert np.array_equal(bits(found), bits(given.contiguous()))


def test_rows_are_written_at_indices():
    """The other rows stay as they are. An index out of range raises an error, and nothing is written."""
    bank, at, rows = floats(17, 5), indices(7, 17), floats(7, 5, seed=1)
    expected = bank.clone().index_copy_(0, at, rows)
    assert not np.array_equal(bits(bank), bits(expected))
    native("index_copy_", bank, bank, 0, at, rows)
    assert np.array_equal(bits(bank), bits(expected))
    for wrong in (17, -1):
        at[3] = wrong
        with pytest.raises(IndexError, match="An index must be from 0 to the number of rows minus 1"):
            native("index_copy_", bank, bank, 0, at, rows * 2)
        with pytest.raises(IndexError, match="An index must be from 0 to the number of rows minus 1"):
            native("index_select", torch.empty(7, 5), bank, 0, at)
    assert np.array_equal(bits(bank), bits(expected))


@pytest.mark.parametrize(
    ("name", "to", "given"),
    [
        ("mul", (3,), lambda: (torch.ones(3, dtype=torch.float64), 2.0)),
        ("add", (3,), lambda: (torch.ones(3), torch.ones(3, dtype=torch.float64))),
        ("div", (3,), lambda: (torch.ones(3, dtype=torch.int64), 2)),
        ("pow", (3,), lambda: (torch.ones(3), 0.5)),
        ("sqrt", (3,), lambda: (torch.ones(3),)),
        ("sum", (), lambda: (torch.ones(3),)),
        ("mean", (5,), lambda: (torch.ones(3, 5), [0])),
        ("index_select", (3, 2), lambda: (torch.ones(3, 5), 1, torch.arange(2))),
        ("mul", (2**15,), lambda: (torch.ones(2**15), 2.0)),
        ("index_copy", (3, 5), lambda: (torch.ones(3, 5), 0, torch.arange(2), torch.ones(2, 5))),
        ("neg", (7, 5), lambda: (torch.ones(7, 10)[:, ::2],)),
    ],
)
def test_other_cases_stay_with_pytorch(name, to, given):
    """Other dtypes, sums of several numbers, roots, other axes, many elements, and floats that lie apart."""
    assert native(name, torch.empty(to), *given()) is None


def test_a_rounded_quotient_stays_with_pytorch():
    """An option that no operation has."""
    assert native("div", torch.empty(3), torch.ones(3), 2.0, rounding_mode="floor") is None
    assert native("div", torch.empty(3), torch.ones(3), 2.0, rounding_mode=None) is not None  # the control


def test_an_operand_that_overlaps_the_result_stays_with_pytorch():
    """An operation would read elements that it has written."""
    memory = floats(8)
    assert native("mul", memory[1:], memory[:-1], 2.0) is None
    assert native("mul", memory[1:], memory[1:], 2.0) is not None  # the control
