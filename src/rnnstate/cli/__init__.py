"""The command line.

| file | idea |
|---|---|
| `app` | `main`: parses, runs a command, and turns every error into one line |
| `arguments` | the parser of all commands, and the grouped help |
| `forecast_arguments`, `model_arguments`, `shared_arguments` | the options of each command, with help and examples |
| `dispatch` | from options to the call that runs a command |
| `backend_choice` | `--backend`, before Keras starts |
| `output` | results to standard output, notes to standard error, JSON |
| `progress` | the epochs of a training: one line on a terminal, few lines in a log |
| `forecast_commands` | `demo`, `train`, `evaluate`, `predict`, `forecast` |
| `model_commands` | `inspect`, `audit`, `export` |
| `look_commands` | `plot`, `report` |
| `state_commands` | `inspect`, `diff` and `convert` of state files |
| `bench_command` | `bench` |
| `completion` | scripts that let a shell complete commands and options |
"""
