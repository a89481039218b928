"""Products by strips, in tiles that stay in registers, are products of matrices, whether or not all fits into tiles."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.strips import add_product_of_strips, pack
from rnnstate.kernels.native.tiles import WIDTH

pytestmark = pytest.mark.once


@native
def add(z, a, b, strips, edge):
    """Add the product of the second step of `a` to the third one of `z`."""
    pack(strips, b)
    add_product_of_strips(z, 2, a, 1, strips, edge)


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 1, 1), (5, 7, 21), (8, 128, 2 * WIDTH), (11, 131, WIDTH + 1), (29, 300, 67)]
)
def test_products_by_strips(rows, inner, columns):
    """They are added to one step, from another one, and nothing else is touched; scratch may hold anything."""
    rng = np.random.default_rng(rows)
    z = rng.standard_normal((rows, 4, columns)).astype("float32")
    a = rng.standard_normal((rows, 3, inner)).astype("float32")
    b = rng.standard_normal((inner, columns)).astype("float32")
    strips = np.full((-(-columns // WIDTH), inner, WIDTH), np.nan, "float32")
    expected = z.astype("float64")
    expected[:, 2] += a[:, 1].astype("float64") @ b
    found = z.copy()
    add(found, a, b, strips, np.full((rows, 1, WIDTH), np.nan, "float32"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.sqrt(inner) * 4)
    np.testing.assert_array_equal(found[:, [0, 1, 3]], z[:, [0, 1, 3]])
    assert np.abs(found - z).max() > 1e-2


def test_tiles_of_other_processors():
    """A processor with fewer registers gets smaller tiles, which give the same."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    code = "from rnnstate.kernels.native.tiles import WIDTH; print(WIDTH)"
    run = {"env": environment, "capture_output": True, "text": True, "check": False}
    assert subprocess.run([sys.executable, "-c", code], **run).stdout.strip() == "16"
    chosen = [str(Path(__file__)), "-k", "products_by_strips", "-q", "-p", "no:cacheprovider"]
    told = subprocess.run([sys.executable, "-m", "pytest", *chosen], **run)
    assert "5 passed" in told.stdout, told.stdout
