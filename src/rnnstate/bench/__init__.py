"""Timings of this project and other libraries on the same work, side by side: the package behind `rnnstate bench`.

| file | idea |
|---|---|
| `compare` | the contenders take turns, and their times are collected |
| `process` | one contender in its own process |
| `machine` | the machine, its load and the rate of its arithmetic |
| `table`, `plot` | a comparison as text and as a picture |
| `contenders/` | the work, and one file for each library that does it |

Only `cli/` and `benchmarks/` import from this package.
"""
