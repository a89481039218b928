"""The public names: all there, documented, and bound without starting Keras."""

import inspect
import subprocess
import sys

import pytest

import rnnstate

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", rnnstate.__all__)
def test_every_name_resolves_and_is_documented(name):
    """Each public name is there, is listed by `dir`, and says what it is."""
    value = getattr(rnnstate, name)
    assert name in dir(rnnstate)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_unknown_names():
    """A name that is not there is an `AttributeError` that lists those that are."""
    with pytest.raises(AttributeError, match=r"no attribute `Statefull`. Public names: .*StatefulModel"):
        rnnstate.Statefull  # noqa: B018


@pytest.mark.parametrize(
    "name", [name for name in rnnstate.__all__ if name.endswith("Error") and name != "RnnStateError"]
)
def test_errors_are_of_one_family(name):
    """Every error is an `RnnStateError` and the closest builtin."""
    error = getattr(rnnstate, name)
    assert issubclass(error, rnnstate.RnnStateError)
    assert issubclass(error, (ValueError, KeyError, RuntimeError))
    assert str(error("in `plain` words")) == "in `plain` words"


def test_import_starts_nothing():
    """`import rnnstate` imports neither Keras nor a backend nor NumPy."""
    code = (
        "import sys, rnnstate; print([n for n in ('keras', 'jax', 'torch', 'tensorflow', 'numpy') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_probe_can_fail():
    """Negative control: the same question after a name that needs Keras gives another answer."""
    code = "import sys, rnnstate; rnnstate.StatefulModel; print('keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"
