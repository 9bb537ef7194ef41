"""Metrics against their definitions, written out; who is tested, against the protocol on the Handbook's own data."""

from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.science import evaluate
from tidegate.science.evaluate import Events, card_precision, measure

RAW = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fdh_raw.parquet"

payments = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 12), st.booleans(), st.integers(0, 9)), min_size=2, max_size=60
).filter(lambda drawn: {fraud for _, _, fraud, _ in drawn} == {True, False})


def events_of(drawn):
    customers, days, frauds, scores = zip(*drawn, strict=True)
    names = np.array([f"customer {number}" for number in customers])
    return Events(names, np.array(days, np.int64), np.array(frauds)), np.array(scores) / 10


def auc_by_pairs(scores, frauds):
    """How often a fraud is put before a payment that is none; a tie is half of it."""
    wins = [(fraud > other) + (fraud == other) / 2 for fraud in scores[frauds] for other in scores[~frauds]]
    return sum(wins) / len(wins)


def average_precision_by_steps(scores, frauds):
    """The sum, over the scores from the highest on, of the precision there times what is found with it."""
    total, found_before = 0.0, 0
    for least in sorted(set(scores), reverse=True):
        found = int(frauds[scores >= least].sum())
        total += (found - found_before) / frauds.sum() * found / (scores >= least).sum()
        found_before = found
    return total


def card_precision_by_days(scores, events, inspected):
    found, shares = [], []
    for day in sorted(set(events.days.tolist())):
        today = {}
        for customer, of, score, fraud in zip(events.customers, events.days, scores, events.frauds, strict=True):
            if of == day and customer not in found:
                today.setdefault(customer, []).append((score, fraud))
        order = sorted((-max(score for score, _ in rows), customer) for customer, rows in today.items())
        caught = [customer for _, customer in order[:inspected] if any(fraud for _, fraud in today[customer])]
        shares.append(len(caught) / inspected)
        found += caught
    return sum(shares) / len(shares)


@settings(deadline=None)
@given(payments)
def test_metrics_are_what_they_are_defined_as(drawn):
    events, scores = events_of(drawn)
    found = measure(scores, events)
    assert found.auc_roc == pytest.approx(auc_by_pairs(scores, events.frauds))
    assert found.average_precision == pytest.approx(average_precision_by_steps(scores, events.frauds))
    assert found.card_precision_100 == pytest.approx(card_precision_by_days(scores, events, 100))


@settings(deadline=None)
@given(payments, st.integers(1, 4))
def test_those_found_leave_the_following_days(drawn, inspected):
    events, scores = events_of(drawn)
    whole, evaluate.INSPECTED = evaluate.INSPECTED, inspected
    try:
        assert card_precision(scores, events) == pytest.approx(card_precision_by_days(scores, events, inspected))
    finally:
        evaluate.INSPECTED = whole


@settings(deadline=None)
@given(payments, st.integers(0, 2))
def test_customers_known_to_be_compromised_are_not_tested(drawn, delay_days):
    events, _ = events_of(drawn)
    trained = events.days < 4
    first_day = 4 + delay_days
    chosen = evaluate.tested(events, trained=trained, first_day=first_day, delay_days=delay_days)
    for row, (customer, day) in enumerate(zip(events.customers, events.days, strict=True)):
        known = any(
            other == customer and fraud and (was_trained or first_day - delay_days - 1 <= at <= day - delay_days - 1)
            for other, at, fraud, was_trained in zip(events.customers, events.days, events.frauds, trained, strict=True)
        )
        assert chosen[row] == (day >= first_day and not known)


def test_the_protocol_leaves_of_the_handbooks_data_what_it_says():
    rows = duckdb.sql(
        f"""SELECT CAST(CUSTOMER_ID AS VARCHAR), epoch_us(TX_DATETIME) // 86400000000, TX_FRAUD = 1
        FROM '{RAW}' WHERE TX_DATETIME BETWEEN '2018-07-25' AND '2018-08-15'"""
    ).fetchnumpy()
    customers, days, frauds = rows.values()
    events = Events(np.asarray(customers).astype(np.str_), np.asarray(days), np.asarray(frauds))
    july, august = ((date(2018, month, day) - date(1970, 1, 1)).days for month, day in ((7, 25), (8, 8)))
    trained = (events.days >= july) & (events.days < july + 7)
    week = (events.days >= august) & (events.days < august + 7)
    assert (trained.sum(), events.frauds[trained].sum(), week.sum()) == (67_240, 598, 67_080)
    chosen = evaluate.tested(events, trained=trained, first_day=august, delay_days=7) & week
    assert (chosen.sum(), events.frauds[chosen].sum()) == (58_264, 385)
