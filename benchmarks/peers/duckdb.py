"""DuckDB: the same SQL text over all rows at once. It has no MATCH_RECOGNIZE: the sequence is the last tiny or large
payment before this one, by LAG; and no models: LightGBM scores the features' table.
"""

from __future__ import annotations

import duckdb
import lightgbm
import numpy as np
import pyarrow as pa

from benchmarks.peers.serve import Job, serve
from benchmarks.workload import (
    CAP,
    DECLINE,
    LARGE_MINOR,
    MINUTE_US,
    MODEL_FEATURES,
    OUTPUTS,
    POINTS_SQL,
    REVIEW,
    SEQUENCE_US,
    TINY_MINOR,
    features_sql,
)

_SEQUENCE = f"""SELECT number FROM transactions WHERE amount_minor < {TINY_MINOR} OR amount_minor > {LARGE_MINOR}
    WINDOW card AS (PARTITION BY pan ORDER BY event_time)
    QUALIFY amount_minor > {LARGE_MINOR} AND lag(amount_minor) OVER card < {TINY_MINOR}
        AND event_time - lag(event_time) OVER card < INTERVAL '{SEQUENCE_US // MINUTE_US}' MINUTE"""

_JUDGED = f"""SELECT *, (score >= {REVIEW})::INT + (score >= {DECLINE})::INT AS outcome
    FROM (SELECT *, least({POINTS_SQL}, {CAP}) AS score FROM scored)"""


def run(job: Job) -> None:
    connection = duckdb.connect(config={"threads": 1})
    rows = job.events.set_column(1, "event_time", job.events["event_time"].cast(pa.timestamp("us")))
    connection.register("transactions", rows)
    job.begin()
    answers = connection.sql(features_sql(keep="number, amount_minor")).to_arrow_table()
    if job.full:
        matrix = np.column_stack([answers[name].cast(pa.float64()).to_numpy() for name in MODEL_FEATURES])
        model_scores = lightgbm.Booster(model_file=job.model).predict(matrix, num_threads=1)
        connection.register("scores", answers.append_column("model_score", pa.array(model_scores)))
        connection.sql(f"CREATE TEMP VIEW scored AS SELECT *, number IN ({_SEQUENCE}) AS card_tested FROM scores")
        answers = connection.sql(f"SELECT number, {', '.join(OUTPUTS['full'])} FROM ({_JUDGED})").to_arrow_table()
    job.put_table(answers)


if __name__ == "__main__":
    serve(run)
