"""A model is trained on what a replay decided: the same bits each time, tested only on what could be known."""

from datetime import datetime, timedelta
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from tidegate.adapters.embedded.models import EmbeddedModels
from tidegate.errors import UsageError
from tidegate.files.mapping import read_mapping
from tidegate.hosts.replay import replay
from tidegate.kernel.detector import compile_detector
from tidegate.science import evaluate
from tidegate.science.evaluate import Events, measure
from tidegate.science.train import train

MAPPING = read_mapping(Path(__file__).resolve().parents[2] / "mappings" / "handbook.yaml")
TEXTS = {
    "features.sql": """
        SELECT amount_minor / 100.0 AS amount, COUNT(*) OVER customer AS payments, terminal_id AS terminal
        FROM transactions
        WINDOW customer AS (PARTITION BY customer_id ORDER BY event_time
                            RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW)""",
    "rules.yaml": "rules: []\n",
    "policy.yaml": "lateness: 10 minutes\ndedupe: 1 day\noutcomes: {review: 40, decline: 80}\ncap: 100\n",
}
DETECTOR = compile_detector("small", TEXTS)
SINCE, UNTIL = datetime(2024, 1, 1), datetime(2024, 1, 5)  # noqa: DTZ001 - without an offset they are UTC


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Sixteen days of two hundred customers: frauds are dear, and some are not told from others."""
    chance = np.random.default_rng(3)
    count = 8000
    seconds = np.sort(chance.choice(16 * 86_400, count, replace=False))
    frauds = chance.random(count) < 0.03
    amounts = np.where(frauds, chance.gamma(6, 40, count), chance.gamma(2, 20, count)).round(2)
    path = tmp_path_factory.mktemp("source") / "payments.parquet"
    pq.write_table(
        pa.table(
            {
                "TRANSACTION_ID": np.arange(count),
                "TX_DATETIME": [datetime(2024, 1, 1) + timedelta(seconds=int(each)) for each in seconds],  # noqa: DTZ001
                "CUSTOMER_ID": chance.integers(0, 200, count),
                "TERMINAL_ID": chance.integers(0, 50, count),
                "TX_AMOUNT": amounts,
                "TX_FRAUD": frauds.astype(np.int64),
            }
        ),
        path,
    )
    return path


@pytest.fixture(scope="module")
def decided(source):
    out = source.with_name("decided.parquet")
    replay(source, MAPPING, DETECTOR, out)
    return out


def trained(decided, source, folder, **changes):
    told = {"since": SINCE, "until": UNTIL, "name": "toy", "version": "1", **changes}
    return train(decided, source, MAPPING, DETECTOR, folder, **told)


def test_the_same_rows_give_the_same_model_and_the_card_says_what_it_is(decided, source, tmp_path):
    first, again = (trained(decided, source, tmp_path / name) for name in ("first", "again"))
    model = (tmp_path / "first" / "model.txt").read_bytes()
    assert model == (tmp_path / "again" / "model.txt").read_bytes()
    assert (first.sha256, first.metrics) == (again.sha256, again.metrics)
    card = yaml.safe_load((tmp_path / "first" / "card.yaml").read_text())
    # A text is no feature of a model.
    assert card["features"] == {"amount": "DOUBLE", "payments": "BIGINT"}
    assert card["sha256"] == first.sha256
    # The detector takes both as they are.
    texts = TEXTS | {
        "model/model.txt": model.decode(),
        "model/card.yaml": (tmp_path / "first" / "card.yaml").read_text(),
        "policy.yaml": TEXTS["policy.yaml"] + "model: {missing: nothing}\n",
    }
    with_model = compile_detector("small", texts, EmbeddedModels())
    assert with_model.model
    assert (with_model.model.id, with_model.model.fault) == ("toy 1", "")


def test_what_it_is_tested_on_is_what_was_known_by_then(decided, source, tmp_path):
    told = trained(decided, source, tmp_path / "model")
    table, features = pq.read_table(source), pq.read_table(decided).sort_by("event_time")
    # No two payments of one time are in either, so that rows of one order are the same payments.
    days = pc.days_between(pa.scalar(datetime(2024, 1, 1)), table["TX_DATETIME"]).to_numpy()  # noqa: DTZ001
    customers = table["CUSTOMER_ID"].cast(pa.string()).to_numpy().astype(str)
    events = Events(customers, days, table["TX_FRAUD"].to_numpy() == 1)
    learned = events.days < 4
    # The labels of the fourth day are known seven days later.
    chosen = evaluate.tested(events, trained=learned, first_day=11, delay_days=7) & (events.days < 15)
    assert (told.trained_on, told.trained_frauds) == (learned.sum(), events.frauds[learned].sum())
    assert (told.tested_on, told.tested_frauds) == (chosen.sum(), events.frauds[chosen].sum())
    rows = np.stack([features["amount"].to_numpy(), features["payments"].to_numpy()], axis=1)
    scores = lightgbm.Booster(model_file=told.file).predict(rows[chosen])
    assert measure(scores, events.take(chosen)) == told.metrics
    assert told.metrics.auc_roc > 0.9


def test_days_without_fraud_are_refused(decided, source, tmp_path):
    with pytest.raises(UsageError, match="wanted frauds among the payments to be tested on, got none of 0"):
        trained(decided, source, tmp_path / "model", since=datetime(2024, 1, 12), until=datetime(2024, 1, 14))  # noqa: DTZ001
    assert not (tmp_path / "model").exists()


def test_what_another_detector_decided_is_refused(decided, source, tmp_path):
    other = compile_detector("other", TEXTS)
    with pytest.raises(UsageError, match="not written by a replay of detector other"):
        train(decided, source, MAPPING, other, tmp_path, since=SINCE, until=UNTIL, name="toy", version="1")
