"""The classes of saved models, which Keras finds by name before anything of rnnstate is used.

`keras.saving.load_model` looks a class up in Keras' registry of custom objects. A class enters the registry when its module
is imported, and `import rnnstate` imports no such module, because this would start Keras and a backend. So `import rnnstate`
registers a `Deferred` under each name. It imports the class when Keras loads a model with it:

    import keras, then rnnstate    the registry is filled at once
    import rnnstate, then keras    a finder on `sys.meta_path` fills the registry when `import keras` is done, and goes away
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# The name under which a class is registered, without `rnnstate>`, and the module that defines the class.
HOMES = {
    "StatefulModel": "model.stateful_model",
    "MaskedMetric": "network.masks",
    "CarryingLayer": "inplace.repair",
    "Zeros": "initial.zeros",
    "Learned": "initial.learned",
    "Given": "initial.given",
    "Observed": "initial.observed",
    "Bridge": "initial.bridge",
    "CountingCell": "testing.counting",
    "PositionEmbedding": "layers.positions",
    "RotaryPosition": "layers.positions",
    "MinGRU": "layers.min_gru",
    "MinLSTM": "layers.min_lstm",
    "LRU": "layers.lru",
}


class Deferred:
    """Stands in Keras' registry for a class whose module is not imported yet.

    Args:
        name: A name in `HOMES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def from_config(self, config: dict[str, Any], **kwargs: Any) -> Any:
        """Import the class, and make an instance from its config. The import replaces this entry of the registry."""
        module = importlib.import_module(f"rnnstate.{HOMES[self.name]}")
        return getattr(module, self.name).from_config(config, **kwargs)


def register_saved_classes() -> None:
    """Make the classes of saved models known to Keras, now or when Keras is imported."""
    if "keras" in sys.modules:
        _fill(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _fill(keras: Any) -> None:
    saving = getattr(keras, "saving", None)  # absent while `import keras` is under way
    if saving is not None:
        for name in HOMES:
            saving.get_custom_objects().setdefault(f"rnnstate>{name}", Deferred(name))


class _AfterKeras:
    """Finds `keras` as the other finders do, and fills the registry as soon as Keras is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.exec_module = execute
            execute(module)
            _fill(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        loader.exec_module = exec_module
