"""Every order, and windows of drawn lengths: each step once, in time order, one window of a sequence in a batch."""

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.windows.cuts import cut_windows
from rnnstate.windows.plan import WindowPlan, plan_windows
from rnnstate.windows.varied_lengths import Vary, plan_varying
from rnnstate.windows.windows import Windows

pytestmark = pytest.mark.once

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=19)
SIZE = st.integers(1, 23)
ORDER = st.sampled_from(["lanes", "shuffled", "buckets"])
EPOCH = st.integers(0, 5)
VARY = st.builds(Vary, low=st.integers(1, 4), std=st.floats(0, 9), half=st.floats(0, 1))


@st.composite
def cut_lengths(draw):
    """Return lengths, and rising steps above 0 in each sequence."""
    lengths = draw(LENGTHS)
    cuts = [sorted(draw(st.sets(st.integers(1, n - 1), max_size=5))) if n > 1 else [] for n in lengths]
    return lengths, [np.array(steps, dtype=np.int64) for steps in cuts]


def check_law(plan, lengths, cuts=None):
    """Assert what every plan must hold: met batch by batch, each sequence goes on where it stood, until its end."""
    met = [0] * len(lengths)
    for sequences, starts, steps in zip(plan.sequence.tolist(), plan.start.tolist(), plan.steps.tolist(), strict=True):
        taken = [i for i in sequences if i >= 0]
        assert taken
        assert len(set(taken)) == len(taken)
        for i, start, count in zip(sequences, starts, steps, strict=True):
            assert (count > 0) == (i >= 0)
            assert count <= plan.length
            if i >= 0:
                assert start == met[i]
                met[i] += count
                assert cuts is None or not any(start < step < start + count for step in cuts[i])
    assert met == list(lengths)


@given(cut_lengths(), SIZE, SIZE, ORDER, EPOCH)
@settings(deadline=None)
def test_each_step_once_and_in_order(data, length, batch_size, order, epoch):
    """Whatever the order and the cuts, a plan holds each step once, in time order, and no window reaches over a cut."""
    lengths, cuts = data
    check_law(plan_windows(lengths, length, batch_size, order, seed=3, epoch=epoch), lengths)
    check_law(plan_windows(lengths, length, batch_size, order, cuts=cuts, seed=3, epoch=epoch), lengths, cuts)


def test_law_sees_what_is_wrong():
    """The law's own check fails for batches in another order, and for two windows of a sequence in a batch."""
    plan = plan_windows([7, 5], 3, 2, "shuffled")
    swapped = WindowPlan(plan.sequence[::-1], plan.start[::-1], plan.steps[::-1], 3)
    double = WindowPlan(np.array([[0, 0]], dtype="int32"), np.array([[0, 3]]), np.array([[3, 2]], dtype="int32"), 3)
    for wrong, lengths in ((swapped, [7, 5]), (double, [5])):
        with pytest.raises(AssertionError):
            check_law(wrong, lengths)


