"""How long one event takes from its record in the log to the record of its decision: decoding, the kernel, reasons and
hash. Prints one JSON object.

Events arrive one by one, at random times, as many a second as keep the kernel busy half of the time; an event that
arrives while another is decided waits, and that counts.
"""

from __future__ import annotations

import json
import random
import time

import numpy as np

from benchmarks.events import ROOT, company_records

#: Events that fill the windows, and those that are measured.
WARM, MEASURED = 20_000, 10_000

LOAD = 0.5


def main() -> None:
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.streams.batch import to_batch
    from tidegate.wiring import read_detector

    kernel = Kernel(read_detector(ROOT / "detectors" / "card_fraud"))
    schema = kernel.detector.stream
    records = company_records()[: WARM + MEASURED]

    def decide(record: bytes) -> None:
        kernel.decide({schema.name: Arrived.alone(to_batch(schema, [record]))}).records()

    for record in records[: WARM // 2]:
        decide(record)
    started = time.perf_counter()
    for record in records[WARM // 2 : WARM]:
        decide(record)
    rate = LOAD / ((time.perf_counter() - started) / (WARM // 2))
    chance = random.Random(7)
    due, took = time.perf_counter(), np.zeros(MEASURED)
    for number, record in enumerate(records[WARM:]):
        due += chance.expovariate(rate)
        while time.perf_counter() < due:
            pass
        decide(record)
        took[number] = time.perf_counter() - due
    p50, p99 = (round(float(value), 3) for value in np.percentile(took * 1000, [50, 99]))
    print(json.dumps({"events_per_s": round(rate), "p50_ms": p50, "p99_ms": p99}))


if __name__ == "__main__":
    main()
