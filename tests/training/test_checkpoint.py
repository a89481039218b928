"""Law 6: training stopped anywhere and resumed gives bit for bit the uninterrupted run; a wrong checkpoint is refused."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

import killable
import rnnstate as rs
from forecasting import TINY, TRAIN, rows, write_rows
from killable import BATCHES, Drawing, Killed, Killer, build, differences, train, validation, windows
from rnnstate import durable
from rnnstate.cli.app import main
from rnnstate.model.by_key import States
from rnnstate.training.resume import file as sealed
from rnnstate.training.resume import same_run as identity
from rnnstate.training.resume.checkpoint import CheckpointFolder
from rnnstate.training.resume.fit import fit_resumably

POINTS = [
    ("on_train_begin", 0, 0),
    ("on_train_batch_begin", 0, 0),
    ("on_train_batch_end", 2, 0),
    ("on_train_batch_begin", 5, 0),
    ("on_train_batch_end", 6, 0),
    ("on_test_batch_begin", 1, 0),
    ("on_epoch_end", 0, 0),
    ("on_epoch_begin", 1, 1),
    ("on_train_batch_begin", 3, 1),
    ("on_test_batch_begin", 2, 1),
    ("on_epoch_end", 1, 1),
]


def _named(at):
    return f"{at[0][3:]}-{at[1]}-of-epoch-{at[2]}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the model of an uninterrupted run, its result, and a folder with its first checkpoint alone."""
    folder, start = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("start")
    model = build()
    expected = train(folder, model=model, keep=100)
    shutil.copy(folder / "checkpoint-00000000.safetensors", start)
    return model, expected, start


@pytest.fixture
def folder(whole, tmp_path):
    """Return a folder in which the run stands before its first batch."""
    return Path(shutil.copytree(whole[2], tmp_path / "run"))


def kill(folder, at, **arguments):
    """Train until the given call, and no further."""
    with pytest.raises(Killed):
        train(folder, Killer(at), **arguments)


def newest(folder):
    """Return the newest checkpoint file."""
    return max(folder.glob("checkpoint-*"))


def test_checkpoints_change_no_bit_of_the_training(whole):
    """A run that writes checkpoints equals the run that does not."""
    assert differences(train(), whole[1]) == []


@pytest.mark.parametrize("at", POINTS, ids=_named)
def test_a_run_killed_anywhere_equals_the_whole_run(whole, folder, at):
    """Weights, optimizer, states and history are those of the uninterrupted run, wherever it was killed."""
    kill(folder, at, model=whole[0])
    assert differences(train(folder, model=whole[0]), whole[1]) == []


def test_a_run_killed_after_every_batch_equals_the_whole_run(whole, folder):
    """A run that never gets further than one batch ends where the uninterrupted run ends."""
    for epoch in range(2):
        for batch in range(1, BATCHES):
            kill(folder, ("on_train_batch_begin", batch, epoch), model=whole[0], every_batches=1)
        kill(folder, ("on_test_batch_begin", 0, epoch), model=whole[0], every_batches=1)
    assert differences(train(folder, model=whole[0]), whole[1]) == []


@pytest.mark.parametrize("at", [POINTS[8]], ids=_named)
def test_a_process_that_sigkill_ended_goes_on_bit_for_bit(whole, tmp_path, warm_python, at):
    """Two processes, the first ended by SIGKILL, give what one gives."""
    out = tmp_path / "result.npz"
    command = [warm_python, killable.__file__, str(tmp_path / "run"), str(out)]
    first = subprocess.run([*command, *map(str, at)], capture_output=True, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not out.exists()
    second = subprocess.run(command, capture_output=True, check=False)
    assert second.returncode == 0, second.stderr
    with np.load(out) as result:
        assert differences(dict(result), whole[1]) == []


@pytest.mark.once
@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("nth", [1, 3, 6])
def test_a_run_killed_while_it_writes_a_checkpoint_equals_the_whole_run(whole, folder, monkeypatch, call, nth):
    """A checkpoint that was not finished counts for nothing, and the one before it does."""
    real, left = getattr(os, call), iter(range(nth - 1, -1, -1))

    def killed(*arguments):
        if next(left) == 0:
            raise Killed
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, call, killed)
        with pytest.raises(Killed):
            train(folder, model=whole[0])
    assert differences(train(folder, model=whole[0]), whole[1]) == []


