"""Law: every level of instructions gives the same numbers, however the rows are cut into blocks."""

import numpy as np
import pytest

from native_calls import GATES, GRU, LSTM, RNN, all_levels, at_level, back_arrays, forward_arrays, numbers, run, sums
from rnnstate.kernels.native import building
from rnnstate.kernels.native.library import library

pytestmark = pytest.mark.once
CELLS = pytest.mark.parametrize("cell", [LSTM, GRU, RNN])
LEVELS = pytest.mark.parametrize("level", all_levels())
# 13 and 29 rows fill no tile; 5, 21 and 67 units fill no vector; 131 units are summed in two parts.
SIZES = [(1, 5), (3, 8), (13, 21), (29, 67), (5, 131)]


def both_ways(cell, rows, units, level, **settings):
    """Return the results of a window forward and back."""
    forward = run(cell, forward_arrays(cell, rows, 3, units, 1 / units**0.5), level, **settings)
    return forward, run(cell, back_arrays(cell, forward), level, back=True, **settings)


def test_this_processor_has_levels():
    """Each processor has the slowest level, and the levels follow the order of the compiler's flags."""
    assert all_levels()[0] == "baseline"
    assert all_levels() == [name for name in building.LEVELS if name in all_levels()]
    with pytest.raises(ValueError, match=r"RNNSTATE_NATIVE must be `off` or one of .*Received: 'mmx'"), at_level("mmx"):
        pass


@CELLS
@LEVELS
@pytest.mark.parametrize(("rows", "units"), SIZES)
def test_levels_agree(cell, level, rows, units):
    """A level gives what the slowest one gives, which uses no fused instructions, with strips and without."""
    expected = both_ways(cell, rows, units, "baseline", strips=False)
    for strips in (True, False):
        for found, known in zip(both_ways(cell, rows, units, level, strips=strips), expected, strict=True):
            for name in set(found) - {"bias", "spare"}:
                np.testing.assert_allclose(found[name], known[name], rtol=0, atol=2e-6, err_msg=name)


@CELLS
@LEVELS
@pytest.mark.parametrize("strips", [True, False])
def test_blocks_of_rows_change_no_bit(cell, level, strips):
    """Rows one by one, or in blocks of different sizes, give bit for bit what all rows give together."""
    together = both_ways(cell, 13, 21, level, strips=strips)
    for blocks in ([(row, row + 1) for row in range(13)], [(0, 6), (6, 11), (11, 13)]):
        apart = both_ways(cell, 13, 21, level, strips=strips, blocks=blocks)
        for one, other in zip(together, apart, strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in set(one) - {"bias", "spare"})
    other_rows = both_ways(cell, 13, 21, level, strips=strips, blocks=[(0, 12)])
    assert not np.array_equal(together[0]["outputs"], other_rows[0]["outputs"], equal_nan=True)


@LEVELS
@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize(("rows", "units"), [(1, 1), (2, 7), (5, 21), (8, 64), (11, 131), (29, 67)])
def test_products(level, strips, rows, units):
    """The recurrent products of both ways are products of matrices, whether or not all fits into tiles.

    Nothing next to the results is touched.
    """
    arrays = forward_arrays(LSTM, rows + 1, 1, units)
    x, h = arrays["x"].astype("float64")[:, 0], arrays["start"][0]
    run(LSTM, arrays, level, strips=strips, blocks=[(0, rows)])
    expected = x + h.astype("float64") @ arrays["recurrent"]
    np.testing.assert_allclose(arrays["spare"][:rows, 0], expected[:rows], rtol=0, atol=4e-6 * np.sqrt(units))
    assert np.isnan(arrays["spare"][rows]).all()
    assert np.isnan(arrays["outputs"][rows]).all()
    arrays["outputs"][rows], arrays["kept"][rows] = 0, 0
    back = run(LSTM, back_arrays(LSTM, arrays), level, back=True, strips=strips, blocks=[(0, rows)])
    expected = back["x"].astype("float64")[:, 0] @ back["recurrent"].T
    np.testing.assert_allclose(back["d_start"][0, :rows], expected[:rows], rtol=0, atol=4e-6 * np.sqrt(units))
    assert np.isnan(back["d_start"][:, rows]).all()
    assert np.abs(expected).max() > 1e-2


