"""What is it worth to set the true state before each minibatch? A house, whose state is two temperatures.

The house is simulated; the weather that drives it is real (New York, 2013). The wall stores heat for days, and is never an
input of the network: what it holds must be remembered, or given. A GRU learns the air temperature from the outdoor
temperature and the heating, in windows of one day, trained in five ways:

- carried: each window starts from the state in which the house's previous day ended;
- reset: each window starts from zeros;
- learned: each window starts from one learned state;
- observed: each window starts from the true air and wall temperatures of the step before, through a learned map from
  these 2 values to the 32 units;
- air: the same, but from the air temperature alone, because nobody measures the inside of a wall.

Each network is then served on later weeks: with its state carried on from day to day, from zeros each day, and each day
from the start that it was trained with. Run it: `KERAS_BACKEND=jax python examples/02_thermal_house.py` (two to three
minutes on JAX for each of `--seeds`, which draw houses, weeks and weights anew; `--quick` for a small one).
"""

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np

import rnnstate as rs  # first: it chooses an installed backend for Keras

import keras  # isort: skip

DAY = 96  # steps of 15 minutes
HERE = Path(__file__).parent
WAYS = {"carried": 0, "reset": 0, "learned": 0, "observed": 2, "air": 1}  # how many true temperatures are given
SERVED = ("carried", "reset", "own start")


def outdoor_temperature() -> np.ndarray:
    """Return the temperature at JFK in degrees C, every 15 minutes."""
    with gzip.open(HERE / "data" / "nyc_weather_hourly_2013.csv.gz", "rt") as file:
        hourly = [float(row["temp_c"] or "nan") for row in csv.DictReader(file) if row["station"] == "JFK"]
    hours, values = np.arange(len(hourly)), np.array(hourly)
    known = np.isfinite(values)
    return np.interp(np.arange(0, len(hourly) - 1, 0.25), hours[known], values[known])


