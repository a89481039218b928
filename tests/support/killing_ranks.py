"""Trains in a chain of processes, each link of which is stopped, and compares the end with one process that never stopped.

    KERAS_BACKEND=jax python tests/support/killing_ranks.py [--chain 1 2 4 3] [--times 3] [--seed 0]

A link is some processes that train together from the checkpoint of the link before. SIGKILL of one rank stops it at a random
moment, also while it starts or writes a checkpoint; or it stops at the end of an epoch. The processes of the last link start
once more and finish the run. Then losses, weights, states, scores and outputs of each rank must be those of one process,
within 1e-5. A process that forgets its states once must differ, which shows that the comparison can fail. Each chain draws
its own number of sequences and their lengths.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import keras
import numpy as np

import ranked
import rnnstate as rs
from rnnstate.errors import RankError
from rnnstate.scale.launch import launch
from rnnstate.training.resume.file import read_sealed

EPOCHS, TOLERANCE = 6, 1e-5


class Tells(keras.callbacks.Callback):
    """Writes the id of the process, and a line after each batch, so that someone can kill it at a chosen moment."""

    def __init__(self, path):
        super().__init__()
        self._file = path.open("w", buffering=1)
        print(os.getpid(), file=self._file)

    def on_train_batch_end(self, batch, logs=None):
        print(batch, file=self._file)


class Forgets(keras.callbacks.Callback):
    """Puts all sequences back to their initial states once, in the middle of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self._epoch, batch) == (1, 1):
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            self.model.states.reset()


def child(out, checkpoint, epochs, lengths, forgets):
    """Train as one rank, and write what this rank knows at the end."""
    ranked.without_tensorflow()
    os.dup2(os.open(Path(out) / f"errors-{os.environ['RANK']}", os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    rs.scale.initialize()
    ranked.LENGTHS = tuple(map(int, lengths.split(",")))
    told = Tells(Path(out) / f"told-{rs.scale.rank()}")
    callbacks = [told, Forgets()] if forgets == "forgets" else [told]
    place = None if checkpoint == "none" else checkpoint
    model, history = ranked.fitted(place, callbacks=callbacks, epochs=int(epochs))
    np.savez(Path(out) / f"{rs.scale.rank()}.npz", **ranked.known(model, history))


def start(processes, out, checkpoint, epochs, lengths, forgets="keeps"):
    """Run some ranks to the end."""
    out.mkdir()
    words = [out, checkpoint, epochs, ",".join(map(str, lengths)), forgets]
    launch([sys.executable, __file__, "--child", *map(str, words)], processes)


def known(out):
    """Return what each rank has written."""
    return [dict(np.load(path)) for path in sorted(out.glob("*.npz"))]


def difference(one, other):
    """Return the largest difference of arrays by name."""
    assert set(one) == set(other), f"only one of both has {set(one) ^ set(other)}"
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def position(checkpoint):
    """Return the epoch and the batch with which a run continues."""
    files = sorted(checkpoint.glob("checkpoint-*")) if checkpoint.exists() else []
    content = read_sealed(files[-1]) if files else {"epoch": 0, "batch": 0}
    return content["epoch"], content["batch"]


def kill(out, rank, batches, delay, done):
    """Kill a rank after it has trained so many batches, and a random delay."""
    path = out / f"told-{rank}"
    while not done.is_set():
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) > batches:
            time.sleep(delay)
            os.kill(int(lines[0]), signal.SIGKILL)
            return
        time.sleep(0.002)


def stop_by_kill(processes, out, checkpoint, lengths, draw):
    """Run a link until one rank is killed, and return what happened."""
    rank, starting = draw.randrange(processes), draw.random() < 0.2
    batches = 0 if starting else draw.randint(1, 9)
    delay = draw.uniform(0, 2.0 if starting else 0.1)
    done = threading.Event()
    killer = threading.Thread(target=kill, args=(out, rank, batches, delay, done))
    killer.start()
    try:
        start(processes, out, checkpoint, EPOCHS, lengths)
    except RankError as error:
        if f"rank {rank} was ended by signal 9" not in str(error):
            raise
        return f"rank {rank} killed {'while it started' if not batches else f'after {batches} batches'}"
    finally:
        done.set()
        killer.join()
    return "the end came before the kill"


def run_chain(chain, folder, draw):
    """Run one chain, and return what differs at its end, and how far a process without memory differs."""
    lengths = [draw.randint(2, 23) for _ in range(draw.randint(5, 11))]
    start(1, folder / "alone", "none", EPOCHS, lengths)
    start(1, folder / "control", "none", EPOCHS, lengths, "forgets")
    checkpoint = folder / "checkpoints"
    print(f"{len(lengths)} sequences of {lengths} steps", flush=True)
    for at, processes in enumerate(chain):
        before, out = position(checkpoint), folder / f"link{at}"
        if draw.random() < 0.25:
            start(processes, out, checkpoint, min(before[0] + 1 + bool(before[1]), EPOCHS), lengths)
            how = "stopped at the end of an epoch"
        else:
            how = stop_by_kill(processes, out, checkpoint, lengths, draw)
        print(f"  {processes} processes from {before}: {how}; it left {position(checkpoint)}", flush=True)
    start(chain[-1], folder / "end", checkpoint, EPOCHS, lengths)
    (alone,), (control,), ranks = known(folder / "alone"), known(folder / "control"), known(folder / "end")
    assert len(ranks) == chain[-1]
    return max(difference(alone, one) for one in ranks), difference(alone, control)


def main():
    """Run chains, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", type=int, nargs="+", default=[1, 2, 4, 3], help="processes of each link")
    parser.add_argument("--times", type=int, default=3, help="how many chains to run")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, wrong = random.Random(given.seed), 0
    for _ in range(given.times):
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            far, control = run_chain(given.chain, Path(folder), draw)
        wrong += not far < TOLERANCE < control
        print(
            f"{keras.config.backend()} {given.chain}: the ranks differ from one process by {far:.1e}, and a process that "
            f"forgets its states once differs by {control:.1e} ({time.monotonic() - begin:.0f} s)",
            flush=True,
        )
    return int(wrong > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        sys.exit(main())
