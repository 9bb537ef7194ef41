"""Training: from what a replay decided, and what became known of it, to a model and its card."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import lightgbm
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from tidegate.errors import UsageError
from tidegate.files.mapping import IS_FRAUD, Mapping
from tidegate.hosts.ordered import Span, ordered_rows
from tidegate.kernel.detector import Detector
from tidegate.kernel.model import NUMBERS
from tidegate.science.evaluate import Events, Metrics, measure, tested

#: What LightGBM is told. One thread and a seed: the same rows give the same file. Small trees with many rows in a leaf
#: and a low rate keep it from learning a week by heart. Chosen by the best of six settings when training two weeks
#: earlier and testing on the week that the shipped model learns from; the test week of the protocol had been looked at
#: before that, where the same setting was the best, so its figures are not those of a blind test.
PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
ROUNDS = 200

_DAY_US = 86_400_000_000
_BATCH_ROWS = 65_536


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a training."""

    file: str
    sha256: str
    trained_on: int
    trained_frauds: int
    tested_on: int
    tested_frauds: int
    metrics: Metrics


@dataclass(frozen=True)
class _Rows:
    values: npt.NDArray[np.float64]
    """float64[n, f]"""
    events: Events


def train(
    decided: Path,
    source: Path,
    mapping: Mapping,
    detector: Detector,
    folder: Path,
    *,
    since: datetime,
    until: datetime,
    name: str,
    version: str,
) -> Trained:
    """Train a model on the features that a replay of `detector` over `source` wrote to `decided`, and write it to the
    folder: model.txt and card.yaml.

    It learns from the days from `since` up to `until` (without it). It is tested on as many days, which begin when the
    labels of the last day are known; without an offset, times are UTC.

    Raises:
        NotFoundError: there is no such source.
        UsageError: `decided` is not of this detector, the source has no labels, or the days hold no fraud.
        MappingError: the mapping does not fit the source.
    """
    if mapping.is_fraud is None:
        raise UsageError(f"train: mapping {mapping.name} names no label; add `label` to it")
    delay = timedelta(microseconds=mapping.known_after_us)
    since, until = (time if time.tzinfo else time.replace(tzinfo=UTC) for time in (since, until))
    test_since = until + delay
    features = {feature: kind for feature, kind in detector.features.items() if kind in NUMBERS}
    if (pq.read_schema(decided).metadata or {}).get(b"tidegate.detector") != detector.name.encode():
        raise UsageError(f"train: {decided.name} was not written by a replay of detector {detector.name}")
    days = Span(_day(since) * _DAY_US, _day(test_since + (until - since)) * _DAY_US)
    rows = _read(decided, list(features), _known(source, mapping, days), days)
    learned = rows.events.days < _day(until)
    chosen = tested(rows.events, trained=learned, first_day=_day(test_since), delay_days=delay.days)
    for what, some in (("to learn from", learned), ("to be tested on", chosen)):
        if not rows.events.frauds[some].any():
            raise UsageError(f"train: wanted frauds among the payments {what}, got none of {some.sum():,}")
    data = lightgbm.Dataset(
        rows.values[learned], rows.events.frauds[learned].astype(np.int8), feature_name=list(features)
    )
    booster: Any = lightgbm.train(cast("dict[str, Any]", dict(PARAMETERS)), data, ROUNDS)
    metrics = measure(booster.predict(rows.values[chosen], num_threads=1), rows.events.take(chosen))
    content: bytes = booster.model_to_string().encode()
    trained = Trained(
        file=str(folder / "model.txt"),
        sha256=hashlib.sha256(content).hexdigest(),
        trained_on=int(learned.sum()),
        trained_frauds=int(rows.events.frauds[learned].sum()),
        tested_on=int(chosen.sum()),
        tested_frauds=int(rows.events.frauds[chosen].sum()),
        metrics=metrics,
    )
    folder.mkdir(exist_ok=True)
    (folder / "model.txt").write_bytes(content)
    period = f"--since {since:%Y-%m-%d} --until {until:%Y-%m-%d} --name {name} --version {version}"
    card: dict[str, Any] = {
        "name": name,
        "version": version,
        "sha256": trained.sha256,
        "features": features,
        "score": "The probability, by the frauds that the model learned from, that the payment is fraud.",
        "data": f"{source.name}: {since:%Y-%m-%d} to {until - timedelta(days=1):%Y-%m-%d}, {trained.trained_on:,} "
        f"payments, {trained.trained_frauds:,} of them frauds.",
        "metrics": {
            "tested_on": f"{test_since:%Y-%m-%d} to {test_since + (until - since) - timedelta(days=1):%Y-%m-%d}, "
            f"{trained.tested_on:,} payments, {trained.tested_frauds:,} of them frauds; customers known to be "
            "compromised left out.",
            **{metric: round(value, 4) for metric, value in msgspec.to_builtins(metrics).items()},
        },
        "made_by": f"tidegate train {decided.name} --source {source.name} --mapping {mapping.name} "
        f"--detector {detector.name} {period}",
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=120, allow_unicode=True), "utf-8")
    return trained


def _day(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000 // _DAY_US


def _read(decided: Path, features: list[str], known: pa.Table, span: Span) -> _Rows:
    """The decided events of a span, in the order of time and of their ids."""
    first, last = (pa.scalar(bound, pa.timestamp("us")) for bound in span)
    time = pc.field("event_time")
    values = pq.read_table(
        decided, columns=["event_id", "event_time", *features], filters=(time >= first) & (time < last)
    )
    order: Any = [("event_time", "ascending"), ("event_id", "ascending")]
    table = values.join(known, "event_id", join_type="inner").sort_by(order)
    matrix = np.stack([_floats(table[feature]) for feature in features], axis=1)
    days = table["event_time"].cast(pa.int64()).to_numpy() // _DAY_US
    frauds = np.array([fraud is True for fraud in table[IS_FRAUD].to_pylist()], np.bool_)
    return _Rows(matrix, Events(table["customer_id"].to_numpy().astype(np.str_), days, frauds))


def _known(source: Path, mapping: Mapping, span: Span) -> pa.Table:
    """Who paid, and what became known of it."""
    with tempfile.TemporaryDirectory() as spill:
        rows = ordered_rows(
            source,
            mapping,
            span=span,
            order="file",
            after=None,
            spill=Path(spill),
            batch_rows=_BATCH_ROWS,
            progress=lambda done, total: None,  # noqa: ARG005 - nobody to tell
        )
        return pa.Table.from_batches(batch.select(["event_id", "customer_id", IS_FRAUD]) for batch in rows)


def _floats(column: pa.ChunkedArray[Any]) -> npt.NDArray[np.float64]:
    return column.cast(pa.float64(), safe=False).to_numpy()
