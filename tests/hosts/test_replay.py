"""A replay against the published features of the Fraud Detection Handbook: in any order, killed, from any format."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tidegate.errors import DamagedError, FencedError, MappingError, NotFoundError, UsageError
from tidegate.files.mapping import read_mapping
from tidegate.hosts.checkpoint import Checkpoints
from tidegate.hosts.replay import replay
from tidegate.wiring import read_detector

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
RAW = SHARED / "fdh_raw.parquet"

#: The reference ends here.
UNTIL = datetime(2018, 7, 1, tzinfo=UTC)

#: The lateness of the detector `handbook`.
LATENESS_S = 600

AVERAGES = [f"customer_id_avg_amount_{days}day_window" for days in (1, 7, 30)]

#: Seconds to wait for another process before the test is given up.
PATIENCE_S = 120


@pytest.fixture(scope="module")
def detector():
    return read_detector(ROOT / "detectors" / "handbook")


@pytest.fixture(scope="module")
def mapping():
    return read_mapping(ROOT / "mappings" / "handbook.yaml")


@pytest.fixture(scope="module")
def in_order(detector, mapping, tmp_path_factory):
    out = tmp_path_factory.mktemp("in_order") / "decided.parquet"
    summary = replay(RAW, mapping, detector, out, until=UNTIL)
    return pq.read_table(out), summary


def assert_equals_reference(decided, missing=None, missing_amount=None):
    """All features but the amount, of all rows but the tied ones. `missing` is, in order of the event's number, how
    many of a customer's payments had not arrived yet when a later one was decided, and what they come to.
    """
    reference = pq.read_table(SHARED / "fdh_features_apr_jun.parquet").sort_by("TRANSACTION_ID")
    decided = decided.set_column(0, "event_id", decided["event_id"].cast(pa.int64())).sort_by("event_id")
    assert decided["event_id"].equals(reference["TRANSACTION_ID"])
    tied = pyarrow.csv.read_csv(SHARED / "fdh_tied_rows.csv")["TRANSACTION_ID"]
    compared = ~pc.is_in(decided["event_id"], tied.combine_chunks()).to_numpy()
    assert compared.sum() == 872_795 - 30
    expected = {name.lower(): reference[name].to_numpy().astype(np.float64) for name in reference.column_names[1:]}
    if missing is not None:
        for days in (1, 7, 30):
            average, number = f"customer_id_avg_amount_{days}day_window", f"customer_id_nb_tx_{days}day_window"
            total = expected[average] * expected[number] - missing_amount
            expected[number] = expected[number] - missing
            expected[average] = total / expected[number]
    for name, values in expected.items():
        difference = np.abs(decided[name].to_numpy() - values)[compared].max()
        assert difference <= (1e-9 if name in AVERAGES else 0), name


def test_every_feature_of_every_row_equals_the_reference(in_order):
    decided, summary = in_order
    assert_equals_reference(decided)
    assert summary.tally.events == summary.tally.decisions == decided.num_rows == 872_795
    assert summary.tally.late == summary.resumed_at == 0
    assert sum(summary.tally.outcomes.values()) == 872_795
    assert summary.tally.outcomes["decline"] > 0


def test_decisions_are_in_order_of_time_and_tell_their_detector(in_order, detector):
    decided, _ = in_order
    times = decided["event_time"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    columns = ["event_id", "event_time", *detector.features, "model_score", "rules", "score", "outcome", "late"]
    assert decided.column_names == columns
    assert decided.schema.metadata[b"tidegate.detector_version"].decode() == detector.version


def test_the_amount_is_the_amount(in_order):
    decided, _ = in_order
    amounts = pq.read_table(RAW, columns=["TRANSACTION_ID", "TX_AMOUNT"])
    by_id = dict(zip(amounts["TRANSACTION_ID"].to_pylist(), amounts["TX_AMOUNT"].to_pylist(), strict=True))
    expected = np.array([by_id[int(event_id)] for event_id in decided["event_id"].to_pylist()])
    assert np.abs(decided["tx_amount"].to_numpy() - expected).max() < 1e-9


def not_arrived_yet(customers, times, arrival, amounts):
    """For each row, the customer's earlier payments that arrive later: how many, and what they come to."""
    number, amount = np.zeros(len(times)), np.zeros(len(times))
    order = np.lexsort((times, customers))
    for step in range(1, len(order)):
        later, earlier = order[step:], order[:-step]
        near = (customers[later] == customers[earlier]) & (times[later] - times[earlier] <= LATENESS_S)
        if not near.any():
            return number, amount
        later, earlier = later[near], earlier[near]
        out_of_order = arrival[earlier] > arrival[later]
        number[later] += out_of_order
        amount[later] += out_of_order * amounts[earlier]
    raise AssertionError


