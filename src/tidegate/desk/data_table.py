"""A table that can be sorted and filtered in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from nicegui import ui


class Column(msgspec.Struct, frozen=True):
    """`kind` says how cells look: numbers and values stand right, values may be long, a tag is coloured by its word.
    `wide` columns are left out on a narrow screen.
    """

    name: str
    label: str
    kind: Literal["text", "number", "value", "tag", "code"] = "text"
    wide: bool = False


class Row(msgspec.Struct, frozen=True):
    """`sort` holds the values to sort by where the text of a cell does not sort by itself."""

    key: str
    cells: dict[str, str]
    sort: dict[str, float] = {}
    href: str | None = None
    marked: bool = False


class DataTable(ui.element, component="static/data_table.js"):
    def __init__(self, columns: Sequence[Column], *, empty: str, filter_label: str | None = None) -> None:
        super().__init__()
        self.props["columns"] = msgspec.to_builtins(columns)
        self.props["rows"] = []
        self.props["filterable"] = filter_label is not None
        self.props["filterLabel"] = filter_label or ""
        self.props["empty"] = empty

    def show(self, rows: Sequence[Row]) -> None:
        shown: list[dict[str, Any]] = msgspec.to_builtins(rows)
        self.props["rows"] = shown
        self.update()
