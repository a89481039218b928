"""Native loops for JAX, PyTorch and TensorFlow on the CPU, in C. See `docs/native-loops.md`.

`kernels.loops.jax` imports `loops`. `kernels.loops.blocks_torch` imports `library`, which needs no JAX, and
`kernels.loops.native_tensorflow` imports `tensorflow_call`.

| file | idea |
|---|---|
| `loops` | when native code is used on JAX, and the custom gradient around it |
| `check` | the checks before the first use: XLA's header, and known numbers and rows through XLA |
| `xla_call`, `bank_call` | the functions that XLA calls, for loops and for rows of a bank, and their registration |
| `xla_header` | the layout of C structs, read from the header that is installed with JAX |
| `tensorflow_call` | the operator of TensorFlow, and its registration |
| `tensorflow_check`, `known_numbers` | the check before the first use on TensorFlow, and its numbers |
| `library` | where the library is, its functions, and the choice of a level |
| `building` | how the sources become a library |
| `csrc/` | the sources in C |

| source | idea |
|---|---|
| `call.h` | the arrays of a call, which each backend fills in |
| `rows.h` | forward and backward over all steps of a block of rows |
| `cells.h`, `activations.h` | one step of LSTM, GRU and SimpleRNN, forward and back; sigmoid and tanh |
| `products.h`, `tiles.h` | the recurrent product for few rows and for many rows, in vector registers |
| `operations.h` | small operations on arrays, one after another, for traced steps on PyTorch |
| `simd.h` | vectors as wide as the registers of a level |
| `level.c`, `library.c`, `library.h` | the loops for one level, and the choice among the levels |
| `blocks.h`, `blocks.c` | the blocks of a call, which threads share |
| `seats.c` | the threads that help with a call, and wait for the next one |
| `apart.c` | the threads of a long call move to different cores |
| `threads.c`, `teams.c` | the threads of XLA, and the threads of PyTorch |
| `pool.h`, `pool.c` | a pool of threads, for TensorFlow |
| `xla.h`, `layout.c`, `frame.c` | XLA's structs, their offsets by name, and what each function does first |
| `xla.c`, `bank.c` | the functions that XLA calls: a loop, and rows of a bank |
| `tensorflow.h`, `tensorflow.c` | TensorFlow's C interface, and the operator that it calls |
| `tensorflow_runs.c`, `held.h` | what the operator does; outputs at masked steps |
| `pages.c` | large pages for large arrays |
"""
