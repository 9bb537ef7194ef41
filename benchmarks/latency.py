"""How long one event takes from its record in the log to the record of its decision: decoding, the kernel, reasons and
hash.

Events arrive one by one, at random times, as many a second as keep the kernel busy half of the time; an event that
arrives while another is decided waits, and that counts.
"""

from __future__ import annotations

import random
import resource
import time
from typing import Any

import numpy as np

from benchmarks.events import LATENCY_MEASURED, LATENCY_WARM, ROOT, company_records

LOAD = 0.5


def measure() -> dict[str, Any]:
    """The rate is that of the arrivals; CPU time counts only what decides, not the wait for an arrival."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.streams.batch import to_batch
    from tidegate.wiring import read_detector

    kernel = Kernel(read_detector(ROOT / "detectors" / "card_fraud"))
    schema = kernel.detector.stream
    records = company_records()[: LATENCY_WARM + LATENCY_MEASURED]

    def decide(record: bytes) -> None:
        kernel.decide({schema.name: Arrived.alone(to_batch(schema, [record]))}).records()

    half = LATENCY_WARM // 2
    for record in records[:half]:
        decide(record)
    started = time.perf_counter()
    for record in records[half:LATENCY_WARM]:
        decide(record)
    rate = LOAD / ((time.perf_counter() - started) / half)
    chance = random.Random(7)
    began = due = time.perf_counter()
    took, cpu_s = np.zeros(LATENCY_MEASURED), 0.0
    for number, record in enumerate(records[LATENCY_WARM:]):
        due += chance.expovariate(rate)
        while time.perf_counter() < due:
            pass
        cpu = time.process_time()
        decide(record)
        cpu_s += time.process_time() - cpu
        took[number] = time.perf_counter() - due
    p50, p99 = (round(float(value), 3) for value in np.percentile(took * 1000, [50, 99]))
    return {
        "events": LATENCY_MEASURED,
        "seconds": time.perf_counter() - began,
        "cpu_s": cpu_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "more": {"p50_ms": p50, "p99_ms": p99},
    }
