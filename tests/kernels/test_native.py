"""Law: the native loops on the CPU give what the other loops of the backend give, only faster."""

import importlib
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops, tree

from loops import NATIVE, a_loop, agree, differentiable, fast_loops, of_backend, rebuilt
from nets import difference, host
from rnnstate.kernels.loops.definition import Loop
from rnnstate.kernels.native import building, check, library, xla_header
from rnnstate.kernels.native import loops as loops_native

ON_JAX = pytest.mark.skipif(keras.config.backend() != "jax", reason="XLA calls native loops on JAX alone")


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("flags", [False, True])
def test_loops_that_are_split_among_threads(kind, flags):
    """A batch of an odd number of rows, large enough to be split, gives what the definition gives."""
    loop = a_loop(kind, 29, 5, 131, mask=flags, reset=flags)
    # weights of such a size make a network of so many units chaotic: rounding would grow from step to step
    assert agree(loop._replace(recurrent=loop.recurrent / 8))


def test_calls_from_several_threads():
    """Large loops that several threads run at the same time, again and again, give the bits of one loop alone."""
    loops = [a_loop(kind, 29, 5, 131, reset=True) for kind in ("lstm", "gru", "rnn")]
    run = fast_loops(loops[0])[0]
    alone = [host(run(loop)[0]) for loop in loops]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda number: host(run(loops[number % 3])[0]), range(30)))
    assert all(np.array_equal(found, alone[number % 3]) for number, found in enumerate(together))
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    ("batch", "settings"), [(1, {}), (3, {"mask": True, "reset": True}), (2, {"dropout": 1, "bias": False})]
)
def test_windows_of_one_step(kind, batch, settings):
    """A single step, which projects its input in the native code too, gives what the definition gives."""
    assert agree(a_loop(kind, batch, 1, 11, **settings))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_where_native_loops_run(kind):
    """They run on each backend in a default install, and the loops of the backend where they cannot."""
    assert len(fast_loops(a_loop(kind, 3, 7, 5))) == 2
    assert len(fast_loops(a_loop(kind, 3, 7, 5, recurrent_dropout=1))) == 1
    in_double = [host(array).astype("float64") for array in differentiable(a_loop(kind, 3, 7, 5))]
    assert len(fast_loops(rebuilt(a_loop(kind, 3, 7, 5), in_double))) == 1


def test_without_the_library(monkeypatch):
    """Without the library, or on a system for which no native loops are written, the loops of the backend run."""
    loop = a_loop("lstm", 3, 7, 5)
    expected = [host(run(loop)[0]) for run in fast_loops(loop)]
    monkeypatch.setattr(of_backend(NATIVE), "has_library", lambda: False)
    assert len(fast_loops(loop)) == 1
    assert difference(fast_loops(loop)[0](loop)[0], expected[-1]) < 1e-6


def test_a_library_that_cannot_be_loaded(monkeypatch):
    """There may be no library and no compiler: a warning, once, and the loops of XLA."""

    def fail():
        raise building.NoCompilerError("None was found among: cc, gcc, clang")

    monkeypatch.setattr(loops_native, "_native_code", fail)
    loops_native.has_library.cache_clear()
    with pytest.warns(
        UserWarning, match=r"XLA's own loops run, which are slower.*cc, gcc, clang.*install a C compiler"
    ):
        assert not loops_native.has_library()
    assert not loops_native.has_library()
    loops_native.has_library.cache_clear()


@pytest.mark.parametrize("system", ["another processor", "switched off"])
def test_where_no_native_loops_are_wanted(monkeypatch, recwarn, system):
    """On a system without native loops, and with `RNNSTATE_NATIVE=off`, nothing is loaded, and nothing is said."""
    monkeypatch.setattr(loops_native, "_native_code", lambda: pytest.fail("native code was loaded"))
    if system == "switched off":
        monkeypatch.setenv("RNNSTATE_NATIVE", "off")
    else:
        monkeypatch.setattr(building, "LEVELS", {})
    loops_native.has_library.cache_clear()
    assert not loops_native.has_library()
    assert not recwarn.list
    loops_native.has_library.cache_clear()


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


@ON_JAX
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_gradients_of_gradients(kind):
    """On JAX, a native loop can be differentiated again, as one of XLA can; one difference would be the gradient's own."""
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


@ON_JAX
def test_a_batch_of_loops():
    """`jax.vmap` over a native loop runs it for each."""
    import jax  # noqa: TID251

    loop = a_loop("lstm", 3, 7, 5)
    xs = ops.stack([loop.x, loop.x * 2, -loop.x])
    run = fast_loops(loop)[1]
    together = jax.vmap(lambda x: run(loop._replace(x=x))[0])(xs)
    assert difference(together, ops.stack([run(loop._replace(x=x))[0] for x in xs])) < 1e-6
    assert difference(together[0], together[1]) > 1e-2


def test_nan_comes_out():
    """NaN in the input is NaN in the outputs from then on, in that row alone."""
    loop = a_loop("lstm", 3, 7, 5)
    x = host(loop.x).copy()
    x[1, 4] = np.nan
    for run in fast_loops(loop):
        outputs = host(run(loop._replace(x=ops.convert_to_tensor(x)))[0])
        assert np.isnan(outputs[1, 4:]).all()
        assert np.isfinite(outputs[[0, 2]]).all()
        assert np.isfinite(outputs[1, :4]).all()


