"""The company's detectors: their own examples, DuckDB as referee over their SQL, and a simulated day to catch."""

from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tidegate.errors import DetectorError
from tidegate.hosts.examples import check_examples, read_examples
from tidegate.kernel.arrivals import LABELS, Arrived
from tidegate.kernel.decide import Kernel
from tidegate.simulator.company import Company
from tidegate.simulator.day import Day
from tidegate.simulator.fraud import KINDS
from tidegate.streams.schema import load_schema
from tidegate.wiring import read_detector, read_detector_texts

DETECTORS = Path(__file__).resolve().parents[2] / "detectors"
NAMES = sorted(folder.name for folder in DETECTORS.iterdir())

TIMES = ("event_time", "expires_at")
WITH_CARDS = ("transactions", "lists")

START_US = 1_772_442_000_000_000
SECONDS = 60


def texts_of(name):
    return read_detector_texts(DETECTORS / name)


@pytest.fixture(scope="module", params=NAMES)
def detector(request):
    return read_detector(DETECTORS / request.param)


def test_the_examples_come_out_as_they_say(detector):
    deviations = check_examples(detector, texts_of(detector.name)["examples.yaml"])
    assert not deviations, "\n".join(map(str, deviations))


def test_every_rule_that_runs_fires_in_an_example(detector):
    examples = read_examples(detector, texts_of(detector.name)["examples.yaml"])
    told = [told for example in examples for step in example.steps for told in (step.expected, step.due) if told]
    fired = {rule for expected in told for rule in expected.rules}
    assert fired == {rule.name for rule in detector.rules if rule.runs}


def test_an_ordinary_day_is_among_the_examples(detector):
    examples = read_examples(detector, texts_of(detector.name)["examples.yaml"])
    ordinary = [example for example in examples if example.name.startswith("an ordinary customer's")]
    assert len(ordinary) == 1
    own = [step for step in ordinary[0].steps if step.stream == detector.stream.name]
    assert all(step.expected == (frozenset(), "approve") for step in own)


def test_what_deviates_is_told_in_words():
    detector = read_detector(DETECTORS / "handbook")
    text = texts_of("handbook")["examples.yaml"].replace("rules: [amount_is_high,", "rules: [terminal_is_risky,")
    (deviation,) = check_examples(detector, text)
    assert str(deviation) == (
        "more than genuine payments reach, event 1: terminal_is_risky did not fire; amount_is_high fired"
    )


def test_a_match_by_duration_that_is_not_due_or_not_expected_deviates():
    detector = read_detector(DETECTORS / "abandoned_cart")
    text = texts_of("abandoned_cart")["examples.yaml"]
    (deviation,) = check_examples(detector, text.replace("after: 29 minutes}", "after: 29 minutes, customer_id: eve}"))
    assert str(deviation).endswith("cart_abandoned fired; review (40 points) and not approve")
    (deviation,) = check_examples(detector, text.replace("price_minor: 900, due", "action: remove, due"))
    assert str(deviation) == "a cart of little value, event 1: nothing that begins with it became due"


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("kind: payment, amount_minor: 22001", "kind: payments, amount_minor: 22001", "the kind 'payments'"),
        ("amount_minor: 22001", "amount: 22001", "the key 'amount'; expected a known name, such as amount_minor"),
        ("amount_minor: 22001", "amount_minor: much", "found 'much'; expected a long"),
        ("rules: [amount_is_high,", "rules: [amount_high,", "such as amount_is_high"),
        ("outcome: review", "outcome: refuse", "the outcome 'refuse'"),
        ("channel: pos", "channel: post", "found 'post'; expected a known name, such as pos"),
        ("card_present: true", "card_present: maybe", "found 'maybe'; expected a boolean"),
        ("    currency: USD\n", "", "an event without currency"),
        ("every: 12 hours", "every: often", "a duration as '10 minutes'"),
        ("repeat: 60", "repeat: 0", "0 times"),
        ("kinds:", "kind:", "the unknown key 'kind'"),
    ],
)
def test_what_is_wrong_with_examples_is_told_with_its_place(was, becomes, said):
    detector = read_detector(DETECTORS / "handbook")
    text = texts_of("handbook")["examples.yaml"]
    assert was in text
    with pytest.raises(DetectorError) as caught:
        read_examples(detector, text.replace(was, becomes))
    assert said in str(caught.value)
    assert str(caught.value).startswith("examples.yaml:")


