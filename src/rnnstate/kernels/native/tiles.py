"""A matrix product in tiles that stay in vector registers. LLVM does not find this form in plain loops.

The result is cut into strips of `WIDTH` columns, and a strip into tiles of at most `_ROWS` rows:

                     strip (inner, WIDTH)
                     ┌──────┐
                   k │▓▓▓▓▓▓│ loaded once for all rows of the tile
                     └──────┘
         k           ┌──────┐
    row ┌░────────┐  │ tile │ a row holds `_VECTORS` registers of `_LANES` floats
    row │░  a     │  │      │ sums of all steps k stay in registers
        └─────────┘  └──────┘

Each step `k` of the inner product loads one line of the strip, and multiplies it by one number of each row. The processor
thus multiplies more often than it loads. From 64 units on, one core reaches 80 to 95 % of its peak rate.

References:
- Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
"""

from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic

from rnnstate.kernels.native.math import native

# The features of the processor that Numba compiles for: this processor, unless Numba's settings name another one.
_FEATURES = binding.get_host_cpu_features().flatten() if config.CPU_FEATURES is None else config.CPU_FEATURES
# Rows and vectors of a tile, and floats of a vector: as many as fit into the 32 registers of AVX-512, or else into 16.
_ROWS, _VECTORS, _LANES = (8, 2, 16) if "+avx512f" in _FEATURES else (4, 2, 8)
WIDTH = _VECTORS * _LANES
_BYTES = 4
# The sum of a longer inner product is made in parts of this length, because rounding grows with the length of a sum.
_SUMMED = 128
_WORD, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_FUSED = ("contract",)


@intrinsic
def _add_tile(_: Any, rows: Any, inner: Any, z: Any, z_step: Any, a: Any, a_step: Any, strip: Any) -> tuple[Any, Any]:
    """Add one tile of at most `_ROWS` rows. The arguments are those of `add_strip`."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        done = builder.append_basic_block()
        cases = builder.switch(arguments[0], done)
        for count in range(1, _ROWS + 1):
            case = builder.append_basic_block()
            cases.add_case(_word(count), case)
            builder.position_at_end(case)
            _generate_tile(builder, count, *arguments[1:])
            builder.branch(done)
        builder.position_at_end(done)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(*[types.intp] * 7), generate


def _generate_tile(builder: Any, count: int, inner: Any, z: Any, z_step: Any, a: Any, a_step: Any, strip: Any) -> None:
    """Generate the code for one number of rows: a loop over the inner product, then the addition to the tile."""
    rows = [builder.add(z, builder.mul(z_step, _word(row))) for row in range(count)]
    places = [_at(builder, row, _BYTES * _LANES * part, _VECTOR) for row in rows for part in range(_VECTORS)]
    entry, loop, end = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    k, sums = builder.phi(_WORD), [builder.phi(_VECTOR) for _ in places]
    line, at_k = builder.add(strip, builder.mul(k, _word(_BYTES * WIDTH))), builder.mul(k, _word(_BYTES))
    vectors = [
        builder.load(_at(builder, line, _BYTES * _LANES * part, _VECTOR), align=_BYTES) for part in range(_VECTORS)
    ]
    # One number of each row, copied to all lanes of a register.
    starts = [builder.add(a, builder.mul(a_step, _word(row))) for row in range(count)]
    factors = [_everywhere(builder, builder.add(start, at_k)) for start in starts]
    products = [builder.fmul(factor, vector, flags=_FUSED) for factor in factors for vector in vectors]
    after = [builder.fadd(one, other, flags=_FUSED) for one, other in zip(sums, products, strict=True)]
    # k and the sums are the variables of the loop: zero at the entry, and the new values after each pass.
    following = builder.add(k, _word(1))
    for phi, later in zip([k, *sums], [following, *after], strict=True):
        phi.add_incoming(ir.Constant(phi.type, None), entry)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", following, inner), loop, end)
    builder.position_at_end(end)
    for place, value in zip(places, after, strict=True):
        builder.store(builder.fadd(builder.load(place, align=_BYTES), value), place, align=_BYTES)


def _word(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _at(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, _word(offset)), kind.as_pointer())


def _everywhere(builder: Any, address: Any) -> Any:
    """Return a vector of copies of the float at an address."""
    none = ir.Constant(_VECTOR, ir.Undefined)
    index = ir.IntType(32)
    first = builder.insert_element(none, builder.load(_at(builder, address, 0, _FLOAT), align=_BYTES), index(0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(index, _LANES), [0] * _LANES))


@native
def add_strip(rows: int, inner: int, z: int, z_step: int, a: int, a_step: int, strip: int) -> None:
    """Add one strip of a product to the result, in tiles of nearly equal height.

    A tile of few rows is slow, because each of its sums waits for the sum of the step before.

    Args:
        rows: Rows of the result.
        inner: Length of the inner product, at least 1.
        z: Address of the strip of the result.
        z_step: Bytes from one row of the result to the next.
        a: Address of the first row of the first factor.
        a_step: Bytes from one row of the first factor to the next.
        strip: Strip of the second factor, `(inner, WIDTH)`.
    """
    tiles = (rows + _ROWS - 1) // _ROWS
    for tile in range(tiles):
        lo, hi = tile * rows // tiles, (tile + 1) * rows // tiles
        for k in range(0, inner, _SUMMED):
            a_at, strip_at = a + lo * a_step + k * _BYTES, strip + k * WIDTH * _BYTES
            _add_tile(hi - lo, min(inner - k, _SUMMED), z + lo * z_step, z_step, a_at, a_step, strip_at)
