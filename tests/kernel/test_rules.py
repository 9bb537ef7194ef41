"""rules.yaml and policy.yaml: what they become, and what is wrong with them, said with its place."""

import random
import re

import numpy as np
import pytest

from tidegate.errors import DetectorError
from tidegate.kernel.detector import compile_detector
from tidegate.kernel.features import compile_features
from tidegate.kernel.language.expressions import BIGINT, TIMESTAMP
from tidegate.kernel.language.yamltext import Yaml
from tidegate.kernel.policy import check_keep, compile_policy
from tidegate.kernel.rules import compile_rules, spell_value

FEATURES = compile_features(
    "features.sql",
    "SELECT amount_minor / 100.0 AS amount, lower(email) AS mail, card_present FROM transactions",
    lateness_us=0,
    dedupe_us=0,
)

RULES = """\
# What is high.
rules:
  - name: high_amount
    when: amount > 500 AND currency = 'EUR'
    points: 45
    reason: "Amount {amount} in {currency}"
    status: live
  - name: far_away
    when: |
      card_country <> ip_country
      AND NOT card_present
    points: -5
    reason: Card of another country
    status: shadow
"""

POLICY = """\
lateness: 10 minutes
dedupe: 1 day
outcomes: {review: 40, decline: 80}
cap: 100
"""


def rules(text):
    return compile_rules("rules.yaml", text, FEATURES)


def policy(text):
    return compile_policy(Yaml.parse("policy.yaml", text))


def one(**changed):
    keys = {"name": "a", "when": "amount > 1", "points": "1", "reason": "r", "status": "live"} | changed
    return "rules:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in keys.items() if value is not None) + "\n"


def test_rules():
    high, far = rules(RULES)
    assert (high.name, high.points, high.status, high.runs) == ("high_amount", 45, "live", True)
    assert (far.name, far.points, far.status, far.runs) == ("far_away", -5, "shadow", True)
    assert high.reason.words({"amount": 1234.5, "currency": "EUR"}) == "Amount 1,234.50 in EUR"
    assert rules("rules: []") == ()
    assert [rule.runs for status in ("draft", "retired") for rule in rules(one(status=status))] == [False, False]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((None, "unknown"), (True, "yes"), (False, "no"), (1234567, "1,234,567"), (-3, "-3"), (0.1 + 0.2, "0.3")),
        *((0.0, "0.00"), (0.00123456, "0.00123"), (-2.5, "-2.50"), (2**53 / 7, "1.29e+15")),
        *((12345.678, "12,345.68"), (1e300, "1e+300"), (float("inf"), "inf"), (float("nan"), "nan"), ("DE", "DE")),
    ],
)
def test_a_value_in_words(value, words):
    assert spell_value(value, BIGINT) == words


def test_a_time_in_words():
    assert spell_value(1_767_225_600_999_999, TIMESTAMP) == "2026-01-01T00:00:00Z"
    assert spell_value(None, TIMESTAMP) == "unknown"


