"""The routes by which v2 clients of the Kafka REST Proxy look at topics and their partitions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tidegate.intake.door import Door
from tidegate.intake.kafka_rest import (
    check_partition,
    offsets_of,
    partitions_of,
    require_reading,
    require_topic,
    topics_of,
    v2_answer,
)
from tidegate.intake.kafka_rest_answers import PartitionOffsets, TopicPartitionState, TopicState
from tidegate.intake.kafka_rest_errors import KafkaRoute
from tidegate.intake.kafka_rest_openapi import array, v2
from tidegate.intake.kafka_rest_produce import PartitionId, TopicName
from tidegate.intake.kafka_rest_v3 import CONFIGS
from tidegate.intake.openapi import ref


def topic_routes(door: Door) -> APIRouter:
    router = APIRouter(route_class=KafkaRoute, tags=["Kafka REST Proxy v2"])

    @router.get(
        "/topics",
        operation_id="listTopics",
        summary="The topics that one may write or read",
        responses=v2({200: {"type": "array", "items": {"type": "string"}}}),
    )
    async def list_topics(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return v2_answer(request, topics_of(door.access.principal(request)))

    @router.get(
        "/topics/{topic}",
        operation_id="getTopic",
        summary="A topic",
        responses=v2({200: ref("TopicState")}, 404),
    )
    async def get_topic(topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        require_topic(door.access.principal(request), topic)
        partitions = [TopicPartitionState(partition=number) for number in range(await partitions_of(door, topic))]
        return v2_answer(request, TopicState(name=topic, configs=dict(CONFIGS), partitions=partitions))

    @router.get(
        "/topics/{topic}/partitions",
        operation_id="listPartitions",
        summary="A topic's partitions",
        responses=v2({200: array("TopicPartitionState")}, 404),
    )
    async def list_partitions(topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        require_topic(door.access.principal(request), topic)
        number = await partitions_of(door, topic)
        return v2_answer(request, [TopicPartitionState(partition=partition) for partition in range(number)])

    @router.get(
        "/topics/{topic}/partitions/{partition}",
        operation_id="getPartition",
        summary="A partition",
        responses=v2({200: ref("TopicPartitionState")}, 404),
    )
    async def get_partition(topic: TopicName, partition: PartitionId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        require_topic(door.access.principal(request), topic)
        await check_partition(door, topic, partition)
        return v2_answer(request, TopicPartitionState(partition=partition))

    @router.get(
        "/topics/{topic}/partitions/{partition}/offsets",
        operation_id="getPartitionOffsets",
        summary="The first and the next offset of a partition",
        responses=v2({200: ref("PartitionOffsets")}, 404),
    )
    async def get_offsets(topic: TopicName, partition: PartitionId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """For those who may read the topic."""
        require_reading(door.access.principal(request), topic)
        beginning, end = await offsets_of(door, topic, partition)
        return v2_answer(request, PartitionOffsets(beginning_offset=beginning, end_offset=end))

    return router
