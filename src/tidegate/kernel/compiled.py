"""How the loops of the window engine are compiled: to machine code that runs without Python's lock.

None of these functions makes an array, so that numba need not count references to those it is given: that would cost
two atomic operations for each array of each call. Division is IEEE 754's and raises nothing: who divides integers looks
at the divisor first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numba

#: numba's own types do not tell of `_nrt`.
_njit: Any = numba.njit


def _digest_of_sources() -> str:
    """12 hex digits over the texts of all modules whose functions are compiled."""
    digest = hashlib.sha256()
    for file in sorted(files("tidegate.kernel").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py") and b"tidegate.kernel.compiled" in (text := file.read_bytes()):
            digest.update(text)
    return digest.hexdigest()[:12]


_DIGEST = _digest_of_sources()


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Python calls. Its machine code, with that of all it calls, is kept on disk beside its module.

    numba makes it again when that module's file changes, but not when the file of a function that it calls does. So it
    is kept under a name that changes with any of them: after an upgrade no old code decides.
    """
    function.__qualname__ += f"_{_DIGEST}"
    return _njit(function, cache=True, nogil=True, _nrt=False, error_model="numpy")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that others of these call."""
    return _njit(function, nogil=True, _nrt=False, error_model="numpy")


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is copied to where it is called: a call would cost more than what it does."""
    return _njit(function, nogil=True, _nrt=False, error_model="numpy", forceinline=True)
