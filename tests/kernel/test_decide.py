"""The kernel as a whole: events and labels in, decisions out."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.transactions import DAY_US, MINUTE_US, START_US, arrived, labels, same_arrays, transactions

from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector
from tidegate.streams.decision import decision_hash

TEXTS = {
    "features.sql": """
SELECT
  event_id,
  amount_minor / 100.0 AS amount,
  COUNT(*) OVER card AS card_count,
  SUM(amount_minor) FILTER (WHERE authorisation = 'declined') OVER card AS card_declined_minor,
  COUNT(*) FILTER (WHERE is_fraud) OVER card AS card_frauds,
  COUNT(DISTINCT merchant_id) OVER card AS card_merchants,
  MAX(event_time) OVER card AS newest,
  card_country <> ip_country AS is_abroad
FROM transactions
WINDOW card AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW)
""",
    "rules.yaml": """
rules:
  - {name: high, when: amount >= 500, points: 50, reason: "Amount {amount} {currency}", status: live}
  - {name: often, when: card_count > 2, points: 45, reason: "{card_count} payments a day", status: live}
  - {name: abroad, when: is_abroad, points: 60, reason: "Country of the card is not that of the IP", status: shadow}
  - {name: trusted, when: channel = 'pos', points: -10, reason: At a terminal of ours, status: live}
  - {name: known_fraud, when: card_frauds > 0, points: 100, reason: "{card_frauds} frauds on it", status: live}
  - {name: old, when: TRUE, points: 100, reason: never, status: retired}
  - {name: new, when: TRUE, points: 100, reason: never, status: draft}
