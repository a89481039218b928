"""Whether dicts have changed: one number for each, which CPython 3.11 and 3.12 keep in the dict itself.

A dict of CPython is a block of memory that begins so (`Include/cpython/dictobject.h`):

    byte     0            8        16         24         32
             references   type     entries    version    ...

Each change gives the dict a version that no dict had before (PEP 509). Equal versions mean that nothing has changed, so one
number is read in place of all values. Later releases keep no such number. There, and where the self-check fails, versions
are never equal, so a reader compares the values.
"""

import ctypes
import sys
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

_PLACE = 24
_read = attrgetter("value")


class Versions:
    """The versions of some dicts.

    Args:
        dicts: The dicts. They are kept alive, because their memory is read.

    Example:

    >>> attributes = {"units": 3}
    >>> versions = Versions([attributes])
    >>> before = versions.now()
    >>> attributes["units"] = 4
    >>> versions.now() == before
    False
    """

    def __init__(self, dicts: Iterable[dict[str, Any]]) -> None:
        self._dicts = list(dicts)
        self._numbers = [ctypes.c_uint64.from_address(id(one) + _PLACE) for one in self._dicts] if KNOWN else None

    def now(self) -> list[Any]:
        """Return one number for each dict, or an object that equals no other where there are no versions."""
        return [object()] if self._numbers is None else [*map(_read, self._numbers)]


class _Thing:
    def __init__(self) -> None:
        self.value = 0


def _works() -> bool:
    """Change the attributes of an object in each way, and look whether its dict gets a new version, and only then."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in ((3, 11), (3, 12)):
        return False
    thing = _Thing()
    number = ctypes.c_uint64.from_address(id(vars(thing)) + _PLACE)
    changes: tuple[Callable[[], object], ...] = (
        lambda: setattr(thing, "value", 1),
        lambda: object.__setattr__(thing, "value", 2),
        lambda: vars(thing).update(value=3),
        lambda: setattr(thing, "other", 4),
        lambda: delattr(thing, "other"),
    )
    seen = {number.value}
    for change in changes:
        stays = number.value in seen
        change()
        if not stays or number.value in seen:
            return False
        seen.add(number.value)
    return True


KNOWN = _works()
