"""The commands `inspect`, `audit` and `export` for a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rnnstate.errors import DataError
from rnnstate.forecasting.run_folder import load_model, read_run
from rnnstate.forecasting.scaled_model import about_columns, with_scaling
from rnnstate.messages import counted, text_table
from rnnstate.state.spec import LeafSpec

HEADER = ("layer", "leaf", "shape", "dtype", "carried")


def describe(path: Path) -> list[str]:
    """Return the lines of `rnnstate inspect`: a table of leaves, and for a RUN also where its keys stand."""
    found = facts(path)
    table = _leaf_table(found["leaves"])
    if found["kind"] == "model":
        return table
    keys = found["keys"]
    lines = [
        f"Predicts {', '.join(found['targets'])} from {', '.join(found['inputs'])}, "
        f"{counted(found['horizon'], 'step')} ahead; windows of {counted(found['window'], 'step')}.",
        *(_place_line(place["key"], place["time"]) for place in keys[:3]),
    ]
    if len(keys) > 3:
        lines.append(f"... {counted(len(keys), 'key')} in all.")
    return [*lines, "", *table]


def facts(path: Path) -> dict[str, Any]:
    """Return what `rnnstate inspect` knows about a RUN or a model, for JSON.

    Raises:
        DataError: If there is neither a RUN nor a model.
    """
    if path.is_file():
        return {"kind": "model", "leaves": _leaf_facts(load_model(path))}
    if not path.exists():
        raise DataError(f"There must be a RUN or a .keras file. Received: {path}, which does not exist.")
    run = read_run(path)
    settings = run.settings
    return {
        "kind": "run",
        "targets": settings.targets,
        "inputs": settings.columns.inputs,
        "horizon": settings.horizon,
        "window": settings.window,
        "keys": [asdict(place) for place in run.end.places],
        "versions": run.info["versions"],
        "leaves": _leaf_facts(run.model),
    }


def findings(path: Path) -> list[Any]:
    """Return the findings of `rnnstate audit`."""
    from rnnstate.inplace.audit import audit

    return audit(load_model(path / "model.keras" if (path / "run.json").is_file() else path))


def export_model(path: Path, out: Path, form: str | None, time: int | None, force: bool, scaled: bool) -> Any:
    """Export the model of a RUN, with its scaling if asked to, or a `.keras` file, a plain Keras model too."""
    from rnnstate.exporting import export
    from rnnstate.model.stateful_model import StatefulModel

    _check_out(path, out, force)
    if path.is_dir():
        run = read_run(path)
        model, metadata = (with_scaling(run) if scaled else run.model), about_columns(run, included=scaled)
        return export(model, out, form, time=time, force=force, metadata=metadata)
    if scaled:
        raise DataError(f"`--scaled` needs a RUN, which knows its scaling. Received: {path}, which is no folder.")
    model = load_model(path)
    stateful = model if isinstance(model, StatefulModel) else StatefulModel(model)
    return export(stateful, out, form, time=time, force=force)


def _check_out(path: Path, out: Path, force: bool) -> None:
    """Refuse to overwrite the model that is exported, whatever `force` says, and anything else without `force`."""
    if path.exists() and path.resolve() in (out.resolve(), *out.resolve().parents):
        raise DataError(f"FILE must be outside of the model that is exported. Received: {out}. Give another name.")
    if out.exists() and not force:
        raise DataError(f"FILE must not exist yet. Received: {out}. Give another name, or --force to replace it.")


def _place_line(key: str, time: str | None) -> str:
    return f"Kept state{f' of {key}' if key else ''}: at {time or 'the end of its data'}."


def _leaf_table(leaves: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [tuple(leaf[name] for name in HEADER) for leaf in leaves]
    return text_table(HEADER, rows) if rows else ["No layer of this model remembers anything."]


def _leaf_facts(model: Any) -> list[dict[str, str]]:
    rows = [
        (*name.rpartition("/")[::2], leaf.describe(), leaf.dtype, carried)
        for leaves, carried in _leaves(model)
        for name, leaf in leaves.items()
    ]
    return [dict(zip(HEADER, row, strict=True)) for row in rows]


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
