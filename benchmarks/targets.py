"""The targets of this project for its speed, and what was measured of each."""

from parts import SIZES

from rnnstate.bench.table import markdown, quartiles

FASTER = {8: 3.0, 64: 1.7, 256: 1.15}
FASTER_THAN_KERAS = {8: 20.0, 64: 3.0, 256: 2.2}


def table(results):
    """Return a line for each target."""
    rows = [*_training(results), *_carrying(results), *_sequences(results), *_steps(results)]
    return markdown(("target", "wanted", "measured (quartiles)", "reached"), rows)


def _training(results):
    for units in SIZES:
        fast, keras = results.get(f"train-{units}"), results.get(f"train-{units}-tensorflow")
        if not fast or not keras:
            continue
        peer = _fastest(fast, lambda name: not name.startswith("rnnstate"))
        yield _at_least(f"JAX, {units} units: times faster than `{peer}`", FASTER[units], fast.ratio(peer))
        peer = _fastest(keras, lambda name: name.startswith("keras"))
        what = f"JAX, {units} units: times faster than Keras' own carried training, `{peer}`"
        yield _at_least(what, FASTER_THAN_KERAS[units], keras.ratio(peer))
        ratio = fast.ratio("rnnstate-torch", "torch-lstm")
        yield _at_most(f"PyTorch, {units} units: times the time of `torch-lstm`", 1.15, ratio)


def _fastest(result, chosen):
    return min((name for name in result.times if chosen(name)), key=lambda name: result.ratio(name)[1])


def _carrying(results):
    for name in (name for name in results if name.startswith("carrying-")):
        _, backend, units = name.split("-")
        ratio = results[name].ratio(f"rnnstate-{backend}", f"rnnstate-{backend}-not-carried")
        yield _at_most(f"{backend}, {units} units: carried, times the same model fed without state", 1.03, ratio)


def _sequences(results):
    for name in (name for name in results if name.startswith("sequences-")):
        what = f"{name.split('-')[1]}: a step with a million sequences, times one with a hundred"
        yield _at_most(what, 1.05, results[name].ratio("1000000", "100"))


def _steps(results):
    for result in (results[name] for name in results if name.startswith("step-")):
        units = result.tasks[result.base]["units"]
        ours = _fastest(result, lambda name: name.startswith("rnnstate"))
        peer = _fastest(result, lambda name: name.startswith("keras"))
        what = f"one-row step, {units} units: `{ours}`, times faster than `predict_on_batch` of `{peer}`"
        yield _at_least(what, 100.0, result.ratio(peer, ours))
        yield _at_most(
            f"one-row step, {units} units: `{ours}`, times onnxruntime", 2.0, result.ratio(ours, "onnxruntime")
        )


def _at_least(what, wanted, ratio):
    return what, f"at least {wanted:g}", quartiles(ratio), "yes" if ratio[1] >= wanted else "no"


def _at_most(what, wanted, ratio):
    return what, f"at most {wanted:g}", quartiles(ratio), "yes" if ratio[1] <= wanted else "no"
