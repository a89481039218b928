"""A wheel holds the native loops, compiled for its platform. Without a C compiler it holds none, and trains slower."""

import importlib.util
import platform
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


class NativeLoops(BuildHookInterface):  # type: ignore[type-arg]
    """Compile the library when a wheel is built. An editable install compiles it at first use."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to a wheel, and name the platform in the name of the wheel."""
        if version == "editable":
            return
        building = _building(Path(self.root))
        if not building.LEVELS:
            self.app.display_info(f"No native loops are written for {sys.platform} on {platform.machine()}.")
            return
        self.folder = tempfile.TemporaryDirectory()
        library = Path(self.folder.name, building.NAME)
        try:
            building.build(library)
        except building.NoCompilerError as error:
            self.app.display_warning(f"The wheel gets no native loops, and trains slower. {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform(library)}"
        build_data["force_include"][str(library)] = f"rnnstate/kernels/native/{building.NAME}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiled library, which the wheel now holds."""
        if hasattr(self, "folder"):
            self.folder.cleanup()


def _building(root: Path) -> ModuleType:
    """Return the module that compiles. The package is not imported, because its dependencies may be missing here."""
    path = root / "src" / "rnnstate" / "kernels" / "native" / "building.py"
    spec = importlib.util.spec_from_file_location("building", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"There is no Python file {path}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform(library: Path) -> str:
    """Return the tag of the platforms on which a library runs. With glibc, the versions of its functions tell."""
    tag = next(tag for tag in platform_tags() if not tag.startswith("linux"))
    needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes())]
    return f"manylinux_2_{max(17, *needed)}_{platform.machine()}" if tag.startswith("manylinux") and needed else tag