def heating_schedule(steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return heating power in kW: 0, 1, 2 or 3, in blocks of 2 to 15 hours."""
    blocks = [np.full(rng.integers(8, 61), rng.integers(0, 4)) for _ in range(steps // 8)]
    return np.concatenate(blocks)[:steps].astype("float64")


def simulate(outdoor: np.ndarray, heating: np.ndarray) -> np.ndarray:
    """Return air and wall temperature after every step, `(houses, time, 2)`: explicit Euler at a quarter of an hour."""
    air = wall = np.full(len(heating), 18.0)
    states = []
    for t in range(heating.shape[1]):
        to_wall, to_air = (wall - air) / 2, (outdoor[:, t] - air) / 12  # resistances in K/kW
        air, wall = (
            air + 0.25 * (to_wall + to_air + heating[:, t]) / 0.8,  # capacities in kWh/K
            wall + 0.25 * ((outdoor[:, t] - wall) / 6 - to_wall) / 18,
        )
        states.append(np.stack([air, wall], axis=-1))
    return np.stack(states, axis=1)


def make_houses(houses: int, days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs `(houses, time, 2)` and true states `(houses, time, 2)`; each house sees other weeks of the year."""
    rng = np.random.default_rng(seed)
    weather, steps = outdoor_temperature(), days * DAY
    starts = rng.integers(0, len(weather) - steps, houses)
    outdoor = np.stack([weather[start : start + steps] for start in starts])
    heating = np.stack([heating_schedule(steps, rng) for _ in range(houses)])
    return np.stack([outdoor, heating], axis=-1), simulate(outdoor, heating)


def initial_state(way: str, at: str) -> rs.initial.InitialState:
    """Return where a window (or a house) starts from, for one way of training."""
    if way == "learned":
        return rs.initial.Learned(at=at)
    return rs.initial.Observed(size=WAYS[way], at=at) if WAYS[way] else rs.initial.Zeros(at=at)


def build(units: int) -> keras.Model:
    """Return the network: the same for all."""
    return keras.Sequential(
        [keras.Input((None, 2)), keras.layers.GRU(units, return_sequences=True), keras.layers.Dense(1)]
    )


def windows(x: np.ndarray, states: np.ndarray, way: str, warm_up: int = 0) -> rs.Windows:
    """Cut days. The observed values are the temperatures after the step before, scaled like the target."""
    weight = np.ones(x.shape[:2], "float32")
    weight[:, : warm_up * DAY] = 0.0  # no loss before the state has settled
    observed = states[..., : WAYS[way]] if WAYS[way] else None
    return rs.Windows(x, states[..., :1], sample_weight=weight, observed=observed, length=DAY, batch_size=len(x))


def rmse(model: rs.StatefulModel, data: rs.Windows, truth: np.ndarray, skip: int, scale: float) -> float:
    """Return the error on the steps from `skip` on, in K."""
    predicted = model.predict(data, verbose=0)
    errors = np.stack([predicted[house][skip:, 0] - truth[house, skip:, 0] for house in data.keys])
    return float(np.sqrt(np.mean(errors**2)) * scale)


def serve(net: keras.Model, trained: rs.StatefulModel, way: str, served: str) -> rs.StatefulModel | None:
    """Return a network to serve in one way, or `None` if it has learned no such start."""
    if served == "own start" and way in ("carried", "reset"):
        return None
    start = initial_state("reset" if served == "reset" else way, "start" if served == "carried" else "window")
    model = rs.StatefulModel(net, initial_state=start)
    if type(start) is type(trained.start):
        start.set_weights(trained.start.get_weights())
    return model


def run(arguments: argparse.Namespace, seed: int) -> np.ndarray:
    """Train in each way, and serve each network in each way that it can be served; return `(trained, served)` errors."""
    x, states = make_houses(arguments.houses, arguments.days, seed)
    cut = int(arguments.days * 0.75) * DAY
    mean, std = x[:, :cut].mean((0, 1)), x[:, :cut].std((0, 1))
    centre, scale = states[:, :cut].mean((0, 1)), states[:, :cut, 0].std()
    x, states = ((x - mean) / std).astype("float32"), ((states - centre) / scale).astype("float32")
    errors = np.full((len(WAYS), len(SERVED)), np.nan)
    for row, way in enumerate(WAYS):
        keras.utils.set_random_seed(seed)
        net = build(arguments.units)
        model = rs.StatefulModel(net, initial_state=initial_state(way, "start" if way == "carried" else "window"))
        model.compile(keras.optimizers.Adam(3e-3), "mse")
        model.fit(windows(x[:, :cut], states[:, :cut], way, warm_up=7), epochs=arguments.epochs, verbose=0)
        for column, served in enumerate(SERVED):
            server = serve(net, model, way, served)
            if server is not None:
                data = windows(x, states, way if server.start.needs_observed else "reset")
                errors[row, column] = rmse(server, data, states, cut, scale)
        pairs = zip(errors[row], SERVED, strict=True)
        shown = ", ".join(f"{error:.2f} K {served}" for error, served in pairs if not np.isnan(error))
        print(f"seed {seed}, trained {way:>8}, served: {shown}", flush=True)
    return errors


def table(errors: np.ndarray, arguments: argparse.Namespace) -> str:
    """Return the table of the docs: mean and range over seeds of `errors`, `(seeds, trained, served)`."""
    lines = [
        f"RMSE of the air temperature in K on the last quarter of {arguments.days} days, {arguments.houses} simulated "
        f"houses, real weather, GRU({arguments.units}), {arguments.epochs} epochs: mean of {len(errors)} "
        f"{'seed' if len(errors) == 1 else 'seeds'} (lowest to highest).",
        "",
        "| trained \\ served | carried | reset each day | its own start each day |",
        "|---|---|---|---|",
    ]
    for way, cells in zip(WAYS, errors.transpose(1, 2, 0), strict=True):
        lines.append(f"| {way} | {' | '.join(map(cell, cells))} |")
    return "\n".join(lines) + "\n"


def cell(errors: np.ndarray) -> str:
    """Return mean and range of the errors of all seeds, or a dash for a start that was not learned."""
    return "-" if np.isnan(errors).any() else f"{errors.mean():.2f} ({errors.min():.2f} to {errors.max():.2f})"


def main() -> None:
    """Read the arguments, run, print the table, and put it into the docs if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("houses", 24), ("days", 56), ("epochs", 40), ("units", 32), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run, from --seed on")
    parser.add_argument("--quick", action="store_true", help="3 houses, 12 days, 1 epoch: to see it run")
    parser.add_argument("--docs", type=Path, help="write the table between the marks of this page")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.houses, arguments.days, arguments.epochs, arguments.units = 3, 12, 1, 5
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    result = table(np.stack([run(arguments, seed) for seed in seeds]), arguments)
    print(f"\n{result}")
    if arguments.docs:
        page = arguments.docs.read_text()
        before, rest = page.split("<!-- thermal table -->\n", 1)
        after = rest.split("<!-- end of thermal table -->", 1)[1]
        arguments.docs.write_text(f"{before}<!-- thermal table -->\n{result}<!-- end of thermal table -->{after}")


if __name__ == "__main__":
    main()
