"""The contenders of each comparison and the modules that they need. Imports no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Args:
        says: What it is, in a few words for a list.
        backend: Keras' backend in its process.
        build: `module:function` that takes a `Task` and the options, and returns a `Repeat`.
        needs: Modules that must be installed.
        options: Further arguments of `build`.
        carries: Whether each window starts from the state in which the previous window ended.
    """

    says: str
    backend: str
    build: str
    needs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    carries: bool = True

    @property
    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


_NAMES = {"jax": "JAX", "torch": "PyTorch", "tensorflow": "TensorFlow"}


def _on_keras(says: str, backend: str, function: str, carries: bool = True, **options: Any) -> Contender:
    build = f"rnnstate.bench.contenders.keras_models:{function}"
    return Contender(says.replace("BACKEND", _NAMES[backend]), backend, build, (backend,), options, carries)


def _other(says: str, module: str, function: str, *needs: str, **options: Any) -> Contender:
    return Contender(
        says, "torch" if "torch" in needs else "jax", f"rnnstate.bench.contenders.{module}:{function}", needs, options
    )


_FLAX = ("jax", "flax", "optax")

TRAIN: dict[str, Contender] = {
    **{f"rnnstate-{name}": _on_keras("rnnstate on BACKEND", name, "ours") for name in _NAMES},
    "rnnstate-tensorflow-xla": _on_keras("rnnstate on BACKEND, XLA", "tensorflow", "ours", jit=True),
    "rnnstate-jax-one-step": _on_keras("rnnstate on BACKEND, one step per call", "jax", "ours", per_call=1),
    "rnnstate-jax-reference": _on_keras('rnnstate on BACKEND, kernels="reference"', "jax", "ours", kernels="reference"),
    "rnnstate-jax-without-native": _on_keras("rnnstate on BACKEND, loops of XLA", "jax", "ours", native=False),
    **{
        f"rnnstate-{name}-not-carried": _on_keras(
            "the same model on BACKEND fed without state", name, "ours_not_carried", carries=False
        )
        for name in _NAMES
    },
    "keras-tensorflow": _on_keras("Keras on BACKEND, stateful", "tensorflow", "stock"),
    "keras-tensorflow-xla": _on_keras("Keras on BACKEND, stateful, XLA", "tensorflow", "stock", jit=True),
    "keras-torch": _on_keras("Keras on BACKEND, stateful, use_cudnn=False", "torch", "stock"),
    "keras-jax": _on_keras("Keras on BACKEND, carries nothing", "jax", "stock", carries=False, stateful=False),
    "torch-lstm": _other("PyTorch nn.LSTM, TBPTT by hand", "torch_lstm", "train", "torch"),
    "torch-lstm-compiled": _other(
        "PyTorch nn.LSTM, TBPTT by hand, torch.compile", "torch_lstm", "train", "torch", compiled=True
    ),
    "flax-nnx": _other("Flax NNX, an epoch in one compiled call", "flax_nnx", "train", *_FLAX),
}

STEP: dict[str, Contender] = {
    **{f"rnnstate-{name}": _on_keras("rnnstate on BACKEND, step", name, "ours_step") for name in _NAMES},
    "keras-tensorflow": _on_keras("Keras on BACKEND, stateful, predict_on_batch", "tensorflow", "stock_step"),
    "keras-torch": _on_keras("Keras on BACKEND, stateful, predict_on_batch", "torch", "stock_step"),
    "keras-jax": _on_keras("Keras on BACKEND, predict_on_batch, carries nothing", "jax", "stock_step", carries=False),
    "torch-lstm": _other("PyTorch nn.LSTM", "torch_lstm", "step", "torch"),
    "torch-lstm-compiled": _other("PyTorch nn.LSTM, torch.compile", "torch_lstm", "step", "torch", compiled=True),
    "flax-nnx": _other("Flax NNX, jitted", "flax_nnx", "step", *_FLAX),
    "onnxruntime": _other("onnxruntime, one thread", "onnx_lstm", "step", "onnx", "onnxruntime"),
}

# Variants of this project, each without one of its means, to measure what the means is worth. They run only on request.
_WAYS = ("-not-carried", "-one-step", "-reference", "-without-native", "rnnstate-tensorflow-xla")
VARIANTS = frozenset(name for name in TRAIN if name.endswith(_WAYS))
