"""Strides over time: a network that gives one output for several steps, and what that asks of its windows.

A layer with `strides=2` turns 2 steps into one. A second one after it makes one step of 4:

    window      0 1 2 3 | 4 5 6 7        8 steps
    strides=2   0   1   | 2   3          rate 2: one entry for every 2 steps of the window
    strides=2   0       | 1              rate 4

The total stride is the least common multiple of all rates. Every window holds whole groups of so many steps, so each layer
finds whole groups too. Padding takes up whole groups, and a reset stands at the first step of a group.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops, tree

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.messages import quoted
from rnnstate.network.clone import inputs_of
from rnnstate.network.outputs import outputs_per_step
from rnnstate.network.time_mixing import Followed


@dataclass(frozen=True)
class Strides:
    """The strides of a network over time.

    Args:
        total: Of how many steps each window must be a multiple.
        layers: The paths of the layers with strides.
        outputs: For each output, for how many steps it has one entry; 0 for one entry per window.
        series: The place of an input with a time axis among the inputs of the network.
    """

    total: int
    layers: tuple[str, ...]
    outputs: tuple[int, ...]
    series: int

    @classmethod
    def of(cls, net: Any, found: Followed) -> "Strides":
        """Return the strides of a network.

        Args:
            net: The network.
            found: What a walk through its clone has found.

        Raises:
            UnsupportedModelError: If a network with strides takes a fixed number of steps.
        """
        inputs, total = tree.flatten(inputs_of(net)), math.lcm(1, *found.rates.values())
        series = next((place for place, tensor in enumerate(inputs) if len(tensor.shape) > 2), 0)
        flags = outputs_per_step(net)
        rates = found.output_rates or [1] * len(flags)
        strides = cls(total, tuple(found.rates), tuple(f * rate for f, rate in zip(flags, rates, strict=True)), series)
        if total > 1 and inputs[series].shape[1] is not None:
            raise UnsupportedModelError(
                f"A network with strides over time must take any number of steps. Received: input "
                f"`{inputs[series].name}` with {inputs[series].shape[1]} steps, and {strides.described}. Use "
                "`keras.Input((None, features))`."
            )
        return strides

    @property
    def described(self) -> str:
        """The total stride and the layers that make it, as a part of a sentence."""
        several = len(self.layers) > 1
        return f"a total stride of {self.total} from layer{'s' if several else ''} {quoted(self.layers, 4)}"

    def check_steps(self, steps: int, what: str) -> None:
        """Raise unless a number of steps is a multiple of the total stride.

        Args:
            steps: The number of steps.
            what: What has so many steps, as a message names it.

        Raises:
            DataError: If it is not.
        """
        if steps % self.total == 0:
            return
        below = steps - steps % self.total
        allowed = f"{below} and {below + self.total}" if below else f"{self.total} and {2 * self.total}"
        raise DataError(
            f"Windows must have a multiple of {self.total} steps, because the network has {self.described}: it gives an "
            f"output for {self.total} steps at once. Received: {what} of {steps} step{'' if steps == 1 else 's'}. The next "
            f"allowed numbers of steps are {allowed}."
        )

    def check_input(self, x: Any) -> None:
        """Raise unless the inputs of the network hold whole groups of steps.

        Args:
            x: The arrays, in the structure of the inputs of the network.

        Raises:
            DataError: If they do not. A number of steps that is not known yet is not checked.
        """
        steps = tree.flatten(x)[self.series].shape[1] if self.total > 1 else None
        if isinstance(steps, int):
            self.check_steps(steps, "a window")

    def check_flags(self, mask: Any, reset: Any) -> None:
        """Raise unless flags of steps keep to whole groups.

        Args:
            mask: Boolean `(batch, time)` of the valid steps, or `None`.
            reset: Boolean `(batch, time)` of the steps before which a row returns to its initial state, or `None`.

        Raises:
            DataError: If a group is valid in part, or a reset stands inside of a group. Symbols are not checked.
        """
        if self.total < 2:
            return
        groups = _groups(mask, self.total)
        if groups is not None and (groups != groups[:, :, :1]).any():
            row, group, _ = np.argwhere(groups != groups[:, :, :1])[0]
            raise DataError(
                f"A mask must keep or leave out whole groups of {self.total} steps, because the network has "
                f"{self.described}. Received: row {row}, where {int(groups[row, group].sum())} of the steps "
                f"{group * self.total} to {(group + 1) * self.total - 1} are valid."
            )
        groups = _groups(reset, self.total)
        if groups is not None and groups[:, :, 1:].any():
            row, group, step = np.argwhere(groups[:, :, 1:])[0]
            raise DataError(
                f"A reset must stand before a group of {self.total} steps, because the network has {self.described}. "
                f"Received: row {row}, with a reset before step {group * self.total + step + 1} of the window. Cut the "
                "sequence there."
            )

    def check_batch(self, mask: Any, reset: Any) -> None:
        """Raise unless the flags of a batch of windows keep to whole groups, as `check_flags` does."""
        self.check_flags(
            None if mask is None else np.asarray(mask) > 0, None if reset is None else np.asarray(reset) > 0
        )

    def at_outputs(self, given: Any, y_pred: list[Any], names: list[str]) -> Any:
        """Return targets or weights with one entry for each output step. The last step of each group gives the entry.

        Args:
            given: Targets or weights; a mapping by output name, a list, one array, or `None`.
            y_pred: The predictions, one for each output.
            names: The names of the outputs, if there are several.
        """
        if given is None or max(self.outputs) < 2:
            return given
        if isinstance(given, Mapping):
            place = {name: number for number, name in enumerate(names)} if len(names) > 1 else dict.fromkeys(given, 0)
            return {
                name: self._last_of_each(part, y_pred[place[name]], self.outputs[place[name]])
                for name, part in given.items()
            }
        several = isinstance(given, (list, tuple))
        parts = list(given) if several else [given] * len(y_pred)
        cut = [self._last_of_each(*part) for part in zip(parts, y_pred, self.outputs, strict=True)]
        return cut if several or len(cut) > 1 else cut[0]

    @staticmethod
    def _last_of_each(part: Any, prediction: Any, rate: int) -> Any:
        if part is None or rate < 2 or len(part.shape) < 2 or part.shape[1] == prediction.shape[1]:
            return part
        return part[:, rate - 1 :: rate]


def _groups(flags: Any, size: int) -> Any:
    """Return flags of steps as an array `(batch, groups, size)`; `None` if they cannot be read."""
    if flags is None or len(flags.shape) < 2:
        return None
    try:
        array = np.asarray(flags if isinstance(flags, np.ndarray) else ops.convert_to_numpy(flags))
    except Exception:  # a symbol of a compiled function has no values
        return None
    return array.reshape(len(array), -1, size)
