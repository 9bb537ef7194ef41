"""The job: Kafka's records, gathered on the JVM, through the shards, and back to Kafka in Flink's transactions.

A call from the JVM to Python costs about as much for one record as for a thousand. So SQL gathers what came within some
milliseconds into one text, by `array_agg` and `array_join` (`listagg` is quadratic), and takes apart what comes back.
The windows are those of the clock on the wall: they only gather, no record is ever too late for one.
"""
# PyFlink lives in an environment of its own: here nothing is known of its types.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownParameterType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyflink.common import Configuration, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor
from pyflink.table import DataTypes, Schema, StreamTableEnvironment

from tidegate.hosts.flink.texts import write_entries
from tidegate.ports.log import Entry

if TYPE_CHECKING:
    from tidegate.hosts.flink.shard import Shard

#: What came within so long crosses to Python at once.
_GATHER_MS = 20

#: Entries that cross back at once: a text of some megabytes.
_WRITTEN_AT_ONCE = 1000

#: A partition whose records do not come for so long has only marks of transactions left.
_GIVE_UP_MS = 10_000

_OPTIONS = {
    "table.local-time-zone": "UTC",
    "table.optimizer.agg-phase-strategy": "ONE_PHASE",
    "python.fn-execution.bundle.time": "5",
    "python.fn-execution.bundle.size": "1000",
    "execution.buffer-timeout.interval": "5 ms",
    # Who reads what is committed sees it this late, at most; a job that fails goes on from the last one.
    "execution.checkpointing.interval": "1 s",
    "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.max-backoff": "30 s",
    # The most slots that it can ever be given: keys are dealt out by it.
    "pipeline.max-parallelism": "128",
}

_SOURCE = """CREATE TABLE arrived (
    k STRING, v STRING,
    topic STRING METADATA VIRTUAL, `partition` INT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
    written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, headers MAP<STRING, BYTES> METADATA VIRTUAL,
    came AS PROCTIME()
) WITH (
    'connector' = 'kafka', 'topic' = '{topics}', {properties},
    'properties.group.id' = '{group}', 'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset', 'scan.topic-partition-discovery.interval' = '0',
    'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
)"""

_LINES = r"""CREATE TEMPORARY VIEW lines AS SELECT
    SUBSTRING(topic FROM {prefix} + 1) AS topic, came, CONCAT_WS(U&'\001f',
        SUBSTRING(topic FROM {prefix} + 1), CAST(`partition` AS STRING), CAST(`offset` AS STRING),
        CONCAT(CAST(EXTRACT(EPOCH FROM written) AS STRING), RIGHT(CAST(written AS STRING), 3)),
        COALESCE(TO_BASE64(headers['n']), ''), COALESCE(TO_BASE64(headers['id']), ''), COALESCE(TO_BASE64(k), ''),
        REPLACE(v, U&'\001e', U&'\001f')) AS line
    FROM arrived"""

_ROUTE = "SELECT '{detector}' AS detector, line, came FROM lines WHERE topic IN ({topics})"

_GATHERED = r"""SELECT detector, CONCAT(ARRAY_JOIN(ARRAY_AGG(line), U&'\001e'), U&'\001e') AS lines
    FROM TABLE(TUMBLE(TABLE routed, DESCRIPTOR(came), INTERVAL '{gather}' SECOND(1, 3)))
    GROUP BY window_start, window_end, detector"""

_SINK = """CREATE TABLE written (
    topic STRING METADATA, k STRING, v STRING,
    written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', headers MAP<STRING, BYTES> METADATA
) WITH (
    'connector' = 'kafka', 'topic' = '{topics}', {properties},
    'properties.transaction.timeout.ms' = '{transaction_ms}',
    'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{group}',
    'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
)"""

