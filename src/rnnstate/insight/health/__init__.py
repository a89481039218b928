"""`rnnstate.health`: whether the state of a model is carried, healthy and useful, in numbers with thresholds.

| file | idea |
|---|---|
| `check` | `health`: runs a few sequences, and asks each file below |
| `report` | `Health` and `HealthFinding`: the result, which prints as text |
| `activity` | units that stand still, saturated gates, states that grow |
| `memory` | Lyapunov exponent, half-life, dimensions used |
| `time_scales` | what forget gates say about memory, where they can |
| `use` | errors with parts of the past taken away, and a window that is too short |

The numbers come from `insight/numbers/`.
"""
