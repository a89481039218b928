"""Loops over the steps of a window: the definition, and one fast loop per backend that is tested against it.

| file | idea |
|---|---|
| `definition` | `Loop`, and the plain loop that defines the result |
| `cells` | the arithmetic of one step of LSTM, GRU and SimpleRNN |
| `scanned` | the shared fast loop: input products outside, recurrent products inside |
| `jax`, `torch`, `tensorflow` | the scan of each backend |
| `native_torch`, `blocks_torch` | PyTorch's way to the native loops: gradients, and calls with threads |
| `native_tensorflow`, `once_tensorflow` | TensorFlow's way to the native loops; gradients that refuse a second gradient |
| `stepwise_torch` | the hoisted loop on PyTorch, for what no faster loop supports |
| `products_jax`, `segments_torch` | helpers of one backend |
"""