""",
    "policy.yaml": "lateness: 10 minutes\ndedupe: 7 days\noutcomes: {review: 40, decline: 80}\ncap: 100\n",
}
DETECTOR = compile_detector("card_fraud", TEXTS)


def kernel():
    return Kernel(DETECTOR)


def card(count, **columns):
    return [{"pan": "pan_a", "channel": "ecommerce", **columns} for _ in range(count)]


def test_features_rules_score_and_outcome():
    rows = [
        {"pan": "pan_a", "channel": "ecommerce", "amount_minor": 50_000, "card_country": "DE", "ip_country": "US"},
        {"pan": "pan_a", "channel": "pos", "amount_minor": 50_000, "authorisation": "declined", "merchant_id": "m1"},
        {"pan": "pan_a", "channel": "ecommerce", "amount_minor": 50_000, "merchant_id": "m2"},
        {"pan": "pan_b", "channel": "pos", "amount_minor": 1},
    ]
    table = kernel().decide(arrived(transactions(rows))).table()
    assert table.column_names == [
        *("event_id", "event_time", "amount", "card_count", "card_declined_minor", "card_frauds", "card_merchants"),
        *("newest", "is_abroad", "rules", "score", "outcome", "late"),
    ]
    columns = table.drop_columns(["newest", "event_time"]).to_pydict()
    assert columns == {
        "event_id": ["e0", "e1", "e2", "e3"],
        "amount": [500.0, 500.0, 500.0, 0.01],
        "card_count": [1, 2, 3, 1],
        "card_declined_minor": [None, 50_000, 50_000, None],
        "card_frauds": [0, 0, 0, 0],
        "card_merchants": [0, 1, 2, 0],
        "is_abroad": [True, None, None, None],
        "rules": [["high", "abroad"], ["high", "trusted"], ["high", "often"], ["trusted"]],
        "score": [50, 40, 95, 0],
        "outcome": ["review", "review", "decline", "approve"],
        "late": [False] * 4,
    }
    assert table.schema.field("rules").type == pa.list_(pa.string())


def test_a_record_says_why():
    row = {"pan": "pan_a", "channel": "pos", "amount_minor": 123_456, "card_country": "DE", "ip_country": "US"}
    (record,) = kernel().decide(arrived(transactions([row]))).records()
    assert record.reasons == ["Amount 1,234.56 EUR", "At a terminal of ours"]
    assert record.rules == {"high": True, "often": False, "abroad": True, "trusted": True, "known_fraud": False}
    assert record.shadow == ["abroad"]
    assert (record.score, record.outcome, record.late) == (40, "review", False)
    assert (record.detector, record.detector_version, record.stream) == ("card_fraud", DETECTOR.version, "transactions")
    assert (record.event_id, record.event_time) == ("e0", START_US)
    assert record.features == {
        "amount": 1234.56,
        "card_count": 1,
        "card_declined_minor": None,
        "card_frauds": 0,
        "card_merchants": 0,
        "newest": START_US,
        "is_abroad": True,
    }
    assert record.hash == decision_hash(record)
    assert len(record.hash) == 64


def test_a_duplicate_has_no_decision():
    engine = kernel()
    batch = transactions([*card(2), {"pan": "pan_b"}])
    first = engine.decide(arrived(batch.take(pa.array([0, 1, 0, 2, 1]))))
    assert first.index.tolist() == [0, 1, 3]
    assert first.events.column("event_id").to_pylist() == ["e0", "e1", "e2"]
    again = engine.decide(arrived(batch))
    assert len(again.index) == again.table().num_rows == len(again.records()) == 0
    later = transactions([{}, {}, {}, *card(1)]).slice(3)
    assert engine.decide(arrived(later)).features.column("card_count").to_pylist() == [3]


def test_the_score_is_capped():
    table = kernel().decide(arrived(transactions(card(3, amount_minor=50_000)))).table()
    assert table.column("score").to_pylist() == [50, 50, 95]
    engine = kernel()
    engine.decide(arrived(transactions(card(1))))
    events = transactions([{}, *card(1, amount_minor=90_000)]).slice(1)
    decisions = engine.decide(arrived(events, labels([("e0", True)]), [0]))
    assert decisions.table().column("score").to_pylist() == [100]
    record = decisions.records()[0]
    assert record.reasons == ["1 frauds on it", "Amount 900.00 EUR"]
    assert list(record.points.values()) == sorted(record.points.values(), reverse=True)
    assert sum(record.points.values()) > record.score == 100


def test_a_label_counts_for_the_events_that_come_after_it():
    batch = transactions(card(4))
    decisions = kernel().decide(arrived(batch, labels([("e0", True), ("e1", True), ("e0", False)]), [1, 2, 3]))
    assert decisions.features.column("card_frauds").to_pylist() == [0, 1, 2, 1]
    assert decisions.index.tolist() == [0, 1, 2, 3]


def test_labels_without_a_place_come_after_all_events():
    engine = kernel()
    decisions = engine.decide(arrived(transactions(card(2)), labels([("e0", True), ("e1", True)])))
    assert decisions.features.column("card_frauds").to_pylist() == [0, 0]
    later = engine.decide(arrived(transactions([{}, {}, *card(1)]).slice(2)))
    assert later.features.column("card_frauds").to_pylist() == [2]


def test_labels_alone_are_taken():
    engine = kernel()
    engine.decide(arrived(transactions(card(1))))
    nothing = engine.decide(arrived(transactions([]), labels([("e0", True), ("unknown", True)])))
    assert nothing.table().num_rows == 0
    assert nothing.records() == []
    later = engine.decide(arrived(transactions([{}, *card(1)]).slice(1)))
    assert later.features.column("card_frauds").to_pylist() == [1]


def test_an_event_older_than_the_lateness_is_decided_and_marked():
    engine = kernel()
    rows = card(3)
    for row, minutes in zip(rows, (60, 51, 49), strict=True):
        row["event_time"] = START_US + minutes * MINUTE_US
    assert engine.decide(arrived(transactions(rows))).late.tolist() == [False, False, True]


def test_an_empty_batch():
    decisions = kernel().decide({})
    assert decisions.table().num_rows == 0
    assert decisions.records() == []


def test_a_detector_without_rules_or_windows():
    texts = TEXTS | {"rules.yaml": "rules: []", "features.sql": "SELECT amount_minor AS minor FROM transactions"}
    decisions = Kernel(compile_detector("plain", texts)).decide(arrived(transactions(card(2))))
    assert decisions.judged.fired.shape == (0, 2)
    assert decisions.table().column("rules").to_pylist() == [[], []]
    assert [record.outcome for record in decisions.records()] == ["approve", "approve"]
    assert decisions.records()[0].rules == {}


@pytest.mark.parametrize("stream", ["carts", "sessions", "stock", "customers"])
def test_every_stream_can_be_decided(stream):
    key = {"carts": "cart_id", "sessions": "session_id", "stock": "shop_id", "customers": "customer_id"}[stream]
    sql = f"""SELECT COUNT(*) OVER (PARTITION BY {key} ORDER BY event_time
              RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW) AS n FROM {stream}"""
    detector = compile_detector("d", TEXTS | {"features.sql": sql, "rules.yaml": "rules: []"})
    rows = [{"event_id": f"e{n}", "event_time": START_US + n, key: "k"} for n in range(3)]
    batch = pa.RecordBatch.from_pylist(rows, detector.stream.arrow)
    assert Kernel(detector).decide({stream: Arrived.alone(batch)}).features.column("n").to_pylist() == [1, 2, 3]


arrivals = st.lists(
    st.one_of(
        st.tuples(
            st.just("event"),
            st.integers(0, 30),
            st.integers(0, 2 * DAY_US),
            st.sampled_from([None, "pan_a", "pan_b"]),
            st.sampled_from([100, 60_000]),
        ),
        st.tuples(st.just("label"), st.integers(0, 30), st.booleans()),
    ),
    max_size=40,
)


def timeline(drawn):
    """What a drawn list of events and labels is to the kernel."""
    rows, verdicts, before = [], [], []
    for kind, number, *rest in drawn:
        if kind == "event":
            time, pan, amount = rest
            rows.append(
                {
                    "event_id": f"e{number}",
                    "event_time": START_US + time,
                    "pan": pan,
                    "amount_minor": amount,
                    "channel": "mobile",
                }
            )
        else:
            verdicts.append((f"e{number}", *rest))
            before.append(len(rows))
    return arrived(transactions(rows), labels(verdicts), before)


def decide(engine, drawn):
    decisions = engine.decide(timeline(drawn))
    assert decisions.events.column("event_id").to_pylist() == [record.event_id for record in decisions.records()]
    return decisions.records()


@settings(max_examples=60, deadline=None)
@given(arrivals, st.integers(0, 40), st.integers(0, 40))
def test_how_arrivals_are_cut_into_batches_and_restarted_changes_nothing(drawn, first_cut, second_cut):
    whole = kernel()
    expected = decide(whole, drawn)
    low, high = sorted((first_cut, second_cut))
    engine = kernel()
    got = decide(engine, drawn[:low])
    got += decide(engine, drawn[low:high])
    restored = kernel()
    restored.restore(engine.snapshot())
    got += decide(restored, drawn[high:])
    assert got == expected
    assert len({record.event_id for record in got}) == len(got)
    for record in got:
        assert json.loads(json.dumps(record.features, default=str)).keys() == DETECTOR.features.keys()


def test_a_snapshot_is_not_touched_by_what_comes_after():
    engine, other = kernel(), kernel()
    engine.decide(arrived(transactions(card(3)), labels([("e1", True)]), [2]))
    snapshot = engine.snapshot()
    as_taken = {name: array.copy() for name, array in snapshot.items()}
    other.restore(snapshot)
    for each in (engine, other):
        each.decide(arrived(transactions(card(5)), labels([("e3", True)]), [2]))
    assert same_arrays(snapshot, as_taken)


def test_a_snapshot_restored_is_the_same_snapshot():
    engine = kernel()
    engine.decide(arrived(transactions(card(3)), labels([("e1", True)]), [2]))
    snapshot = engine.snapshot()
    other = kernel()
    other.restore(snapshot)
    assert same_arrays(other.snapshot(), snapshot)
