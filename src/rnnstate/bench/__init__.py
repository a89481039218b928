"""`rnnstate bench`: comparisons with other libraries, each in its own process.

| file | idea |
|---|---|
| `compare` | runs the contenders by turns and collects their times |
| `process` | one contender in its own process |
| `machine` | describes the machine and measures its arithmetic floor |
| `table`, `plot` | show a comparison |
| `contenders/` | one file per library |
"""
