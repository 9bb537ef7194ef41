"""Tiles, as feature stores keep them (Chronon, Feast, Tecton), written with pandas: of each key an aggregate for every
five minutes (windows up to twelve hours) or every hour (longer ones). A window is the tiles that it touches and the
rows of the running tile: its old end lies on the edge of a tile.

All rows at once, as such stores fill a training set.
"""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd

from benchmarks.peers.plain import outcome_of
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import (
    ENTITIES,
    LARGE_MINOR,
    MINUTE_US,
    MODEL_FEATURES,
    OUTPUTS,
    RULES,
    SEQUENCE_US,
    TINY_MINOR,
    WINDOWS_US,
)

#: Width of a tile, and the windows that are made of them.
_TILES = (
    (5 * MINUTE_US, {name: us for name, us in WINDOWS_US.items() if us < 720 * MINUTE_US}),
    (60 * MINUTE_US, {name: us for name, us in WINDOWS_US.items() if us >= 720 * MINUTE_US}),
)

#: Rows that are joined with their tiles at once.
_ROWS = 4_096


def run(job: Job) -> None:
    events = job.events.to_pandas().sort_values("event_time", kind="stable", ignore_index=True)
    job.begin()
    answers = pd.concat(
        [
            _entity(events, entity, key, other, width=width, windows=windows)
            for entity, (key, other) in ENTITIES.items()
            for width, windows in _TILES
        ],
        axis=1,
    )
    answers["number"], answers["amount_minor"] = events["number"], events["amount_minor"]
    if job.full:
        answers["card_tested"] = _tested(events)
        booster = lightgbm.Booster(model_file=job.model)
        answers["model_score"] = booster.predict(answers[list(MODEL_FEATURES)].to_numpy(np.float64), num_threads=1)
        points = sum(answers.eval(rule.python).astype(np.int64) * rule.points for rule in RULES)
        answers["score"], answers["outcome"] = np.vectorize(outcome_of)(points)
    job.put_table({name: answers[name] for name in ("number", *OUTPUTS[job.workload])})


def _entity(events, entity, key, other, *, width, windows) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "row": events.index,
            "time": events["event_time"],
            "amount": events["amount_minor"],
            "key": pd.factorize(events[key])[0],
            "other": pd.factorize(events[other])[0],
            "tile": events["event_time"] // width,
        }
    )
    running = rows.groupby(["key", "tile"])["amount"]
    so_far = {"count": running.cumcount() + 1, "sum": running.cumsum(), "max": running.cummax()}
    tiles = running.agg(["count", "sum", "max"]).reset_index()
    # The first row of a value in a tile: the running tile's are those that have come by then.
    values = rows.drop_duplicates(["key", "tile", "other"])[["key", "tile", "other", "time"]]
    parts = [
        _windows(rows.iloc[first : first + _ROWS], tiles, values, width, windows)
        for first in range(0, len(rows), _ROWS)
    ]
    whole = {name: pd.concat([part[name] for part in parts]) for name in parts[0]}
    columns = {}
    for window in windows:
        count, total = whole[window, "count"] + so_far["count"], whole[window, "sum"] + so_far["sum"]
        columns[f"{entity}_count_{window}"], columns[f"{entity}_sum_{window}"] = count, total
        columns[f"{entity}_avg_{window}"] = total / count
        columns[f"{entity}_max_{window}"] = np.maximum(whole[window, "max"], so_far["max"])
        columns[f"{entity}_distinct_{window}"] = whole[window, "distinct"]
    return pd.DataFrame(columns)


def _windows(rows, tiles, values, width, windows) -> dict[tuple[str, str], pd.Series]:
    """The finished tiles of each row's windows, gathered; of values, those of the running tile too."""
    oldest = (rows["time"].min() - max(windows.values())) // width
    near = [part[(part["tile"] >= oldest) & (part["tile"] <= rows["tile"].max())] for part in (tiles, values)]
    finished, seen = (rows[["row", "key", "time", "tile"]].merge(part, on="key", suffixes=("", "_of")) for part in near)
    finished = finished[finished["tile_of"] < finished["tile"]]
    seen = seen[seen["time_of"] <= seen["time"]]
    gathered = {}
    for window, length_us in windows.items():
        within, values_within = (
            part[part["tile_of"] >= (part["time"] - length_us) // width] for part in (finished, seen)
        )
        sums = within.groupby("row")[["count", "sum"]].sum()
        gathered[window, "max"] = within.groupby("row")["max"].max()
        gathered[window, "count"], gathered[window, "sum"] = sums["count"], sums["sum"]
        gathered[window, "distinct"] = values_within.groupby("row")["other"].nunique()
    return {name: series.reindex(rows["row"], fill_value=0) for name, series in gathered.items()}


def _tested(events: pd.DataFrame) -> pd.Series:
    """The last tiny or large payment of the card before a large one is a tiny one, and within the span."""
    telling = events[(events["amount_minor"] < TINY_MINOR) | (events["amount_minor"] > LARGE_MINOR)]
    before = telling.groupby("pan")[["amount_minor", "event_time"]].shift()
    done = (
        (telling["amount_minor"] > LARGE_MINOR)
        & (before["amount_minor"] < TINY_MINOR)
        & (telling["event_time"] - before["event_time"] < SEQUENCE_US)
    )
    return done.reindex(events.index, fill_value=False)


if __name__ == "__main__":
    serve(run)
