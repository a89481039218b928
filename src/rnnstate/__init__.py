"""Explicit recurrent state for Keras 3.

A tour, in reading order:

- `read`, `write`, `reset`, `audit`, `repair`: the state of a Keras model you already have
  (`views.py`, `auditing.py`, `repairing.py`).
- `StatefulModel`: any Functional or Sequential network with its state as an argument, a result, and one row per
  sequence that `fit` carries (`model.py`, `bank.py`).
- `Windows`: long sequences cut into windows that `fit` meets in time order (`windows.py`, `plan.py`).
- `State`, `StateSpec`: a named set of arrays and what it must look like (`state.py`, `spec.py`).
- `register_port`: how a layer with a memory of its own joins in (`ports.py`).

Names are bound on first use, so that `import rnnstate` and `rnnstate --help` start neither Keras nor a backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rnnstate.backend import choose_backend

__version__ = "0.1.0"

_HOMES = {
    "read": "views",
    "write": "views",
    "reset": "views",
    "audit": "auditing",
    "Finding": "auditing",
    "repair": "repairing",
    "StatefulModel": "model",
    "Windows": "windows",
    "Vary": "varying",
    "Checkpoint": "checkpoint",
    "Staleness": "staleness",
    "State": "state",
    "concat": "state",
    "StateSpec": "spec",
    "LeafSpec": "spec",
    "save_state": "files",
    "load_state": "files",
    "export": "exporting",
    "Export": "exporting",
    "Port": "ports",
    "register_port": "ports",
    "RnnStateError": "errors",
    "StateStructureError": "errors",
    "StateShapeError": "errors",
    "StateValueError": "errors",
    "SpecMismatchError": "errors",
    "UnknownKeyError": "errors",
    "DataError": "errors",
    "UnsupportedModelError": "errors",
    "CarryError": "errors",
    "ExportError": "errors",
}
_MODULES = ("initial", "onnx_step", "weights")

choose_backend()

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module `rnnstate` has no attribute `{name}`. Public names: {', '.join(__all__)}.")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from rnnstate import initial as initial
    from rnnstate import onnx_step as onnx_step
    from rnnstate import weights as weights
    from rnnstate.auditing import Finding as Finding
    from rnnstate.auditing import audit as audit
    from rnnstate.checkpoint import Checkpoint as Checkpoint
    from rnnstate.errors import CarryError as CarryError
    from rnnstate.errors import DataError as DataError
    from rnnstate.errors import ExportError as ExportError
    from rnnstate.errors import RnnStateError as RnnStateError
    from rnnstate.errors import SpecMismatchError as SpecMismatchError
    from rnnstate.errors import StateShapeError as StateShapeError
    from rnnstate.errors import StateStructureError as StateStructureError
    from rnnstate.errors import StateValueError as StateValueError
    from rnnstate.errors import UnknownKeyError as UnknownKeyError
    from rnnstate.errors import UnsupportedModelError as UnsupportedModelError
    from rnnstate.exporting import Export as Export
    from rnnstate.exporting import export as export
    from rnnstate.files import load_state as load_state
    from rnnstate.files import save_state as save_state
    from rnnstate.model import StatefulModel as StatefulModel
    from rnnstate.ports import Port as Port
    from rnnstate.ports import register_port as register_port
    from rnnstate.repairing import repair as repair
    from rnnstate.spec import LeafSpec as LeafSpec
    from rnnstate.spec import StateSpec as StateSpec
    from rnnstate.staleness import Staleness as Staleness
    from rnnstate.state import State as State
    from rnnstate.state import concat as concat
    from rnnstate.varying import Vary as Vary
    from rnnstate.views import read as read
    from rnnstate.views import reset as reset
    from rnnstate.views import write as write
    from rnnstate.windows import Windows as Windows
