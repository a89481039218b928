"""Explicit recurrent state for Keras 3.

A tour, in reading order:

- `State`, `StateSpec`: a named set of arrays, and the names, shapes and dtypes it must have (`state/`).
- `StatefulModel`: any Functional or Sequential network with its state as an argument and a result (`model/`).
  `fit` keeps one row of state per sequence and carries it from window to window.
- `Windows`: long sequences cut into windows, which `fit` sees in time order (`windows/`).
- `initial`: the states that sequences start from (`initial/`).
- `read`, `write`, `reset`, `audit`, `repair`: the state of a Keras model you already have (`inplace/`).
- `layers`: linear recurrences, whose steps are computed in parallel (`layers/`).
- `register_port`: tells rnnstate what your own layer remembers (`ports/`).
- `Streamer`, `stores`: a state for each of many live sources, one step at a time, stored safely (`streaming/`).
- `load_run`: a RUN that the command line trained, as an object that predicts (`forecasting/`).
- `plots`, `health`: pictures and numbers about the state (`insight/`).
- `export`: the step model as a file for another runtime (`exporting/`).

Names are bound on first use, so that `import rnnstate` and `rnnstate --help` start neither Keras nor a backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rnnstate.backend import choose_backend
from rnnstate.saved_classes import register_saved_classes

__version__ = "0.1.0"

_HOMES = {
    "read": "inplace.access",
    "write": "inplace.access",
    "reset": "inplace.access",
    "audit": "inplace.audit",
    "Finding": "inplace.audit",
    "repair": "inplace.repair",
    "StatefulModel": "model.stateful_model",
    "Windows": "windows.windows",
    "Vary": "windows.varied_lengths",
    "split_by_time": "windows.by_time",
    "Scaling": "windows.scaling",
    "Checkpoint": "training.resume.checkpoint",
    "Staleness": "insight.staleness",
    "StateLog": "insight.state_log",
    "health": "insight.health.check",
    "State": "state.state",
    "concat": "state.state",
    "StateSpec": "state.spec",
    "LeafSpec": "state.spec",
    "save_state": "state.files",
    "load_state": "state.files",
    "load_metadata": "state.files",
    "Streamer": "streaming.streamer",
    "load_run": "forecasting.predictor",
    "export": "exporting",
    "Export": "exporting",
    "Port": "ports.protocol",
    "register_port": "ports.registry",
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
    "PushError": "errors",
    "RankError": "errors",
    "SequenceError": "errors",
    "StepError": "errors",
    "StoreError": "errors",
}
_MODULES = {
    "initial": "initial",
    "layers": "layers",
    "onnx_step": "onnx_step",
    "plots": "insight.plots",
    "scale": "scale",
    "stores": "streaming.stores",
    "testing": "testing",
    "weights": "weights",
}

choose_backend()
register_saved_classes()

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module `rnnstate` has no attribute `{name}`. Public names: {', '.join(__all__)}.")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from rnnstate import initial as initial
    from rnnstate import layers as layers
    from rnnstate import onnx_step as onnx_step
    from rnnstate import scale as scale
    from rnnstate import testing as testing
    from rnnstate import weights as weights
    from rnnstate.errors import CarryError as CarryError
    from rnnstate.errors import DataError as DataError
    from rnnstate.errors import ExportError as ExportError
    from rnnstate.errors import PushError as PushError
    from rnnstate.errors import RankError as RankError
    from rnnstate.errors import RnnStateError as RnnStateError
    from rnnstate.errors import SequenceError as SequenceError
    from rnnstate.errors import SpecMismatchError as SpecMismatchError
    from rnnstate.errors import StateShapeError as StateShapeError
    from rnnstate.errors import StateStructureError as StateStructureError
    from rnnstate.errors import StateValueError as StateValueError
    from rnnstate.errors import StepError as StepError
    from rnnstate.errors import StoreError as StoreError
    from rnnstate.errors import UnknownKeyError as UnknownKeyError
    from rnnstate.errors import UnsupportedModelError as UnsupportedModelError
    from rnnstate.exporting import Export as Export
    from rnnstate.exporting import export as export
    from rnnstate.forecasting.predictor import load_run as load_run
    from rnnstate.inplace.access import read as read
    from rnnstate.inplace.access import reset as reset
    from rnnstate.inplace.access import write as write
    from rnnstate.inplace.audit import Finding as Finding
    from rnnstate.inplace.audit import audit as audit
    from rnnstate.inplace.repair import repair as repair
    from rnnstate.insight import plots as plots
    from rnnstate.insight.health.check import health as health
    from rnnstate.insight.staleness import Staleness as Staleness
    from rnnstate.insight.state_log import StateLog as StateLog
    from rnnstate.model.stateful_model import StatefulModel as StatefulModel
    from rnnstate.ports.protocol import Port as Port
    from rnnstate.ports.registry import register_port as register_port
    from rnnstate.state.files import load_metadata as load_metadata
    from rnnstate.state.files import load_state as load_state
    from rnnstate.state.files import save_state as save_state
    from rnnstate.state.spec import LeafSpec as LeafSpec
    from rnnstate.state.spec import StateSpec as StateSpec
    from rnnstate.state.state import State as State
    from rnnstate.state.state import concat as concat
    from rnnstate.streaming import stores as stores
    from rnnstate.streaming.streamer import Streamer as Streamer
    from rnnstate.training.resume.checkpoint import Checkpoint as Checkpoint
    from rnnstate.windows.by_time import split_by_time as split_by_time
    from rnnstate.windows.scaling import Scaling as Scaling
    from rnnstate.windows.varied_lengths import Vary as Vary
    from rnnstate.windows.windows import Windows as Windows
