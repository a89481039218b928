"""Law: on PyTorch the native loops are as good as its operators in every use: threads, graphs, higher gradients."""

from pathlib import Path

import keras
import pytest
from keras import ops

from loops import a_loop, differentiable, rebuilt, weighed, with_gradients
from nets import difference, host
from rnnstate.kernels.native.building import NoCompilerError

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="these loops run on PyTorch alone")
if keras.config.backend() == "torch":
    import torch  # noqa: TID251

    from rnnstate.kernels.loops import blocks_torch, native_torch, passes_torch
    from rnnstate.kernels.loops.stepwise_torch import hoisted
    from rnnstate.kernels.loops.torch import loop_of_torch, recurrent_loop

KINDS = ["lstm", "gru", "rnn"]


@pytest.fixture
def calls(monkeypatch):
    """Return a list of the native calls: whether each ran back, and how often it asked for other threads."""
    made, prepare = [], passes_torch.rows_run

    def counted(kind, back, *rest):
        made.append([back, 0])
        return prepare(kind, back, *rest)

    def counting(threads):
        def asked(*process):
            made[-1][1] += 1
            return threads(*process)

        return asked

    monkeypatch.setattr(passes_torch, "rows_run", counted)
    for threads in ("_team", "_pool"):
        monkeypatch.setattr(blocks_torch, threads, counting(getattr(blocks_torch, threads)))
    return made


def test_the_threads_of_pytorch_are_found():
    """Where PyTorch brings OpenMP of GCC, native loops run on its threads, in a process that was not forked."""
    assert (blocks_torch._team() is not None) == any(Path(torch.__file__).parent.glob("lib/libgomp*.so*"))


@pytest.mark.parametrize("threads_of", ["pytorch", "pool"])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_the_rows(kind, threads_of, calls, monkeypatch):
    """Three threads, of PyTorch or of a pool, give the same bits as one thread."""
    if threads_of == "pool":
        monkeypatch.setattr(blocks_torch, "_PROCESS", 0)  # as in a process that was forked
    loop = a_loop(kind, 29, 11, 131, mask=True, reset=True)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(with_gradients(native_torch.native_loop, loop))
    finally:
        torch.set_num_threads(threads)
    assert [tasks for _, tasks in calls][:2] == [0, 0]
    assert all(tasks for _, tasks in calls[2:])
    # PyTorch's products, which make the gradients of the kernels, may add in another order with more threads
    count = 1 + len(loop.state)
    assert all(difference(one, other) == 0.0 for one, other in zip(found[0][:count], found[1][:count], strict=True))
    for one, other in zip(*found, strict=True):
        assert difference(one, other) < 1e-5 * max(1.0, float(abs(host(other)).max()))
    assert difference(found[0][0], loop_of_torch(loop._replace(reset=None))[0]) > 1e-2


def test_when_native_loops_run(calls):
    """They run for gradients, and for flags in long windows. A plain window without gradients runs in an operator."""
    plain, flagged = a_loop("lstm", 3, 11, 5), a_loop("lstm", 3, 11, 5, mask=True, reset=True)
    with torch.no_grad():
        recurrent_loop(plain)
        assert not calls
        recurrent_loop(flagged)
    assert calls == [[False, 0]]
    with_gradients(recurrent_loop, plain)
    assert [back for back, _ in calls] == [False, False, True]
    recurrent_loop(rebuilt(plain, [array.double() for array in differentiable(plain)]))
    with_gradients(recurrent_loop, a_loop("lstm", 3, 11, 5, recurrent_dropout=1))
    answers = []
    torch.func.vmap(lambda x: (answers.append(native_torch.has_native_loop(plain._replace(x=x))), x)[1])(plain.x[None])
    assert answers == [False]
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_graph_that_is_kept(kind, monkeypatch):
    """A second backward pass over a kept graph gives the first gradients. Without a copy, it reads overwritten gates."""
    loop = a_loop(kind, 3, 7, 5, mask=True, reset=True)

    def twice():
        leaves = [array.clone().requires_grad_() for array in differentiable(loop)]
        value, _ = weighed(native_torch.native_loop, loop, leaves)
        return [torch.autograd.grad(value, leaves, retain_graph=keep)[0] for keep in (True, False)]

    one, other = twice()
    assert difference(one, other) == 0.0
    monkeypatch.setattr(native_torch, "_keeps_graph", lambda: False)
    assert difference(*twice()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("repeats_h", [False, True])
def test_gradients_of_gradients(kind, repeats_h):
    """The native loop can be differentiated twice, as the hoisted loop can, where masked steps repeat h too."""
    loop = a_loop(kind, 3, 5, 3, mask=True, reset=not repeats_h)._replace(repeats_h=repeats_h)
    loop.mask[1, :2] = False

    def second(run):
        leaves = [array.clone().requires_grad_() for array in differentiable(loop)]
        value, _ = weighed(run, loop, leaves)
        first = torch.autograd.grad(value, leaves, create_graph=True)
        return torch.autograd.grad(sum((part * part).sum() for part in first), leaves), first

    (native, first), (plain, _) = second(native_torch.native_loop), second(hoisted)
    for one, other in zip(native, plain, strict=True):
        assert difference(one, other) < 1e-5 * max(1e-2, float(abs(host(other)).max()))
    assert difference(native[0], first[0].detach()) > 1e-2


@pytest.mark.parametrize(
    "changed",
    [
        {"recurrent": (5, 15)},
        {"kernel": (3, 20)},
        {"mask": (3, 6)},
        {"reset": (2, 7)},
        {"bias": (4,)},
        {"state": (2, 5)},
    ],
)
def test_no_array_of_another_shape(changed):
    """Native code would read past the end of an array, so another shape is an error before it runs."""
    loop = a_loop("lstm", 3, 7, 5, mask=True, reset=True)
    ((name, shape),) = changed.items()
    wrong = ops.zeros(shape, dtype="bool" if name in ("mask", "reset") else "float32")
    with pytest.raises(RuntimeError, match="expanded size of the tensor"):
        native_torch.native_loop(loop._replace(**{name: (wrong, wrong) if name == "state" else wrong}))


def test_a_library_that_cannot_be_loaded(monkeypatch):
    """If there is no library and no compiler, one warning says so, and the operators run."""

    def fail():
        raise NoCompilerError("None was found among: cc, gcc, clang")

    monkeypatch.setattr(blocks_torch, "library", fail)
    blocks_torch.has_library.cache_clear()
    with pytest.warns(UserWarning, match=r"operators of PyTorch run.*cc, gcc, clang.*install a C compiler"):
        assert not native_torch.has_native_loop(a_loop("lstm", 3, 7, 5))
    assert not blocks_torch.has_library()
    blocks_torch.has_library.cache_clear()