@given(cut_lengths(), SIZE, SIZE, ORDER)
@settings(deadline=None)
def test_batches_do_not_depend_on_the_epoch(data, length, batch_size, order):
    """The number of batches is that of every epoch; `shuffled` needs as few as any order can."""
    lengths, cuts = data
    sizes = {plan_windows(lengths, length, batch_size, order, cuts=cuts, epoch=epoch).num_batches for epoch in range(4)}
    counts = cut_windows(np.array(lengths), length, cuts).counts
    least = max(counts.max(), -(-counts.sum() // min(batch_size, len(lengths))))
    assert len(sizes) == 1
    assert sizes == {least} or (order != "shuffled" and sizes.pop() > least)


@given(LENGTHS, SIZE, SIZE, VARY, EPOCH)
@settings(deadline=None)
@example([60], 23, 1, Vary(low=1, std=9.0, half=0.5), 0)
def test_drawn_lengths(lengths, length, batch_size, vary, epoch):
    """All rows of a batch have its drawn steps, unless their run ends, and batches are as many in each epoch."""
    vary = Vary(min(vary.low, length), vary.std, vary.half)
    plan, drawn = plan_varying(lengths, length, batch_size, vary, seed=7, epoch=epoch)
    check_law(plan, lengths)
    other, _ = plan_varying(lengths, length, batch_size, vary, seed=11, epoch=epoch + 1)
    assert plan.num_batches == other.num_batches == len(drawn)
    assert drawn.min() >= vary.low
    assert drawn.max() <= plan.length == vary.max_length(length)
    ends = plan.start + plan.steps == np.array(lengths)[plan.sequence]
    short = (plan.steps < drawn[:, None]) & (plan.sequence >= 0)
    assert not (short & ~ends).any()
    assert not (plan.steps > drawn[:, None]).any()


@given(cut_lengths(), SIZE, SIZE, VARY, EPOCH)
@settings(deadline=None)
def test_drawn_lengths_with_cuts(data, length, batch_size, vary, epoch):
    """Drawn windows do not reach over a cut either, and stay in the row of their sequence."""
    lengths, cuts = data
    vary = Vary(min(vary.low, length), vary.std, vary.half)
    plan, _ = plan_varying(lengths, length, batch_size, vary, cuts=cuts, epoch=epoch)
    check_law(plan, lengths, cuts)
    for i in range(len(lengths)):
        batches, rows = np.nonzero(plan.sequence == i)
        assert len(set(rows.tolist())) == 1
        assert batches.tolist() == list(range(batches[0], batches[0] + len(batches)))


def test_drawn_lengths_are_those_of_the_paper():
    """In a long epoch nearly all draws stand: mean, spread and share of halved windows are as asked."""
    _, drawn = plan_varying([70_000], 70, 1, Vary())
    halved = drawn < 52
    assert 0.02 < halved.mean() < 0.09
    assert abs(drawn[~halved].mean() - 70) < 1
    assert 4 < drawn[~halved].std() < 6
    assert 70_000 <= drawn.sum() < 70_070


@given(LENGTHS, SIZE, SIZE, st.sampled_from([{"order": "shuffled"}, {"vary": Vary(1, 3.0)}]), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_epoch_and_seed_decide(lengths, length, batch_size, wanted, epoch):
    """The batches of an epoch are the same, however it was reached."""
    x = [np.arange(1.0, n + 1) for n in lengths]
    walked, jumped = (Windows(x, length=length, batch_size=batch_size, seed=5, **wanted) for _ in range(2))
    for _ in range(epoch):
        walked.on_epoch_end()
    jumped.epoch = 9
    jumped.epoch = epoch
    assert walked.epoch == epoch
    np.testing.assert_array_equal(walked.scales, jumped.scales)
    for (one,), (other,) in zip(walked, jumped, strict=True):
        for name, part in one.items():
            np.testing.assert_array_equal(part, other[name])


@pytest.mark.parametrize("wanted", [{"order": "shuffled"}, {"vary": True}])
def test_epochs_and_seeds_differ(wanted):
    """Another epoch or another seed is another draw; no seed is seed 0; batches stay as many and as wide."""
    x = list(np.ones((11, 140)))
    windows = Windows(x, length=10, batch_size=3, **wanted)
    plans = {0: windows.plan}
    for seed in (0, 1):
        other = Windows(x, length=10, batch_size=3, seed=seed, **wanted)
        plans[f"seed {seed}"] = other.plan
    windows.on_epoch_end()
    plans["epoch 1"] = windows.plan
    assert (plans[0].start == plans["seed 0"].start).all()
    for other in ("seed 1", "epoch 1"):
        assert plans[0].start.shape == plans[other].start.shape
        assert (plans[0].start != plans[other].start).any()


def test_lanes_do_not_change():
    """Orders without chance are the same in each epoch."""
    for order in ("lanes", "buckets"):
        windows = Windows(np.ones((5, 7, 1)), length=3, batch_size=2, order=order)
        plan = windows.plan
        windows.on_epoch_end()
        assert windows.plan is plan
        assert (windows.epoch, windows.scales.tolist()) == (1, [1.0] * len(windows))


def test_shuffled_by_hand():
    """A sequence that needs every batch is in each, and the others fill the rows beside it."""
    plan = plan_windows([12, 3, 3, 3, 3], 3, 2, "shuffled")
    assert (plan.sequence[:, 0] == 0).all()
    assert sorted(plan.sequence[:, 1].tolist()) == [1, 2, 3, 4]


def test_shuffled_mixes():
    """Batches of equal sequences pair each with nearly all others, and begin at different times."""
    plan = plan_windows([40] * 10, 4, 5, "shuffled")
    pairs = {(i, j) for batch in plan.sequence.tolist() for i in batch for j in batch if i < j}
    assert len(pairs) > 40
    assert len(set(plan.start[3].tolist())) > 1
    assert (plan.sequence >= 0).all()


def test_shuffled_spreads_long_sequences():
    """A sequence with many windows is met all through the epoch, and is halfway when the epoch is."""
    plan = plan_windows([100] + [2] * 150, 1, 2, "shuffled")
    batches, _ = np.nonzero(plan.sequence == 0)
    assert plan.num_batches == 200
    assert 70 < batches[50] < 130
    assert np.diff(batches).max() < 20


def test_buckets_leave_fewer_rows_empty():
    """Longest first, rows end together; as the sequences come, a long one at the end runs on alone."""
    lengths = np.random.default_rng(0).integers(10, 400, size=53).tolist()
    empty = {order: int((plan_windows(lengths, 10, 8, order).sequence < 0).sum()) for order in ("lanes", "buckets")}
    assert empty == {"lanes": 80, "buckets": 8}
    first = plan_windows([3, 9, 4, 8], 1, 2, "buckets").sequence[0].tolist()
    assert first == [1, 3]


def test_vary_windows():
    """A batch with drawn lengths is padded to the longest, masked, and tells its scale."""
    windows = Windows(np.arange(1.0, 101), length=8, batch_size=1, vary=Vary(low=2, std=1.5), seed=2)
    assert (windows.length, windows.max_length, len(windows.scales)) == (8, 14, len(windows))
    for batch, (inputs,) in enumerate(windows):
        assert inputs["x"].shape == inputs["mask"].shape == (1, 14)
        steps = int(inputs["mask"].sum())
        assert steps == windows.scales[batch] * 8 or batch == len(windows) - 1
    back = windows.assemble(inputs["x"] for (inputs,) in windows)
    np.testing.assert_array_equal(back[0], np.arange(1.0, 101))


def test_vary_off_and_true():
    """`False` is off, and `True` takes the values of the paper, with windows below them as the lowest."""
    x = np.ones(50)
    assert Windows(x, length=10, batch_size=1, vary=False).max_length == 10
    assert Windows(x, length=10, batch_size=1, vary=True).max_length == 30
    assert Windows(x, length=3, batch_size=1, vary=True).max_length == 23


def test_targets_of_changing_windows():
    """Targets follow the drawn windows, per step and the last of each."""
    x = np.arange(1.0, 60)
    for kind in ("steps", "last"):
        windows = Windows(x, x * 10, length=7, batch_size=1, vary=Vary(2, 2.0), targets=kind)
        for epoch in range(3):
            windows.epoch = epoch
            for inputs, y in windows:
                last = inputs["x"][inputs["mask"]][-1] * 10
                assert y.max() == last if kind == "steps" else y == last


def test_assemble_another_epoch():
    """Outputs of an epoch that is over are assembled by its number."""
    x = np.arange(1.0, 41).reshape(4, 10, 1)
    windows = Windows(x, length=3, batch_size=2, order="shuffled")
    outputs = [inputs["x"] for (inputs,) in windows]
    windows.on_epoch_end()
    for key, rows in windows.assemble(outputs, epoch=0).items():
        np.testing.assert_array_equal(rows, x[key])


def test_keras_meets_each_epoch_whole():
    """In each epoch of a plain Keras `fit`, every window is met once, in the order of one epoch of the windows."""
    met = []

    class Watched(Windows):
        def __getitem__(self, index):
            met.append((self.epoch, index))
            return super().__getitem__(index)

    windows = Watched(np.ones((5, 9, 1)), np.ones((5, 9, 1)), length=3, batch_size=2, order="shuffled")
    kinds = {"x": ((3, 1), "float32"), "slot": ((), "int32"), "first": ((), "bool"), "mask": ((3,), "bool")}
    inputs = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in kinds.items()}
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs["x"]))
    model.compile("sgd", "mse")
    model.fit(windows, epochs=3, shuffle=False, verbose=0)
    epochs = sorted({epoch for epoch, _ in met})[-3:]
    assert epochs == list(range(epochs[0], epochs[0] + 3))
    for epoch in epochs:
        assert [index for e, index in met if e == epoch][-len(windows) :] == list(range(len(windows)))


