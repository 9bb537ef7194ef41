"""Spark structured streaming, which has no OVER: `transformWithState` in Python an entity, one after the other, with
RocksDB state; rules as SQL, the model as a pandas function. `local[1]`, from Parquet files, a file a micro-batch.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.functions import pandas_udf
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.types import ArrayType, BooleanType, DoubleType, LongType, StringType, StructType

from benchmarks.peers.plain import roll, tested
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import CAP, DECLINE, ENTITIES, FEATURES, MODEL_FEATURES, POINTS_SQL, REVIEW

#: Micro-batches that a run is cut into: the first fills the windows, the second is measured.
_BATCHES = 2

_OPTIONS = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.session.timeZone": "UTC",
}

_EVENT = StructType()
for _name in ("number", "event_time", "amount_minor"):
    _EVENT = _EVENT.add(_name, LongType())
for _name in ("pan", "device_id", "ip", "merchant_id"):
    _EVENT = _EVENT.add(_name, StringType())
_EVENT = _EVENT.add("features", ArrayType(DoubleType())).add("card_tested", BooleanType())

_ROWS = (
    StructType()
    .add("times", ArrayType(LongType()))
    .add("amounts", ArrayType(LongType()))
    .add("others", ArrayType(StringType()))
)


class _Roll(StatefulProcessor):
    def __init__(self, other: str, *, with_sequence: bool) -> None:
        self._other, self._with_sequence = other, with_sequence

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._rows = handle.getValueState("rows", _ROWS)
        self._tiny_at = handle.getValueState("tiny_at", StructType().add("tiny_at", LongType()))

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:  # noqa: ARG002, N802, N803
        held = self._rows.get()
        state = tuple(map(list, held)) if held else ([], [], [])
        tiny_at = None
        if self._with_sequence:
            found = self._tiny_at.get()
            tiny_at = found[0] if found else None
        answers = []
        for row in sorted(rows, key=lambda row: row.number):  # a shuffle keeps no order
            event = row.asDict()
            values = roll(state, row.event_time, row.amount_minor, event[self._other])
            event["features"] = [*row.features, *map(float, values)]
            if self._with_sequence:
                tiny_at, event["card_tested"] = tested(tiny_at, row.event_time, row.amount_minor)
            answers.append(Row(**event))
        self._rows.update(state)
        if self._with_sequence:
            self._tiny_at.update((tiny_at,))
        yield from answers


def run(job: Job) -> None:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[1]")
    for option, value in _OPTIONS.items():
        builder = builder.config(option, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        each = -(-job.events.num_rows // _BATCHES)
        for number in range(_BATCHES):
            path = Path(folder) / f"{number}.parquet"
            pq.write_table(job.events.slice(number * each, each), path)
            os.utime(path, (number + 1, number + 1))  # files are taken by age
        plain = StructType([field for field in _EVENT.fields if field.name not in ("features", "card_tested")])
        stream = spark.readStream.schema(plain).option("maxFilesPerTrigger", 1).parquet(folder)
        stream = stream.selectExpr("*", "CAST(ARRAY() AS ARRAY<DOUBLE>) AS features", "FALSE AS card_tested")
        stream = stream.select(*_EVENT.fieldNames())
        for entity, (key, other) in ENTITIES.items():
            stream = stream.groupBy(key).transformWithState(
                _Roll(other, with_sequence=job.full and entity == "card"), _EVENT, "append", "none"
            )
        answers = stream.selectExpr(
            "number",
            "amount_minor",
            "card_tested",
            *(f"features[{place}] AS {name}" for place, name in enumerate(FEATURES)),
        )
        if job.full:
            answers = _judged(answers, job.model)

        def take(batch: DataFrame, _: int) -> None:
            job.put_table(batch.select(*job.columns).toArrow())

        query = (
            answers.writeStream.foreachBatch(take)
            .option("checkpointLocation", f"{folder}/checkpoint")
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()


def _judged(answers: DataFrame, model: Path) -> DataFrame:
    @pandas_udf("double")
    def model_score(*columns: pd.Series) -> pd.Series:
        import lightgbm

        booster = lightgbm.Booster(model_file=str(model))
        return pd.Series(booster.predict(pd.concat(columns, axis=1).to_numpy(), num_threads=1))

    scored = answers.withColumn("model_score", model_score(*MODEL_FEATURES)).selectExpr(
        "*", f"least({POINTS_SQL}, {CAP}) AS score"
    )
    return scored.selectExpr("*", f"INT(score >= {REVIEW}) + INT(score >= {DECLINE}) AS outcome")


if __name__ == "__main__":
    serve(run)
