"""The command line.

| file | idea |
|---|---|
| `app` | `main`: parses, dispatches, and turns every error into one line |
| `arguments` | the parser of each command, with help and examples |
| `forecast_commands` | `demo`, `train`, `predict`, `evaluate` |
| `model_commands` | `inspect`, `audit`, `export` |
| `state_commands` | `inspect`, `diff` and `convert` of state files |
| `bench_command` | `bench` |
"""
