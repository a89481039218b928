"""Native loops for JAX on the CPU, compiled by Numba. See `docs/native-loops.md`.

| file | idea |
|---|---|
| `loops` | when native code is used, and the custom gradient around it |
| `xla_call` | the function that XLA calls, and the registration of it |
| `xla_header` | what native code must know about XLA's C interface |
| `threads` | sharing rows between XLA's threads |
| `rows` | forward and backward over all steps of a block of rows |
| `cells`, `math`, `tiles`, `strips` | the arithmetic: gates, functions, matrix products in registers |
"""
