"""The notebooks: kept without outputs, honest about their limits. `scripts/docs` runs them, and an error fails the build."""

import importlib.util
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site():
    """Return the module that runs notebooks for the site."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "site" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_is_light_and_says_when_carrying_does_not_help(path):
    """A notebook holds no outputs, names no kernel of one machine, and has a part about the limits of carrying."""
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    words = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert words.startswith("# ")
    assert "## When carrying does not help" in words


def test_each_backend_has_a_loop_of_its_own(site):
    """The three loops run on the backend that their names say; the other notebooks run on JAX."""
    asked = {path.stem: site.backend_of(path) for path in NOTEBOOKS}
    loops = {name.rsplit("_", 1)[1]: backend for name, backend in asked.items() if name.startswith("07_")}
    assert loops == {name: name for name in ("jax", "torch", "tensorflow")}
    assert {backend for name, backend in asked.items() if not name.startswith("07_")} == {"jax"}
    assert list(site.NOTEBOOKS) == NOTEBOOKS


def test_a_page_shows_what_the_cells_give(site, tmp_path):
    """Prints, values and pictures stand below their cells, names last from cell to cell, and an error is an error."""

    def page(*cells, run=True):
        sources = [{"cell_type": "code", "source": [cell]} for cell in cells]
        path = site.ROOT / "examples" / "notebooks" / "one.ipynb"
        written = tmp_path / path.name
        written.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# One"]}, *sources]}))
        site.cells_of, kept = lambda _: kept(written), site.cells_of
        try:
            return site.page_of(path, run)
        finally:
            site.cells_of = kept

    shown = page("a = 3\nprint('printed')", "a + 1")
    assert "```python\na + 1\n```\n\n```text\n4\n```" in shown
    assert "```text\nprinted\n```" in shown
    drawing = "from matplotlib.figure import Figure\nfigure = Figure()\nfigure.subplots().set(xlabel='step')\nfigure"
    assert '<img alt="Picture: step" src="data:image/svg+xml;base64,' in page(drawing)
    assert "Shown without outputs: this site was built without jax." in page("1 / 0", run=False)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        page("1 / 0")
