"""The charts. Their colours are of middle lightness, so that they can be read on dark and on light alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.desk.meter import SAMPLE_EVERY_MS, SAMPLES_KEPT, Sample
from tidegate.desk.text import major
from tidegate.ports.hotstore import RecentTransaction

ACCENT, SECOND, FAINT = "#2b98bd", "#d98a2b", "#8593a1"
_FRAUD = "#dd5145"

#: What the lines of the charts stand for, with their colours: records a second, milliseconds.
THROUGHPUT_KEY = {"transactions": FAINT, "decisions": ACCENT, "alerts": SECOND}
LATENCY_KEY = {"p50": ACCENT, "p99": SECOND}
_GRID_LINE = "rgba(128, 145, 160, 0.18)"
_AXIS_TEXT = {"color": FAINT, "fontSize": 10}
_TOOLTIP = {"trigger": "axis", "confine": True, "renderMode": "richText", "textStyle": {"fontSize": 11}}

#: Topics whose rates are drawn.
TRANSACTIONS, DECISIONS, ALERTS = "transactions", "decisions", "alerts"


def throughput(samples: Sequence[Sample]) -> dict[str, Any]:
    """Transactions and decisions a second on the left axis, alerts a second, of which there are few, on the right."""
    chart = _over_time(THROUGHPUT_KEY, throughput_points(samples))
    transactions, _, alerts = chart["series"]
    # The engine keeps up when its line covers the door's: the wider one shows beneath.
    transactions["lineStyle"]["width"] = 3.5
    alerts["yAxisIndex"] = 1
    chart["yAxis"].append(_value_axis() | {"splitLine": {"show": False}})
    return chart


def throughput_points(samples: Sequence[Sample]) -> list[list[float | None]]:
    return [
        [sample.time_ms, *(round(sample.per_second.get(topic, 0), 1) for topic in (TRANSACTIONS, DECISIONS, ALERTS))]
        for sample in samples
    ]


def latency(samples: Sequence[Sample]) -> dict[str, Any]:
    """Milliseconds from the door to the page."""
    return _over_time(LATENCY_KEY, latency_points(samples))


def latency_points(samples: Sequence[Sample]) -> list[list[float | None]]:
    return [[sample.time_ms, sample.p50_ms, sample.p99_ms] for sample in samples]


def new_points(points: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """What a chart is told when points came."""
    return {"dataset": _dataset(points), "xAxis": _span(points)}


def amounts(recent: Sequence[RecentTransaction], event_id: str) -> dict[str, Any]:
    """Amounts in major units by event time: the transaction in question ringed, those known to be fraud in red."""

    def points(*, fraud: bool) -> list[list[float]]:
        return [_amount(seen) for seen in recent if (seen.is_fraud is True) == fraud and seen.event_id != event_id]

    present = [_amount(seen) for seen in recent if seen.event_id == event_id]
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 8, "right": 14, "top": 26, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "right": 4, "itemWidth": 8, "itemHeight": 8, "textStyle": _AXIS_TEXT},
        "xAxis": _time_axis() | {"minInterval": 60_000},
        "yAxis": _value_axis(),
        "series": [
            _dots("others", FAINT, points(fraud=False), size=7),
            _dots("known fraud", _FRAUD, points(fraud=True), size=8),
            _dots("this one", ACCENT, present, size=13),
        ],
    }


def _amount(seen: RecentTransaction) -> list[float]:
    return [seen.event_time / 1000, major(seen.amount_minor, seen.currency)]


def _dots(name: str, colour: str, points: list[list[float]], *, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "scatter",
        "symbolSize": size,
        "itemStyle": {"color": colour, "opacity": 0.85},
        "data": points,
    }


def _over_time(lines: Mapping[str, str], points: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Lines by name and colour; each point holds its time in milliseconds, then a value for each line."""
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 4, "right": 10, "top": 10, "bottom": 6, "containLabel": True},
        "tooltip": _TOOLTIP,
        "xAxis": _time_axis() | _span(points),
        "yAxis": [_value_axis()],
        "dataset": _dataset(points),
        "series": [
            {
                "name": name,
                "type": "line",
                "showSymbol": False,
                "lineStyle": {"width": 1.5, "color": colour},
                "itemStyle": {"color": colour},
                "encode": {"x": 0, "y": column},
            }
            for column, (name, colour) in enumerate(lines.items(), start=1)
        ],
    }


def _time_axis() -> dict[str, Any]:
    return {
        "type": "time",
        "axisLabel": _AXIS_TEXT | {"hideOverlap": True},
        "axisLine": {"lineStyle": {"color": _GRID_LINE}},
        "axisTick": {"show": False},
        "splitLine": {"show": False},
    }


def _value_axis() -> dict[str, Any]:
    return {
        "type": "value",
        "min": 0,
        "splitNumber": 2,
        "axisLabel": _AXIS_TEXT,
        "splitLine": {"lineStyle": {"color": _GRID_LINE}},
    }


def _dataset(points: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    return {"source": list(points), "sourceHeader": False}


def _span(points: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """The whole of the time kept, from the first point on, so that the lines grow from the right."""
    last = points[-1][0] if points else None
    return {"max": last, "min": last - SAMPLE_EVERY_MS * SAMPLES_KEPT} if last else {}
