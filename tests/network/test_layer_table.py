"""The table of all layers of Keras in docs/layers.md says what `StatefulModel` does."""

import pytest

import layer_table


@pytest.mark.once
def test_the_page_shows_the_table_of_this_release():
    """Each row of the page is what the layers give today. `python tests/support/layer_table.py` writes them anew."""
    expected = layer_table.table()
    assert layer_table.shown() == expected
    named = " ".join(expected)
    assert [name for name in layer_table.names() if f"`{name}" not in named] == []
