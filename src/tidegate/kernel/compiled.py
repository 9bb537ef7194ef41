"""How the loops of the window engine are compiled.

None of these functions makes an array, so that numba need not count references to those it is given: that would cost
two atomic operations for each array of each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

#: numba's own types do not tell of `_nrt`.
_njit: Any = numba.njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code, kept on disk beside its module, run without Python's lock."""
    return _njit(function, cache=True, nogil=True, _nrt=False)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code, copied to where it is called: a call would cost more than what it does."""
    return _njit(function, nogil=True, _nrt=False, forceinline=True)
