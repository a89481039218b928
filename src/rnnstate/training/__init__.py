"""What rnnstate adds around Keras' `fit`.

| file | idea |
|---|---|
| `fit_checks` | refuses arguments that would break the time order, before anything runs |
| `loader` | feeds batches to the backend ahead of the step |
| `fit_hooks` | callbacks: the position in the epoch, and the scan over several steps |
| `resume/` | checkpoints, and training that continues bit for bit |
"""
