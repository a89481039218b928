"""What a user wants to know about states: numbers, pictures and a report.

| file or folder | idea |
|---|---|
| `staleness` | the distance between carried states and the states that the current weights would give |
| `state_log` | statistics and histograms of the carried states after each epoch |
| `events` | what `StateLog` writes for TensorBoard |
| `trackers` | where `StateLog` sends its numbers: MLflow, Weights & Biases |
| `sample` | the data of a few sequences of `Windows` |
| `windowed` | a run window by window, for networks with a backward layer |
| `watched` | a run of these sequences, with the state before and after every step |
| `numbers/` | the numbers behind plots and health: arrays in, arrays out |
| `plots/` | `rnnstate.plots`: each function draws one picture |
| `health/` | `rnnstate.health`: findings with thresholds and advice |

Users reach `Staleness`, `StateLog`, `plots` and `health` as names of `rnnstate`. Other packages may import these, and
`staleness.distance`.
"""
