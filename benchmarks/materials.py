"""What the systems work with, made in build/bench: events, the sample with what is expected of it, the model, and the
workload as Tidegate's user writes it, a detector.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.events import ROOT
from benchmarks.peers.plain import roll
from benchmarks.referee import expected
from benchmarks.workload import (
    CAP,
    DECLINE,
    ENTITIES,
    MODEL_FEATURES,
    REVIEW,
    RULES,
    SEQUENCE_SQL,
    events,
    features_sql,
)

FOLDER = ROOT / "build" / "bench"

#: Events of the samples: the twin looks at all of them for each of them.
SAMPLE = 400

#: The share of a sample's events that come late, up to what the detector waits for.
LATE_SHARE = 0.1

#: Events that the model learns from, and its trees.
_LEARNED, _TREES = 20_000, 500

MODEL = FOLDER / "model.txt"


def prepare() -> None:
    """Make all but the events that are measured, and forget those of an earlier run."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kept in (*FOLDER.glob("events-*"), *FOLDER.glob("payments-*")):
        kept.unlink()
    write_model(MODEL)
    for name, late_share in (("sample", 0), ("late", LATE_SHARE)):
        sample = events(SAMPLE, seed=8, late_share=late_share)
        pq.write_table(sample, FOLDER / f"{name}.parquet")
        pq.write_table(expected(sample, MODEL), FOLDER / f"{name}-expected.parquet")
    for workload in ("windows", "full"):
        write_detector(FOLDER / f"detector_{workload}", full=workload == "full")


def stream(rows: int) -> Path:
    """The file of so many events."""
    path = FOLDER / f"events-{rows}.parquet"
    if not path.exists():
        pq.write_table(events(rows), path)
    return path


def write_model(path: Path) -> None:
    """Train the model, to tell of made-up payments whether they are fraud by a made-up truth: what it says is nothing,
    what it costs is what a model of 500 trees costs.
    """
    learned = events(_LEARNED, seed=9)
    matrix = features_of(learned)
    frauds = _made_up_frauds(matrix)
    parameters = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.02, "seed": 7, "num_threads": 1}
    quiet = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
    data = lightgbm.Dataset(matrix, frauds, feature_name=list(MODEL_FEATURES))
    lightgbm.train(parameters | quiet, data, _TREES).save_model(path)


def features_of(stream: pa.Table) -> np.ndarray:
    """float64[n, f]: what the model takes."""
    states: dict[tuple[str, str], tuple[list[int], list[int], list[str]]] = {}
    matrix = np.empty((stream.num_rows, len(MODEL_FEATURES)))
    for place, row in enumerate(stream.to_pylist()):
        values: list[float] = []
        for entity, (key, other) in ENTITIES.items():
            rows = states.setdefault((entity, row[key]), ([], [], []))
            values += roll(rows, row["event_time"], row["amount_minor"], row[other])
        matrix[place] = [*values, row["amount_minor"]]
    return matrix


def _made_up_frauds(matrix: np.ndarray) -> np.ndarray:
    """A tenth of the payments: the dear ones of busy cards and devices, and some by chance."""
    of = {name: matrix[:, place] for place, name in enumerate(MODEL_FEATURES)}
    doubt = np.log1p(of["amount_minor"]) + of["card_count_1h"] + of["device_distinct_1d"] + of["ip_distinct_1h"]
    doubt += np.random.default_rng(7).normal(0, 1, len(doubt))
    return (doubt > np.quantile(doubt, 0.9)).astype(np.int8)


def write_detector(folder: Path, *, full: bool) -> None:
    """The workload as a detector: `windows` has one rule, since a detector needs one, over a feature that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = RULES if full else RULES[:1]
    described = [
        {"name": rule.name, "when": rule.when, "points": rule.points, "reason": f"{rule.name} holds", "status": "live"}
        for rule in rules
    ]
    policy = {
        "lateness": "10 minutes",
        "dedupe": "1 day",
        "outcomes": {"review": REVIEW if full else 10, "decline": DECLINE if full else 20},
        "cap": CAP if full else 30,
    }
    (folder / "features.sql").write_text(features_sql() + "\n", "utf-8")
    if full:
        (folder / "sequences.sql").write_text(SEQUENCE_SQL + "\n", "utf-8")
        policy["model"] = {"missing": "nothing"}
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "model.txt").write_bytes(MODEL.read_bytes())
        (folder / "model" / "card.yaml").write_text(yaml.safe_dump(_card(folder), sort_keys=False), "utf-8")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"rules": described}, sort_keys=False), "utf-8")
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False), "utf-8")


def _card(folder: Path) -> dict:
    types = {
        name: "DOUBLE" if "_avg_" in name else "HUGEINT" if "_sum_" in name else "BIGINT" for name in MODEL_FEATURES
    }
    return {
        "name": "bench_trees",
        "version": "1",
        "sha256": hashlib.sha256((folder / "model" / "model.txt").read_bytes()).hexdigest(),
        "features": types,
        "score": "Nothing: its truth is made up.",
        "data": "Made-up payments.",
        "metrics": {},
        "made_by": "make bench",
    }
