"""Instructions as they are made, and the few registers that they are put into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidegate.kernel.machine import codes
from tidegate.kernel.machine.machine import BLOCK_ROWS

_UNUSED = -1


def _signed(word: int) -> int:
    return (word + 2**63) % 2**64 - 2**63


class Registers:
    """Gathers a program's instructions. Each writes a register of its own, and equal instructions are one; `settle`
    then puts them into as few as are in use at a time.
    """

    def __init__(self) -> None:
        self._count = 0
        self._code: list[list[int]] = []
        self._made: dict[tuple[int, ...], int] = {}
        self._constants: dict[tuple[tuple[int, ...], bool], int] = {}
        self._ends: list[int] = []
        self._home: dict[int, int] = {}
        """By the register of an upper half, that of the lower."""

    def _new(self, words: int) -> int:
        first = self._count
        self._count += words
        if words > 1:
            self._home[first + 1] = first
        return first

    def constant(self, words: tuple[int, ...], *, known: bool = True) -> int:
        """The register of a value of one or two words that stands in every row."""
        key = (tuple(map(_signed, words)), known)
        if key not in self._constants:
            self._constants[key] = self._new(len(words))
        return self._constants[key]

    def add(self, opcode: int, operands: Sequence[int], number: int = 0, other: int = 0, words: int = 1) -> int:
        """The register of an instruction's result, or the first of its two."""
        key = (opcode, *operands, number, other)
        if key not in self._made:
            self._made[key] = self._new(words)
            self._write(opcode, self._made[key], operands, number, other)
        return self._made[key]

    def add_halves(self, opcode: int, shared: Sequence[int], pairs: Sequence[int]) -> int:
        """The same instruction over the lower and over the upper words of decimals."""
        key = (opcode, *shared, *pairs)
        if key not in self._made:
            first = self._made[key] = self._new(2)
            for half in (0, 1):
                self._write(opcode, first + half, [*shared, *(register + half for register in pairs)], 0, 0)
        return self._made[key]

    def load(self, row: int, words: int = 1) -> int:
        """The register of one or two rows of the batch's values."""
        key = (codes.LOAD, row, words)
        if key not in self._made:
            first = self._made[key] = self._new(words)
            for half in range(words):
                self._write(codes.LOAD, first + half, (), row + half, 0)
        return self._made[key]

    def store(self, register: int, row: int, words: int = 1) -> None:
        """Keep a register in one or two rows of the batch's values."""
        for half in range(words):
            self._write(codes.STORE, _UNUSED, (register + half,), row + half, 0)

    def _write(self, opcode: int, to: int, operands: Sequence[int], number: int, other: int) -> None:
        self._code.append([opcode, to, *operands, *(_UNUSED,) * (3 - len(operands)), number, other])

    def end(self) -> None:
        """End what is run at once: only what was stored is there afterwards."""
        self._ends.append(len(self._code))
        self._made.clear()

    def settle(self) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """The code of each part, and the registers with the constants in them: int64[r, BLOCK_ROWS] and
        uint8[r, BLOCK_ROWS].
        """
        words = [(word, known) for (content, known) in self._constants for word in content]
        settled: dict[int, int] = {}
        for register, (content, _) in zip(self._constants.values(), self._constants, strict=True):
            settled |= {register + half: len(settled) + half for half in range(len(content))}
        count = len(words)
        last: dict[int, int] = {}
        for at, step in enumerate(self._code):
            last |= {self._whole(register): at for register in step[codes.TO : codes.NUMBER] if register != _UNUSED}
        free: dict[int, list[int]] = {1: [], 2: []}
        code = np.zeros((len(self._code), codes.WORDS), np.int64)
        for at, step in enumerate(self._code):
            for register in step[codes.TO : codes.NUMBER]:
                whole = self._whole(register)
                if register == _UNUSED or whole in settled:
                    continue
                size = self._size(whole)
                if free[size]:
                    place = free[size].pop()
                else:
                    place, count = count, count + size
                settled |= {whole + half: place + half for half in range(size)}
            code[at] = [
                step[0],
                *(settled.get(register, 0) for register in step[1 : codes.NUMBER]),
                *step[codes.NUMBER :],
            ]
            for whole in {self._whole(register) for register in step[codes.TO : codes.NUMBER]}:
                if last.get(whole) == at and settled[whole] >= len(words):
                    free[self._size(whole)].append(settled[whole])
        values, known = np.zeros((count, BLOCK_ROWS), np.int64), np.zeros((count, BLOCK_ROWS), np.uint8)
        for place, (word, is_known) in enumerate(words):
            values[place], known[place] = word, is_known
        starts = [0, *self._ends]
        return [code[start:end] for start, end in zip(starts, self._ends, strict=False)], values, known

    def _whole(self, register: int) -> int:
        return self._home.get(register, register)

    def _size(self, register: int) -> int:
        return 2 if register + 1 in self._home else 1
