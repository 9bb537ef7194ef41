"""Work that only some systems do, and Tidegate's own figures. Each runs in a process of its own
(`python -m benchmarks.cases WORKLOAD SYSTEM`), so that its peak memory is its own, and prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import lightgbm
import numpy as np
import pyarrow as pa
import yaml

from benchmarks import door, hotkey, latency, restore
from benchmarks.events import HANDBOOK_UNTIL, RAW, ROOT, ROWS, as_transactions, company_records, handbook_rows
from benchmarks.materials import FOLDER
from benchmarks.measure import commanded
from benchmarks.workload import events

#: Rows of a micro-batch.
BATCH_ROWS = 4_096

#: Trees of the model that card_fraud is given here, and the rules that make fifty of its own.
_TREES, _RULES = 500, 50

Told = dict[str, Any]


def timed(events: int, work: Callable[[], Any]) -> tuple[Any, Told]:
    """What the work gave, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return answer, {"events": events, "seconds": wall, "cpu_s": cpu, "peak_rss_mb": peak}


def _checked(events: int, work: Callable[[], pa.Table]) -> Told:
    """With the sum of each column of numbers, to be compared."""
    answer, told = timed(events, work)
    numbers = {
        field.name: answer.column(field.name).cast(pa.float64()).to_numpy()
        for field in answer.schema
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    }
    return told | {"checksums": {name: float(np.nansum(values)) for name, values in numbers.items()}}


def _company_rows() -> pa.Table:
    from tidegate.streams.batch import to_batch
    from tidegate.streams.schema import load_schema

    rows = pa.Table.from_batches([to_batch(load_schema("transactions"), company_records())])
    # Each event once: the kernel passes over repeats, DuckDB knows none.
    _, first = np.unique(rows["event_id"].to_numpy(zero_copy_only=False), return_index=True)
    return rows.take(np.sort(first)).sort_by("event_time").combine_chunks()


def _decide(folder: Path, rows: pa.Table) -> Told:
    """The kernel: features, rules, scores, outcomes."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.wiring import read_detector

    detector = read_detector(folder)
    batches = [{"transactions": Arrived.alone(batch)} for batch in rows.to_batches(BATCH_ROWS)]
    Kernel(detector).decide(batches[0])  # compiles
    kernel = Kernel(detector)
    return _checked(rows.num_rows, lambda: pa.concat_tables(kernel.decide(batch).table() for batch in batches))


def _query(name: str, rows: pa.Table) -> Told:
    """DuckDB, batch, one thread: the same SQL text over the same rows, features only."""
    from tidegate.streams.schema import load_schema
    from tidegate.wiring import read_detector

    connection = duckdb.connect(config={"threads": 1})
    connection.register("transactions", rows.append_column("is_fraud", pa.nulls(rows.num_rows, pa.bool_())))
    for stream in read_detector(ROOT / "detectors" / name).streams:
        if stream not in ("transactions", "labels"):  # tables that are joined: nothing has come to them
            connection.register(stream, load_schema(stream).arrow.empty_table())
    text = (ROOT / "detectors" / name / "features.sql").read_text("utf-8").strip().rstrip(";")
    return _checked(rows.num_rows, lambda: connection.sql(text).to_arrow_table())


def _with_model(rows: pa.Table) -> Path:
    """card_fraud with a model over all its numbers, whose truth is made up, and as many rules more as make fifty."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.kernel.model import NUMBERS
    from tidegate.wiring import read_detector

    shipped, folder = ROOT / "detectors" / "card_fraud", FOLDER / "card_fraud"
    shutil.copytree(shipped, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("examples.yaml"))
    detector = read_detector(shipped)
    taken = {name: type_ for name, type_ in detector.features.items() if type_ in NUMBERS}
    learned = Kernel(detector).decide({"transactions": Arrived.alone(rows.slice(0, 20_000).to_batches()[0])}).table()
    matrix = np.column_stack([learned[name].cast(pa.float64()).to_numpy() for name in taken])
    frauds = (learned["score"].to_numpy() > 0) ^ (np.random.default_rng(7).random(len(matrix)) < 0.05)
    options = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.02, "seed": 7, "num_threads": 1}
    data = lightgbm.Dataset(matrix, frauds.astype(np.int8), feature_name=list(taken))
    content = lightgbm.train(options | {"verbosity": -1}, data, _TREES).model_to_string().encode()
    rules = yaml.safe_load((shipped / "rules.yaml").read_text("utf-8"))
    rules["rules"] += [
        {
            "name": f"model_suspects_{number}",
            "when": f"model_score >= {0.4 + 0.05 * number:.2f}",
            "points": 5,
            "reason": "The model puts the chance of fraud at {model_score}",
            "status": "live",
        }
        for number in range(_RULES - len(rules["rules"]))
    ]
    policy = yaml.safe_load((shipped / "policy.yaml").read_text("utf-8")) | {"model": {"missing": "nothing"}}
    card = {
        "name": "bench_trees",
        "version": "1",
        "sha256": hashlib.sha256(content).hexdigest(),
        "features": taken,
        **dict.fromkeys(("score", "data", "made_by"), "Made up for a measurement."),
        "metrics": {},
    }
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "model.txt").write_bytes(content)
    for name, text in (("rules.yaml", rules), ("policy.yaml", policy), ("model/card.yaml", card)):
        (folder / name).write_text(yaml.safe_dump(text, sort_keys=False, allow_unicode=True), "utf-8")
    return folder