BROKEN_RULES = [
    ("", 1, 1, "nothing", "a YAML mapping"),
    ("- a", 1, 1, "a list", "a mapping"),
    ("rules: 5", 1, 8, "'5'", "a list"),
    ("rulez: []", 1, 1, "the unknown key 'rulez'", "rules"),
    ("rules: [", 1, 9, "expected the node content", "YAML"),
    ("rules:\n\t- a", 2, 1, "found character '\\t'", "YAML"),
    (one(name=None), 2, 5, "no key 'name'", "the keys name"),
    (one(weight=3), 7, 5, "the unknown key 'weight'", "one of name"),
    (one(name="A b"), 2, 11, "the name 'A b'", "lower case"),
    (one() + one().split("\n", 1)[1], 7, 11, "a second rule 'a'", "each name once"),
    ("rules: []\nrules: []", 2, 1, "a second 'rules'", "each key once"),
    (one(points="many"), 4, 13, "'many'", "a whole number"),
    (one(points="1.5"), 4, 13, "'1.5'", "a whole number"),
    (one(points="9999999"), 4, 13, "9999999 points", "at most"),
    (one(status="alive"), 6, 13, "the status 'alive'", "such as live"),
    (one(reason="''"), 5, 13, "an empty reason", "in words"),
    (one(reason='"{amuont} is high"'), 5, 13, "{amuont}", "such as amount"),
    (one(reason="'{pan} again'"), 5, 13, "a personal field", "shows nobody"),
    (one(reason="'{mail} again'"), 5, 13, "a personal field", "shows nobody"),
    (one(reason="'{amount again'"), 5, 13, "{amount again", "each {"),
    (one(when="amuont > 1"), 3, 11, "the unknown column 'amuont'", "such as amount"),
    (one(when="'amount > 1 AND'"), 3, 23, "'AND'", "SQL"),
    (one(when="amount + 1"), 3, 11, "DOUBLE", "a BOOLEAN condition"),
    (one(when="amount > 1 AND is_fraud"), 3, 26, "'is_fraud'", "one of"),
    (one(when="amount > 1 FROM x"), 3, 11, "amount > 1 FROM x", "one expression"),
    (one(when="amount > 1, amount < 2"), 3, 11, "amount > 1, amount < 2", "one expression"),
    (one(when="amount > 1; amount < 2"), 3, 23, "2 statements", "one statement"),
    (one(when="SELECT 1"), 3, 11, "'SELECT'", "SQL"),
    (one(when="COUNT(*) OVER (PARTITION BY pan) > 1"), 3, 11, "a window", "make it a feature"),
    (one(when="|\n      amount > 1\n      AND lowr(pan) = 'x'"), 5, 11, "'lowr'", "lower"),
    (one(when=">\n      amount > 1\n      AND lowr(pan) = 'x'"), 3, 11, "'lowr'", "lower"),
    (one(when="|\n\n      amount > 1\n      AND lowr(pan) = 'x'"), 6, 11, "'lowr'", "lower"),
    (one(when='"amount > 1 AND lowr(pan) = 1"'), 3, 27, "'lowr'", "lower"),
    (one(when='"amount\\t> lowr(pan)"'), 3, 12, "'lowr'", "lower"),
    (one(when="[amount]"), 3, 11, "a list", "a text of SQL"),
]


@pytest.mark.parametrize(("text", "line", "column", "found", "expected"), BROKEN_RULES)
def test_what_is_wrong_with_rules_is_said_with_its_place(text, line, column, found, expected):
    with pytest.raises(DetectorError) as caught:
        rules(text)
    error = caught.value
    assert found in error.found
    assert expected in error.expected
    assert (error.file, error.line, error.column) == ("rules.yaml", line, column)


def test_policy():
    made = policy(POLICY)
    assert (made.lateness_us, made.dedupe_us) == (600_000_000, 86_400_000_000)
    scores = made.scores(np.array([-7, 0, 39, 40, 79, 80, 1000]), np.zeros(7, np.int64))
    assert scores.tolist() == [0, 0, 39, 40, 79, 80, 100]
    least = np.array([0, 0, 0, 0, 1, 1, 0], np.int8)
    assert made.outcomes(scores, least).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_keep_is_refused_where_time_bounds_every_frame():
    root = Yaml.parse("policy.yaml", POLICY + "keep: 90 days\n")
    assert compile_policy(root).keep_us == 90 * 86_400_000_000
    check_keep(root, reads_keep=True)
    check_keep(Yaml.parse("policy.yaml", POLICY), reads_keep=False)
    with pytest.raises(DetectorError, match=r"policy\.yaml:5:7: found keep: 90 days; expected no `keep`"):
        check_keep(root, reads_keep=False)


def test_what_demoted_rules_add_leads_to_review_at_most():
    points = np.array([30, 60, 90, 90, 200, -10])
    doubted = np.array([30, 30, 60, 5, 200, 0])
    assert policy(POLICY).scores(points, doubted).tolist() == [30, 60, 79, 85, 79, 0]


