"""Native loops for JAX and PyTorch on the CPU, compiled by Numba. See `docs/native-loops.md`.

`kernels.loops.jax` imports `loops`. `kernels.loops.blocks_torch` imports `blocks` and `tiles`, which need no JAX.

| file | idea |
|---|---|
| `loops` | when native code is used on JAX, and the custom gradient around it |
| `check` | the two checks before the first use: XLA's header, and known numbers through XLA |
| `xla_call` | the function that XLA calls, the order of its buffers, and its registration |
| `xla/` | XLA's C interface: its header, the call frame with a diagram, the thread pool |
| `blocks` | the function that runs a block of rows, which both backends call |
| `table` | the table in which that function finds its arrays |
| `compiling` | how code is compiled and kept on disk, and under which key |
| `threads` | blocks of rows, shared among XLA's threads |
| `rows` | forward and backward over all steps of a block of rows |
| `cells` | one step of LSTM, GRU and SimpleRNN, forward and back |
| `math` | sigmoid, tanh, and the product for few rows |
| `strips`, `tiles` | the product for many rows, in vector registers |
"""
