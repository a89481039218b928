"""The steps that Keras has compiled for a model: when they must be compiled again."""

from typing import Any

import keras

from rnnstate.windows.batch import WindowDataset


def keep_length_static(model: Any, lengths: dict[str, int], windows: WindowDataset, *functions: str) -> None:
    """On TensorFlow, drop steps that were compiled for windows of another length.

    TensorFlow would compile a step for any length instead, and loops over an unknown length fail there.

    Args:
        model: The model whose compiled steps are checked.
        lengths: The number of steps that each function was compiled for. This call updates it.
        windows: The windows that come next.
        *functions: The attributes of the model that hold compiled steps, such as `"train_function"`.
    """
    steps = windows.prefix + windows.max_length
    for name in functions:
        known = lengths.setdefault(name, steps)
        if known != steps and keras.config.backend() == "tensorflow":
            setattr(model, name, None)
        lengths[name] = steps


def forget_compiled(model: Any, *kinds: str) -> None:
    """Compile again the steps that hold replaced variables. `fit` may be running, so no step may be missing.

    Args:
        model: The model whose variables were replaced.
        *kinds: `"train"`, `"test"` or `"predict"`.
    """
    for kind in kinds:
        if getattr(model, f"{kind}_function") is not None:
            getattr(model, f"make_{kind}_function")(force=True)
