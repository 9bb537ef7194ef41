"""Tidegate: the kernel over micro-batches of Arrow, as a host hands them in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.events import as_transactions
from benchmarks.materials import FOLDER
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import OUTPUTS

#: Rows of a micro-batch.
BATCH_ROWS = 4_096

_STEPS = {"approve": 0, "review": 1, "decline": 2}


def run(job: Job) -> None:
    for decided in _decided(FOLDER / f"detector_{job.workload}", job.events):
        if job.exact:
            job.put_table(_told(decided, job.full))
        else:
            job.answered(decided.num_rows)


def decided_tables(detector: Path, events: pa.Table, *, full: bool) -> Iterator[pa.Table]:
    """What the workload asks for, a table a micro-batch."""
    return (_told(decided, full) for decided in _decided(detector, events))


def _decided(detector: Path, events: pa.Table) -> Iterator[pa.Table]:
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.wiring import read_detector

    kernel = Kernel(read_detector(detector))
    for batch in as_transactions(events).to_batches(BATCH_ROWS):
        yield kernel.decide({"transactions": Arrived.alone(batch)}).table()


def _told(decided: pa.Table, full: bool) -> pa.Table:
    told = {name: decided[name] for name in OUTPUTS["windows"]}
    if full:
        told |= {name: decided[name] for name in ("model_score", "score")}
        told["card_tested"] = pa.array(["tried_out" in rules for rules in decided["rules"].to_pylist()])
        told["outcome"] = pa.array([_STEPS[outcome] for outcome in decided["outcome"].to_pylist()])
    return pa.table({"number": decided["event_id"].cast(pa.int64()), **told})


if __name__ == "__main__":
    serve(run)
