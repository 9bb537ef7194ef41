"""Runs one query in Flink SQL, in an environment of its own: flink_sql.py ROWS.csv COLUMNS QUERY RESULT.json

ROWS.csv has `number`, `time_ms` and then the columns; in the query they are the table `transactions`, with `event_time`
for the time. The rows are read one after the other, in event time, by one task.
"""

import json
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment


def main(rows: str, columns: str, query: str, result: str) -> None:
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    environment.get_config().set("parallelism.default", "1")
    environment.execute_sql(
        f"""CREATE TABLE transactions (
            `number` BIGINT, time_ms BIGINT, {columns},
            event_time AS TO_TIMESTAMP_LTZ(time_ms, 3), WATERMARK FOR event_time AS event_time - INTERVAL '1' SECOND
        ) WITH ('connector' = 'filesystem', 'path' = '{rows}', 'format' = 'csv')"""
    )
    with environment.execute_sql(query).collect() as found:
        Path(result).write_text(json.dumps([list(row) for row in found]))


main(*sys.argv[1:])
