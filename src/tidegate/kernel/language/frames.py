"""The window after OVER: what rows are gathered by, and which of them are in the frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from sqlglot import exp

from tidegate.kernel.language.bind import SESSION, Binder, interval_us, near, whole_number
from tidegate.kernel.language.coercions import convert
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    INTEGER_DIGITS,
    TIMESTAMP,
    VARCHAR,
    Column,
    Expression,
)
from tidegate.kernel.language.joins import Scope
from tidegate.kernel.language.sql import Source, spell
from tidegate.kernel.plan import CURRENT_ROW, MAX_ROWS, Entity, Window

_Item = TypeVar("_Item")

#: What windows are ordered by: the event's own time.
_EVENT_TIME = Column("event_time", TIMESTAMP)

#: The frames, by their kind.
_FORMS = {
    "RANGE": "RANGE BETWEEN INTERVAL n unit PRECEDING AND (CURRENT ROW | INTERVAL n unit PRECEDING) "
    "[EXCLUDE CURRENT ROW]",
    "ROWS": "ROWS BETWEEN n PRECEDING AND (CURRENT ROW | n PRECEDING) [EXCLUDE CURRENT ROW]",
}

_KEEP = "`keep` in policy.yaml: for how long rows that no frame bounds in time are kept"


@dataclass(frozen=True, slots=True)
class Frame:
    """A window of the plan, by its number, as the text asks for it: with or without the row itself."""

    window: int
    excludes_row: bool


@dataclass(frozen=True, slots=True)
class _Over:
    """PARTITION BY and ORDER BY, and the frame if there is one."""

    entity: int
    gap_us: int | None
    frame: Frame | None


@dataclass
class Frames:
    """Gathers the windows of one text, each once. `keep_us` is how long rows are kept that no frame bounds in time."""

    source: Source
    scope: Scope
    keep_us: int | None
    derived: dict[str, Expression] = field(default_factory=dict[str, Expression])
    """Columns that rows are gathered by and that no stream has, by name."""
    entities: list[Entity] = field(default_factory=list[Entity])
    windows: list[Window] = field(default_factory=list[Window])
    reads_keep: bool = False
    """Whether a frame has no bound in time of its own."""
    _named: dict[str, _Over] = field(default_factory=dict[str, _Over])

    def name_window(self, node: exp.Expr) -> None:
        """Take up one window of the WINDOW clause.

        Raises:
            DetectorError: its name is there already, or it is no window of the dialect.
        """
        name = node.name.lower()
        if name in self._named:
            self.source.fail(node, f"a second window {name!r}", "another name")
        self._named[name] = self._window(node)

    def over(self, node: exp.Expr) -> Frame:
        """The frame after OVER: of a window of the WINDOW clause, or of one written out.

        Raises:
            DetectorError: there is none, or it is none of the dialect.
        """
        frame = self._over(node).frame
        if frame is None:
            self.source.fail(node, "a window without a frame", _FORMS["RANGE"])
        return frame

    def before(self, node: exp.Expr, offset: int) -> Frame:
        """The row so many rows before in the partition after OVER, whatever the frame is: as LAG looks at it."""
        return self._of_partition(node, (offset, offset), excludes_row=False)

    def all_before(self, node: exp.Expr) -> Frame:
        """All rows before in the partition after OVER, whatever the frame is."""
        return self._of_partition(node, None, excludes_row=True)

    def _of_partition(self, node: exp.Expr, rows: tuple[int, int] | None, *, excludes_row: bool) -> Frame:
        over = self._over(node)
        lower_us = self._keep(node, spell(node.this))
        return self._frame(Window(over.entity, lower_us, CURRENT_ROW, rows, over.gap_us), excludes_row=excludes_row)

    def _over(self, node: exp.Expr) -> _Over:
        name = node.args.get("alias")
        if name is None:
            return self._window(node)
        if node.args.get("spec") or node.args.get("order") or node.args.get("partition_by"):
            self.source.fail(node, "a window that changes another", "a window by its name, or written out in full")
        if name.name.lower() not in self._named:
            wanted = near(name.name, self._named) if self._named else "OVER (PARTITION BY ...)"
            self.source.fail(name, f"the unknown window {name.name!r}", wanted)
        return self._named[name.name.lower()]

    def _window(self, node: exp.Expr) -> _Over:
        """PARTITION BY keys ORDER BY event_time, and a frame or none."""
        parts: list[exp.Expr] = node.args.get("partition_by") or []
        sessions = [part for part in parts if isinstance(part, exp.Anonymous) and part.name.lower() == SESSION]
        if len(parts) == len(sessions):
            self.source.fail(
                node, "a window without PARTITION BY", "PARTITION BY the columns that rows are gathered by"
            )
        binder = Binder(self.source, self.scope.names, refused=self.scope.refused)
        columns = dict.fromkeys(self._key(part, binder.bind(part)) for part in parts if part not in sessions)
        gap_us = self._gap(binder, sessions) if sessions else None
        self._order(binder, node)
        entity = index_of(self.entities, Entity(tuple(columns)))
        return _Over(entity, gap_us, self._spec(node, entity, gap_us) if node.args.get("spec") else None)

    def _key(self, node: exp.Expr, key: Expression) -> str:
        """The name of a column that rows are gathered by; what is no column becomes one, named by its text."""
        if key.type in INTEGER_DIGITS:
            key = key if isinstance(key, Column) else convert(key, BIGINT)
        elif key.type not in (BOOLEAN, VARCHAR, TIMESTAMP):
            wanted = "an integer, BOOLEAN, VARCHAR or TIMESTAMP to partition by"
            self.source.fail(node, f"{spell(node)} of type {key.type}", wanted)
        if isinstance(key, Column):
            return key.name
        for name, other in self.derived.items():
            if other == key:
                return name
        name = " ".join(node.sql().split())
        self.derived[name] = key
        return name

    def _gap(self, binder: Binder, sessions: list[exp.Anonymous]) -> int:
        """The gap that ends a session."""
        wanted = "one session_window(event_time, INTERVAL n unit)"
        time, *gap = sessions[0].expressions or [sessions[0]]
        found = isinstance(time, exp.Column) and binder.bind(time) == _EVENT_TIME
        if len(sessions) != 1 or not found or len(gap) != 1 or not isinstance(gap[0], exp.Interval):
            self.source.fail(sessions[-1], spell(sessions[-1]), wanted)
        return interval_us(self.source, gap[0])

    def _order(self, binder: Binder, node: exp.Expr) -> None:
        order = node.args.get("order")
        keys: list[exp.Expr] = order.expressions if order else []
        by_time = [
            key
            for key in keys
            if isinstance(key.this, exp.Column) and not key.args.get("desc") and binder.bind(key.this) == _EVENT_TIME
        ]
        if len(keys) != 1 or not by_time:
            self.source.fail(
                order or node, spell(order) if order else "a window without ORDER BY", "ORDER BY event_time"
            )

    def _spec(self, node: exp.Expr, entity: int, gap_us: int | None) -> Frame:
        """The frame that is written out."""
        spec = node.args["spec"]
        words = {name: part.upper() for name, part in spec.args.items() if isinstance(part, str)}
        start, end = (spec.args.get(part) for part in ("start", "end"))
        found, kind = f"the frame {spell(spec)}", words.get("kind", "")
        exclude = spec.args.get("exclude")
        without = exclude.name.upper() if exclude else "NO OTHERS"
        ends_at_row = words.get("end", "CURRENT ROW") == "CURRENT ROW" and not isinstance(end, exp.Expr)
        sides = {words.get("start_side")} | ({words.get("end_side")} if not ends_at_row else set())
        if kind not in _FORMS or sides != {"PRECEDING"} or without not in ("CURRENT ROW", "NO OTHERS"):
            self.source.fail(node, found, _FORMS.get(kind, _FORMS["RANGE"]))
        lower = None if words.get("start") == "UNBOUNDED" else self._edge(node, kind, start)
        upper = 0 if ends_at_row else self._edge(node, kind, end)
        excludes_row = without == "CURRENT ROW" and upper == 0
        if lower is None and upper == 0:  # all rows up to the row are the same ones either way
            kind = "RANGE"
        if gap_us is not None and upper:
            self.source.fail(node, f"{found} in a session", "a frame up to CURRENT ROW in a session")
        if kind == "ROWS" and excludes_row:  # which leaves those from the row before it on
            upper, excludes_row = 1, False
        if lower is not None and upper > lower:
            self.source.fail(node, f"{found}, which is empty", "the wider edge first")
        lower_us = lower if kind == "RANGE" and lower is not None else self._keep(node, found)
        if kind == "RANGE":
            return self._frame(Window(entity, lower_us, upper, None, gap_us), excludes_row=excludes_row)
        rows = (MAX_ROWS if lower is None else lower, upper)
        return self._frame(Window(entity, lower_us, CURRENT_ROW, rows, gap_us), excludes_row=False)

    def _edge(self, node: exp.Expr, kind: str, edge: object) -> int:
        """How much before the row a frame begins or ends: rows, or microseconds."""
        if kind == "ROWS" and isinstance(edge, exp.Literal):
            return whole_number(self.source, edge, MAX_ROWS)
        if kind == "RANGE" and isinstance(edge, exp.Interval):
            return interval_us(self.source, edge)
        return self.source.fail(node, f"the frame {spell(node.args['spec'])}", _FORMS[kind])

    def _keep(self, node: exp.Expr, found: str) -> int:
        """How long rows are kept for what no frame bounds in time."""
        self.reads_keep = True
        if self.keep_us is None:
            self.source.fail(node, f"{found}, which no time bounds", _KEEP)
        return self.keep_us

    def _frame(self, window: Window, *, excludes_row: bool) -> Frame:
        return Frame(index_of(self.windows, window), excludes_row)


def index_of(items: list[_Item], item: _Item) -> int:
    """Where the item is in the list; it is put at the end if it is not there."""
    if item not in items:
        items.append(item)
    return items.index(item)