REFUSED = [
    ({"vary": 3}, r"`vary` must be True, False or a `Vary`. Received: vary=3"),
    ({"vary": True, "order": "shuffled"}, r"one length for all rows.*must be 'lanes'. Received: order='shuffled'"),
    ({"vary": Vary(low=9)}, r"`low` of `Vary` must be at most `length`, 3. Received: low=9"),
    ({"vary": True, "burn_in": 2}, r"`vary` draws.*Received: `vary` with burn_in of 2 steps"),
    ({"vary": True, "back": 5}, r"`vary` draws.*Received: `vary` with context of 2 steps"),
    ({"vary": True, "targets": "windows", "y": np.ones(3)}, r"`targets` must be per step with `vary`.*'windows'"),
    ({"vary": True, "y": np.ones(3)}, r"`y` must have 7 entries \(one for each step\) in sequence 0. Received: 3"),
    ({"seed": -1}, r"`seed` must be a whole number of at least 0. Received: seed=-1"),
    ({"seed": 0.5}, r"`seed` must be a whole number of at least 0. Received: seed=0.5"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=range(len(REFUSED)))
def test_refused(arguments, text):
    """Arguments that make no order are refused with what was received."""
    with pytest.raises(DataError, match=text):
        Windows(np.ones((7, 2)), **{"length": 3, "batch_size": 2, **arguments})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"low": 0}, r"`low` must be a whole number of at least 1. Received: low=0"),
        ({"std": -1}, r"`std` of `Vary` must be a number at least 0. Received: std=-1"),
        ({"std": float("inf")}, r"`std` of `Vary` must be a number at least 0. Received: std=inf"),
        ({"half": 1.5}, r"`half` of `Vary` must be a number from 0 to 1. Received: half=1.5"),
    ],
)
def test_vary_is_checked(values, text):
    """A `Vary` names the value that is out of range."""
    with pytest.raises(DataError, match=text):
        Vary(**values)


@pytest.mark.parametrize("value", [-1, 1.0, None])
def test_epoch_is_checked(value):
    """An epoch is a whole number, and a wrong one changes nothing."""
    windows = Windows(np.ones((4, 7, 1)), length=3, batch_size=2, order="shuffled")
    plan = windows.plan
    with pytest.raises(DataError, match=rf"`epoch` must be a whole number of at least 0. Received: epoch={value}"):
        windows.epoch = value
    assert windows.plan is plan
