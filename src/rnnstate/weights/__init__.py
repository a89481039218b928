"""Weights of LSTM and GRU layers to and from `torch.nn.LSTM`/`GRU` and ONNX LSTM/GRU nodes.

| file | idea |
|---|---|
| `gates` | the order of the gates in each library, and the translation of one layer |
| `pytorch` | `from_torch`, `to_torch`: networks, by PyTorch's names |
| `nodes` | `from_onnx`, `to_onnx`, `read_onnx`: layers and ONNX nodes |

Other packages may import the functions listed here.
"""

from rnnstate.weights.nodes import from_onnx, read_onnx, to_onnx
from rnnstate.weights.pytorch import from_torch, to_torch

__all__ = ["from_torch", "to_torch", "from_onnx", "to_onnx", "read_onnx"]
