"""Other libraries, and this one, at the same work, for `rnnstate bench`: each contender runs in a process of its own.

`task` says what the work is, `catalogue` who does it and with what, `worker` runs one contender on demand; the other
modules build the contenders, each the way its best users would.
"""