@CELLS
@LEVELS
@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize("units", [21, 173])
@pytest.mark.parametrize(("rows", "time", "features"), [(5, 3, 1), (7, 29, 11), (4, 2, 131)])
def test_the_loop_projects_its_input(cell, level, strips, rows, time, features, units):
    """A loop with an input, a kernel and a bias gives what a loop with the projected input gives, in any blocks of rows.

    A narrow loop projects all steps together, and a wide one step by step.
    """
    width = GATES[cell] * units
    arrays = forward_arrays(cell, rows, time, units, 0.1)
    given, kernel, bias = numbers(7, rows, time, features), numbers(8, features, width), numbers(9, width)
    exact = given.astype("float64") @ kernel + bias
    expected = run(cell, {**arrays, "x": exact.astype("float32")}, level, strips=strips)
    results = ("x", "outputs", "kept", "final")
    for blocks in (None, [(row, row + 1) for row in range(rows)]):
        empty = {name: np.full_like(arrays[name], np.nan) for name in results}
        empty["spare"] = np.full((rows, 1, width + features), np.nan, "float32")
        found = run(
            cell,
            {**arrays, **empty, "given": given, "kernel": kernel, "input_bias": bias},
            level,
            False,
            strips,
            blocks,
        )
        for name in results:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
    assert np.abs(exact).max() > 1


def sum_arrays(cell, rows, time, units, features):
    """Return the arrays of a call that sums the gradients of the kernels, with resets."""
    width, is_gru = GATES[cell] * units, cell == GRU
    return {
        "start": numbers(1, 2, rows, units),
        "initial": numbers(2, 2, rows, units),
        "reset": np.random.default_rng(3).random((rows, time)) < 0.2,
        "d_x": numbers(4, rows, time, width),
        "given": numbers(5, rows, time, features),
        "outputs": numbers(6, rows, time, units),
        "d_kept": numbers(7, rows, time, units) if is_gru else None,
        "sums_x": np.full((features + 1, width), np.nan, "float32"),
        "sums_h": np.full((units + is_gru, width), np.nan, "float32"),
    }


def exact_sums(arrays):
    """Return what NumPy gives in double precision."""
    d_x, d_kept, outputs = (arrays[name] for name in ("d_x", "d_kept", "outputs"))
    before = np.concatenate([arrays["start"][0][:, None], outputs[:, :-1]], axis=1)
    before = np.where(arrays["reset"][..., None], arrays["initial"][0][:, None], before)
    d_h = d_x if d_kept is None else np.concatenate([d_x[..., : -d_kept.shape[2]], d_kept], axis=2)
    ones = np.ones((*d_x.shape[:2], 1))
    factors = (np.concatenate([arrays["given"], ones], axis=2), d_x), (np.concatenate([before, ones], axis=2), d_h)
    return [np.einsum("nti,ntj->ij", left.astype("float64"), right) for left, right in factors]


@CELLS
@LEVELS
@pytest.mark.parametrize(
    ("rows", "time", "units", "features"), [(1, 1, 1, 1), (3, 7, 21, 2), (13, 29, 67, 11), (5, 3, 8, 131)]
)
def test_sums(cell, level, rows, time, units, features):
    """The gradients of the kernels and biases are the sums over all steps, strip by strip or in one block to the bit."""
    arrays = sum_arrays(cell, rows, time, units, features)
    sums(arrays, level)
    sums_x, sums_h = exact_sums(arrays)
    bound = 1e-6 * np.sqrt(rows * time) + 1e-6
    np.testing.assert_allclose(arrays["sums_x"], sums_x, rtol=0, atol=bound)
    np.testing.assert_allclose(arrays["sums_h"], sums_h[: len(arrays["sums_h"])], rtol=0, atol=bound)
    apart = sum_arrays(cell, rows, time, units, features)
    sums(apart, level, blocks="one by one")
    assert all(np.array_equal(arrays[name], apart[name]) for name in ("sums_x", "sums_h"))
    if rows * time > 20:
        without = exact_sums({**arrays, "reset": np.zeros_like(arrays["reset"])})[1]
        assert np.abs(without - sums_h).max() > 0.1


