"""The commands `inspect`, `audit` and `export` for a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rnnstate.errors import DataError
from rnnstate.forecasting.run_folder import load_model, load_run
from rnnstate.forecasting.scaled_model import about_columns, with_scaling
from rnnstate.messages import counted, text_table
from rnnstate.state.spec import LeafSpec

HEADER = ("layer", "leaf", "shape", "dtype", "carried")


def describe(path: Path) -> list[str]:
    """Return the lines of `rnnstate inspect`: a table of leaves, and for a RUN also where its keys stand.

    Raises:
        DataError: If there is neither a RUN nor a model.
    """
    if path.is_file():
        return _leaf_table(load_model(path))
    if not path.exists():
        raise DataError(f"There must be a RUN or a .keras file. Received: {path}, which does not exist.")
    run = load_run(path)
    settings = run.settings
    lines = [
        f"Predicts {', '.join(settings.targets)} from {', '.join(settings.columns.inputs)}, "
        f"{counted(settings.horizon, 'step')} ahead; windows of {counted(settings.window, 'step')}.",
        *(_place_line(place.key, place.time) for place in run.end.places[:3]),
    ]
    if len(run.end.places) > 3:
        lines.append(f"... {counted(len(run.end.places), 'key')} in all.")
    return [*lines, "", *_leaf_table(run.model)]


def findings(path: Path) -> tuple[list[str], bool]:
    """Return the lines of `rnnstate audit`, and whether one of them is an error."""
    from rnnstate.inplace.audit import audit

    found = audit(load_model(path))
    return [str(finding) for finding in found] or ["Nothing to report."], any(f.level == "error" for f in found)


def export_model(path: Path, out: Path, form: str | None, time: int | None, force: bool, scaled: bool) -> Any:
    """Export the model of a RUN, with its scaling if asked to, or a `.keras` file, a plain Keras model too."""
    from rnnstate.exporting import export
    from rnnstate.model.stateful_model import StatefulModel

    if path.is_dir():
        run = load_run(path)
        model, metadata = (with_scaling(run) if scaled else run.model), about_columns(run, included=scaled)
        return export(model, out, form, time=time, force=force, metadata=metadata)
    if scaled:
        raise DataError(f"`--scaled` needs a RUN, which knows its scaling. Received: {path}, which is no folder.")
    model = load_model(path)
    stateful = model if isinstance(model, StatefulModel) else StatefulModel(model)
    return export(stateful, out, form, time=time, force=force)


def _place_line(key: str, time: str | None) -> str:
    return f"Kept state{f' of {key}' if key else ''}: at {time or 'the end of its data'}."


def _leaf_table(model: Any) -> list[str]:
    rows = [
        (*name.rpartition("/")[::2], leaf.describe(), leaf.dtype, carried)
        for leaves, carried in _leaves(model)
        for name, leaf in leaves.items()
    ]
    return text_table(HEADER, rows) if rows else ["No layer of this model remembers anything."]


def _leaves(model: Any) -> Iterator[tuple[Mapping[str, LeafSpec], str]]:
    """Yield leaves by full name, and whether they are carried."""
    from rnnstate.model.stateful_model import StatefulModel

    if isinstance(model, StatefulModel):
        yield model.state_spec, "yes"
        return
    from rnnstate.inplace.audit import audit
    from rnnstate.inplace.discover import keeps_state, recurrent_layers

    broken = {finding.layer: finding.code for finding in audit(model) if finding.level == "error"}
    for path, layer in recurrent_layers(model):
        kept = f"no ({broken[path]})" if path in broken else "yes"
        leaves = {f"{path}/{name}": leaf for name, leaf in _local_leaves(layer).items()}
        yield leaves, kept if keeps_state(layer) else "no (stateful=False)"


def _local_leaves(layer: Any) -> Mapping[str, LeafSpec]:
    from keras import tree

    from rnnstate.ports.recurrent import leaf_names
    from rnnstate.ports.registry import find_port

    port = getattr(layer, "port", None) or find_port(layer)
    if port is not None:
        leaves: Mapping[str, LeafSpec] = port.spec(getattr(layer, "layer", layer))
        return leaves
    # A layer that runs backward has no port: its state cannot be carried.
    shapes = [tuple(leaf.shape[1:]) for leaf in tree.flatten(layer.get_initial_state(batch_size=1))]
    return {name: LeafSpec(shape, layer.variable_dtype) for name, shape in zip(leaf_names(layer), shapes, strict=True)}
