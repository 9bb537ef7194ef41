"""How the loops of the window engine are compiled: to machine code that runs without Python's lock.

None of these functions makes an array, so that numba need not count references to those it is given: that would cost
two atomic operations for each array of each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

#: numba's own types do not tell of `_nrt`.
_njit: Any = numba.njit


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Python calls. Its machine code, with that of all it calls, is kept on disk beside its module; it
    is made again when that module's file changes, not when the file of a function that it calls does.
    """
    return _njit(function, cache=True, nogil=True, _nrt=False)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that others of these call."""
    return _njit(function, nogil=True, _nrt=False)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is copied to where it is called: a call would cost more than what it does."""
    return _njit(function, nogil=True, _nrt=False, forceinline=True)
