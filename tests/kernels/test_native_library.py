"""How the native loops become a library: in a wheel, or at first use in a source tree."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from rnnstate.kernels.native import building, library

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty cache folder."""
    monkeypatch.setattr(library, "cache_folder", lambda: tmp_path / "rnnstate")
    return tmp_path / "rnnstate"


@pytest.fixture
def builds(monkeypatch):
    """A compiler that gives the library of this process. Returns the list of the libraries that were asked for."""
    made, real = [], library.library()._name

    def build(target):
        made.append(target)
        shutil.copy(real, target)

    monkeypatch.setattr(building, "build", build)
    return made


def test_where_the_library_comes_from():
    """A wheel brings the library, with all levels, and is a wheel of one platform. A source tree compiles one."""
    found = library.library()
    if (Path(building.__file__).parents[4] / "pyproject.toml").exists():
        assert Path(found._name).parent == library.cache_folder()
    else:
        assert Path(found._name) == Path(building.__file__).with_name(building.NAME)
        wheel = metadata.distribution("rnnstate").read_text("WHEEL")
        assert "Root-Is-Purelib: false" in wheel
        assert "Tag: py3-none-any" not in wheel
    assert found.rnnstate_levels() == len(building.LEVELS)


def test_a_library_is_compiled_once(folder, builds):
    """The second use loads what the first one has kept."""
    for _ in range(2):
        assert library._compiled().rnnstate_levels() == len(building.LEVELS)
    assert builds == [next(folder.iterdir())]


def test_a_damaged_library(folder, builds):
    """If the kept file is not a library, the sources are compiled again."""
    kept = folder / f"{library.fingerprint()}-{building.NAME}"
    folder.mkdir()
    kept.write_bytes(b"\x7fELF damaged")
    assert library._compiled().rnnstate_levels()
    assert builds == [kept]
    assert builds[0].stat().st_size > 10_000


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path, builds):
    """The library is then compiled for this process alone, and leaves no file."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(library, "cache_folder", lambda: tmp_path / "file" / "rnnstate")
    assert library._compiled().rnnstate_levels()
    assert len(builds) == 1
    assert not builds[0].parent.exists()


@pytest.mark.parametrize("changed", ["source", "header", "new source", "flags", "compiler"])
def test_a_library_is_kept_for_the_same_sources_alone(monkeypatch, tmp_path, changed):
    """Another source or compiler has another fingerprint, so that an old library is not taken for it."""
    shutil.copytree(building.SOURCES, tmp_path / "csrc")
    flags = Path(shutil.copy(building.__file__, tmp_path))
    before = library.fingerprint()
    monkeypatch.setattr(building, "SOURCES", tmp_path / "csrc")
    monkeypatch.setattr(building, "__file__", str(flags))
    assert library.fingerprint() == before
    if changed == "compiler":
        compiler = Path(shutil.copy(building.compiler()[0], tmp_path / "cc"))
        monkeypatch.setenv("CC", str(compiler))
    else:
        path = {"source": "csrc/library.c", "header": "csrc/rows.h", "new source": "csrc/new.c", "flags": "building.py"}
        with (tmp_path / path[changed]).open("a") as file:
            file.write("\n")
    assert library.fingerprint() != before


def test_all_sources_count_for_the_fingerprint():
    """Every header that a source includes is in the folder that the fingerprint reads, or belongs to the compiler."""
    lines = [line for file in building.SOURCES.iterdir() for line in file.read_text().splitlines()]
    included = {line.split('"')[1] for line in lines if line.startswith('#include "')}
    assert {"call.h", "cells.h", "tiles.h", "xla.h"} <= included
    assert all((building.SOURCES / name).is_file() for name in included)


def test_without_a_compiler(monkeypatch, tmp_path):
    """The error names the commands that were tried, or the command that failed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(building.NoCompilerError, match="None was found among: cc, gcc, clang"):
        building.build(tmp_path / building.NAME)
    monkeypatch.setenv("CC", f"{sys.executable} --no-such-option")
    with pytest.raises(building.NoCompilerError, match=r"The C compiler failed: .*no-such-option"):
        building.build(tmp_path / building.NAME)
    assert not list(tmp_path.iterdir())


COMPILE = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("building", sys.argv[1])
building = importlib.util.module_from_spec(spec)
spec.loader.exec_module(building)
building.LEVELS = {"baseline": []}
building.build(pathlib.Path(sys.argv[2]))
"""


def test_two_processes_compile_at_once(tmp_path):
    """Both get a whole library, and no other file stays. The compiler runs without the package and its dependencies."""
    target = tmp_path / building.NAME
    command = [sys.executable, "-I", "-S", "-c", COMPILE, building.__file__, target]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == [target]
    assert ctypes.CDLL(str(target)).rnnstate_levels() == 1


class Application:
    """What a build hook gets from hatch: a way to say something."""

    def __init__(self):
        self.said = []

    def display_warning(self, text):
        """Note a warning."""
        self.said.append(text)

    display_info = display_warning


@pytest.fixture
def hook(monkeypatch):
    """The hook that runs when a wheel is built, without hatch."""
    base = type("BuildHookInterface", (), {})
    module = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    module.BuildHookInterface = base
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    made = build.NativeLoops()
    made.root, made.app = str(ROOT), Application()
    monkeypatch.setattr(build, "_building", lambda root: building)
    return made


def test_a_wheel_holds_the_library(hook, builds):
    """Its name says for which platform it is. An editable install holds none."""
    data = {"force_include": {}}
    hook.initialize("standard", data)
    assert data["force_include"] == {str(builds[0]): f"rnnstate/kernels/native/{building.NAME}"}
    assert data["tag"].startswith(("py3-none-manylinux_2_17", "py3-none-musllinux", "py3-none-macosx"))
    assert data["pure_python"] is False
    hook.finalize("standard", data, "")
    assert not builds[0].exists()
    editable = {"force_include": {}}
    hook.initialize("editable", editable)
    assert editable == {"force_include": {}}


@pytest.mark.parametrize("missing", ["compiler", "platform"])
def test_a_wheel_without_the_library(hook, monkeypatch, missing):
    """Without a compiler, and on another platform, the wheel is one for all platforms, and one line says why."""
    if missing == "compiler":
        monkeypatch.setenv("CC", "no-such-compiler")
    else:
        monkeypatch.setattr(building, "LEVELS", {})
    data = {"force_include": {}}
    hook.initialize("standard", data)
    assert data == {"force_include": {}}
    (said,) = hook.app.said
    assert {"compiler": "no-such-compiler", "platform": "No native loops"}[missing] in said
    assert "\n" not in said