BROKEN_POLICIES = [
    ("cap: 100", 1, 1, "no key 'lateness'", "lateness, dedupe, outcomes, cap"),
    (POLICY + "color: red\n", 5, 1, "the unknown key 'color'", "one of"),
    (POLICY.replace("10 minutes", "soon"), 1, 11, "'soon'", "10 minutes"),
    (POLICY.replace("10 minutes", "10"), 1, 11, "'10'", "a text"),
    (POLICY.replace("10 minutes", "1 month"), 1, 11, "'1 month'", "weeks"),
    (POLICY.replace("1 day", "900 days"), 2, 9, "'900 days'", "at most 31 days"),
    (POLICY + "keep: 9999 days", 5, 7, "'9999 days'", "at most 3660 days"),
    (POLICY.replace("review: 40, ", ""), 3, 11, "no key 'review'", "review, decline"),
    (POLICY.replace("review: 40", "reviw: 40"), 3, 12, "the unknown key 'reviw'", "review"),
    (POLICY.replace("decline: 80", "decline: 101"), 3, 33, "a threshold of 101", "the cap of 100"),
    (POLICY.replace("review: 40", "review: 0"), 3, 20, "a threshold of 0", "1 to the cap"),
    (POLICY.replace("review: 40", "review: 80"), 3, 20, "review from 80 on", "review below decline"),
    (POLICY.replace("cap: 100", "cap: 0"), 4, 6, "0", "a cap of 1"),
    (POLICY.replace("cap: 100", "cap: high"), 4, 6, "'high'", "a whole number"),
    (POLICY.replace("cap: 100", "cap: *x"), 4, 6, "undefined alias", "YAML"),
    ("\x00", 0, 0, "a character", "YAML"),
    ("[" * 5000, 0, 0, "nested too deep", "YAML"),
]


@pytest.mark.parametrize(("text", "line", "column", "found", "expected"), BROKEN_POLICIES)
def test_what_is_wrong_with_a_policy_is_said_with_its_place(text, line, column, found, expected):
    with pytest.raises(DetectorError) as caught:
        policy(text)
    error = caught.value
    assert found in error.found
    assert expected in error.expected
    assert (error.file, error.line, error.column) == ("policy.yaml", line, column)


SQL = "SELECT amount_minor / 100.0 AS amount FROM transactions"


def test_a_version_is_that_of_the_texts():
    texts = {"features.sql": SQL, "rules.yaml": one(), "policy.yaml": POLICY}
    version = compile_detector("card_fraud", texts).version
    assert re.fullmatch("[0-9a-f]{12}", version)
    assert compile_detector("other", dict(reversed(texts.items()))).version == version
    assert compile_detector("card_fraud", texts | {"policy.yaml": POLICY + "\n"}).version != version
    assert compile_detector("card_fraud", texts | {"examples.yaml": ""}).version == version


def test_a_missing_text_is_said():
    with pytest.raises(DetectorError, match=r"^rules.yaml: found no such text"):
        compile_detector("card_fraud", {"features.sql": SQL, "policy.yaml": POLICY})


@pytest.mark.parametrize(("original", "compile_text"), [(RULES, rules), (POLICY, policy)])
def test_a_mutated_text_never_gives_another_error(original, compile_text):
    draw = random.Random(20_261_124)
    words = re.findall(r"\w+|\s+|.", original)
    seeds = [
        *{word for word in words if word.strip()},
        "\t",
        "&a",
        "*a",
        "!!python/object:os.system",
        "? ",
        "---",
        "|",
        "\0",
    ]
    outcomes = set()
    for _ in range(300):
        mutated = list(words)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(mutated))
            mutated[at : at + draw.randrange(2)] = [draw.choice(seeds)] * draw.randrange(2)
        try:
            compile_text("".join(mutated))
        except DetectorError:
            outcomes.add("refused")
        else:
            outcomes.add("compiled")
    assert outcomes == {"refused", "compiled"}
