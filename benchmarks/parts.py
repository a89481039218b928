"""What is measured for benchmarks/README.md: parts, each a comparison side by side that takes a few minutes at most."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rnnstate.bench.compare import Entry
from rnnstate.bench.contenders.catalogue import STEP, TRAIN
from rnnstate.cli.bench_command import standard

SIZES = (8, 64, 256)
COMPILED = ["rnnstate-jax", "rnnstate-torch", "keras-jax", "torch-lstm", "torch-lstm-compiled", "flax-nnx"]
# What our means are worth, one by one.
WAYS = ["rnnstate-jax", "rnnstate-jax-one-step", "rnnstate-jax-without-native", "rnnstate-jax-reference"]
TENSORFLOW = [
    "rnnstate-jax",
    "rnnstate-tensorflow",
    "rnnstate-tensorflow-xla",
    "keras-tensorflow",
    "keras-tensorflow-xla",
]
SLOW = ["rnnstate-jax", "keras-torch"]
SEQUENCES = (100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Part:
    """A comparison.

    Args:
        kind: `"train"` or `"step"`.
        entries: Makes those who take part.
        rounds: How often each has its turn.
        seconds: How long a turn lasts.
    """

    kind: str
    entries: Callable[[], dict[str, Entry]]
    rounds: int = 5
    seconds: float = 0.5


def _train(units: int, names: list[str]) -> Callable[[], dict[str, Entry]]:
    return lambda: {name: Entry(TRAIN[name], standard("train", units)) for name in names}


def _step(units: int) -> Callable[[], dict[str, Entry]]:
    return lambda: {name: Entry(contender, standard("step", units)) for name, contender in STEP.items()}


def _scaled(name: str, values: tuple[int, ...]) -> Callable[[], dict[str, Entry]]:
    """One size is varied, the others are those of 64 units with short epochs."""
    base = replace(standard("train", 64), windows=4)
    return lambda: {
        f"{contender} {value}": Entry(TRAIN[contender], replace(base, **{name: value}))
        for value in values
        for contender in ("rnnstate-jax", "torch-lstm")
    }


def _sequences(backend: str, counts: tuple[int, ...], windows: int) -> Callable[[], dict[str, Entry]]:
    base = replace(standard("train", 8), windows=windows)
    contender = TRAIN[f"rnnstate-{backend}"]
    return lambda: {str(count): Entry(contender, replace(base, sequences=count)) for count in counts}


def _carrying(backend: str, units: int) -> Callable[[], dict[str, Entry]]:
    return _train(units, [f"rnnstate-{backend}", f"rnnstate-{backend}-not-carried"])


PARTS: dict[str, Part] = {
    **{f"train-{units}": Part("train", _train(units, COMPILED), rounds=7) for units in SIZES},
    **{f"train-{units}-tensorflow": Part("train", _train(units, TENSORFLOW)) for units in SIZES},
    **{f"train-{units}-slow": Part("train", _train(units, SLOW), rounds=2) for units in SIZES[:2]},
    **{f"train-{units}-ways": Part("train", _train(units, WAYS)) for units in SIZES},
    **{f"step-{units}": Part("step", _step(units), rounds=7, seconds=0.3) for units in SIZES[:2]},
    "scaling-batch": Part("train", _scaled("batch", (1, 16, 256)), rounds=3),
    "scaling-units": Part("train", _scaled("units", (8, 32, 128)), rounds=3),
    "scaling-window": Part("train", _scaled("window", (12, 96, 768)), rounds=3),
    "scaling-layers": Part("train", _scaled("layers", (1, 4)), rounds=3),
    "sequences-jax": Part("train", _sequences("jax", SEQUENCES, 2000), rounds=5, seconds=8),
    "sequences-torch": Part("train", _sequences("torch", SEQUENCES[::4], 500), rounds=5, seconds=8),
    "sequences-tensorflow": Part("train", _sequences("tensorflow", SEQUENCES[::4], 200), rounds=5, seconds=8),
    **{f"carrying-jax-{units}": Part("train", _carrying("jax", units), rounds=11) for units in SIZES[:2]},
    "carrying-jax-256": Part("train", _carrying("jax", 256), rounds=9),
    "carrying-torch-8": Part("train", _carrying("torch", 8), rounds=11),
    "carrying-torch-64": Part("train", _carrying("torch", 64), rounds=9),
    "carrying-tensorflow-8": Part("train", _carrying("tensorflow", 8), rounds=9),
}
