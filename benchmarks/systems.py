"""The systems that are measured with the shared workload, and where each of them lives."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.events import ROOT

#: The largest of the environments is a gigabyte to fetch.
_INSTALL_TIMEOUT_S = 300


@dataclass(frozen=True)
class System:
    name: str
    module: str
    """Of benchmarks.peers."""
    environment: str
    """Its folder in build, made by `make build/.../ready`; empty: the project's own."""
    events: int
    """How many it is given: what takes it some seconds, so that the slow ones end at all."""
    quick_events: int
    """In the small form; 0: it takes too long for that."""
    note: str
    """What its numbers mean, and how the work is written for it."""

    @property
    def python(self) -> Path:
        return ROOT / "build" / self.environment / "bin" / "python" if self.environment else Path(sys.executable)

    def install(self) -> str:
        """Make its environment if it is missing. Returns why it can't be, or nothing."""
        if not self.environment:
            return ""
        java = ["java"] if self.environment == "flink" else []
        command = ["make", *java, f"build/{self.environment}/ready"]
        try:
            made = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return f"it takes longer than {_INSTALL_TIMEOUT_S} s"
        lines = made.stderr.strip().splitlines()
        return "" if made.returncode == 0 else lines[0] if lines else "make failed"


SYSTEMS = (
    System(
        "tidegate",
        "tidegate",
        "",
        400_000,
        100_000,
        "The kernel, one thread, micro-batches of 4,096 rows of Arrow; features, rules, reasons' rules and outcome, "
        "without records and log.",
    ),
    System(
        "DuckDB, batch",
        "duckdb",
        "",
        100_000,
        20_000,
        "The same SQL over all rows at once, one thread. A query over history: it keeps nothing and answers nobody "
        "live. The sequence by LAG over the tiny and large payments, the model by LightGBM over the whole table.",
    ),
    System(
        "tiles, pandas",
        "tiles",
        "tiles",
        40_000,
        10_000,
        "Aggregates of five minutes and of an hour a key, as Chronon, Feast or Tecton keep them, over all rows at once "
        "as for a training set. A window's old end lies on the edge of a tile: what a window should not hold any "
        "more, up to five minutes or an hour of it, is still counted.",
    ),
    System(
        "Bytewax",
        "bytewax",
        "bytewax",
        40_000,
        10_000,
        "`stateful_map` an entity over plain Python lists, joined by event; the model scores batches. From memory to "
        "memory, one worker, no recovery store. Steps one after the other would be wrong: within a batch, a stateful "
        "step hands items on by key.",
    ),
    System(
        "Quix Streams",
        "quix",
        "quix",
        10_000,
        2_000,
        "A stateful step an entity, one after the other through a topic for each (it is keyed by one key a topic), "
        "state in its RocksDB store. Kafka is its only source: librdkafka's mock broker within the process.",
    ),
    System(
        "Faust",
        "faust",
        "faust",
        20_000,
        4_000,
        "An agent an entity, one after the other through channels in memory, batches of answers for the model.",
    ),
    System(
        "Pathway",
        "pathway",
        "pathway",
        4_000,
        1_000,
        "`interval_join` of each event with those of its key within seven days, reduced by window; one thread, from "
        "memory. It keeps tables of now: a late event changes answers that were given.",
    ),
    System(
        "Flink SQL",
        "flink_sql",
        "flink",
        6_000,
        0,
        "Sixteen OVER windows one after the other (a streaming SELECT may have one), MATCH_RECOGNIZE, the model as a "
        "vectorised Python function. One slot, state on the heap, from a CSV file, no checkpoints. It answers when the "
        "watermark has passed, ten minutes of event time later, so a live decision can't be had of it.",
    ),
    System(
        "PyFlink",
        "pyflink",
        "flink",
        6_000,
        2_000,
        "A keyed process function in Python an entity, one after the other, rows in value state with a cache, the "
        "model for each event. One slot, state on the heap, from memory, no checkpoints.",
    ),
    System(
        "Spark",
        "spark",
        "spark",
        1_000,
        0,
        "Structured streaming has no OVER: `transformWithState` in Python an entity, one after the other, RocksDB "
        "state, the model as a pandas function. `local[1]`, from files; micro-batches.",
    ),
)
