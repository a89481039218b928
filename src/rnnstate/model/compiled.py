"""The steps that Keras has compiled for a model: when they must be compiled again."""

from typing import Any

import keras

from rnnstate.windows.batch import WindowDataset


def drop_outdated(model: Any, made_for: dict[str, tuple[int, int]], windows: WindowDataset, *functions: str) -> None:
    """Drop functions that were compiled for another state of the network or, on TensorFlow, for windows of another length.

    TensorFlow would compile a step for any length instead, and loops over an unknown length fail there.

    Args:
        model: The model whose compiled functions are checked.
        made_for: The steps and the version of the network that each function was compiled for. This call updates it.
        windows: The windows that come next.
        *functions: The attributes of the model that hold compiled functions, such as `"train_function"`.
    """
    steps, version = windows.prefix + windows.max_length, model.network_version()
    for name in functions:
        known_steps, known_version = made_for.setdefault(name, (steps, version))
        if known_version != version or (known_steps != steps and keras.config.backend() == "tensorflow"):
            setattr(model, name, None)
        made_for[name] = steps, version


def forget_compiled(model: Any, *kinds: str) -> None:
    """Compile again the steps that hold replaced variables. `fit` may be running, so no step may be missing.

    Args:
        model: The model whose variables were replaced.
        *kinds: `"train"`, `"test"` or `"predict"`.
    """
    for kind in kinds:
        if getattr(model, f"{kind}_function") is not None:
            getattr(model, f"make_{kind}_function")(force=True)