def test_arrival_shuffled_within_the_lateness_changes_nothing_but_what_had_not_arrived(detector, mapping, tmp_path):
    raw = pq.read_table(RAW, filters=[("TX_DATETIME", "<", UNTIL.replace(tzinfo=None))])
    times = raw["TX_DATETIME"].cast(pa.int64()).to_numpy() // 10**9
    arrival = times + np.random.default_rng(7).uniform(0, LATENESS_S, raw.num_rows)
    pq.write_table(raw.take(np.argsort(arrival)), tmp_path / "shuffled.parquet")
    summary = replay(tmp_path / "shuffled.parquet", mapping, detector, tmp_path / "out.parquet", order="file")
    decided = pq.read_table(tmp_path / "out.parquet")
    assert (np.diff(decided["event_time"].cast(pa.int64()).to_numpy()) < 0).mean() > 0.3
    assert summary.tally.late == 0

    missing, amount = not_arrived_yet(raw["CUSTOMER_ID"].to_numpy(), times, arrival, raw["TX_AMOUNT"].to_numpy())
    by_number = np.argsort(raw["TRANSACTION_ID"].to_numpy())
    assert 0 < (missing > 0).sum() < 10_000
    assert_equals_reference(decided, missing[by_number], amount[by_number])

    # Fed by event time, the order of the file is nothing.
    replay(tmp_path / "shuffled.parquet", mapping, detector, tmp_path / "by_time.parquet")
    assert_equals_reference(pq.read_table(tmp_path / "by_time.parquet"))


CHECKED_BY_HAND = {
    1_236_698: [(4, 34, 120), (68.4225, 67.468529, 64.61175), (2, 9, 31), (0, 0, 0)],
    1_236_701: [(1, 12, 61), (26.13, 56.269167, 49.095902), (1, 10, 26), (0, 0, 0.076923)],
}


def test_rows_that_were_checked_by_hand(detector, mapping, tmp_path):
    times = pq.read_table(RAW, filters=[("TRANSACTION_ID", "in", list(CHECKED_BY_HAND))])["TX_DATETIME"].to_pylist()
    since, out = min(times) - timedelta(days=38), tmp_path / "out.parquet"
    replay(RAW, mapping, detector, out, since=since, until=max(times) + timedelta(seconds=1))
    decided = pq.read_table(out)
    assert pc.min(decided["event_time"]).as_py() >= since
    for transaction, expected in CHECKED_BY_HAND.items():
        row = decided.filter(pc.equal(decided["event_id"], str(transaction))).to_pylist()[0]
        names = ("customer_id_nb_tx", "customer_id_avg_amount", "terminal_id_nb_tx", "terminal_id_risk")
        for name, values in zip(names, expected, strict=True):
            found = [row[f"{name}_{days}day_window"] for days in (1, 7, 30)]
            assert found == pytest.approx(values, abs=1e-6), name


