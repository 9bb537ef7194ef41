"""The model of a detector: its card, its score as a column of the rules, and what follows where there is none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.transactions import arrived, transactions

from tidegate.errors import DamagedError, DetectorError, StateError
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector

SHA256 = "ab" * 32
TEXTS = {
    "features.sql": """
        SELECT amount_minor / 100.0 AS amount,
               COUNT(*) OVER card AS payments,
               card_present,
               merchant_id AS shop,
               terminal_latitude AS latitude
        FROM transactions
        WINDOW card AS (PARTITION BY pan ORDER BY event_time
                        RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW)""",
    "rules.yaml": """
rules:
  - {name: likely, when: model_score >= 0.5 AND payments > 1, points: 50, reason: "Score {model_score}", status: live}
  - {name: unknown, when: model_score IS NULL, points: 1, reason: "No score", status: live}
""",
    "policy.yaml": "lateness: 10 minutes\ndedupe: 1 day\noutcomes: {review: 40, decline: 80}\ncap: 100\n"
    "model: {missing: review}\n",
    "model/card.yaml": f"""
name: toy
version: "2"
sha256: {SHA256}
features: {{latitude: DOUBLE, payments: BIGINT, card_present: BOOLEAN}}
score: The chance of fraud.
data: None.
metrics: {{auc_roc: 0.5}}
made_by: hand
""",
}


class Toy:
    """Scores by a formula, and keeps what it was asked."""

    sha256, width, names = SHA256, 3, ("latitude", "payments", "card_present")

    def __init__(self, formula=lambda rows: np.nan_to_num(rows[:, 0]) / 10 + rows[:, 1] / 100):
        self.formula, self.asked = formula, []

    def load(self, texts):
        assert texts["model/card.yaml"]
        return self

    def scores(self, rows):
        self.asked.append(rows)
        return self.formula(rows)

    def contributions(self, rows):
        return rows * 0.5


def detector(model=None, **texts):
    named = {
        name.replace("_yaml", ".yaml").replace("card.yaml", "model/card.yaml"): text for name, text in texts.items()
    }
    return compile_detector("toy", TEXTS | named, model)


def card(count, **columns):
    return [{"pan": "pan_a", "terminal_latitude": 6.0, **columns} for _ in range(count)]


def decide(detector, rows):
    return Kernel(detector).decide(arrived(transactions(rows)))


def test_the_model_is_given_its_features_in_its_order():
    model = Toy()
    decide(detector(model), [*card(2), *card(1, terminal_latitude=None, card_present=False)])
    np.testing.assert_array_equal(np.concatenate(model.asked), [[6, 1, 1], [6, 2, 1], [math.nan, 3, 0]])


def test_its_score_is_a_column_of_the_rules_and_in_the_decision():
    decisions = decide(detector(Toy()), card(2))
    table = decisions.table()
    assert table.column("model_score").to_pylist() == pytest.approx([0.61, 0.62])
    assert table.column("rules").to_pylist() == [[], ["likely"]]
    first, second = decisions.records()
    assert (first.outcome, second.outcome) == ("approve", "review")
    assert second.model_version == "toy 2"
    assert second.model_score == table.column("model_score")[1].as_py()
    assert second.reasons == ["Score 0.62"]
    assert second.freshness == {}


def fails(rows):
    raise StateError("model: the endpoint does not answer")


@pytest.mark.parametrize(
    "model",
    [None, Toy(fails), Toy(lambda rows: np.full(len(rows), math.nan)), Toy(lambda rows: np.full(len(rows), math.inf))],
)
def test_where_there_is_no_score_the_policy_says_what_follows(model):
    (record,) = decide(detector(model), card(1)).records()
    assert record.model_score is None
    assert record.model_version == "toy 2"
    assert record.freshness == {"model_score": "defaulted"}
    assert record.rules == {"likely": False, "unknown": True}
    assert (record.score, record.outcome) == (1, "review")
    assert record.reasons == ["No score", "The model gave no score"]
    points = "model: {missing: 45 points}"
    (record,) = decide(
        detector(model, policy_yaml=TEXTS["policy.yaml"].replace("model: {missing: review}", points)), card(1)
    ).records()
    assert (record.score, record.outcome) == (46, "review")


def test_only_rows_without_a_score_are_defaulted():
    model = Toy(lambda rows: np.where(rows[:, 1] == 2, math.nan, 0.9))
    first, second, third = decide(detector(model), card(3)).records()
    assert [record.freshness for record in (first, third)] == [{}, {}]
    assert second.freshness == {"model_score": "defaulted"}
    assert [first.outcome, second.outcome, third.outcome] == ["approve", "review", "review"]


def test_a_model_that_can_not_be_loaded_is_missing_and_said_so():
    class Broken:
        def load(self, texts):
            raise DamagedError("model: half of it")

    found = detector(Broken())
    assert found.model.scorer is None
    assert found.model.fault == "model: half of it"


def test_a_model_is_part_of_the_version():
    versions = {
        detector(Toy()).version,
        compile_detector(
            "toy", {**TEXTS, "model/card.yaml": TEXTS["model/card.yaml"].replace('"2"', '"3"')}, Toy()
        ).version,
        without_model().version,
    }
    assert len(versions) == 3
    assert detector().version == detector(Toy()).version


def without_model():
    texts = {name: text for name, text in TEXTS.items() if name != "model/card.yaml"}
    texts["rules.yaml"] = "rules: []"
    return compile_detector("toy", texts)


def test_without_a_model_there_is_no_score():
    assert "model_score" not in decide(without_model(), card(1)).table().column_names
    texts = {name: text for name, text in TEXTS.items() if name != "model/card.yaml"}
    with pytest.raises(DetectorError, match="unknown column 'model_score'"):
        compile_detector("toy", texts)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12))
def test_how_events_are_cut_changes_no_score(minutes, cut):
    rows = [{"pan": "pan_a", "terminal_latitude": float(number % 7)} for number in minutes]
    batch = transactions(rows)
    whole = Kernel(detector(Toy())).decide(arrived(batch)).records()
    engine = Kernel(detector(Toy()))
    parts = engine.decide(arrived(batch.slice(0, cut))).records() + engine.decide(arrived(batch.slice(cut))).records()
    assert parts == whole


CARD = TEXTS["model/card.yaml"]
WRONG = {
    "an unknown feature": (CARD.replace("latitude: DOUBLE", "longitude: DOUBLE"), "the feature 'longitude'"),
    "a text": (CARD.replace("latitude: DOUBLE", "shop: VARCHAR"), "the feature 'shop', which is VARCHAR"),
    "another type": (CARD.replace("payments: BIGINT", "payments: DOUBLE"), "the type DOUBLE"),
    "another file": (CARD.replace("abab", "cdcd"), "a model file of sha256"),
    "too few features": (CARD.replace("latitude: DOUBLE, ", ""), "2 features"),
    "another order": (
        CARD.replace("latitude: DOUBLE, payments: BIGINT", "payments: BIGINT, latitude: DOUBLE"),
        "'payments' as number 1",
    ),
    "no version": (CARD.replace('version: "2"\n', ""), "no key 'version'"),
    "a name with spaces": (CARD.replace("name: toy", "name: a toy"), "the name 'a toy'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_card_that_is_wrong_is_refused_with_its_place(what):
    text, message = WRONG[what]
    with pytest.raises(DetectorError, match=message) as error:
        detector(Toy(), card_yaml=text)
    assert error.value.file == "model/card.yaml"
    assert error.value.line


@pytest.mark.parametrize(
    ("said", "message"),
    [("", "no key 'model'"), ("model: {missing: decide}", "'decide'"), ("model: {}", "no key 'missing'")],
)
def test_a_policy_says_what_follows_or_is_refused(said, message):
    with pytest.raises(DetectorError, match=message):
        detector(Toy(), policy_yaml=TEXTS["policy.yaml"].replace("model: {missing: review}", said))
