"""The register machine: runs instructions over a block of rows after the other.

It is compiled once and runs the expressions of every detector: what an instruction costs beside the work itself is a
few nanoseconds, for one row as for a block of them. A value where there is none means nothing, and may be anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine import codes
from tidegate.kernel.machine.codes import NUMBER, OPCODE, TO, A, B, C
from tidegate.kernel.machine.compiled import compiled, entry
from tidegate.kernel.machine.decimals import run_decimals
from tidegate.kernel.machine.doubles import run_doubles
from tidegate.kernel.machine.integers import run_integers

#: Rows of a block: the registers of a large detector stay in the processor's own memory.
BLOCK_ROWS = 256


@compiled
def _move(  # noqa: C901, PLR0912 - a loop for each instruction
    step: Any, values: Any, known: Any, texts: Any, x: Any, v: Any, start: Any, n: Any
) -> None:
    """`x` (int64[r, BLOCK_ROWS]) and `v` (uint8[r, BLOCK_ROWS]) are the registers; `n` rows of the block are there."""
    op, to, a, b = step[OPCODE], step[TO], step[A], step[B]
    c, number = step[C], step[NUMBER]
    if op == codes.LOAD:
        for i in range(n):
            x[to, i] = values[number, start + i]
            v[to, i] = known[number, start + i]
    elif op == codes.STORE:
        for i in range(n):
            values[number, start + i] = x[a, i]
            known[number, start + i] = v[a, i]
    elif op == codes.IF:
        for i in range(n):
            holds = v[a, i] & x[a, i] != 0
            x[to, i] = x[b, i] if holds else x[c, i]
            v[to, i] = v[b, i] if holds else v[c, i]
    elif op == codes.COALESCE:
        for i in range(n):
            x[to, i] = x[a, i] if v[a, i] else x[b, i]
            v[to, i] = v[a, i] | v[b, i]
    elif op == codes.IS_NULL:
        for i in range(n):
            x[to, i] = v[a, i] ^ 1
            v[to, i] = 1
    elif op == codes.AND:
        for i in range(n):
            x[to, i] = x[a, i] & x[b, i]
            v[to, i] = (v[a, i] & v[b, i]) | (v[a, i] & (x[a, i] ^ 1)) | (v[b, i] & (x[b, i] ^ 1))
    elif op == codes.OR:
        for i in range(n):
            x[to, i] = (v[a, i] & x[a, i]) | (v[b, i] & x[b, i])
            v[to, i] = (v[a, i] & v[b, i]) | x[to, i]
    elif op == codes.EQUAL:
        for i in range(n):
            x[to, i] = np.int64(x[a, i] == x[b, i]) ^ number
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.LESS:
        for i in range(n):
            x[to, i] = np.int64(x[a, i] < x[b, i]) ^ number
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.EQUAL_TEXTS:
        for i in range(n):
            v[to, i] = v[a, i] & v[b, i]
            if v[to, i]:
                left, right = x[a, i], x[b, i]
                equal = texts[left, 0] == texts[right, 0] and texts[left, 1] == texts[right, 1]
                x[to, i] = np.int64(equal) ^ number
    elif op == codes.HASH_TEXT:
        for i in range(n):
            v[to, i] = v[a, i]
            if v[a, i]:
                x[to, i] = texts[x[a, i], 0]


@entry
def run(code: Any, values: Any, known: Any, texts: Any, x: Any, d: Any, w: Any, v: Any) -> None:
    """Run `code` (int64[m, WORDS]) over all rows of a batch.

    `values` (int64[k, n]) and `known` (uint8[k, n]) are loaded from and stored to; `texts` (int64[t, 2]) are the hashes
    of the batch's texts, which a text's register names by its number. The registers are int64[r, BLOCK_ROWS], the same
    memory as doubles and as unsigned words, and uint8[r, BLOCK_ROWS].
    """
    rows = values.shape[1]
    for start in range(0, rows, BLOCK_ROWS):
        n = min(BLOCK_ROWS, rows - start)
        for at in range(len(code)):
            step = code[at]
            op = step[OPCODE]
            if op < codes.MOVES_END:
                _move(step, values, known, texts, x, v, start, n)
            elif op < codes.INTEGERS_END:
                run_integers(step, x, w, v, n)
            elif op < codes.DOUBLES_END:
                run_doubles(step, x, d, v, n)
            else:
                run_decimals(step, x, d, w, v, n)
