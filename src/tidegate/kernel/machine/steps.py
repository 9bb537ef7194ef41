"""In which order a program's values are made."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.kernel.language.expressions import Call, Expression
from tidegate.kernel.machine import texts


class Steps:
    """Puts the calls of a program's stages into steps. In a step pyarrow makes texts first, then the register machine
    runs once; a stage takes one step or more, and a value is made in the first step that can make it.
    """

    def __init__(self, stages: Sequence[Sequence[Expression]]) -> None:
        self.calls: list[Call] = []
        """Each once, after its arguments."""
        self.lasts: list[int] = []
        """The last step of each stage."""
        self._made: dict[Call, int] = {}
        for stage in stages:
            first = self.count
            self.lasts.append(max([first, *(self._place(output, first) for output in stage)]))
        uses = [(argument, self._made[call]) for call in self.calls for argument in call.arguments]
        uses += [(output, last) for stage, last in zip(stages, self.lasts, strict=True) for output in stage]
        self._needed_later = {node for node, step in uses if isinstance(node, Call) and self._made[node] != step}

    @property
    def count(self) -> int:
        return max(self.lasts, default=-1) + 1

    def of_texts(self, step: int) -> list[Call]:
        """What pyarrow makes in a step."""
        return [call for call in self.calls if self._made[call] == step and texts.is_of_texts(call)]

    def of_machine(self, step: int) -> list[Call]:
        """What the machine makes in a step."""
        return [call for call in self.calls if self._made[call] == step and not texts.is_of_texts(call)]

    def is_needed_later(self, call: Call) -> bool:
        """Whether another step than the one that makes it uses it."""
        return call in self._needed_later

    def _place(self, node: Expression, first: int) -> int:
        """The step that makes a value, -1 if it is there from the start."""
        if not isinstance(node, Call):
            return -1
        if node not in self._made:
            made = [self._place(argument, first) for argument in node.arguments]
            if texts.is_of_texts(node):  # what the machine makes is there for pyarrow a step later
                waits = zip(node.arguments, made, strict=True)
                made = [step + (not texts.is_of_texts(argument)) for argument, step in waits]
            self._made[node] = max([first, *made])
            self.calls.append(node)
        return self._made[node]