def _card_fraud_with_model() -> Told:
    rows = _company_rows()
    return _decide(_with_model(rows), rows)


def _replay() -> Told:
    """The command, from its start to the file of decisions: reading, ordering by time, deciding, writing."""
    with tempfile.TemporaryDirectory() as folder:
        said, told = commanded(
            *("replay", RAW, "--mapping", ROOT / "mappings" / "handbook.yaml"),
            *("--detector", ROOT / "detectors" / "handbook", "--out", Path(folder) / "decided.parquet", "--json"),
            *(("--until", HANDBOOK_UNTIL) if HANDBOOK_UNTIL else ()),
        )
    return {"events": said["tally"]["events"], **told}


def _state() -> Told:
    """What rows and keys take in the windows' state: each row is kept for four entities, each key for four windows."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.wiring import read_detector

    kernel = Kernel(read_detector(FOLDER / "detector_windows"))
    batches = as_transactions(events(ROWS)).to_batches(BATCH_ROWS)

    def work() -> None:
        for batch in batches:
            kernel.decide({"transactions": Arrived.alone(batch)})

    _, told = timed(ROWS, work)
    sizes = [size for _, _, size in kernel.sizes()]
    taken = sum(size.bytes for size in sizes)
    rows, keys = max(size.rows for size in sizes), sum(size.keys for size in sizes)
    return told | {
        "more": {"rows": rows, "keys": keys, "state_bytes": taken, "bytes_aimed_at": 64 * rows + 64 * 4 * keys}
    }


def _hot_key(*, hot: bool) -> Told:
    detector, batches = hotkey.hot_detector(), hotkey.stream(hotkey.EVENTS, hot=hot)
    hotkey.run(detector, batches[:1])  # compiles
    _, told = timed(hotkey.EVENTS, lambda: hotkey.run(detector, batches))
    return told


def _restored() -> Told:
    """The rate is that of keys, from the files in the system's cache to a kernel that decides."""
    taken = restore.measure(restore.KEYS)
    return {
        "events": restore.KEYS,
        "seconds": taken["warm"]["seconds"],
        "cpu_s": taken["warm"]["cpu_s"],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "more": {
            "restore_s": taken["warm"]["seconds"],
            "restore_cold_s": taken["cold"]["seconds"],
            "state_bytes": taken["state_bytes"],
            "pause_ms": taken["whole"]["pause_ms"],
            "written_s": taken["whole"]["written_s"],
        },
    }


def _at_the_door(kind: str) -> dict[str, Callable[[], Told]]:
    return {
        "tidegate": lambda: door.measure(kind, "door"),
        "bare echo, Starlette": lambda: door.measure(kind, "echo"),
    }


CASES: dict[str, dict[str, Callable[[], Told]]] = {
    "card_fraud, 56 features and 43 rules": {
        "tidegate": lambda: _decide(ROOT / "detectors" / "card_fraud", _company_rows()),
        "DuckDB, batch": lambda: _query("card_fraud", _company_rows()),
    },
    "card_fraud with 50 rules and 500 trees": {"tidegate": _card_fraud_with_model},
    "card_fraud, one event at 50 % load": {"tidegate": latency.measure},
    "state of 4 entities x 4 windows": {"tidegate": _state},
    "handbook features": {
        "tidegate": lambda: _decide(ROOT / "detectors" / "handbook", handbook_rows()),
        "DuckDB, batch": lambda: _query("handbook", handbook_rows()),
    },
    "handbook, replay of a file": {"tidegate": _replay},
    "a hot key of 1 % of the events": {
        "tidegate": lambda: _hot_key(hot=True),
        "tidegate, no hot key": lambda: _hot_key(hot=False),
    },
    "restore of 10 million keys": {"tidegate": _restored},
    "door, one event a request": _at_the_door("single"),
    "door, a hundred events a request": _at_the_door("batches"),
    "door, events of 200 KB": _at_the_door("large"),
    "files, twenty columns": {"tidegate": door.ingested, "decoding alone, msgspec": door.decoded},
}

#: These read the handbook's data, which lies beside the project.
OF_RAW = ("handbook features", "handbook, replay of a file")

#: These take minutes: the small form has none of them.
LONG = ("a hot key of 1 % of the events", "restore of 10 million keys")

#: These are not repeated.
ONCE = ("state of 4 entities x 4 windows", "restore of 10 million keys")


if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]][sys.argv[2]]()))
