"""Kills a training with SIGKILL at random moments, starts it again, and compares its end with an uninterrupted run.

    python benchmarks/resume_kill.py --backend jax --points 50

Every start is a process of its own. A run is killed a few times, then left to finish; weights, optimizer, states and
history must then be those of the uninterrupted run, bit for bit. The moments are spread over the batches of the whole run,
each with a random delay; one in ten follows the last batch of an epoch, when validation runs. The exit status is 1 if a run
differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EPOCHS, BATCHES, WINDOW = 3, 200, 6
BLINK = 0.02  # seconds: the longest delay after a batch


def main():
    """Run as the command line says, and print one line for each run that was killed."""
    options = parse()
    if options.child is not None:
        return train(*options.child)
    with tempfile.TemporaryDirectory(prefix="resume-kill-") as scratch:
        return judge(options, Path(scratch))


def parse():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50, metavar="N", help="moments of killing (default: %(default)s)")
    parser.add_argument(
        "--kills", type=int, default=5, metavar="N", help="how often a run is killed (default: %(default)s)"
    )
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"], default="jax", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: %(default)s)")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "RESULT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def judge(options, scratch):
    """Compare killed runs with one that is not, and return the exit status."""
    draw = random.Random(options.seed)
    began = time.monotonic()
    finish(start(options.backend, scratch / "whole", scratch / "whole.npz"))
    expected = dict(np.load(scratch / "whole.npz"))
    print(f"{options.backend}: {EPOCHS} epochs of {BATCHES} batches, a checkpoint after every tenth.\n")
    print("run  killed after batch (checkpoint: epoch, batch)                                          half files  end")
    points = run = wrong = halves = 0
    while points < options.points:
        run += 1
        folder, out = scratch / f"run{run}", scratch / f"run{run}.npz"
        targets = sorted(draw_target(draw) for _ in range(min(options.kills, options.points - points)))
        moments = kill_often(options.backend, folder, out, [(target, draw.uniform(0, BLINK)) for target in targets])
        points += len(moments)
        halves += sum(moment.half for moment in moments)
        differ = differences(dict(np.load(out)), expected)
        wrong += bool(differ)
        print(
            f"{run:3}  {', '.join(map(str, moments)):86} {sum(m.half for m in moments):10}  {differ or 'equal'}",
            flush=True,
        )
    print(f"\n{points} kills in {run} runs, {halves} of them while a checkpoint was written; {wrong} runs differ.")
    print(f"Took {(time.monotonic() - began) / 60:.0f} minutes.")
    return int(wrong > 0)


def draw_target(draw):
    """Draw the batch of the whole run after which to kill."""
    if draw.random() < 0.1:
        return BATCHES * draw.randint(1, EPOCHS) - 1
    return draw.randrange(EPOCHS * BATCHES)


@dataclass(frozen=True)
class Moment:
    """After which batch of the whole run a process was killed, and what it left."""

    target: int
    position: tuple[int, int] | None
    half: int

    def __str__(self):
        return f"{self.target} {self.position or '(none)'}"


def kill_often(backend, folder, out, points):
    """Start a run and kill it at each point, then let it finish; return the moments of killing."""
    moments = []
    for target, delay in points:
        child = start(backend, folder, out)
        reached = any(int(line) >= target for line in child.stdout)
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        if child.wait() == 0 or not reached:  # it ended by itself in that moment
            break
        moments.append(Moment(target, position(folder), len(list(folder.glob(".unfinished-*")))))
    finish(start(backend, folder, out))
    return moments


def start(backend, folder, out):
    """Start a training process, which prints the number of each batch it has trained."""
    one = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}  # threads only wait for each other in nets this small
    environment = {**os.environ, **one, "KERAS_BACKEND": backend}
    command = [sys.executable, __file__, "--child", str(folder), str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(child):
    """Wait for a process to end its training."""
    _, errors = child.communicate()
    if child.returncode:
        raise RuntimeError(f"The training failed: {errors}")


def position(folder):
    """Return where the newest checkpoint stands."""
    from rnnstate.training.resume.file import read_sealed

    files = sorted(folder.glob("checkpoint-*"))
    content = read_sealed(files[-1]) if files else None
    return (content["epoch"], content["batch"]) if content else None


def differences(one, other):
    """Return the names of what is not equal bit for bit."""
    return [name for name in one.keys() | other.keys() if one[name].tobytes() != other[name].tobytes()]


def train(folder, out):
    """Train with checkpoints, and leave all that must be equal in a file: this is what gets killed."""
    import keras

    import rnnstate as rs

    model, windows, validation = build(keras, rs)
    history = model.fit(
        windows,
        validation_data=validation,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[telling(keras)],
        checkpoint=rs.Checkpoint(folder, every_batches=10),
    )
    variables = [*model.weights, *model.optimizer.variables]
    values = {f"variable {i}": keras.ops.convert_to_numpy(variable) for i, variable in enumerate(variables)}
    np.savez(out, **values, **model.states.read(), **history.history)
    return 0


def build(keras, rs):
    """Return a model with dropout, and windows of training and validation."""
    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.LSTM(8, dropout=0.1, return_sequences=True),
            keras.layers.GRU(5, return_sequences=True),
            keras.layers.Dense(1),
        ]
    )
    model = rs.StatefulModel(net)
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(4).normal(size=(8, BATCHES * WINDOW // 2, 2)).astype("float32")
    y = np.cumsum(x[..., :1], axis=1) / 10
    windows = rs.Windows(x, y, length=WINDOW, batch_size=4, order="shuffled", seed=5)
    return model, windows, rs.Windows(x[:, :30], y[:, :30], length=WINDOW, batch_size=8)


def telling(keras):
    """Return a callback that says which batches of the whole run are trained."""

    class Telling(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            print(self.epoch * BATCHES + batch, flush=True)

    return Telling()


if __name__ == "__main__":
    sys.exit(main())
