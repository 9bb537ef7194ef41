"""What clients of the Kafka REST Proxy send and are answered, v2 and v3, under the names that they know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Partition = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
SchemaId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class KafkaError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request, or a record of it, was refused."""

    error_code: int
    message: str


# v2


class ProducedRecord(msgspec.Struct, frozen=True, kw_only=True):
    value: msgspec.Raw = msgspec.field(default_factory=_null)
    key: msgspec.Raw = msgspec.field(default_factory=_null)
    partition: Partition | None = None


class ProduceRecords(msgspec.Struct, frozen=True, kw_only=True):
    """`value_schema` is Avro as text, `value_schema_id` the number that it got; so it is with keys."""

    records: Annotated[list[ProducedRecord], msgspec.Meta(min_length=1)]
    key_schema: str | None = None
    key_schema_id: SchemaId | None = None
    value_schema: str | None = None
    value_schema_id: SchemaId | None = None


class PartitionOffset(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands, or why it was refused."""

    partition: int | None = None
    offset: int | None = None
    error_code: int | None = None
    error: str | None = None


class ProducedRecords(msgspec.Struct, frozen=True, kw_only=True):
    """`offsets` are in the order of the records."""

    key_schema_id: int | None = None
    value_schema_id: int | None = None
    offsets: list[PartitionOffset]


class PartitionReplica(msgspec.Struct, frozen=True, kw_only=True):
    broker: int = 0
    leader: bool = True
    in_sync: bool = True


class TopicPartitionState(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    leader: int = 0
    replicas: list[PartitionReplica] = msgspec.field(default_factory=lambda: [PartitionReplica()])


class TopicState(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    configs: dict[str, str]
    partitions: list[TopicPartitionState]


class PartitionOffsets(msgspec.Struct, frozen=True, kw_only=True):
    """The first offset that a partition has, and the one that its next record gets."""

    beginning_offset: int
    end_offset: int


class CreateConsumer(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,128}$")] | None = None
    format: Literal["json", "binary"] = "binary"
    auto_offset_reset: Literal["earliest", "latest"] = msgspec.field(default="latest", name="auto.offset.reset")
    auto_commit_enable: Literal["true", "false"] | bool = msgspec.field(default="true", name="auto.commit.enable")


class CreatedConsumer(msgspec.Struct, frozen=True, kw_only=True):
    """All that follows goes to `base_uri`."""

    instance_id: str
    base_uri: str


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """Topics by name, or all that a pattern names (a regular expression)."""

    topics: list[str] | None = None
    topic_pattern: Annotated[str, msgspec.Meta(max_length=256)] | None = None


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    topics: list[str]


class NamedPartition(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    partition: Partition


class NamedPartitions(msgspec.Struct, frozen=True, kw_only=True):
    partitions: list[NamedPartition]


class NamedOffset(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    partition: Partition
    offset: Offset
    metadata: str | None = None


class NamedOffsets(msgspec.Struct, frozen=True, kw_only=True):
    offsets: list[NamedOffset]


class CommitOffsets(msgspec.Struct, frozen=True, kw_only=True):
    """Without offsets: all that the consumer was given."""

    offsets: list[NamedOffset] | None = None


class WantedPartitions(msgspec.Struct, frozen=True, kw_only=True):
    """Without partitions: all that the group has committed."""

    partitions: list[NamedPartition] | None = None


class ConsumedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it stands in the log: tokens in place of personal values. `json`: its key is a text and its value an
    object; `binary`: both are base64 of those.
    """

    topic: str
    key: str
    value: Any
    partition: int
    offset: int


# v3


class PayloadData(msgspec.Struct, frozen=True, kw_only=True):
    """`JSON`: an event. `STRING`: its JSON as a text. `BINARY`: base64 of its JSON, or of Avro in a frame. `AVRO`, or
    without a type: Avro's JSON, by a schema that is given or named.
    """

    type: str | None = None
    data: msgspec.Raw = msgspec.field(default_factory=_null)
    schema: str | None = None
    schema_id: SchemaId | None = None
    schema_version: SchemaId | None = None
    subject: str | None = None
    subject_name_strategy: str | None = None


class RecordHeader(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str | None = None


class ProduceRecord(msgspec.Struct, frozen=True, kw_only=True):
    value: PayloadData | None = None
    key: PayloadData | None = None
    partition_id: Partition | None = None
    headers: list[RecordHeader] | None = None
    timestamp: str | None = None


class BatchEntry(ProduceRecord, frozen=True, kw_only=True):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


class ProduceBatch(msgspec.Struct, frozen=True, kw_only=True):
    entries: Annotated[list[BatchEntry], msgspec.Meta(min_length=1)]


class ProducedData(msgspec.Struct, frozen=True, kw_only=True):
    type: str | None
    size: int
    schema_id: int | None = None


class ProduceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one record: `error_code` is 200 if it was taken."""

    error_code: int
    message: str | None = None
    cluster_id: str | None = None
    topic_name: str | None = None
    partition_id: int | None = None
    offset: int | None = None
    timestamp: str | None = None
    value: ProducedData | None = None


class BatchSuccess(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    cluster_id: str
    topic_name: str
    partition_id: int
    offset: int
    timestamp: str
    value: ProducedData


class BatchFailure(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    error_code: int
    message: str


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """Both are in the order of the entries."""

    successes: list[BatchSuccess]
    failures: list[BatchFailure]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    self: str
    resource_name: str | None = None


class ListMetadata(msgspec.Struct, frozen=True, kw_only=True):
    self: str
    next: None = None


class Relationship(msgspec.Struct, frozen=True, kw_only=True):
    related: str


class ClusterData(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaCluster"] = "KafkaCluster"
    metadata: Metadata
    cluster_id: str
    controller: Relationship
    acls: Relationship
    brokers: Relationship
    broker_configs: Relationship
    consumer_groups: Relationship
    topics: Relationship
    partition_reassignments: Relationship


class TopicData(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaTopic"] = "KafkaTopic"
    metadata: Metadata
    cluster_id: str
    topic_name: str
    is_internal: bool = False
    replication_factor: int = 1
    partitions_count: int
    partitions: Relationship
    configs: Relationship
    partition_reassignments: Relationship


class PartitionData(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaPartition"] = "KafkaPartition"
    metadata: Metadata
    cluster_id: str
    topic_name: str
    partition_id: int
    leader: Relationship
    replicas: Relationship
    reassignment: Relationship


class PartitionWithOffsetsData(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaPartitionWithOffsets"] = "KafkaPartitionWithOffsets"
    metadata: Metadata
    cluster_id: str
    topic_name: str
    partition_id: int
    earliest_offset: int
    latest_offset: int


class TopicConfigData(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaTopicConfig"] = "KafkaTopicConfig"
    metadata: Metadata
    cluster_id: str
    topic_name: str
    name: str
    value: str
    is_default: bool = True
    is_read_only: bool = True
    is_sensitive: bool = False
    source: Literal["DEFAULT_CONFIG"] = "DEFAULT_CONFIG"
    synonyms: list[str] = []


class ClusterList(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaClusterList"] = "KafkaClusterList"
    metadata: ListMetadata
    data: list[ClusterData]


class TopicList(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaTopicList"] = "KafkaTopicList"
    metadata: ListMetadata
    data: list[TopicData]


class PartitionList(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaPartitionList"] = "KafkaPartitionList"
    metadata: ListMetadata
    data: list[PartitionData]


class TopicConfigList(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["KafkaTopicConfigList"] = "KafkaTopicConfigList"
    metadata: ListMetadata
    data: list[TopicConfigData]


ANSWERS = (
    KafkaError,
    ProduceRecords,
    ProducedRecords,
    TopicState,
    TopicPartitionState,
    PartitionOffsets,
    CreateConsumer,
    CreatedConsumer,
    Subscription,
    Subscribed,
    NamedPartitions,
    NamedOffsets,
    CommitOffsets,
    ConsumedRecord,
    ProduceRecord,
    ProduceBatch,
    ProduceReport,
    BatchReport,
    ClusterData,
    TopicData,
    PartitionData,
    PartitionWithOffsetsData,
    TopicConfigData,
    ClusterList,
    TopicList,
    PartitionList,
    TopicConfigList,
)
"""What the OpenAPI description makes its schemas of."""
