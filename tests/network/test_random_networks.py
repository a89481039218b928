"""Networks of `keras.layers` composed at random: each equals the whole in windows or is refused, and none differs silently.

Each backend runs networks of its own. `python tests/support/random_nets.py COUNT SEED` runs as many as you like.
"""

from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies as st

import random_nets

# How many networks fit into 40 seconds.
COUNTS = {"jax": 9, "torch": 180, "tensorflow": 12}


@st.composite
def networks(draw):
    """Draw the names of some blocks, one of which has a memory."""
    names = draw(st.sampled_from([random_nets.CALM, sorted(random_nets.BLOCKS)]))
    blocks = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    place = draw(st.integers(0, len(blocks)))
    return [*blocks[:place], draw(st.sampled_from(random_nets.CARRIERS)), *blocks[place:]]


def test_no_random_network_differs_silently(backend):
    """Windows of a network equal Keras' pass over the whole sequence, or `StatefulModel` refuses the network."""
    seen = Counter()

    @hypothesis.seed(sorted(COUNTS).index(backend))
    @hypothesis.settings(derandomize=True, max_examples=COUNTS[backend], deadline=None)
    @hypothesis.given(networks())
    def check(names):
        found = random_nets.outcome(names)
        seen[found] += 1
        assert found != "different", names

    check()
    # The draw says something only if it holds enough networks that carry, and one that must be refused.
    assert seen["equal"] >= COUNTS[backend] // 3, seen
    assert seen["refused"] > 0, seen


@pytest.mark.parametrize("name", ["same convolution", "attention", "counted"])
def test_the_comparison_finds_networks_that_differ(name):
    """The control: a block that mixes time does differ once the refusal is off."""
    blocks = ["gru", name]
    assert random_nets.outcome(blocks) == "refused"
    assert random_nets.outcome(blocks, attention_window={}, time_mixing="allow") == "different"


@pytest.mark.once
def test_blocks_with_a_memory_are_carried_alone():
    """Each of these blocks makes a network by itself, and its windows equal the whole."""
    assert {name: random_nets.outcome([name]) for name in random_nets.CARRIERS} == dict.fromkeys(
        random_nets.CARRIERS, "equal"
    )
