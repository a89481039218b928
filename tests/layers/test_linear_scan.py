"""All steps of a linear recurrence in parallel equal single steps, for any length, without overflow."""

import numpy as np
import pytest
from keras import ops

import nets
from nets import difference, host
from recurrences import compiled
from rnnstate.layers import linear_scan as module

BATCH, SIZE = 3, 5


def scan(decay, drive):
    """Return the states of a linear recurrence, by a compiled call on JAX."""
    return compiled(lambda *numbers: module.linear_scan(*numbers))(decay, drive)


def inputs(time, parts, seed=0):
    """Return random factors of an absolute value up to 1, and summands."""
    rng = np.random.default_rng(seed)
    radius = rng.uniform(0.3, 1, size=(BATCH, time, SIZE))
    angle = rng.uniform(0, 6, size=radius.shape) if parts == 2 else 0 * radius
    decay = (radius * np.cos(angle), radius * np.sin(angle))[:parts]
    drive = rng.uniform(-1, 1, size=(parts, *radius.shape))
    return tuple(a.astype("float32") for a in decay), tuple(b.astype("float32") for b in drive)


def by_numpy(decay, drive):
    """Return the states in complex128, one step at a time."""
    a, b = (number[0] + 1j * (number[1] if len(number) == 2 else 0) for number in (decay, drive))
    state, states = np.zeros(b[:, 0].shape, "complex128"), []
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    states = np.stack(states, axis=1)
    return (states.real, states.imag)[: len(drive)]


def largest(one, other):
    """Return the largest difference of two numbers."""
    return max(difference(*pair) for pair in zip(one, other, strict=True))


def tensors(*numbers):
    """Return numbers as tensors of the backend."""
    return [tuple(ops.convert_to_tensor(part) for part in number) for number in numbers]


@pytest.mark.parametrize("parts", [1, 2])
def test_parallel_equals_single_steps(parts):
    """One step, blocks, blocks of blocks and odd ends: each length gives what NumPy gives step by step."""
    for time in (1, 2, 17, 67, 293):
        decay, drive = inputs(time, parts)
        assert largest(scan(*tensors(decay, drive)), by_numpy(decay, drive)) < 5e-6, time


def test_the_comparison_can_fail():
    """Negative control: a factor that differs at one step is found."""
    decay, drive = inputs(67, 1)
    other = (decay[0].copy(),)
    other[0][:, 40] = 0
    assert largest(scan(*tensors(other, drive)), by_numpy(decay, drive)) > 1e-2


@pytest.mark.parametrize("parts", [1, 2])
def test_each_way_gives_the_same(parts, monkeypatch):
    """Blocks written out, blocks in a loop, the loop for unknown lengths and Keras' own scan agree."""
    decay, drive = tensors(*inputs(23, parts))

    def combine(left, right):
        return module.times(left[0], right[0]), module.plus(module.times(right[0], left[1]), right[1])

    expected = compiled(lambda *numbers: ops.associative_scan(combine, numbers, axis=1)[1])(decay, drive)
    assert largest(compiled(module._looped)(decay, drive), expected) < 2e-6
    for written_out in (16, 2):
        monkeypatch.setattr(module, "WRITTEN_OUT", written_out)
        monkeypatch.setattr(module, "_block", lambda: 5)
        assert largest(scan(decay, drive), expected) < 2e-6


def test_factors_of_one_row_stand_for_all_rows():
    """Factors with a batch of 1 equal the same factors in each row."""
    decay, drive = inputs(67, 2)
    one = tuple(part[:1] for part in decay)
    every = tuple(np.repeat(part, BATCH, axis=0) for part in one)
    assert largest(scan(*tensors(one, drive)), by_numpy(every, drive)) < 5e-6


def test_float64_is_kept():
    """A recurrence in float64 is computed in float64 where the backend has it."""
    decay, drive = (tuple(part.astype("float64") for part in number) for number in inputs(67, 1))
    (states,) = scan(*tensors(decay, drive))
    bound = 1e-12 if "float64" in str(states.dtype) else 5e-6  # JAX computes in float32 unless it is told otherwise
    assert largest((states,), by_numpy(decay, drive)) < bound


def test_long_windows_neither_overflow_nor_vanish():
    """Over 4,099 steps, factors from 1e-30 to 1 give what float64 gives."""
    decay, drive = inputs(4099, 1)
    rng = np.random.default_rng(2)
    decay = (np.exp(-np.exp(rng.uniform(-12, 4.2, size=decay[0].shape))).astype("float32"),)
    (states,) = scan(*tensors(decay, drive))
    (expected,) = by_numpy(decay, drive)
    assert np.isfinite(host(states)).all()
    assert nets.difference(states, expected) < 2e-5
    (full,) = scan(*tensors((np.ones_like(drive[0]),), drive))  # a sum of all steps
    assert difference(full, np.cumsum(drive[0], axis=1, dtype="float64")) < 2e-4
