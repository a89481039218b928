"""Versions of the libraries at work, read without starting any of them."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

# The distributions that can bring a module of another name, in the order in which they are looked up.
_PACKAGES = {"keras": ("keras", "keras-nightly"), "tensorflow": ("tensorflow", "tensorflow-cpu")}


def installed_versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the version of each module that is installed; leave out the others.

    Args:
        modules: Names of modules, such as `"keras"` or `"tensorflow"`. `"python"` gives the version of Python.

    Example:

    >>> sorted(installed_versions(["numpy", "keras", "no_such_module"]))
    ['keras', 'numpy']
    """
    found = {name: _version(name) for name in modules}
    return {name: number for name, number in found.items() if number}


def _version(module: str) -> str | None:
    if module == "python":
        return platform.python_version()
    for package in _PACKAGES.get(module, (module,)):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
