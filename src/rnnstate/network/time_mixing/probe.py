"""The class of a node that the table does not know, from a few runs on random inputs.

A node is per step if three things hold for values of several kinds, and for several numbers of steps:

1. To change the input at one step changes no output at another step.
2. To change the order of the steps changes the order of the outputs, and nothing else.
3. The outputs of two windows are those of one run on both.
"""

from dataclasses import dataclass, field

import numpy as np

from rnnstate.network.time_mixing.axis import Verdict
from rnnstate.network.time_mixing.cases import Node
from rnnstate.network.time_mixing.trial import Trial

# The longer one has two halves of the shorter one, so that JAX compiles for two shapes alone.
LENGTHS = (4, 8)
LONGER = (32, 64)  # for nodes that need more steps, such as a large kernel without padding
ELSEWHERE = "gives a step another output at another place in its window"


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Args:
        verdict: The class of the node.
        what: What its output depends on, as words that follow its name.
        tried: False if the node cannot run on random inputs.
        outputs: The class of each output, if the node does not mix time.
    """

    verdict: Verdict
    what: str = ""
    tried: bool = True
    outputs: list[Verdict] = field(default_factory=list)


def probe(node: Node) -> Probed:
    """Return the class of a node, from runs on small random inputs."""
    if len(node.times) > 1:
        return Probed(Verdict.MIXES, "takes series with different numbers of steps")
    (fixed,) = node.times
    reason = ""
    for lengths in ((fixed,),) if fixed is not None else (LENGTHS, LONGER):
        try:
            return _probe(node, tuple(length for length in lengths if length))
        except Exception as error:  # a node may fail for any reason, and a longer window may help
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return Probed(Verdict.MIXES, f"could not be tried on random inputs ({reason[:120]})", tried=False)


def _probe(node: Node, lengths: tuple[int, ...]) -> Probed:
    trials = {steps: Trial(node, steps) for steps in lengths}
    batch = 2 if node.shapes[0][0] is None else node.shapes[0][0]
    kinds = []
    for number, shape in enumerate(trials[lengths[0]].shapes):
        shapes = {steps: trial.shapes[number] for steps, trial in trials.items()}
        kind = _by_shape(node, shapes, batch)
        if kind is Verdict.MIXES and shape:
            return Probed(Verdict.MIXES, _resized(shapes))
        kinds.append(kind)
    if Verdict.MIXES in kinds:
        return Probed(Verdict.MIXES, "returns one value for the whole batch")
    return _by_values(node, list(trials.values()), kinds)


def _by_shape(node: Node, shapes: dict[int, tuple[int, ...]], batch: int) -> Verdict:
    """Return what the shapes of an output for several numbers of steps say about it."""
    if any(not shape or shape[0] != batch for shape in shapes.values()):
        return Verdict.MIXES
    if all(len(shape) > 1 and shape[1] == steps for steps, shape in shapes.items()):
        return Verdict.PER_STEP
    if len(set(shapes.values())) == 1 and len(shapes) > 1:
        return Verdict.SUMMARISES
    if len(shapes) > 1:
        return Verdict.MIXES
    # One number of steps alone: an output of rank 3 that holds the steps in another place is no summary.
    ((steps, shape),) = shapes.items()
    whole = max(int(np.prod([size or 1 for size in given[1:]])) for given in node.shapes)
    moved = len(shape) > 2 and (steps in shape[1:] or int(np.prod(shape[1:])) == whole)
    return Verdict.MIXES if moved else Verdict.SUMMARISES


def _resized(shapes: dict[int, tuple[int, ...]]) -> str:
    steps, shape = next(iter(shapes.items()))
    sizes = ", ".join(["batch", *map(str, shape[1:])])
    return f"turns {steps} steps into an output of shape ({sizes})"


def _by_values(node: Node, trials: list[Trial], kinds: list[Verdict]) -> Probed:
    """Run the tests of values on all outputs with a time axis. The longest window comes first: it says most."""
    for number, kind in enumerate(kinds):
        if kind is not Verdict.PER_STEP:
            continue
        for trial in reversed(trials):
            if trial.offsets(number) - {0}:
                if len(trials) == 1 and len(trial.shapes[number]) == 2:
                    kinds[number] = Verdict.SUMMARISES  # `(batch, values)`, with as many values as steps
                    break
                return Probed(Verdict.MIXES, _dependence(trials[-1], number))
        # A layer that draws random numbers gives each step other numbers, and never the same output twice.
        if kinds[number] is Verdict.PER_STEP and not node.draws and not _same_for_each_step(trials, number):
            return Probed(Verdict.MIXES, ELSEWHERE)
    verdict = Verdict.PER_STEP if all(kind is Verdict.PER_STEP for kind in kinds) else Verdict.SUMMARISES
    return Probed(verdict, outputs=kinds)


def _same_for_each_step(trials: list[Trial], number: int) -> bool:
    """Whether the output at a step is the same at any place of any window."""
    lengths = {trial.steps for trial in trials}
    return all(
        trial.same_in_another_order(number) and (trial.steps // 2 not in lengths or trial.same_in_halves(number))
        for trial in trials
    )


def dependence(node: Node) -> str:
    """Return in words on which steps the first output of a node depends."""
    (fixed, *others) = node.times
    if others:
        return "takes series with different numbers of steps"
    for steps in (fixed,) if fixed is not None else (LENGTHS[-1], LONGER[-1]):
        try:
            trial = Trial(node, steps)
            shape = trial.shapes[0]
            return _dependence(trial, 0) if len(shape) > 1 and shape[1] == steps else _resized({steps: shape})
        except Exception:  # it may need more steps
            continue
    return "depends on other steps"


def _dependence(trial: Trial, number: int) -> str:
    """Describe the range of steps on which an output depends."""
    found = trial.offsets(number)
    first, last = min(found, default=0), max(found, default=0)
    if first == last == 0:
        return ELSEWHERE
    everything, begin, end = trial.steps - 1, _step(first), _step(last)
    if last - first >= everything and (first == -everything) == (last == everything):
        return "has an output at step t that depends on all steps of the window"
    if first == -everything:
        return f"has an output at step t that depends on all steps up to {end}"
    if last == everything:
        return f"has an output at step t that depends on all steps from {begin} on"
    return f"has an output at step t that depends on steps {begin} to {end}"


def _step(offset: int) -> str:
    return "t" if offset == 0 else f"t{offset:+d}"
