"""The program that wrote the golden model, checkpoints and RUN, with rnnstate 0.1.0 at commit 743d445.

Do not run it over these files again: they show that later releases still load what that release wrote. A new format adds
files under new names. Usage: `KERAS_BACKEND=jax python write_v1.py FOLDER`; the model and the RUN are written on JAX only.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import golden


class StopBeforeEpoch(keras.callbacks.Callback):
    """Ends training with an error when the last epoch begins."""

    def on_epoch_begin(self, epoch, logs=None):
        """Stop at epoch 2."""
        if epoch == 2:
            raise KeyboardInterrupt


def write_model(folder: Path) -> None:
    """Write a trained model, and what it gives."""
    model = golden.build()
    model.fit(golden.windows(), epochs=2, verbose=0)
    model.save(folder / "model_v1.keras")
    np.savez(folder / "model_v1.npz", **golden.answers(model))


def write_checkpoint(folder: Path) -> None:
    """Write the checkpoints of a run that stopped after two of three epochs, and the weights of a run that did not stop."""
    name = f"checkpoint_v1_{keras.config.backend()}"
    with contextlib.suppress(KeyboardInterrupt):
        golden.build().fit(
            golden.windows(), epochs=3, verbose=0, checkpoint=folder / name, callbacks=[StopBeforeEpoch()]
        )
    whole = golden.build()
    whole.fit(golden.windows(), epochs=3, verbose=0)
    np.savez(folder / f"{name}.npz", **golden.weights(whole))


def write_run(folder: Path) -> None:
    """Write a table, a RUN that was trained on it, and a forecast."""
    table = folder / "run_v1.csv"
    rng = np.random.default_rng(11)
    load = np.sin(np.arange(240) / 5) + 0.1 * rng.normal(size=240)
    rows = [f"{hour},{value:.4f},{rng.normal():.4f}" for hour, value in enumerate(load)]
    table.write_text("\n".join(["hour,load,wind", *rows]) + "\n")
    run = [sys.executable, "-m", "rnnstate"]
    options = [
        "--target",
        "load",
        "--time",
        "hour",
        "--window",
        "11",
        "--layers",
        "lstm:5",
        "--epochs",
        "2",
        "--seed",
        "3",
    ]
    subprocess.run([*run, "train", table, *options, "--out", folder / "run_v1"], check=True)
    subprocess.run([*run, "predict", folder / "run_v1", table, "-o", folder / "run_v1_forecast.csv"], check=True)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_checkpoint(target)
    if keras.config.backend() == "jax":
        write_model(target)
        write_run(target)