_WRITE = r"""INSERT INTO written SELECT CONCAT('{prefix}', f[1]), FROM_BASE64(f[2]), f[6],
        TO_TIMESTAMP_LTZ(CAST(f[5] AS BIGINT), 3),
        MAP['n', UNHEX(f[4]), 'id', ENCODE(FROM_BASE64(f[3]), 'UTF-8')]
    FROM (SELECT SPLIT(line, U&'\001f') AS f
        FROM decided CROSS JOIN UNNEST(SPLIT(entries, U&'\001e')) AS taken(line))"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """`prefix` stands before all topics; `properties` are those of Kafka's Java client; `routes` are the topics that
    each detector reads.
    """

    name: str
    prefix: str
    properties: Mapping[str, str]
    routes: Mapping[str, Sequence[str]]
    written: Sequence[str]
    transaction_ms: int


class _Decide(KeyedProcessFunction):
    """One detector's shard, made at its first micro-batch on this slot, of its name and its kinds of keyed state."""

    def __init__(self, open_shard: Callable[..., Shard]) -> None:
        self._open_shard = open_shard

    def open(self, runtime_context: RuntimeContext) -> None:
        self._kinds = (
            runtime_context.get_state(ValueStateDescriptor("head", Types.PRIMITIVE_ARRAY(Types.BYTE()))),
            runtime_context.get_map_state(
                MapStateDescriptor("blocks", Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE()))
            ),
            runtime_context.get_list_state(ListStateDescriptor("changes", Types.STRING())),
        )
        self._shards: dict[str, Shard] = {}

    def _shard(self, key: str) -> Shard:
        if key not in self._shards:
            self._shards[key] = self._open_shard(key, *self._kinds)
        return self._shards[key]

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        shard = self._shard(ctx.get_current_key())
        yield from _texts(shard.take(value[1]))
        if shard.waits:
            ctx.timer_service().register_processing_time_timer(time.time_ns() // 1_000_000 + _GIVE_UP_MS)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        shard = self._shard(ctx.get_current_key())
        if shard.waits and timestamp >= shard.taken_ms + _GIVE_UP_MS:
            yield from _texts(shard.give_up())


def _texts(entries: Sequence[Entry]) -> Iterator[str]:
    for first in range(0, len(entries), _WRITTEN_AT_ONCE):
        yield write_entries(entries[first : first + _WRITTEN_AT_ONCE])


def submit(job: Job, open_shard: Callable[..., Shard]) -> None:
    """Hand the job to the cluster for which Flink's command started this process."""
    configuration = Configuration()
    for option, value in {**_OPTIONS, "pipeline.name": job.name}.items():
        configuration.set_string(option, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    tables = StreamTableEnvironment.create(environment)
    _declare(tables, job)
    gathered = tables.to_data_stream(tables.sql_query(_GATHERED.format(gather=f"{_GATHER_MS / 1000:.3f}")))
    decided = (
        gathered.key_by(lambda row: row[0], key_type=Types.STRING())
        .process(_Decide(open_shard), Types.STRING())
        .name("decide")
        .uid("decide")
    )
    schema = Schema.new_builder().column_by_expression("entries", "f0").column("f0", DataTypes.STRING()).build()
    tables.create_temporary_view("decided", decided, schema)
    tables.execute_sql(_WRITE.format(prefix=job.prefix))


def _declare(tables: Any, job: Job) -> None:
    properties = ", ".join(f"'properties.{name}' = '{value}'" for name, value in job.properties.items())
    names = {"group": job.name, "properties": properties}
    topics = list(dict.fromkeys(topic for route in job.routes.values() for topic in route))
    tables.execute_sql(_SOURCE.format(topics=_named(job, topics), **names))
    tables.execute_sql(_LINES.format(prefix=len(job.prefix)))
    # A record goes to each detector that reads its topic, those of the control stream to all.
    routed = " UNION ALL ".join(
        _ROUTE.format(detector=detector, topics=", ".join(f"'{topic}'" for topic in route))
        for detector, route in job.routes.items()
    )
    tables.execute_sql(f"CREATE TEMPORARY VIEW routed AS {routed}")
    tables.execute_sql(_SINK.format(topics=_named(job, job.written), transaction_ms=job.transaction_ms, **names))


def _named(job: Job, topics: Sequence[str]) -> str:
    return ";".join(job.prefix + topic for topic in topics)