# A simulated day. -----------------------------------------------------------------------------------------------------


def protected(stream, body):
    """An event as the door would leave it, with clear values in the place of tokens."""
    pan = body.get("pan")
    times = {name: datetime.fromisoformat(body[name].removesuffix("Z")) for name in TIMES if name in body}
    return body | times | ({"pan_bin": pan and pan[:6], "pan_last4": pan and pan[-4:]} if stream in WITH_CARDS else {})


@pytest.fixture(scope="module")
def day():
    """What arrived by stream, and the fraud by event id."""
    day = Day(Company(7), start_us=START_US, rate_per_s=200, fraud_share=0.03, spoiled_share=0)
    events = day.until(START_US + SECONDS * 1_000_000)
    arrived = {}
    for stream in {event.stream for event in events}:
        at = [place for place, event in enumerate(events) if event.stream == stream]
        rows = [protected(stream, events[place].body) for place in at]
        arrived[stream] = Arrived(np.array(at), pa.RecordBatch.from_pylist(rows, load_schema(stream).arrow))
    return arrived, {event.body["event_id"]: event.fraud for event in events if event.stream == "transactions"}


def settled(events):
    """In order of time, each event once."""
    table = pa.table(events).sort_by("event_time")
    _, first = np.unique(table["event_id"].to_pylist(), return_index=True)
    return table.take(np.sort(first)).combine_chunks().to_batches()[0]


@pytest.mark.parametrize("name", ["card_fraud", "handbook"])
def test_duckdb_runs_the_same_text_and_gives_the_same_features(name, day):
    detector = read_detector(DETECTORS / name)
    tables = {stream: settled(day[0][stream].events) for stream in detector.streams if stream != LABELS}
    transactions = tables["transactions"]
    assert transactions.num_rows > 1_000
    # What tables say has arrived before any transaction: SQL sees all of it, as of each transaction's time.
    first = sum(events.num_rows for events in tables.values())
    arrived = {stream: Arrived.alone(events) for stream, events in tables.items()}
    joined = [stream for stream in tables if stream != "transactions"]
    for place, stream in enumerate(joined):
        arrived[stream] = Arrived(np.arange(tables[stream].num_rows) * len(joined) + place, tables[stream])
    arrived["transactions"] = Arrived(np.arange(transactions.num_rows) + len(joined) * first, transactions)
    found = Kernel(detector).decide(arrived).table().sort_by("event_id")

    connection = duckdb.connect()
    for stream, events in tables.items():
        connection.register("events", events)
        label = ", CAST(NULL AS BOOLEAN) AS is_fraud" if stream == "transactions" else ""
        connection.execute(f"CREATE TABLE {stream} AS SELECT *{label} FROM events")
    sql = texts_of(detector.name)["features.sql"]
    expected = connection.execute(f"SELECT * FROM ({sql}) ORDER BY event_id").to_arrow_table()
    for feature in expected.column_names:
        column = expected[feature]
        if pa.types.is_floating(column.type):
            assert np.allclose(found[feature].to_numpy(), column.to_numpy(), rtol=1e-12, equal_nan=True), feature
        else:
            assert found[feature].to_pylist() == column.to_pylist(), feature


def test_every_kind_of_fraud_is_caught_and_honest_customers_are_left_alone(day):
    arrived, frauds = day
    detector = read_detector(DETECTORS / "card_fraud")
    outcomes = defaultdict(Counter)
    for decision in Kernel(detector).decide(arrived).records():
        outcomes[frauds[decision.event_id]][decision.outcome] += 1
    honest = outcomes.pop(None)
    assert honest["approve"] / honest.total() > 0.995
    assert set(outcomes) == {kind.__name__ for kind in KINDS}
    for kind, of in outcomes.items():
        assert of["decline"] > 0, kind
        assert (of["review"] + of["decline"]) / of.total() > 0.3, kind
