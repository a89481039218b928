"""The contenders of `rnnstate bench`: this project and other libraries on the same work, each in a separate process.

| file | idea |
|---|---|
| `task` | the work: sizes, data, weights |
| `catalogue` | the contenders and the modules that they need |
| `worker` | the process of one contender |
| `keras_models` | this project and Keras' stateful layers, on each backend |
| `torch_lstm`, `flax_nnx`, `onnx_lstm` | PyTorch, Flax NNX and onnxruntime, as an experienced user would write them |
| `rate` | the rate of a large matrix product on this machine |

Only this package may import a backend besides `kernels/` and `exporting/on_*`. The rest of `bench/` imports `task` and
`catalogue`; the other modules run in processes of their contenders.
"""