@pytest.mark.once
def test_half_a_file_of_a_killed_writer_is_ignored_and_removed(whole, folder):
    """What a killed writer leaves is no checkpoint, and the next start removes it."""
    half = folder / f"{sealed.UNFINISHED}0"
    half.write_bytes(newest(folder).read_bytes()[:1000])
    assert differences(train(folder, model=whole[0]), whole[1]) == []
    assert not half.exists()


def test_without_its_states_a_resumed_run_differs(whole, folder, monkeypatch):
    """Negative control: the states that a checkpoint holds are needed."""
    kill(folder, ("on_train_batch_begin", 3, 0), model=whole[0])
    monkeypatch.setattr(States, "load", lambda self, store: self.reset())
    assert "state/lstm/c" in differences(train(folder, model=whole[0]), whole[1])


def test_a_finished_run_returns_its_whole_history_at_once(whole, folder):
    """Nothing is trained again, and the model is that of the end of the run."""
    train(folder, model=whole[0])
    again = Killer(("on_epoch_begin", 2, 2))
    model = build(seed=12)
    assert differences(train(folder, again, model=model), whole[1]) == []
    assert again.epoch == 0


def test_a_finished_run_goes_on_when_more_epochs_are_asked_for(tmp_path):
    """Two epochs and then a third equal three."""
    expected = train(epochs=3)
    model = build()
    train(tmp_path / "run", model=model)
    assert differences(train(tmp_path / "run", model=model, epochs=3), expected) == []


def _rich(steps):
    """Return a model, windows and callbacks that remember all they can."""
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9)
    model = build(optimizer=optimizer, steps_per_execution=steps)
    callbacks = [
        Drawing(),
        keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=10.0, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0, cooldown=1),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
    ]
    return {"model": model, "data": windows(order="shuffled", order_seed=3), "callbacks": callbacks, "epochs": 9}


def test_early_stopping_schedules_averages_and_random_draws_go_on(backend, tmp_path):
    """Callbacks of Keras, averaged weights, shuffled windows and global random numbers are as if never interrupted."""
    steps = 1 if backend == "torch" else 2  # more are refused by Keras there
    expected = train(tmp_path / "whole", **_rich(steps))
    for at in (("on_train_batch_begin", 4, 1), ("on_test_batch_begin", 0, 2)):
        kill(tmp_path / "run", at, **_rich(steps))
    assert differences(train(tmp_path / "run", **_rich(steps)), expected) == []
    assert expected["epoch"].tolist() == [0, 1, 2]
    assert differences(train(tmp_path / "run", **_rich(steps)), expected) == []


class Counting(keras.callbacks.Callback):
    """Counts the batches of a run, and says how far it got."""

    def __init__(self):
        super().__init__()
        self.count, self.seen = 0, []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1

    def get_state(self):
        return {"count": self.count, "best": (float("inf"), np.float32(0.1), np.arange(3))}

    def set_state(self, state):
        self.count = state["count"]


def test_callbacks_see_the_numbers_of_the_whole_run_and_keep_what_they_say(whole, tmp_path):
    """Batches go on being counted where they were, and `get_state` and `set_state` carry a callback over."""
    kill(tmp_path / "run", ("on_train_batch_begin", 5, 0), model=whole[0], callbacks=[Counting()])
    counting = Counting()
    train(tmp_path / "run", model=whole[0], callbacks=[counting])
    assert counting.seen == [4, 5, 6, *range(BATCHES)]
    assert counting.count == 2 * BATCHES


@pytest.mark.once
def test_checkpoints_are_written_when_asked_and_only_two_stay(whole, folder):
    """Every third batch, the end of each epoch; the newest and the one before it stay."""
    train(folder, model=whole[0], every_batches=3, every_seconds=None)
    assert sorted(file.name[11:19] for file in folder.iterdir()) == ["00000005", "00000006"]
    assert [sealed.read_sealed(file)["batch"] for file in sorted(folder.iterdir())] == [6, 0]


