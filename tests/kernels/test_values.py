"""The kept values of variables are those that `variable.value` gives, also after an assignment and inside a scope."""

import keras
import numpy as np
import pytest

from rnnstate.kernels.step.values import Values

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="only JAX's compiled step takes values as arguments"
)
COUNT = 3


@pytest.fixture
def variables():
    """Return variables of different types, of which the first is no floating one."""
    return [keras.Variable(np.full(5, i), dtype="int32" if i == 0 else "float32") for i in range(COUNT)]


@pytest.fixture
def kept(variables):
    """Return values that were read and kept."""
    values = Values(variables)
    read, known = values.read()
    assert not known
    values.keep(read)
    return values


def test_values_stay(variables, kept):
    """Nothing has changed, so the arrays are the same."""
    values, known = kept.read()
    assert known
    assert all(value is variable.value for value, variable in zip(values, variables, strict=True))


@pytest.mark.parametrize("index", range(COUNT))
def test_an_assignment_shows(variables, kept, index):
    """Each variable may be the one that is assigned."""
    variables[index].assign(np.full(5, 7))
    values, known = kept.read()
    assert not known
    assert [int(value[0]) for value in values] == [7 if i == index else i for i in range(COUNT)]
    kept.keep(values)
    assert kept.read()[1]


@pytest.mark.parametrize("index", range(COUNT))
def test_a_scope_shows(variables, kept, index):
    """A scope may replace each of the values. It goes on afterwards, and ends."""
    with keras.StatelessScope([(variables[index], np.full(5, 7))]) as scope:
        values, known = kept.read()
        assert not known
        assert int(values[index][0]) == 7
        variables[index].assign(np.full(5, 8))
    assert int(scope.get_current_value(variables[index])[0]) == 8
    values, known = kept.read()
    assert known
    assert int(values[index][0]) == index


def test_a_layer_of_another_type_shows(variables, kept):
    """A layer that computes in another type sees variables in this type."""

    class Reads(keras.layers.Layer):
        def call(self, x):
            self.seen = kept.read()
            return x

    layer = Reads(dtype="mixed_bfloat16")
    layer(np.ones(2))
    values, known = layer.seen
    assert not known
    assert [str(value.dtype) for value in values] == ["int32", "bfloat16", "bfloat16"]


def test_two_places_are_not_kept(variables):
    """If a variable holds its array twice, nobody knows which place changes. The values are read each time."""
    variables[1].copy_of_value = variables[1].value
    values = Values(variables)
    values.keep(values.read()[0])
    variables[1].assign(np.full(5, 7))
    read, known = values.read()
    assert not known
    assert int(read[1][0]) == 7
