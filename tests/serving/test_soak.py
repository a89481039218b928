"""A server under load keeps its memory. `soaking.py` runs for minutes."""

import pytest

import soaking

pytestmark = pytest.mark.once


def test_memory_is_bounded(tmp_path):
    """More sessions than there is room for, errors, pages and WebSockets: all sums are right, and memory stays."""
    calls, (_, middle, end) = soaking.soak(5.0, tmp_path)
    assert calls > 10
    # Warm-up is not over after seconds; a leak of a whole request for each call would be more.
    assert end - middle < 15