@LEVELS
def test_sums_of_nothing(level):
    """Without steps all sums are zero. Without an input the sums of h alone are made."""
    arrays = sum_arrays(GRU, 3, 0, 7, 5)
    sums(arrays, level)
    assert not arrays["sums_x"].any()
    assert not arrays["sums_h"].any()
    arrays = {**sum_arrays(LSTM, 3, 2, 7, 5), "given": np.zeros((0, 0, 0), "float32"), "sums_x": None}
    sums(arrays, level)
    np.testing.assert_allclose(arrays["sums_h"], exact_sums(sum_arrays(LSTM, 3, 2, 7, 5))[1][:-1], rtol=0, atol=1e-5)


def applied(cell, level, values):
    """Return sigmoid (LSTM) or tanh (RNN) of some numbers, as the cell computes it in vectors and their remainders."""
    units = 21
    rows = -(-len(values) // units)
    arrays = forward_arrays(cell, rows, 1, units, 0.0)
    arrays["start"][:] = 0
    filled = np.zeros(rows * units, "float32")
    filled[: len(values)] = values
    arrays["x"][:, 0, :units] = filled.reshape(rows, units)
    run(cell, arrays, level, strips=False)
    results = arrays["x"][:, 0, :units] if cell == LSTM else arrays["outputs"][:, 0]
    return results.reshape(-1)[: len(values)]


@LEVELS
def test_sigmoid(level):
    """It agrees with double precision to some units of the last place, far out too; NaN stays NaN."""
    x = np.concatenate([np.linspace(-80, 80, 100_003), np.random.default_rng(0).normal(size=10_007)]).astype("float32")
    exact = 1 / (1 + np.exp(-x.astype("float64")))
    assert np.max(np.abs(applied(LSTM, level, x) - exact) / exact) < 3e-7
    limits = applied(LSTM, level, np.array([np.inf, -np.inf, 1e30, -1e30, 1e-40], "float32"))
    np.testing.assert_array_equal(limits[[0, 2, 4]], [1, 1, 0.5])
    assert np.all(limits[[1, 3]] < 1e-37)
    assert np.isnan(applied(LSTM, level, np.array([np.nan], "float32"))[0])


@LEVELS
def test_tanh(level):
    """It agrees with double precision, is exactly 1 far out, so that a full cell keeps what it has, and NaN stays NaN."""
    x = np.concatenate([np.linspace(-12, 12, 100_003), np.random.default_rng(0).normal(size=10_007)]).astype("float32")
    bound = (
        4e-7 if level == "baseline" else 3e-7
    )  # without fused instructions, products are rounded before they are added
    assert np.max(np.abs(applied(RNN, level, x) - np.tanh(x.astype("float64")))) < bound
    small = np.geomspace(1e-30, 1e-2, 1_009).astype("float32")
    assert np.max(np.abs(applied(RNN, level, small) / np.tanh(small.astype("float64")) - 1)) < 3e-7
    limits = applied(RNN, level, np.array([np.inf, -np.inf, 10, -10, 1e30], "float32"))
    np.testing.assert_array_equal(limits, [1, -1, 1, -1, 1])
    assert np.isnan(applied(RNN, level, np.array([np.nan], "float32"))[0])
    denormal = np.array([1e-40, -3e-39], "float32")
    np.testing.assert_allclose(applied(RNN, level, denormal), denormal, rtol=1e-2)


@CELLS
@LEVELS
@pytest.mark.parametrize(("rows", "time"), [(0, 3), (5, 0)])
def test_no_rows_and_no_steps(cell, level, rows, time):
    """Without rows nothing happens. Without steps the leaves after the window are those before it, and so are gradients."""
    forward = run(cell, forward_arrays(cell, rows, time, 7), level)
    back = run(cell, back_arrays(cell, forward), level, back=True)
    np.testing.assert_array_equal(forward["final"], forward["start"])
    np.testing.assert_array_equal(back["d_start"], back["d_final"])
    assert not back["d_initial"].any()


def test_the_width_of_strips():
    """Wider registers have wider strips."""
    widths = []
    for level in all_levels():
        with at_level(level):
            widths.append(library().width)
    assert widths == [8, 16, 32][: len(widths)]
