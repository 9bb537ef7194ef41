"""Files of several streams replayed together: each row is there from its own time on, for tables and labels alike."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.transactions import MINUTE_US, START_US, transactions

from tidegate.commands.options import further_of
from tidegate.errors import MappingError, NotFoundError, UsageError
from tidegate.files.mapping import own_columns
from tidegate.hosts.history import of_file
from tidegate.hosts.replay import replay
from tidegate.hosts.together import Further, together
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector
from tidegate.streams.schema import load_schema

SQL = """
SELECT
    t.event_id,
    t.event_time,
    c.segment,
    COUNT(*) FILTER (WHERE is_fraud) OVER (
        PARTITION BY t.customer_id ORDER BY t.event_time RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW
    ) AS frauds
FROM transactions AS t
ASOF LEFT JOIN customers AS c ON t.customer_id = c.customer_id AND t.event_time >= c.event_time
"""
POLICY = "lateness: 10 minutes\ndedupe: 1 day\noutcomes: {review: 40, decline: 80}\ncap: 100\n"
DETECTOR = compile_detector("joined", {"features.sql": SQL, "rules.yaml": "rules: []", "policy.yaml": POLICY})


def write(folder, stream, rows):
    """A file that has the stream's own columns."""
    batch = (
        transactions(rows) if stream == "transactions" else pa.RecordBatch.from_pylist(rows, load_schema(stream).arrow)
    )
    path = folder / f"{stream}.parquet"
    pq.write_table(pa.Table.from_batches([batch]), path)
    return path


def further(path):
    return Further(path, own_columns(load_schema(path.stem), path))


def customers(times):
    return [
        {
            "event_id": f"c{number}",
            "event_time": START_US + time * MINUTE_US,
            "customer_id": "a",
            "segment": str(number),
        }
        for number, time in enumerate(times)
    ]


def payments(times):
    return [{"event_time": START_US + time * MINUTE_US, "customer_id": "a"} for time in times]


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=20),
    st.lists(st.integers(-5, 40), max_size=20),
    st.lists(st.integers(-5, 40), max_size=5),
    st.sets(st.integers(1, 20)),
)
def test_rows_of_further_files_arrive_when_the_stream_has_come_to_their_time(
    tmp_path_factory, times, customers_at, labels_at, cuts
):
    folder = tmp_path_factory.mktemp("files")
    mapping = own_columns(load_schema("transactions"), write(folder, "transactions", payments(times)))
    labels = [
        {"event_id": f"l{n}", "event_time": START_US + t * MINUTE_US, "transaction_id": "e0", "is_fraud": True,
         "source": "analyst"}
        for n, t in enumerate(labels_at)
    ]  # fmt: skip
    others = [further(write(folder, "customers", customers(customers_at))), further(write(folder, "labels", labels))]
    rows = transactions(payments(times))
    ends, found = [*sorted(cut for cut in cuts if cut < len(times)), len(times)], []

    def take(arrived):
        places = {stream: zip(of.at, of.events["event_id"].to_pylist(), strict=True) for stream, of in arrived.items()}
        found.extend(event_id for _, event_id in sorted(place for stream in places.values() for place in stream))

    with together(mapping, others, spill=folder) as arriving:
        for start, end in itertools.pairwise([0, *ends]):
            take(arriving.arrive(rows.slice(start, end - start)))
        take(arriving.rest())

    waiting = [(time, 0, f"c{number}") for number, time in enumerate(customers_at)]
    waiting += [(time, 1, f"l{number}") for number, time in enumerate(labels_at)]
    waiting.sort(key=lambda row: row[:2])
    expected = []
    for number, clock in enumerate(np.maximum.accumulate(times)):
        while waiting and waiting[0][0] <= clock:
            expected.append(waiting.pop(0)[2])
        expected.append(f"e{number}")
    assert found == expected + [name for _, _, name in waiting]


@pytest.fixture
def files(tmp_path):
    """Payments each two minutes, and customers each five, the first of them a day before."""
    write(tmp_path, "transactions", payments(range(0, 200, 2)))
    write(tmp_path, "customers", customers([-1440, *range(0, 300, 5)]))
    return tmp_path


def decided(files, out="out.parquet", **how):
    source = files / "transactions.parquet"
    mapping = own_columns(load_schema("transactions"), source)
    replay(source, mapping, DETECTOR, files / out, further=[further(files / "customers.parquet")], **how)
    return pq.read_table(files / out)


def test_each_event_sees_the_table_as_it_was_then(files):
    segments = decided(files)["segment"].to_pylist()
    assert segments == [str(1 + time // 5) for time in range(0, 200, 2)]


def test_since_leaves_out_events_and_no_versions(files):
    start = datetime.fromtimestamp(START_US / 1e6, UTC)
    table = decided(files, since=start + timedelta(minutes=100), until=start + timedelta(minutes=120))
    assert table["segment"].to_pylist() == [str(1 + time // 5) for time in range(100, 120, 2)]


def test_stopped_at_any_batch_it_goes_on_from_there(files):
    whole = decided(files, "whole.parquet", batch_rows=10)

    def stop(done, total):
        if total == 100 and done == 40:
            raise KeyboardInterrupt

    how = {"state": files / "state", "batch_rows": 10, "checkpoint_interval_s": 0}
    with pytest.raises(KeyboardInterrupt):
        decided(files, progress=stop, **how)
    assert decided(files, **how).equals(whole)


def test_a_file_for_a_diff_has_further_files_too(files):
    source, told = files / "transactions.parquet", []
    mapping = own_columns(load_schema("transactions"), source)
    kernel = Kernel(DETECTOR)
    for arrived in of_file(source, mapping, lambda *_: None, [further(files / "customers.parquet")]):
        told += kernel.decide(arrived).table()["segment"].to_pylist()
    assert told == [str(1 + time // 5) for time in range(0, 200, 2)]


def test_files_are_told_by_stream_or_by_mapping(files):
    path = files / "customers.parquet"
    (files / "crm.yaml").write_text(
        "stream: customers\nfields: {event_id: event_id, event_time: event_time, customer_id: customer_id}\n"
    )
    by_stream, by_mapping = further_of([f"customers={path}", f"{files / 'crm.yaml'}={path}"])
    assert by_stream.mapping.schema == by_mapping.mapping.schema == load_schema("customers")
    assert "segment" in by_stream.mapping.expressions
    assert "segment" not in by_mapping.mapping.expressions
    with pytest.raises(UsageError, match="wanted STREAM=FILE"):
        further_of([str(path)])
    with pytest.raises(NotFoundError, match="stream 'clients'"):
        further_of([f"clients={path}"])
    with pytest.raises(MappingError, match="required by lists"):
        further_of([f"lists={path}"])


def test_a_file_that_nothing_reads_or_two_of_one_stream_are_refused(files):
    source = files / "transactions.parquet"
    mapping, table = own_columns(load_schema("transactions"), source), further(files / "customers.parquet")
    stock = {"event_id": "s", "event_time": START_US, "shop_id": "m", "sku": "x", "quantity": 1}
    with pytest.raises(UsageError, match="does not read stock"):
        replay(source, mapping, DETECTOR, files / "out.parquet", further=[further(write(files, "stock", [stock]))])
    with pytest.raises(UsageError, match="customers comes from another file already"):
        replay(source, mapping, DETECTOR, files / "out.parquet", further=[table, table])
