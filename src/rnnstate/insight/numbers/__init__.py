"""The numbers behind the plots and the health report: arrays in, arrays out.

| file | idea |
|---|---|
| `positions` | the error at each position in a window |
| `forgetting` | how long a difference between two states survives, and its half-life |
| `jacobians` | how a step changes with the state before it, by finite differences |
| `exponents` | Lyapunov exponents, and the gradient by lag, from the Jacobians |
| `gates` | the gates of LSTM and GRU layers, from weights and states |
| `units` | still units, saturation, the norm of a state and its growth |
| `components` | principal components, participation ratio, nearest states |
| `distribution` | mean, spread, extremes and histogram of an array |
| `context` | errors with the state zeroed, shuffled, held, or with a short past |

Functions that take a model take `Watched`, a run of a few sequences, too.
"""
