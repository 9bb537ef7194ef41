"""When labels of a file's own rows reach the stream, against the rule said in plain words."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.hosts.delayed_labels import DelayedLabels
from tidegate.streams.schema import load_schema

EPOCH = datetime.fromisoformat("2026-03-02T09:00:00")


def events_of(times):
    rows = [
        {"event_id": str(number), "event_time": EPOCH + timedelta(seconds=time)} for number, time in enumerate(times)
    ]
    return pa.RecordBatch.from_pylist(rows, load_schema("transactions").arrow)


def by_the_rule(times, fraud, known_after):
    """(index of the event before which it arrives, due time, transaction, is fraud) of every label, in order."""
    clock = np.maximum.accumulate(np.array(times))
    arrivals = []
    for number, (time, is_fraud) in enumerate(zip(times, fraud, strict=True)):
        due = time + known_after
        reached = [at for at, now in enumerate(clock) if now >= due]
        if is_fraud is not None and reached:
            arrivals.append((max(reached[0], number + 1), due, str(number), is_fraud))
    return sorted(arrivals, key=lambda arrival: arrival[:2])


def by_batches(times, fraud, known_after, cuts):
    labels = DelayedLabels(known_after * 1_000_000)
    events, arrivals, done = events_of(times), [], 0
    for end in [*sorted(cuts), len(times)]:
        if end == done:
            continue
        arrived = labels.arrive(events.slice(done, end - done), pa.array(fraud[done:end], pa.bool_()))
        for label, before in zip(arrived.events.to_pylist(), arrived.before, strict=True):
            due = (label["event_time"] - EPOCH).total_seconds()
            arrivals.append((done + before, due, label["transaction_id"], label["is_fraud"]))
        # A replay that is killed and goes on: what is pending survives, nothing else does.
        pending, clock_us = labels.snapshot(), labels.clock_us
        labels = DelayedLabels(known_after * 1_000_000)
        labels.restore(pending, clock_us, end)
        done = end
    return arrivals


@settings(deadline=None)
@given(st.data())
def test_labels_arrive_when_the_stream_has_come_to_their_time(data):
    times = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=30))
    fraud = data.draw(st.lists(st.sampled_from([None, True, False]), min_size=len(times), max_size=len(times)))
    known_after = data.draw(st.integers(0, 12))
    cuts = data.draw(st.lists(st.integers(0, len(times)), max_size=5))
    assert by_batches(times, fraud, known_after, cuts) == by_the_rule(times, fraud, known_after)
