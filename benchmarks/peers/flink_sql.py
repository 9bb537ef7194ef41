"""Flink SQL: one OVER window after the other (a streaming query may have but one in a SELECT), MATCH_RECOGNIZE for
the sequence, the model as a vectorised Python function, the rules as SQL. From a CSV file, parallelism 1, state on the
heap.

OVER waits for the watermark, which is as late as the workload allows events to be.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf

from benchmarks.peers.serve import Job, serve
from benchmarks.workload import (
    CAP,
    DECLINE,
    ENTITIES,
    FEATURES,
    LARGE_MINOR,
    LATENESS_US,
    MINUTE_US,
    MODEL_FEATURES,
    OUTPUTS,
    POINTS_SQL,
    REVIEW,
    SEQUENCE_US,
    TINY_MINOR,
)

_INTERVALS = {"10m": "'10' MINUTE", "1h": "'1' HOUR", "1d": "'1' DAY", "7d": "'7' DAY"}

#: When timed, the client takes so many of the answers, with when their events were read and they were given: taking all
#: of them would be its own cost.
_TAKEN = 100

_SOURCE = f"""CREATE TEMPORARY TABLE transactions (
    `number` BIGINT, time_ms BIGINT, pan STRING, device_id STRING, ip STRING, merchant_id STRING, amount_minor BIGINT,
    event_time AS TO_TIMESTAMP_LTZ(time_ms, 3), read_at AS CURRENT_ROW_TIMESTAMP(),
    WATERMARK FOR event_time AS event_time - INTERVAL '{LATENESS_US // MINUTE_US}' MINUTE
) WITH ('connector' = 'filesystem', 'path' = '{{path}}', 'format' = 'csv')"""

_SEQUENCE = f"""SELECT `number`, matched_at, TRUE AS done FROM transactions MATCH_RECOGNIZE (
    PARTITION BY pan
    ORDER BY event_time
    MEASURES MUCH.`number` AS `number`, MATCH_ROWTIME() AS matched_at
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (TINY OTHER*? MUCH) WITHIN INTERVAL '{SEQUENCE_US // MINUTE_US}' MINUTE
    DEFINE TINY AS amount_minor < {TINY_MINOR}, MUCH AS amount_minor > {LARGE_MINOR}
)"""


def _windows() -> str:
    query = "transactions"
    for entity, (key, other) in ENTITIES.items():
        for window, interval in _INTERVALS.items():
            query = f"""(SELECT *, COUNT(*) OVER w AS {entity}_count_{window},
                SUM(amount_minor) OVER w AS {entity}_sum_{window},
                AVG(CAST(amount_minor AS DOUBLE)) OVER w AS {entity}_avg_{window},
                MAX(amount_minor) OVER w AS {entity}_max_{window},
                COUNT(DISTINCT {other}) OVER w AS {entity}_distinct_{window}
            FROM {query} WINDOW w AS (PARTITION BY {key} ORDER BY event_time
                RANGE BETWEEN INTERVAL {interval} PRECEDING AND CURRENT ROW))"""
    return query


def _full() -> str:
    arguments = ", ".join(f"CAST(f.{name} AS DOUBLE)" for name in MODEL_FEATURES)
    features = ", ".join(f"f.{name}" for name in FEATURES)
    scored = f"""(SELECT f.`number`, f.read_at, f.amount_minor, {features}, COALESCE(s.done, FALSE) AS card_tested,
        model_score({arguments}) AS model_score
        FROM {_windows()} AS f LEFT JOIN ({_SEQUENCE}) AS s
        ON f.`number` = s.`number` AND f.event_time = s.matched_at)"""
    return f"""(SELECT *, CASE WHEN score >= {DECLINE} THEN 2 WHEN score >= {REVIEW} THEN 1 ELSE 0 END AS outcome
        FROM (SELECT *, LEAST({POINTS_SQL}, {CAP}) AS score FROM {scored}))"""


def _model(path: Path):
    booster = None

    def score(*columns):
        import lightgbm
        import numpy as np
        import pandas as pd

        nonlocal booster
        booster = booster or lightgbm.Booster(model_file=str(path))
        return pd.Series(booster.predict(np.column_stack(columns), num_threads=1))

    return udf(score, result_type=DataTypes.DOUBLE(), func_type="pandas")


def run(job: Job) -> None:
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for option, value in (
        ("parallelism.default", "1"),
        ("python.executable", sys.executable),
        ("table.local-time-zone", "UTC"),
    ):
        environment.get_config().set(option, value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        times = pa.array(job.events["event_time"].to_numpy() // 1000)
        pc.write_csv(job.events.set_column(1, "time_ms", times), path, pc.WriteOptions(include_header=False))
        environment.execute_sql(_SOURCE.format(path=path))
        environment.create_temporary_system_function("model_score", _model(job.model))
        answers = _full() if job.full else _windows()
        every = 1 if job.exact else job.events.num_rows // _TAKEN
        columns = ", ".join(("`number`", *OUTPUTS[job.workload]))
        query = f"""SELECT CAST(read_at AS STRING), CAST(CURRENT_ROW_TIMESTAMP() AS STRING), {columns}
            FROM {answers} WHERE MOD(`number`, {every}) = {every - 1}"""
        with environment.execute_sql(query).collect() as found:
            taken = [(_seconds(row[0]), _seconds(row[1]), *row[2:]) for row in map(tuple, found)]
    # From the first event read on: answers wait for the watermark, and come in bursts.
    job.measured(min(row[0] for row in taken), max(row[1] for row in taken), len(taken) * every)
    job.keep([row[2:] for row in taken])


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()


if __name__ == "__main__":
    serve(run)
