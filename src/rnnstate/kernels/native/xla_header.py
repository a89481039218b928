"""The layout of the structs of XLA's C interface, read from the header `xla/ffi/api/c_api.h` that is installed with JAX.

Native code is compiled with the structs of `csrc/xla.h`. This module tells whether the installed header agrees with them.
"""

import re
from functools import cache
from pathlib import Path

import jax

_WORD = 8  # bytes of every pointer
# Sizes in bytes of the types that the structs are made of. Enums, aliases and nested structs are looked up.
_SIZES = {"size_t": 8, "int64_t": 8, "int": 4, "int32_t": 4, "uint32_t": 4}
_FIELD = re.compile(r"(?:(?:const|struct)\s+)*(\w+)\s*(\**)\s*(\w+)")


class UnexpectedInterfaceError(RuntimeError):
    """XLA's C interface is another one than the native loops were written for."""


@cache
def header() -> str:
    """Return the text of the header that is installed with JAX."""
    return (Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h").read_text()


def version() -> tuple[int, int]:
    """Return the major and the minor version of the interface."""
    found = [re.search(rf"#define XLA_FFI_API_{part}\s+(\d+)", header()) for part in ("MAJOR", "MINOR")]
    if not all(found):
        raise UnexpectedInterfaceError(_message("a version", "none"))
    major, minor = (int(one[1]) for one in found if one)
    return major, minor


def layout(struct: str) -> dict[str, int]:
    """Return the offset in bytes of every field of a struct. Fields of nested structs follow as `outer.inner`."""
    return _laid_out(struct)[0]


def place_of(function: str) -> int:
    """Return the place, in bytes, of a function in the table of functions that XLA passes to the code it calls."""
    places = layout("XLA_FFI_Api")
    if function not in places:
        raise UnexpectedInterfaceError(_message(f"the function `{function}`", "a table without it"))
    return places[function]


def check_layout(expected: dict[str, int]) -> None:
    """Compare the header with the offsets that native code is compiled with.

    Args:
        expected: Offsets in bytes, by struct and field, such as `XLA_FFI_Buffer.data`.

    Raises:
        UnexpectedInterfaceError: If the version, a field or an offset differs.
    """
    if version() < (0, 1) or version() >= (1, 0):
        raise UnexpectedInterfaceError(_message("version 0.1 or a later 0.x", "version {}.{}".format(*version())))
    for name, byte in expected.items():
        struct, field = name.split(".", 1)
        found = layout(struct)
        if found.get(field) != byte:
            at = f"byte {found[field]}" if field in found else "no such field"
            raise UnexpectedInterfaceError(_message(f"`{name}` at byte {byte}", at))


def _message(expected: str, received: str) -> str:
    return f"XLA's C interface must have {expected}. Received: {received}, in `c_api.h` of JAX {jax.__version__}."


def _laid_out(struct: str) -> tuple[dict[str, int], int, int]:
    """Return the offsets, the size and the alignment of a struct, by the rules of C: a field begins at its alignment."""
    body = re.search(rf"struct {struct}\s*\{{(.*?)\}}", _code(), re.DOTALL)
    if body is None:
        raise UnexpectedInterfaceError(_message(f"the struct `{struct}`", "none of this name"))
    offsets, end, widest = {}, 0, 1
    for declaration in filter(None, map(str.strip, body[1].split(";"))):
        field = _FIELD.fullmatch(declaration)
        if field is None:
            raise UnexpectedInterfaceError(
                _message(f"fields in `{struct}` of the form `type name`", f"`{declaration}`")
            )
        inner, size, alignment = ({}, _WORD, _WORD) if field[2] else _measured(field[1])
        start = _rounded_up(end, alignment)
        offsets[field[3]] = start
        offsets |= {f"{field[3]}.{name}": start + offset for name, offset in inner.items()}
        end, widest = start + size, max(widest, alignment)
    return offsets, _rounded_up(end, widest), widest


def _measured(kind: str) -> tuple[dict[str, int], int, int]:
    """Return the inner offsets, the size and the alignment of a type that is no pointer."""
    alias = re.search(rf"typedef (\w+) {kind};", _code())
    kind = alias[1] if alias else kind
    if kind in _SIZES:
        return {}, _SIZES[kind], _SIZES[kind]
    if re.search(rf"typedef enum[^}}]*\}}\s*{kind};", _code()):
        return {}, 4, 4
    return _laid_out(kind)


def _rounded_up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _code() -> str:
    return _plain(header())


@cache
def _plain(header: str) -> str:
    """Return the header without comments, and with the functions of the table written as the pointers that they are."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
    return re.sub(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", r"void* \1;", code)
