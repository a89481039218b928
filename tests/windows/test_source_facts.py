"""A source tells resets, gaps and one target for each sequence, and the batches are those of the whole arrays."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnstate as rs

LENGTHS = {"a": 23, "b": 11, "c": 17}
HOUR = timedelta(hours=1)


def facts(seed):
    """Return inputs, targets, times, reset flags and classes by key; about every fifth step comes late."""
    rng = np.random.default_rng(seed)
    x = {key: rng.normal(size=(steps, 2)).astype("float32") for key, steps in LENGTHS.items()}
    y = {key: rng.normal(size=(steps, 3)).astype("float32") for key, steps in LENGTHS.items()}
    times = {key: np.cumsum(rng.choice([1.0, 1.2, 4.0], len(part), p=[0.6, 0.2, 0.2])) for key, part in x.items()}
    resets = {key: rng.random(len(part)) < 0.2 for key, part in x.items()}
    return x, y, times, resets, {"a": 1, "b": 0, "c": 2}


def source(seed, most, **parts):
    """Return `make`: chunks of random sizes in a random order of the keys, with a slice of each part."""

    def make():
        rng = np.random.default_rng(seed)
        left = dict.fromkeys(LENGTHS, 0)
        while left:
            key = list(left)[rng.integers(len(left))]
            begin, end = left[key], left[key] + int(rng.integers(0, most + 1))
            yield {"key": key, **{name: part[key][begin:end] for name, part in parts.items()}}
            left[key] = end
            if end >= LENGTHS[key]:
                del left[key]

    return make


def flat(batch):
    """Return the leaves of a batch by name."""
    inputs, *rest = batch
    return inputs | {f"part {place}": part for place, part in enumerate(rest)}


def assert_same(windows, whole):
    """Assert that two datasets give equal batches."""
    assert len(windows) == len(whole)
    for index in range(len(whole)):
        actual, expected = flat(windows[index]), flat(whole[index])
        assert actual.keys() == expected.keys()
        for name, leaf in expected.items():
            np.testing.assert_array_equal(actual[name], leaf, err_msg=f"{name} of batch {index}")


@pytest.mark.once
@settings(max_examples=40)
@given(
    st.integers(0, 999),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from(["reset", "keep", 2.0]),
    st.sampled_from([{}, {"burn_in": 3}, {"back": 13}]),
)
def test_gaps_and_resets_of_a_source_are_those_of_the_whole_arrays(seed, most, length, gap, before):
    """However chunks are cut, windows begin at gaps, and what is kept and reset is that of `Windows`; a control has none."""
    x, y, times, resets, _ = facts(seed)
    arguments = {"length": length, "batch_size": 3, **before}
    make = source(seed, most, x=x, y=y, times=times, resets=resets)
    windows = rs.Windows.from_iterable(make, **arguments, step=1.0, gap=gap, buffer=60)
    of = {key: x[key] for key in windows.keys}
    inorder = {name: {key: part[key] for key in of} for name, part in (("y", y), ("times", times), ("resets", resets))}
    whole = rs.Windows(of, **inorder, **arguments, step=1.0, gap=gap)
    assert_same(windows, whole)
    assert_same(windows, whole)  # a second pass
    plain = rs.Windows.from_iterable(source(seed, most, x=x, y=y), **arguments, buffer=60)
    assert any((np.diff(times[key]) > 1.5).any() for key in times)
    assert not np.array_equal(plain.plan.start, windows.plan.start) or length == 1


@pytest.mark.once
@settings(max_examples=10)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 3))
def test_numbers_of_missing_steps_say_the_same_as_times_and_few_steps_wait(seed, most, rows):
    """`gaps` and dates give one plan, every step comes once, and no more steps are held than the buffer holds."""
    x, _, times, _, _ = facts(seed)
    late = {key: np.append(0, np.rint(np.diff(part)) - 1).astype(int) for key, part in times.items()}
    dates = {key: [datetime(2024, 1, 1) + float(time) * HOUR for time in part] for key, part in times.items()}
    by_number = rs.Windows.from_iterable(source(seed, most, x=x, gaps=late), length=4, batch_size=rows)
    by_date = rs.Windows.from_iterable(source(seed, most, x=x, times=dates), length=4, batch_size=rows, step=HOUR)
    assert_same(by_date, by_number)
    with pytest.raises(rs.DataError, match="At most 1 steps may wait") as refused:
        rs.Windows.from_iterable(source(seed, most, x=x, gaps=late), length=4, batch_size=rows, buffer=1)
    needed = int(str(refused.value).split("buffer=")[1].split("`")[0])
    windows = rs.Windows.from_iterable(source(seed, most, x=x, gaps=late), length=4, batch_size=rows, buffer=needed)
    held = [(windows[index], windows.steps_held)[1] for index in range(len(windows))]
    assert max(held) <= needed
    back = windows.assemble(inputs["x"] for (inputs,) in windows)
    assert all(np.array_equal(back[key], x[key]) for key in x)


@pytest.mark.once
def test_each_chunk_repeats_the_one_target_of_its_sequence():
    """Targets, weights and the last window that counts are those of `Windows`; a target that changes is refused."""
    x, _, _, _, classes = facts(0)
    weights = {"a": 1.0, "b": 3.0, "c": 2.0}

    def make(change=False):
        for begin in range(0, 23, 5):
            for key in "abc":
                if len(part := x[key][begin : begin + 5]):
                    yield key, part, classes[key] + (change and begin == 10), weights[key]

    arguments = {"length": 4, "batch_size": 3, "targets": "sequence"}
    windows = rs.Windows.from_iterable(make, **arguments)
    assert windows.targets == "sequence"
    assert_same(windows, rs.Windows(x, classes, sample_weight=weights, **arguments))
    with pytest.raises(
        rs.DataError, match=r"`y` must be the same in all chunks.*: 1, as before. Received: 2 in chunk 6"
    ):
        rs.Windows.from_iterable(lambda: make(change=True), **arguments)

    def named():
        yield {"key": 1, "x": x["a"], "y": {"kind": 4, "level": x["a"][:, 0]}}

    both = rs.Windows.from_iterable(named, length=5, batch_size=1, targets={"kind": "sequence", "level": "steps"})
    assert both.targets == {"kind": "sequence", "level": "steps"}
    assert [(batch[1]["kind"].tolist(), batch[0]["ends"]["kind"].tolist()) for batch in both][-1] == ([4], [1.0])


def chunk(**parts):
    """Return three steps of sequence `a`."""
    return {"key": "a", "x": np.ones((3, 2)), **parts}


WRONG = [
    (
        [chunk(time=[0, 1, 2])],
        {},
        r"mapping with some of the names.*Received: a mapping with the names.*'time' as chunk 0",
    ),
    ([chunk(times=[0, 1, 2])], {}, r"source with `times` needs `step`"),
    ([chunk(times=[0, 1, 2], gaps=[0, 0, 0])], {"step": 1}, r"`times` or `gaps` must say.*chunks with both"),
    ([chunk(times=[0, 1, 2]), chunk(times=[2, 3, 4])], {"step": 1}, r"times` must increase.*in sequence 'a', step 3"),
    (
        [chunk(times=[0, 1, np.nan])],
        {"step": 1},
        r"must have a time at each step. Received: none in sequence 'a', step 2",
    ),
    ([chunk(times=[0, 1])], {"step": 1}, r"`times` must have one value for each step, shape \(3,\) in sequence 'a'"),
    ([chunk(times=[0, 1, 2])], {"step": HOUR}, r"`step` must be a number, as times are"),
    ([chunk(times=["1", "2", "3"])], {"step": 1}, r"must hold dates or numbers. Received: text"),
    (
        [chunk(gaps=[0, 0, 0]), chunk(gaps=[0, -1, 0])],
        {},
        r"`gaps` must be whole.*Received: -1 in sequence 'a', step 4",
    ),
    ([chunk(gaps=[0, 0, 0])], {"step": 1}, r"chunks without `times`"),
    ([chunk()], {"gap": "keep"}, r"Received: gap='keep', and chunks without `times` or `gaps`"),
    ([chunk(gaps=[0, 0, 0]), chunk()], {}, r"same way: 'gaps', as in chunk 0.*Received: no times in chunk 1"),
    ([chunk(), chunk(resets=[0, 0, 1])], {}, r"same parts: 'x', as in chunk 0"),
    (
        [chunk(resets=[0, 0, 1]), chunk(resets=[2, 0, 0])],
        {},
        r"`resets` must be flags.*Received: 2 in sequence 'a', step 3",
    ),
    ([chunk(gaps=[0, 0, 0])], {"horizon": 1}, r"With `horizon`.*Received: `horizon` with `resets`, `times` or `gaps`"),
]


@pytest.mark.once
@pytest.mark.parametrize(("chunks", "arguments", "match"), WRONG)
def test_facts_that_are_not_as_they_must_be_are_refused_with_key_and_step(chunks, arguments, match):
    """Every fault is found before anything is trained."""
    with pytest.raises(rs.DataError, match=match):
        rs.Windows.from_iterable(lambda: iter(chunks), length=2, batch_size=1, **arguments)


@pytest.mark.once
def test_a_later_pass_with_other_gaps_is_refused():
    """Windows begin at gaps, so a gap that moves is no silent change."""
    passes = iter([[chunk(gaps=[0, 0, 2])], [chunk(gaps=[0, 2, 0])]])
    windows = rs.Windows.from_iterable(lambda: next(passes), length=2, batch_size=1)
    with pytest.raises(rs.DataError, match=r"'a' must have the same gaps in each pass.*in chunk 0"):
        windows[0]


class Loader(list):
    """Stands for a `DataLoader` of PyTorch, whose sampler says whether it shuffles."""

    class RandomSampler:
        """The sampler of a loader with `shuffle=True`."""

    sampler = RandomSampler()


@pytest.mark.once
def test_a_loader_that_shuffles_and_a_function_without_yield_are_refused():
    """Both would otherwise train on another order, or fail without a hint. Real loaders of PyTorch are told apart."""
    import torch  # noqa: TID251

    items = [("a", np.ones((2, 2))), ("a", np.zeros((2, 2)))]

    def loader(shuffle):
        return torch.utils.data.DataLoader(items, batch_size=None, shuffle=shuffle)

    for make in (lambda: Loader(items), lambda: loader(shuffle=True)):
        with pytest.raises(
            rs.DataError, match=r"must come in time order. Received: a `DataLoader` with `shuffle=True`"
        ):
            rs.Windows.from_iterable(make, length=2, batch_size=1)
    assert len(rs.Windows.from_iterable(lambda: loader(shuffle=False), length=2, batch_size=1)) == 2
    with pytest.raises(rs.DataError, match=r"must return an iterable of chunks. Received: NoneType. .* a `yield`"):
        rs.Windows.from_iterable(lambda: None, length=2, batch_size=1)


@pytest.mark.once
def test_keys_of_arrow_are_plain_values():
    """A scalar of pyarrow names the same sequence as its plain value."""
    import pyarrow as pa

    items = [*((key, np.ones((2, 2))) for key in pa.array(["a", "b"])), ("a", np.ones((2, 2)))]
    assert rs.Windows.from_iterable(lambda: items, length=2, batch_size=1).keys == ("a", "b")
