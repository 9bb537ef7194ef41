"""How the loops of the window engine are compiled: to machine code that runs without Python's lock.

None of these functions makes an array, so that numba need not count references to those it is given: that would cost
two atomic operations for each array of each call. Loops that call many of them pass addresses on, not arrays. Division
is IEEE 754's and raises nothing: who divides integers looks at the divisor first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

#: numba's own types do not tell of `_nrt`.
_njit: Any = numba.njit


#: The folders whose modules are compiled, or hold numbers that compiled code was made with.
_COMPILED = ("machine", "windows", "joins", "sequences")


def _digest_of_sources() -> str:
    """12 hex digits over the texts of all modules that machine code is made of."""
    digest = hashlib.sha256()
    for folder in _COMPILED:
        sources = [file for file in (files("tidegate.kernel") / folder).iterdir() if file.name.endswith(".py")]
        for file in sorted(sources, key=lambda file: file.name):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


_DIGEST = _digest_of_sources()


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Python calls. Its machine code, with that of all it calls, is kept on disk beside its module.

    numba makes it again when that module's file changes, but not when the file of a function that it calls does. So it
    is kept under a name that changes with any of them: after an upgrade no old code decides.
    """
    function.__qualname__ += f"_{_DIGEST}"
    return _njit(function, cache=True, nogil=True, _nrt=False, error_model="numpy")


# Made in half the time without what Python could call them by. It must not: the process would crash.
_INSIDE = {
    "nogil": True, "_nrt": False, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True
}  # fmt: skip


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that others of these call, and Python never does."""
    return _njit(function, **_INSIDE)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is copied to where it is called: a call would cost more than what it does."""
    return _njit(function, forceinline=True, **_INSIDE)


def _reader(bits: int, result: Any) -> Callable[..., Any]:
    """A function of an address that reads the integer there, wherever it begins."""

    @intrinsic
    def read(_: Any, address: Any) -> Any:  # noqa: ARG001 - numba looks at the name
        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            word = ir.IntType(bits)
            read = builder.load(builder.inttoptr(arguments[0], word.as_pointer()), align=1)
            return context.cast(builder, read, _INTEGERS[bits], result)

        return result(types.int64), generate

    return read


_INTEGERS = {8: types.uint8, 32: types.int32, 64: types.uint64}

#: Read memory, as Arrow's columns lie in it, by address: nobody checks that something is there. Little-endian.
read_byte: Callable[..., Any] = _reader(8, types.int64)
read_int32: Callable[..., Any] = _reader(32, types.int64)
read_word: Callable[..., Any] = _reader(64, types.uint64)
