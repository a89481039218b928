"""Law: the native loops of JAX on the CPU are those of XLA, only faster."""

from pickle import UnpicklingError

import numpy as np
import pytest
from keras import ops, tree

from loops import a_loop, agree, differentiable, fast_loops, rebuilt
from nets import difference, host
from rnnstate.kernels.loops.definition import Loop
from rnnstate.kernels.native import loops as loops_native
from rnnstate.kernels.native import xla_header as native_interface
from rnnstate.kernels.native.math import native, sigmoid, tanh


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("flags", [False, True])
def test_loops_that_are_split_among_threads(kind, flags):
    """A batch of an odd number of rows, large enough to be split, gives what the definition gives."""
    loop = a_loop(kind, 29, 5, 131, mask=flags, reset=flags)
    # weights of such a size make a network of so many units chaotic: rounding would grow from step to step
    assert agree(loop._replace(recurrent=loop.recurrent / 8))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    ("batch", "settings"), [(1, {}), (3, {"mask": True, "reset": True}), (2, {"dropout": 1, "bias": False})]
)
def test_windows_of_one_step(kind, batch, settings):
    """A single step, which projects its input in the native code too, gives what the definition gives."""
    assert agree(a_loop(kind, batch, 1, 11, **settings))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_where_native_loops_run(kind, backend):
    """They run on JAX wherever Numba is installed, and loops of XLA where they cannot."""
    count = 2 if backend == "jax" else 1
    assert len(fast_loops(a_loop(kind, 3, 7, 5))) == count
    assert len(fast_loops(a_loop(kind, 3, 7, 5, recurrent_dropout=1))) == 1
    in_double = [host(array).astype("float64") for array in differentiable(a_loop(kind, 3, 7, 5))]
    assert len(fast_loops(rebuilt(a_loop(kind, 3, 7, 5), in_double))) == 1


def test_without_numba(monkeypatch, backend):
    """Without Numba, or on a system that is not POSIX, JAX runs the loops of XLA."""
    loop = a_loop("lstm", 3, 7, 5)
    expected = [host(run(loop)[0]) for run in fast_loops(loop)]
    monkeypatch.setattr(loops_native, "has_compiler", lambda: False)
    assert len(fast_loops(loop)) == 1
    assert difference(fast_loops(loop)[0](loop)[0], expected[-1]) < 1e-6


def test_numba_that_does_not_work(monkeypatch):
    """Numba may be there and refuse this NumPy, or fail on this processor: a warning, once, and the loops of XLA."""

    def fail():
        raise ImportError("Numba needs NumPy 2.3 or less")

    monkeypatch.setattr(loops_native, "_native_code", fail)
    loops_native.has_compiler.cache_clear()
    with pytest.warns(UserWarning, match=r"those of XLA run, which are slower.*NumPy 2\.3 or less.*Install a version"):
        assert not loops_native.has_compiler()
    assert not loops_native.has_compiler()
    loops_native.has_compiler.cache_clear()


@pytest.mark.parametrize(
    "changed",
    [
        {"state": (np.zeros((2, 5), "float32"),) * 2},
        {"initial": (np.zeros((3, 4), "float32"),) * 2},
        {"mask": np.ones((3, 6), bool)},
        {"reset": np.ones((2, 7), bool)},
        {"recurrent": np.zeros((5, 15), "float32")},
        {"kernel": np.zeros((3, 20), "float32")},
    ],
)
def test_native_code_gets_no_array_of_another_shape(changed):
    """It would read past the end of one, so that is an error before it runs; what can be broadcast, is."""
    loop = a_loop("lstm", 3, 7, 5, mask=True, reset=True)
    loop = Loop(loop.kind, *tree.map_structure(lambda part: None if part is None else host(part), tuple(loop)[1:]))
    assert loops_native.in_shape(loop._replace(state=(loop.state[0][:1],) * 2)).state[1].shape == (3, 5)
    with pytest.raises(ValueError, match=r"Incompatible \w+ for broadcasting"):
        loops_native.in_shape(loop._replace(**changed))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_gradients_of_gradients(kind, backend):
    """On JAX, a native loop can be differentiated again, as one of XLA can; one difference would be the gradient's own."""
    if backend != "jax":
        assert len(fast_loops(a_loop(kind, 3, 7, 5))) == 1
        return
    import jax  # noqa: TID251

    loop = a_loop(kind, 3, 7, 5, mask=True, reset=True)
    arrays = differentiable(loop)

    def steepness(arrays, run):
        def total(arrays):
            outputs, leaves = run(rebuilt(loop, arrays))
            return sum(ops.sum(part * part) for part in (outputs, *leaves))

        return sum(ops.sum(part * part) for part in jax.grad(total)(arrays))

    by_xla, by_native = (jax.jit(jax.grad(steepness), static_argnums=1)(arrays, run) for run in fast_loops(loop))
    first = jax.grad(lambda arrays: ops.sum(fast_loops(loop)[1](rebuilt(loop, arrays))[0] ** 2))(arrays)
    for one, other in zip(by_native, by_xla, strict=True):
        assert difference(one, other) < 1e-5 * float(np.abs(host(other)).max())
    assert difference(by_native[0], first[0]) > 1e-2