@pytest.mark.once
def test_checkpoints_are_written_after_so_many_seconds(whole, folder):
    """With a bound that has always passed, every batch but an epoch's last is followed by a checkpoint."""
    train(folder, model=whole[0], every_batches=None, every_seconds=1e-9, keep=100)
    positions = [(c["epoch"], c["batch"]) for c in map(sealed.read_sealed, sorted(folder.iterdir()))]
    assert positions == [*((0, b) for b in range(BATCHES)), *((1, b) for b in range(BATCHES)), (2, 0)]


@pytest.mark.once
def test_a_damaged_checkpoint_is_told_and_the_older_one_used(whole, folder):
    """The run goes on from the older file, with the reason as a warning, and ends the same."""
    kill(folder, ("on_train_batch_begin", 5, 0), model=whole[0])
    file = newest(folder)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match=r"must be a complete file.*00000002.*Going on from the older .*00000001"):
        resumed = train(folder, model=whole[0])
    assert differences(resumed, whole[1]) == []


@pytest.mark.once
def test_without_a_usable_checkpoint_nothing_starts(whole, folder):
    """A folder whose files are all damaged is an error, never a fresh start."""
    newest(folder).write_bytes(b"")
    with pytest.raises(rs.DataError, match=r"must hold a usable one. Received: .*must be a complete file.*a new run"):
        train(folder, model=whole[0])


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": lambda: build(units=5)}, "network="),
        ({"model": lambda: build(optimizer=keras.optimizers.SGD(0.05))}, "compile="),
        ({"model": lambda: build(optimizer=keras.optimizers.Adam(0.07))}, r"learning_rate=0.05.*0.07"),
        ({"data": lambda: windows(seed=9)}, r'data=\{"sequences": 3'),
        ({"data": lambda: windows(lengths=(23, 17, 12))}, r'"steps": 53.*"steps": 52'),
        ({"callbacks": lambda: [Counting()]}, r"callbacks=.*Counting"),
    ],
    ids=["network", "optimizer", "rate", "values", "lengths", "callbacks"],
)
def test_the_checkpoint_of_another_run_is_refused_by_what_differs(whole, folder, change, message):
    """Another model, other data or other callbacks are named, and nothing is changed."""
    arguments = {"model": lambda: whole[0], **change}
    arguments = {name: make() for name, make in arguments.items()}
    before = arguments["model"].get_weights()
    with pytest.raises(rs.SpecMismatchError, match=f"must be of the same run.*{message}"):
        train(folder, **arguments)
    for one, other in zip(arguments["model"].get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.once
def test_other_fit_arguments_are_refused(whole, folder):
    """What changes the result may not change between two starts of a run."""
    with pytest.raises(rs.SpecMismatchError, match=r'fit=\{\}. Received: fit=\{"validation_freq"'):
        whole[0].fit(
            windows(),
            validation_data=validation(),
            validation_freq=2,
            epochs=2,
            callbacks=[Killer()],
            checkpoint=folder,
        )


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_epoch": 1}, "where to begin.*initial_epoch=1"),
        ({"steps_per_epoch": 3}, "an epoch is all windows.*steps_per_epoch=3"),
        ({"callbacks": keras.callbacks.BackupAndRestore("x")}, "do not resume by themselves.*BackupAndRestore"),
        ({"callbacks": keras.callbacks.CallbackList()}, "list of callbacks.*CallbackList"),
        ({"callbacks": [[keras.callbacks.BackupAndRestore("x")]]}, "do not resume by themselves.*BackupAndRestore"),
    ],
    ids=["initial_epoch", "steps_per_epoch", "BackupAndRestore", "CallbackList", "nested"],
)
def test_arguments_that_resume_by_themselves_are_refused(whole, tmp_path, arguments, message):
    """Two masters of the position would contradict each other."""
    with pytest.raises(rs.DataError, match=message):
        fit_resumably(whole[0], whole[0].fit, windows(), None, tmp_path / "run", arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_fewer_epochs_than_are_done_are_refused(whole, folder):
    """A run cannot be taken back."""
    train(folder, model=whole[0])
    with pytest.raises(rs.DataError, match=r"`epochs` must be at least 2.*Received: epochs=1"):
        train(folder, model=whole[0], epochs=1)


@pytest.mark.once
def test_a_folder_of_something_else_is_refused(whole, tmp_path):
    """Checkpoints are not mixed with other files, and a file is no folder."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(rs.DataError, match=r"new, empty, or of an earlier start.*`thesis.tex` \(1 in all\)"):
        train(tmp_path, model=whole[0])
    with pytest.raises(rs.DataError, match=r"must be a folder. Received: .*which is a file"):
        train(tmp_path / "thesis.tex", model=whole[0])


@pytest.mark.once
def test_other_versions_go_on_with_a_warning(whole, folder, monkeypatch):
    """Bits are promised for the same versions alone."""
    now = identity.versions()
    monkeypatch.setattr(identity, "installed_versions", lambda modules: {**now, "rnnstate": "99.0"})
    with pytest.warns(RuntimeWarning, match=r"other versions than it began with \(rnnstate .* -> 99.0\)"):
        train(folder, model=whole[0])


def interrupt(monkeypatch, writes):
    """Let Ctrl-C come after so many checkpoints."""
    write, left = CheckpointFolder.write, iter(range(writes - 1, -1, -1))

    def interrupted(self, content):
        write(self, content)
        if next(left) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "write", interrupted)


def kept_by(run):
    """Return the losses and the states of a RUN."""
    states = rs.load_state(run / "states.safetensors")
    return (run / "history.json").read_text(), {leaf: rows.tobytes() for leaf, rows in states.items()}


@pytest.mark.once
def test_the_same_command_started_again_goes_on(tmp_path, monkeypatch, capsys):
    """`rnnstate train` with `--resume` or `--checkpoint` ends with the losses and states of an uninterrupted command."""
    monkeypatch.chdir(tmp_path)
    command = ["train", write_rows(tmp_path / "data.csv", rows(0, 61)), *TRAIN, *TINY, "--epochs", "3"]
    assert main([*command, "--out", "WHOLE"]) == 0
    for how in (["--resume"], ["--checkpoint", "kept"]):
        with monkeypatch.context() as patch:
            interrupt(patch, writes=3)
            assert main([*command, *how, "--force", "--out", "RUN"]) == 130
        assert capsys.readouterr().err == "Interrupted: the same command goes on from the last checkpoint.\n"
        assert main([*command, *how, "--force", "--out", "RUN"]) == 0
        assert kept_by(tmp_path / "RUN") == kept_by(tmp_path / "WHOLE")
    assert not (tmp_path / "RUN.checkpoint").exists()
    assert (tmp_path / "kept").exists()


def test_backup_and_restore_works_without_checkpoint(tmp_path):
    """Keras' own callback goes on with the epoch that was interrupted: weights, states and optimizer as if never stopped."""

    def run(*callbacks):
        keras.utils.set_random_seed(5)
        net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, return_sequences=True, name="gru")])
        model = rs.StatefulModel(net)
        model.compile("adam", "mse")
        x = np.random.default_rng(0).normal(size=(3, 10, 2)).astype("float32")
        windows = rs.Windows(x, x[..., :1].repeat(3, axis=-1), length=5, batch_size=3)
        try:
            history = model.fit(windows, epochs=3, verbose=0, callbacks=callbacks)
        except KeyboardInterrupt:
            return model, None
        return model, history.epoch

    def stop(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    whole, _ = run()
    stopped, _ = run(
        keras.callbacks.BackupAndRestore(tmp_path / "b"), keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    )
    resumed, epochs = run(keras.callbacks.BackupAndRestore(tmp_path / "b"))
    assert epochs == [1, 2]
    assert all((one == other).all() for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True))
    assert whole.states.read() == resumed.states.read()
    assert any((one != other).any() for one, other in zip(whole.get_weights(), stopped.get_weights(), strict=True))