CUT = 20_000


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The same rows as Parquet, CSV and JSON lines; not in order of time."""
    folder = tmp_path_factory.mktemp("cut")
    rows = pq.read_table(RAW).slice(0, CUT).take(np.random.default_rng(7).permutation(CUT))
    rows = rows.set_column(1, "TX_DATETIME", rows["TX_DATETIME"].cast(pa.timestamp("us")))
    pq.write_table(rows, folder / "cut.parquet", row_group_size=3_000)
    pyarrow.csv.write_csv(rows, folder / "cut.csv")
    with (folder / "cut.jsonl").open("w") as file:
        file.writelines(json.dumps(row, default=str) + "\n" for row in rows.to_pylist())
    return folder


@pytest.mark.parametrize("order", ["time", "file"])
def test_csv_and_json_lines_give_what_parquet_gives(detector, mapping, cut, tmp_path, order):
    outs = []
    for suffix in ("parquet", "csv", "jsonl"):
        out = tmp_path / f"{suffix}.parquet"
        replay(cut / f"cut.{suffix}", mapping, detector, out, order=order)
        outs.append(out.read_bytes())
    assert outs[0] == outs[1] == outs[2]
    assert pq.read_metadata(out).num_rows == CUT


def test_in_order_of_time_the_order_of_the_file_is_nothing(detector, mapping, cut, tmp_path):
    pq.write_table(pq.read_table(cut / "cut.parquet").sort_by("TX_DATETIME"), tmp_path / "sorted.parquet")
    tables = []
    for source in (cut / "cut.parquet", tmp_path / "sorted.parquet"):
        replay(source, mapping, detector, tmp_path / "out.parquet")
        tables.append(pq.read_table(tmp_path / "out.parquet").sort_by("event_id"))
    assert tables[0].equals(tables[1])


def test_how_rows_are_cut_into_batches_changes_no_decision(detector, mapping, cut, tmp_path):
    tables = []
    for batch_rows in (1_000, 7_777, 65_536):
        replay(cut / "cut.parquet", mapping, detector, tmp_path / "out.parquet", order="file", batch_rows=batch_rows)
        tables.append(pq.read_table(tmp_path / "out.parquet"))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_since_is_in_and_until_is_out(detector, mapping, cut, tmp_path):
    times = np.sort(pq.read_table(cut / "cut.parquet")["TX_DATETIME"].cast(pa.int64()).to_numpy())
    first, last = (datetime.fromtimestamp(int(times[at]) // 10**6, UTC) for at in (100, 10_000))
    out = tmp_path / "out.parquet"
    replay(cut / "cut.parquet", mapping, detector, out, since=first, until=last.replace(tzinfo=None))
    decided = pq.read_table(out)["event_time"].cast(pa.int64()).to_numpy()
    assert (decided[0], decided[-1]) == (times[100], times[times < times[10_000]][-1])


def test_the_same_event_twice_is_decided_once(detector, mapping, tmp_path):
    rows = pq.read_table(RAW).slice(0, 500)
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 50)]), tmp_path / "twice.parquet")
    summary = replay(tmp_path / "twice.parquet", mapping, detector, tmp_path / "out.parquet")
    assert (summary.tally.events, summary.tally.decisions) == (550, 500)
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 500


def test_no_rows_are_a_file_of_no_rows(detector, mapping, cut, tmp_path):
    out = tmp_path / "out.parquet"
    summary = replay(cut / "cut.csv", mapping, detector, out, until=datetime(2000, 1, 1, tzinfo=UTC))
    assert summary.tally.events == pq.read_metadata(out).num_rows == 0
    assert pq.read_schema(out).names[0] == "event_id"


def test_progress_is_told_of_reading_and_of_deciding(detector, mapping, cut, tmp_path):
    told = []
    replay(
        cut / "cut.parquet",
        mapping,
        detector,
        tmp_path / "out.parquet",
        progress=lambda done, total: told.append((done, total)),
        batch_rows=8_192,
    )
    assert told.index((CUT, CUT)) < len(told) - 1
    assert told[-4:] == [(8_192, CUT), (16_384, CUT), (CUT, CUT), (CUT, CUT)]


# What a kill leaves behind. ------------------------------------------------------------------------------------------

KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.hosts.test_replay import CUT_UNTIL, RAW, ROOT
from tidegate.files.mapping import read_mapping
from tidegate.hosts.replay import replay
from tidegate.wiring import read_detector

mapping = read_mapping(ROOT / "mappings" / "handbook.yaml")
replay(
    RAW, mapping, read_detector(ROOT / "detectors" / "handbook"), Path({out!r}), until=CUT_UNTIL, state=Path({state!r}),
    batch_rows=8_192, checkpoint_interval_s=0,
)
"""

CUT_UNTIL = datetime(2018, 4, 21, tzinfo=UTC)


def decided_so_far(state):
    mark = state / "checkpoint.json"
    return json.loads(mark.read_bytes())["tally"]["events"] if mark.exists() else 0


def run_and_kill(out, state, after_events):
    """Start a replay in a process of its own and kill it once a checkpoint holds so many events more."""
    goal = decided_so_far(state) + after_events
    code = KILLED.format(root=str(ROOT), out=str(out), state=str(state))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + PATIENCE_S
    while decided_so_far(state) < goal:
        assert process.poll() is None, "the replay ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_twice_it_ends_with_the_same_file_bit_for_bit(detector, mapping, tmp_path):
    out, state, whole = tmp_path / "out.parquet", tmp_path / "state", tmp_path / "whole.parquet"
    for _ in range(2):
        run_and_kill(out, state, after_events=30_000)
        assert not out.exists()
    done = decided_so_far(state)
    summary = replay(RAW, mapping, detector, out, until=CUT_UNTIL, state=state, batch_rows=8_192)
    once = replay(RAW, mapping, detector, whole, until=CUT_UNTIL, batch_rows=8_192)
    assert out.read_bytes() == whole.read_bytes()
    assert summary.resumed_at == done >= 60_000
    assert summary.tally == once.tally
    assert [path.name for path in state.iterdir() if path.is_file()] == ["lock"]


