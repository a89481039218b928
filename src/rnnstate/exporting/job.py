"""One export at work: its inputs, files and outputs, in a temporary folder.

A format is written by one backend. If that is the backend of this process, the worker is called here. Otherwise it runs in a
second process under the other backend. Both read the same folder, so both do exactly the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from rnnstate.errors import ExportError
from rnnstate.exporting import chunked_run as chunks
from rnnstate.exporting import verification, worker
from rnnstate.exporting.copy import settings_of
from rnnstate.exporting.custom_classes import Custom
from rnnstate.exporting.formats import Format
from rnnstate.exporting.plain_keras import plain_initial_model, plain_step_model
from rnnstate.exporting.programs import programs_of
from rnnstate.exporting.signature import Signature
from rnnstate.exporting.whole import check_whole
from rnnstate.model.stateful_model import StatefulModel


class Job:
    """The files of one export.

    Args:
        model: The live model. It is read, never changed.
        form: The format.
        signature: Inputs and outputs of the step model.
        folder: An empty folder, which the caller removes.
        custom: The user's own classes in the network.
    """

    def __init__(self, model: StatefulModel, form: Format, signature: Signature, folder: Path, custom: Custom) -> None:
        self.model, self.form, self.signature, self.folder = model, form, signature, folder
        self.programs = programs_of(model, signature)
        self.initial = _initial_row(model)
        self.custom = custom

    def artifact(self, name: str) -> Path:
        """Return the path of one program's file."""
        return self.folder / f"{name}{self.form.suffix}"

    def run(self) -> float:
        """Write and run the files, and return the largest difference between their outputs and the model's.

        Raises:
            ExportError: If the format cannot hold the network, if an output differs by more than the tolerance, or if chunks
                differ from one pass over the whole.
        """
        live = {}
        for program in self.programs:
            runs = verification.runs_of(program, self.signature, self.initial)
            live[program.name] = verification.live_outputs(program, runs)
            if program.name == "step":
                check_whole(self.model, program, runs, live[program.name])
            chunks.save_runs(self.folder / f"{program.name}.inputs.npz", runs)
        self._write_job()
        try:
            self._work()
        except ExportError:
            raise
        except Exception as error:  # each converter has errors of many classes
            raise self._failure(f"{type(error).__name__}: {error}") from error
        return max(
            verification.largest_difference(runs, chunks.load_runs(self.folder / f"{name}.outputs.npz"))
            for name, runs in live.items()
        )

    def _write_job(self) -> None:
        job = {
            "format": self.form.name,
            "suffix": self.form.suffix,
            "signature": self.signature.to_json(),
            "programs": {program.name: program.links for program in self.programs},
            "model": settings_of(self.model),
            "custom": self.custom.classes,
            "modules": self.custom.modules,
        }
        (self.folder / "job.json").write_text(json.dumps(job))

    def _work(self) -> None:
        if self.form.backend is None:
            self._save_plain()
            # The plain file must load without rnnstate, so another process runs it.
            self._start([sys.executable, "-P", chunks.__file__], keras.config.backend())
            return
        self.model.net.save(self.folder / "net.keras")
        np.savez(self.folder / "start.npz", *self.model.start.get_weights())
        if self.form.backend == keras.config.backend():
            worker.work(self.folder, self.custom.objects)
        else:
            self._start([sys.executable, "-P", "-m", worker.__name__], self.form.backend)

    def _save_plain(self) -> None:
        plain_step_model(self.model.net, self.signature).save(self.artifact("step"))
        if self.signature.observed is not None:
            plain_initial_model(self.model.start, self.signature).save(self.artifact("initial"))

    def _start(self, command: list[str], backend: str) -> None:
        """Run a program on the folder in a new process, under the given backend and on the CPU."""
        _check_reachable(self.custom, self.form)
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        done = subprocess.run([*command, str(self.folder)], capture_output=True, text=True, env=environment)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise self._failure(lines[-1] if lines else f"exit status {done.returncode}")

    def _failure(self, reason: str) -> ExportError:
        return ExportError(
            f'Every layer of the network `{self.model.net.name}` must be one that format="{self.form.name}" can hold. '
            f"Received: {' '.join(reason.split())[:300]} Nothing was written. Try another format."
        )


def _check_reachable(custom: Custom, form: Format) -> None:
    if custom.unreachable:
        raise ExportError(
            f'Another process writes format="{form.name}", and it must be able to import every class of the network. '
            f"Received: `{custom.unreachable[0]}`, defined where no module can be imported. Move it to a module."
        )


def _initial_row(model: StatefulModel) -> chunks.Arrays | None:
    """Return one row of the initial state, leaves `(1, *shape)`; `None` if it depends on observed values."""
    if model.start.needs_observed:
        return None
    state = model.initial_state(batch_size=1)
    return {name: ops.convert_to_numpy(ops.stop_gradient(value)) for name, value in state.items()}
