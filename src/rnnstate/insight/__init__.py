"""What a user wants to know about states.

| file | idea |
|---|---|
| `staleness` | measures how far carried states are from the states that the current weights would give |
"""