def stop_after(batches):
    """A progress that fails once so many batches are decided, as a full disk would."""
    decided = []

    def progress(done, total):
        if total == CUT and done < CUT and done % 2_000 == 0:
            decided.append(done)
        if len(decided) > batches:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("order", ["time", "file"])
def test_stopped_at_any_batch_it_goes_on_from_there(detector, mapping, cut, tmp_path, order):
    whole = tmp_path / "whole.parquet"
    replay(cut / "cut.csv", mapping, detector, whole, order=order, batch_rows=2_000)
    for batches in (0, 4, 8):
        out, state = tmp_path / f"{batches}.parquet", tmp_path / f"state {batches}"
        how = {"order": order, "state": state, "batch_rows": 2_000, "checkpoint_interval_s": 0}
        with pytest.raises(KeyboardInterrupt):
            replay(cut / "cut.csv", mapping, detector, out, progress=stop_after(batches), **how)
        assert not list(tmp_path.glob(f"*{batches}.parquet*"))
        summary = replay(cut / "cut.csv", mapping, detector, out, **how)
        assert summary.resumed_at == 2_000 * (batches + 1)
        assert out.read_bytes() == whole.read_bytes()


def leave_state(detector, mapping, cut, tmp_path):
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        replay(
            cut / "cut.csv",
            mapping,
            detector,
            tmp_path / "out.parquet",
            state=state,
            batch_rows=2_000,
            checkpoint_interval_s=0,
            progress=stop_after(2),
        )
    return state


def test_a_state_is_not_taken_for_another_replays(detector, mapping, cut, tmp_path):
    state = leave_state(detector, mapping, cut, tmp_path)
    others = [
        {"source": cut / "cut.parquet"},
        {"detector": read_detector(ROOT / "detectors" / "card_fraud")},
        {"until": UNTIL},
        {"order": "file"},
        {"batch_rows": 1_000},
    ]
    for other in others:
        how = {"source": cut / "cut.csv", "detector": detector, "batch_rows": 2_000} | other
        with pytest.raises(UsageError, match="belongs to another replay"):
            replay(mapping=mapping, out=tmp_path / "out.parquet", state=state, **how)


def test_a_state_that_is_damaged_says_so(detector, mapping, cut, tmp_path):
    state = leave_state(detector, mapping, cut, tmp_path)
    (state / "checkpoint.json").write_text("{")
    with pytest.raises(DamagedError, match="delete the folder"):
        replay(cut / "cut.csv", mapping, detector, tmp_path / "out.parquet", state=state, batch_rows=2_000)


def test_a_state_serves_one_replay_at_a_time(detector, mapping, cut, tmp_path):
    held = Checkpoints(tmp_path / "state", "another", pa.schema([]))
    with pytest.raises(FencedError, match="another replay is using it"):
        replay(cut / "cut.csv", mapping, detector, tmp_path / "out.parquet", state=tmp_path / "state")
    held.close()


# What is used wrong. --------------------------------------------------------------------------------------------------


def test_nothing_is_left_where_a_row_fails(detector, mapping, tmp_path):
    rows = pq.read_table(RAW).slice(0, 100)
    amounts = pa.array([*rows["TX_AMOUNT"].to_pylist()[:-1], -1.0])
    pq.write_table(rows.set_column(4, "TX_AMOUNT", amounts), tmp_path / "source.parquet")
    with pytest.raises(MappingError, match="field amount_minor: row 100 of the source"):
        replay(tmp_path / "source.parquet", mapping, detector, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["source.parquet"]


def test_there_must_be_a_source_and_a_place_for_the_result(detector, mapping, tmp_path):
    with pytest.raises(NotFoundError, match="there is no such file"):
        replay(tmp_path / "none.csv", mapping, detector, tmp_path / "out.parquet")
    with pytest.raises(NotFoundError, match="there is no such file"):
        replay(tmp_path / "none.csv", mapping, detector, tmp_path / "out.parquet", state=tmp_path / "state")
    with pytest.raises(NotFoundError, match="there is no folder"):
        replay(RAW, mapping, detector, tmp_path / "none" / "out.parquet")
    with pytest.raises(UsageError, match="wanted the name of a file"):
        replay(RAW, mapping, detector, tmp_path)
