"""Texts that windows answer: kept for as long as a row has them, and through a restart."""

import pytest
from tests.kernel.transactions import DAY_US, START_US, arrived, labels, transactions

from tidegate.errors import StateError
from tidegate.kernel import windowtexts
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector

SELECT = """
SELECT LAG(merchant_id, 1, 'none') OVER card AS before,
       LAST_VALUE(CASE WHEN is_fraud THEN merchant_id END IGNORE NULLS) OVER card AS fraud_at,
       merchant_id <> FIRST_VALUE(merchant_id) OVER card AS moved,
       upper(before) || '!' AS loud
FROM transactions
WINDOW card AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL 2 DAY PRECEDING AND CURRENT ROW)
"""

POLICY = "lateness: 10 minutes\ndedupe: 1 day\nkeep: 2 days\noutcomes: {review: 40, decline: 80}\ncap: 100\n"


def kernel():
    return Kernel(compile_detector("test", {"features.sql": SELECT, "rules.yaml": "rules: []", "policy.yaml": POLICY}))


def payments(*merchants, day=0):
    return transactions(
        [
            {
                "event_id": f"{day}-{number}",
                "event_time": START_US + day * DAY_US + number,
                "pan": "p",
                "merchant_id": merchant,
            }
            for number, merchant in enumerate(merchants)
        ]
    )


def test_texts_of_earlier_rows_are_answered_and_read():
    decided = kernel().decide(arrived(payments("ä", None, "b"))).features.to_pydict()
    assert decided == {
        "before": ["none", "ä", None],
        "fraud_at": [None, None, None],
        "moved": [False, None, True],
        "loud": ["NONE!", "Ä!", None],
    }


def test_a_label_tells_which_text_is_answered():
    one = kernel()
    one.decide(arrived(payments("a", "b")))
    one.decide(arrived(payments(), labels([("0-0", True)], time=START_US + DAY_US)))
    assert one.decide(arrived(payments("c", day=1))).features.column("fraud_at").to_pylist() == ["a"]


def test_texts_are_there_after_a_restart():
    one, other = kernel(), kernel()
    one.decide(arrived(payments("a", "ä€")))
    other.restore(one.snapshot())
    assert other.decide(arrived(payments("c", day=1))).features.column("before").to_pylist() == ["ä€"]


def test_a_snapshot_without_texts_is_refused():
    arrays = kernel().snapshot()
    del arrays["text_bytes"]
    with pytest.raises(StateError, match="lacks the texts"):
        kernel().restore(arrays)


def test_texts_that_no_row_has_are_forgotten(monkeypatch):
    monkeypatch.setattr(windowtexts, "_FIRST_TEXTS", 4)
    one = kernel()
    for day in range(40):
        merchants = [f"{name}{day}" for name in "abc"]
        before = one.decide(arrived(payments(*merchants, day=day))).features.column("before").to_pylist()
        assert before == [f"c{day - 1}" if day else "none", *merchants[:-1]]
    assert len(one.snapshot()["text_hashes"]) <= 3 * 16


def test_what_another_value_would_have_led_to_is_not_told_of_texts():
    rules = (
        "rules:\n  - {name: far, when: last <> 'DE', points: 50, reason: '{last}', status: live}\n"
        "  - {name: high, when: amount_minor > 500, points: 40, reason: high, status: live}\n"
    )
    features = (
        "SELECT LAST_VALUE(merchant_country) OVER card AS last\nFROM transactions\n" + SELECT[SELECT.index("WINDOW") :]
    )
    policy = POLICY.replace("keep: 2 days\n", "") + "explain: [amount_minor, merchant_country]\n"
    one = Kernel(compile_detector("test", {"features.sql": features, "rules.yaml": rules, "policy.yaml": policy}))
    row = {"pan": "p", "merchant_country": "FR", "ip_country": "DE", "amount_minor": 900}
    decisions = one.decide(arrived(transactions([row])))
    (explanation,) = decisions.explain([0])
    told = {(each.column, each.outcome) for each in explanation.counterfactuals}
    assert told == {("amount_minor", "review")}
