"""The pictures of the documents: the script that draws them runs, and each picture stands in a page with words for it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The others cost more than they would tell: `rs.plots` has tests of its own, and so have the tutorial and the demo.
DRAWN = ("carried-or-reset", "lanes", "gradient-flow", "thermal-house")


def test_the_script_draws_pictures_for_light_and_dark_pages(tmp_path):
    """The script runs on JAX, and its colours follow the page: none is fixed but those that suit both."""
    chosen = [part for name in DRAWN for part in ("--only", name)]
    flags = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    subprocess.run(
        [sys.executable, ROOT / "docs" / "pictures.py", "--quick", "--out", tmp_path, *chosen],
        env=os.environ | flags, check=True, capture_output=True,
    )  # fmt: skip
    assert {path.stem for path in tmp_path.iterdir()} == set(DRAWN)
    for path in tmp_path.iterdir():
        head, drawn = path.read_text().split("</style>", 1)
        assert "prefers-color-scheme: dark" in head
        assert not re.search(r"(fill|stroke)(: ?|=\")#(1f2328|8b949e|0072b2|eaeef2)", drawn), path.name


def test_each_picture_is_shown_with_words_for_it():
    """Each SVG in docs/ stands in a page, and each picture in a page has a text for readers who cannot see it."""
    shown = {}
    for page in PAGES:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text()):
            shown.setdefault(Path(target).name, []).append(words)
    assert set(shown) == {path.name for path in (ROOT / "docs").glob("*.svg")}
    assert all(len(words) > 40 for texts in shown.values() for words in texts)
