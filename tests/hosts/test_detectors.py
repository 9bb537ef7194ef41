"""The company's detectors: their own examples, DuckDB as referee over their SQL, and a simulated day to catch."""

from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from tests.kernel.transactions import arrived

from tidegate.errors import DetectorError
from tidegate.hosts.examples import check_examples, read_examples
from tidegate.kernel.decide import Kernel
from tidegate.simulator.company import Company
from tidegate.simulator.day import Day
from tidegate.simulator.fraud import KINDS
from tidegate.streams.schema import load_schema
from tidegate.wiring import read_detector, read_detector_texts

DETECTORS = Path(__file__).resolve().parents[2] / "detectors"
NAMES = sorted(folder.name for folder in DETECTORS.iterdir())
TRANSACTIONS, LABELS = load_schema("transactions").arrow, load_schema("labels").arrow

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
    fired = {rule for example in examples for step in example.steps if step.expected for rule in step.expected.rules}
    assert fired == {rule.name for rule in detector.rules if rule.runs}


def test_an_ordinary_day_is_among_the_examples(detector):
    examples = read_examples(detector, texts_of(detector.name)["examples.yaml"])
    ordinary = [example for example in examples if example.name.startswith("an ordinary customer's")]
    assert len(ordinary) == 1
    assert all(step.expected == (frozenset(), "approve") for step in ordinary[0].steps)


def test_what_deviates_is_told_in_words():
    detector = read_detector(DETECTORS / "handbook")
    text = texts_of("handbook")["examples.yaml"].replace("rules: [amount_is_high,", "rules: [terminal_is_risky,")
    (deviation,) = check_examples(detector, text)
    assert str(deviation) == (
        "more than genuine payments reach, event 1: terminal_is_risky did not fire; amount_is_high fired"
    )


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


def protected(body):
    """A transaction as the door would leave it, with clear values in the place of tokens."""
    pan = body.get("pan")
    return body | {
        "event_time": datetime.fromisoformat(body["event_time"].removesuffix("Z")),
        "pan_bin": pan and pan[:6],
        "pan_last4": pan and pan[-4:],
    }


@pytest.fixture(scope="module")
def day():
    """Transactions, labels, the index of the transaction before which each label comes, and the fraud by event id."""
    day = Day(Company(7), start_us=START_US, rate_per_s=200, fraud_share=0.03, spoiled_share=0)
    transactions, labels, before, frauds = [], [], [], {}
    for event in day.until(START_US + SECONDS * 1_000_000):
        if event.stream == "transactions":
            transactions.append(protected(event.body))
            frauds[event.body["event_id"]] = event.fraud
        elif event.stream == "labels":
            labels.append(protected(event.body))
            before.append(len(transactions))
    return (
        pa.RecordBatch.from_pylist(transactions, TRANSACTIONS),
        pa.RecordBatch.from_pylist(labels, LABELS),
        np.array(before),
        frauds,
    )


def test_duckdb_runs_the_same_text_and_gives_the_same_features(detector, day):
    transactions = pa.table(day[0]).sort_by("event_time")
    _, first = np.unique(transactions["event_id"].to_pylist(), return_index=True)
    transactions = transactions.take(np.sort(first)).combine_chunks().to_batches()[0]
    assert transactions.num_rows > 1_000
    found = Kernel(detector).decide(arrived(transactions)).table().sort_by("event_id")

    connection = duckdb.connect()
    connection.register("events", transactions)
    connection.execute("CREATE TABLE transactions AS SELECT *, CAST(NULL AS BOOLEAN) AS is_fraud FROM events")
    sql = texts_of(detector.name)["features.sql"]
    expected = connection.execute(f"SELECT * FROM ({sql}) ORDER BY event_id").to_arrow_table()
    for name in ("event_id", *detector.features):
        if pa.types.is_floating(expected[name].type):
            assert np.allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-12, equal_nan=True), name
        else:
            assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_every_kind_of_fraud_is_caught_and_honest_customers_are_left_alone(day):
    transactions, labels, before, frauds = day
    detector = read_detector(DETECTORS / "card_fraud")
    outcomes = defaultdict(Counter)
    for decision in Kernel(detector).decide(arrived(transactions, labels, before)).records():
        outcomes[frauds[decision.event_id]][decision.outcome] += 1
    honest = outcomes.pop(None)
    assert honest["approve"] / honest.total() > 0.995
    assert set(outcomes) == {kind.__name__ for kind in KINDS}
    for kind, of in outcomes.items():
        assert of["decline"] > 0, kind
        assert (of["review"] + of["decline"]) / of.total() > 0.3, kind
