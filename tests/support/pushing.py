"""A process that pushes 0, 1, 2, ... to one session of an LMDB store until it is killed.

`python pushing.py FOLDER NUMBER` begins with NUMBER, which may be in the store already. It prints a line for each push that
has returned: the number and the sum.
"""

import sys

import rnnstate.streaming.streamer as module
from adding import Adding
from rnnstate import stores

if __name__ == "__main__":
    module.engine_of = lambda model: model
    streamer = module.Streamer(Adding(), stores.LmdbStore(sys.argv[1], capacity=2**24))
    number = int(sys.argv[2])
    while True:
        y = streamer.push({"north": [float(number)]}, numbers={"north": number})
        print(number, int(y["north"][0]), flush=True)
        number += 1