def test_the_table_of_functions():
    """The place of a function is read from the interface that came with JAX; one that it has not is an error."""
    assert xla_header.place_of("XLA_FFI_Error_Create") == 48
    assert xla_header.place_of("XLA_FFI_ThreadPool_NumThreads") == 8 + xla_header.place_of(
        "XLA_FFI_ThreadPool_Schedule"
    )
    with pytest.raises(xla_header.UnexpectedInterfaceError, match="must have the function `XLA_FFI_Nothing`"):
        xla_header.place_of("XLA_FFI_Nothing")


def test_the_layout_of_the_frame():
    """The installed header has the offsets of the library; sizes of nested structs and padding count."""
    frame = xla_header.layout("XLA_FFI_CallFrame")
    assert (frame["stage"], frame["args"], frame["args.args"], frame["rets.rets"]) == (32, 40, 72, 112)
    assert xla_header.layout("XLA_FFI_Buffer") == {
        "struct_size": 0,
        "extension_start": 8,
        "dtype": 16,
        "data": 24,
        "rank": 32,
        "dims": 40,
    }
    in_c = library.fields(library.library())
    assert in_c["XLA_FFI_CallFrame.rets.rets"] == 112
    assert {name.split(".")[0] for name in in_c} == {
        "XLA_FFI_Buffer",
        "XLA_FFI_CallFrame",
        "XLA_FFI_Metadata",
        "XLA_FFI_Metadata_Extension",
        "XLA_FFI_ThreadPool_NumThreads_Args",
        "XLA_FFI_ThreadPool_Schedule_Args",
    }
    check.check_header()


CHANGES = {
    "order of a buffer": (
        "int64_t rank;\n  int64_t* dims;",
        "int64_t* dims;\n  int64_t rank;",
        "Buffer.rank. at byte 32",
    ),
    "a new field": (
        "XLA_FFI_ExecutionStage stage;",
        "size_t new;\n  XLA_FFI_ExecutionStage stage;",
        "args.struct_size",
    ),
    "a size": ("XLA_FFI_DataType dtype;\n  void* data;", "void* dtype[1];\n  void* data;", "of the form `type name`"),
    "a missing field": ("XLA_FFI_Task* task;", "", "Schedule_Args.task. at byte 24"),
    "a missing struct": ("struct XLA_FFI_Rets", "struct XLA_FFI_Returned", "the struct `XLA_FFI_Rets`"),
    "a new version": ("XLA_FFI_API_MAJOR 0", "XLA_FFI_API_MAJOR 1", "version 1"),
    "no version": ("XLA_FFI_API_MAJOR 0", "XLA_FFI_MAJOR 0", "a version. Received: none"),
}


@pytest.fixture
def checked_anew():
    """Forget the answer that is kept for the process, before the test and after it."""
    kept = loops_native.has_library, loops_native._native_code
    for one in kept:
        one.cache_clear()
    yield
    for one in kept:
        one.cache_clear()


@ON_JAX
@pytest.mark.usefixtures("checked_anew")
@pytest.mark.parametrize("change", CHANGES)
def test_another_header_leads_to_the_loops_of_xla(monkeypatch, change):
    """If XLA's header has another layout, one warning says what differs; no native code runs, and results are the same."""
    old, new, told = CHANGES[change]
    text = xla_header.header()
    assert old in text
    loop = a_loop("lstm", 3, 7, 5)
    with monkeypatch.context() as patched:
        patched.setattr(xla_header, "header", lambda: text.replace(old, new))
        patched.setattr(check, "check_numbers", lambda call_rows: pytest.fail("native code was called"))
        with pytest.warns(UserWarning, match="not written for this version of JAX.*" + told) as warned:
            assert not loops_native.has_library()
        assert not loops_native.has_library()
        assert len([one for one in warned if "native loops" in str(one.message)]) == 1
        assert len(fast_loops(loop)) == 1
        assert agree(loop)
    loops_native.has_library.cache_clear()
    assert loops_native.has_library()


@ON_JAX
@pytest.mark.usefixtures("checked_anew")
def test_wrong_numbers_lead_to_the_loops_of_xla(monkeypatch):
    """If native code gives wrong numbers through XLA, one warning says so, and the loops of XLA run."""
    code = importlib.import_module("rnnstate.kernels.native.xla_call")
    call_rows = code.call_rows

    def wrong(settings, arrays, overwritten, results, strips):
        gates, outputs, *others = call_rows(settings, arrays, overwritten, results, strips)
        return gates, outputs * 1.001, *others

    monkeypatch.setattr(code, "call_rows", wrong)
    with pytest.warns(UserWarning, match="not written for this version of JAX.*what NumPy gives.*differ by"):
        assert not loops_native.has_library()
    assert len(fast_loops(a_loop("lstm", 3, 7, 5))) == 1


@ON_JAX
@pytest.mark.usefixtures("checked_anew")
def test_the_check_inside_a_trace():
    """The first use of a loop may be inside a compiled function. The check then runs at once, and leaves no trace in it."""
    import jax  # noqa: TID251

    loop = a_loop("rnn", 3, 7, 5)
    x, units = host(loop.x), 5

    def run(x):
        assert loops_native.has_library()
        return x * units

    assert "rnnstate_rows" not in jax.jit(run).lower(x).as_text()