def test_a_batch_of_loops(backend):
    """`jax.vmap` over a native loop runs it for each."""
    if backend != "jax":
        assert len(fast_loops(a_loop("lstm", 3, 7, 5))) == 1
        return
    import jax  # noqa: TID251

    loop = a_loop("lstm", 3, 7, 5)
    xs = ops.stack([loop.x, loop.x * 2, -loop.x])
    run = fast_loops(loop)[1]
    together = jax.vmap(lambda x: run(loop._replace(x=x))[0])(xs)
    assert difference(together, ops.stack([run(loop._replace(x=x))[0] for x in xs])) < 1e-6
    assert difference(together[0], together[1]) > 1e-2


def applied(function, values):
    """Return what a native function of a number gives for each of some numbers."""

    @native
    def all_of(values, results):
        for place in range(values.size):
            results[place] = function(values[place])

    results = np.empty_like(values)
    all_of(values, results)
    return results


def test_sigmoid():
    """It agrees with double precision to some units of the last place, far out too; NaN stays NaN."""
    x = np.concatenate([np.linspace(-80, 80, 100_003), np.random.default_rng(0).normal(size=10_007)]).astype("float32")
    exact = 1 / (1 + np.exp(-x.astype("float64")))
    assert np.max(np.abs(applied(sigmoid, x) - exact) / exact) < 3e-7
    limits = applied(sigmoid, np.array([np.inf, -np.inf, 1e30, -1e30, np.nan], "float32"))
    np.testing.assert_array_equal(limits[[0, 2]], 1.0)
    assert np.all(limits[[1, 3]] < 1e-37)
    assert np.isnan(limits[4])


def test_tanh():
    """It agrees with double precision, is exactly 1 far out, so that a full cell keeps what it has, and NaN stays NaN."""
    x = np.concatenate([np.linspace(-12, 12, 100_003), np.random.default_rng(0).normal(size=10_007)]).astype("float32")
    assert np.max(np.abs(applied(tanh, x) - np.tanh(x.astype("float64")))) < 3e-7
    small = np.geomspace(1e-30, 1e-2, 1_009).astype("float32")
    assert np.max(np.abs(applied(tanh, small) / np.tanh(small.astype("float64")) - 1)) < 3e-7
    limits = applied(tanh, np.array([np.inf, -np.inf, 10, -10, np.nan], "float32"))
    np.testing.assert_array_equal(limits[:4], [1, -1, 1, -1])
    assert np.isnan(limits[4])


def test_nan_comes_out(backend):
    """NaN in the input is NaN in the outputs from then on, in that row alone."""
    loop = a_loop("lstm", 3, 7, 5)
    x = host(loop.x).copy()
    x[1, 4] = np.nan
    for run in fast_loops(loop):
        outputs = host(run(loop._replace(x=ops.convert_to_tensor(x)))[0])
        assert np.isnan(outputs[1, 4:]).all()
        assert np.isfinite(outputs[[0, 2]]).all()
        assert np.isfinite(outputs[1, :4]).all()


def test_code_is_kept_for_the_same_sources_alone(monkeypatch, tmp_path):
    """Other sources, or another interface of XLA, have another fingerprint, so that old code is not taken for them."""
    before = native_interface.fingerprint()
    assert native_interface.fingerprint() == before
    monkeypatch.setattr(native_interface, "_header", lambda: "another interface")
    other_interface = native_interface.fingerprint()
    monkeypatch.undo()
    (tmp_path / "native_loops.py").write_text("another loop")
    monkeypatch.setattr(native_interface, "__file__", str(tmp_path / "xla_header.py"))
    assert len({before, other_interface, native_interface.fingerprint()}) == 3


@pytest.mark.parametrize("error", [RuntimeError("no locator available"), UnpicklingError("pickle data was truncated")])
def test_code_that_cannot_be_kept(monkeypatch, error):
    """Where no folder can be written, or what was kept is damaged, the code is compiled for this process alone."""
    calls = []

    def compiler(signature, **options):
        calls.append(options)
        if options:
            raise error
        return lambda function: function

    monkeypatch.setattr(native_interface.numba, "cfunc", compiler)
    assert native_interface.compiled("intp(intp)", len) is len
    assert calls == [{"cache": True}, {}]


def test_the_table_of_functions():
    """The place of a function is read from the interface that came with JAX; one that it has not is an error."""
    assert native_interface.word_of("XLA_FFI_Error_Create") == 6
    assert native_interface.word_of("XLA_FFI_ThreadPool_NumThreads") == 1 + native_interface.word_of(
        "XLA_FFI_ThreadPool_Schedule"
    )
    with pytest.raises(ValueError, match="not in list"):
        native_interface.word_of("XLA_FFI_Nothing")
