"""Memory of the bank: how much the variables of a model grow by for a sequence."""

from parts import SIZES

import rnnstate as rs
from rnnstate.bench.contenders.keras_models import network
from rnnstate.cli.bench_command import standard

# The number of rows is a power of two, and one row is spare: from 2 rows to 1024.
FEW, MANY = 1, 1023


def measure():
    """Return the bytes per sequence, by units."""
    return {str(units): _bytes_per_sequence(units) for units in SIZES}


def _bytes_per_sequence(units):
    model = rs.StatefulModel(network(standard("train", units)))
    model.states.write(range(FEW), model.initial_state(FEW))
    before = _held(model)
    model.states.write(range(MANY), model.initial_state(MANY))
    return (_held(model) - before) / (MANY - FEW)


def _held(model):
    return sum(variable.value.nbytes for variable in model.variables)
