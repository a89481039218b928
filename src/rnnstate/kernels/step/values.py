"""`Values`: the values of a model's variables, read anew only if one of them has changed.

`variable.value` asks Keras each time whether a scope replaces the value or its type. That takes a microsecond for each
variable, and a served model has the same weights for millions of steps. So this class remembers where each variable
keeps its array, and compares the arrays by identity:

    kept       (kernel, recurrent_kernel, bias, ...)    the arrays of the last call
    present    (kernel, recurrent_kernel, bias, ...)    the same objects, unless one has been assigned
"""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, is_
from threading import local
from typing import Any

import keras

_VALUE = attrgetter("value")


class _Thread(local):
    """The probe of a thread. A scope notes the scope around it when it is entered, so entering it tells of that scope."""

    def __init__(self) -> None:
        self.probe = keras.StatelessScope(initialize_variables=False)


_THREAD = _Thread()


class Values:
    """The values of variables, as a call in this thread sees them.

    Args:
        variables: The variables.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = variables
        self._kept: tuple[Any, ...] | None = None
        # The attributes of each variable, and the name under which the variable keeps its array.
        self._places: list[tuple[dict[str, Any], str]] = []
        # A scope that changes the types of floating variables changes the type of this one.
        self._floating = next((i for i, v in enumerate(variables) if "float" in v.dtype), None)

    def read(self) -> tuple[tuple[Any, ...], bool]:
        """Return the values, and whether they are the values that `keep` was given."""
        kept = self._kept
        if kept is not None and self._are_present(kept):
            return kept, True
        values = tuple(map(_VALUE, self._variables))
        return values, kept is not None and all(map(is_, values, kept))

    def keep(self, values: tuple[Any, ...]) -> None:
        """Take values of the variables as those to compare with. None of them may be a tracer."""
        if self._kept is None:
            self._places = [*chain(*map(_place, self._variables, values))]
        self._kept = values

    def _are_present(self, kept: tuple[Any, ...]) -> bool:
        """Tell whether the variables still hold these arrays, and no scope replaces them."""
        if len(self._places) != len(kept) or _inside_scope():
            return False
        if not all(map(is_, [attributes.get(name) for attributes, name in self._places], kept)):
            return False
        return self._floating is None or self._variables[self._floating].value is kept[self._floating]


def _place(variable: Any, value: Any) -> list[tuple[dict[str, Any], str]]:
    """Return the place of the array, or nothing if the variable keeps it in another way than as one attribute."""
    attributes = vars(variable)
    places = [(attributes, name) for name, held in attributes.items() if held is value]
    return places if len(places) == 1 else []


def _inside_scope() -> bool:
    """Tell whether a `keras.StatelessScope` replaces the values of variables in this thread."""
    with _THREAD.probe as probe:
        pass
    outer, probe.original_scope = probe.original_scope, None
    return outer is not None
