"""The routes by which v3 clients of the Kafka REST Proxy look at the cluster: its topics, partitions and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from tidegate.intake.decode import JSON
from tidegate.intake.door import Door
from tidegate.intake.kafka_rest import (
    check_partition,
    offsets_of,
    partitions_of,
    require_reading,
    require_topic,
    topics_of,
)
from tidegate.intake.kafka_rest_answers import (
    ClusterData,
    ClusterList,
    ListMetadata,
    Metadata,
    PartitionData,
    PartitionList,
    PartitionWithOffsetsData,
    Relationship,
    TopicConfigData,
    TopicConfigList,
    TopicData,
    TopicList,
)
from tidegate.intake.kafka_rest_errors import KafkaRoute, RestError
from tidegate.intake.kafka_rest_openapi import answers
from tidegate.intake.kafka_rest_produce import PartitionId, TopicName
from tidegate.intake.openapi import ref
from tidegate.ports.log import MAX_RECORD_BYTES

#: A company has one log, and one name for it.
CLUSTER_ID = "tidegate"

#: What holds for every topic, as Kafka calls it.
CONFIGS: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "max.message.bytes": str(MAX_RECORD_BYTES),
    "message.timestamp.type": "LogAppendTime",
}

ClusterId = Annotated[str, Path(json_schema_extra={"enum": [CLUSTER_ID]})]
ConfigName = Annotated[str, Path(json_schema_extra={"enum": list(CONFIGS)})]


def check_cluster(cluster_id: str) -> None:
    """
    Raises:
        RestError: there is no such cluster.
    """
    if cluster_id != CLUSTER_ID:
        raise RestError(404, f"cluster: wanted {CLUSTER_ID}, which is all there is; name it")


def v3_routes(door: Door) -> APIRouter:  # noqa: C901  # a route each
    router = APIRouter(route_class=KafkaRoute, tags=["Kafka REST Proxy v3"])

    @router.get(
        "/v3/clusters",
        operation_id="listClusters",
        summary="The cluster, in a list",
        responses=answers({200: ref("ClusterList")}),
    )
    async def list_clusters(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        links = _Links(request)
        return _json(ClusterList(metadata=links.of_list("clusters"), data=[links.cluster()]))

    @router.get(
        "/v3/clusters/{cluster_id}",
        operation_id="getCluster",
        summary="The cluster",
        responses=answers({200: ref("ClusterData")}, 404),
    )
    async def get_cluster(cluster_id: ClusterId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        check_cluster(cluster_id)
        return _json(_Links(request).cluster())

    @router.get(
        "/v3/clusters/{cluster_id}/topics",
        operation_id="listClusterTopics",
        summary="The topics that one may write or read",
        responses=answers({200: ref("TopicList")}, 404),
    )
    async def list_topics(cluster_id: ClusterId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        principal = door.access.principal(request)
        check_cluster(cluster_id)
        links, partitions = _Links(request), await run_in_threadpool(door.log.topics)
        topics = [links.topic(topic, partitions[topic]) for topic in topics_of(principal) if topic in partitions]
        return _json(TopicList(metadata=links.of_list(_CLUSTER, "topics"), data=topics))

    @router.get(
        "/v3/clusters/{cluster_id}/topics/{topic}",
        operation_id="getClusterTopic",
        summary="A topic",
        responses=answers({200: ref("TopicData")}, 404),
    )
    async def get_topic(cluster_id: ClusterId, topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        see(request, cluster_id, topic)
        return _json(_Links(request).topic(topic, await partitions_of(door, topic)))

    @router.get(
        "/v3/clusters/{cluster_id}/topics/{topic}/partitions",
        operation_id="listClusterPartitions",
        summary="A topic's partitions",
        responses=answers({200: ref("PartitionList")}, 404),
    )
    async def list_partitions(cluster_id: ClusterId, topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        see(request, cluster_id, topic)
        links = _Links(request)
        partitions = [links.partition(topic, number) for number in range(await partitions_of(door, topic))]
        return _json(PartitionList(metadata=links.of_list(_CLUSTER, "topics", topic, "partitions"), data=partitions))

    @router.get(
        "/v3/clusters/{cluster_id}/topics/{topic}/partitions/{partition}",
        operation_id="getClusterPartition",
        summary="A partition",
        responses=answers({200: ref("PartitionData")}, 404),
    )
    async def get_partition(  # pyright: ignore[reportUnusedFunction]
        cluster_id: ClusterId, topic: TopicName, partition: PartitionId, request: Request
    ) -> Response:
        see(request, cluster_id, topic)
        await check_partition(door, topic, partition)
        return _json(_Links(request).partition(topic, partition))

    @router.get(
        "/v3/clusters/{cluster_id}/topics/{topic}/partitions/{partition}/offset",
        operation_id="getClusterPartitionOffset",
        summary="The first and the next offset of a partition",
        responses=answers({200: ref("PartitionWithOffsetsData")}, 404),
    )
    async def get_offset(  # pyright: ignore[reportUnusedFunction]
        cluster_id: ClusterId, topic: TopicName, partition: PartitionId, request: Request
    ) -> Response:
        """For those who may read the topic."""
        principal = door.access.principal(request)
        check_cluster(cluster_id)
        require_reading(principal, topic)
        earliest, latest = await offsets_of(door, topic, partition)
        place = (_CLUSTER, "topics", topic, "partitions", str(partition), "offset")
        answer = PartitionWithOffsetsData(
            metadata=_Links(request).of_one(*place),
            cluster_id=CLUSTER_ID,
            topic_name=topic,
            partition_id=partition,
            earliest_offset=earliest,
            latest_offset=latest,
        )
        return _json(answer)

    @router.get(
        "/v3/clusters/{cluster_id}/topics/{topic}/configs",
        operation_id="listClusterTopicConfigs",
        summary="A topic's settings",
        responses=answers({200: ref("TopicConfigList")}, 404),
    )
    async def list_configs(cluster_id: ClusterId, topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """They can be read, not changed."""
        see(request, cluster_id, topic)
        links = _Links(request)
        configs = [links.config(topic, name) for name in CONFIGS]
        return _json(TopicConfigList(metadata=links.of_list(_CLUSTER, "topics", topic, "configs"), data=configs))

    @router.get(
        "/v3/clusters/{cluster_id}/topics/{topic}/configs/{name}",
        operation_id="getClusterTopicConfig",
        summary="A setting of a topic",
        responses=answers({200: ref("TopicConfigData")}, 404),
    )
    async def get_config(  # pyright: ignore[reportUnusedFunction]
        cluster_id: ClusterId, topic: TopicName, name: ConfigName, request: Request
    ) -> Response:
        see(request, cluster_id, topic)
        if name not in CONFIGS:
            raise RestError(404, f"config: wanted one of {', '.join(CONFIGS)}; name one of them")
        return _json(_Links(request).config(topic, name))

    def see(request: Request, cluster_id: str, topic: str) -> None:
        principal = door.access.principal(request)
        check_cluster(cluster_id)
        require_topic(principal, topic)

    return router


_CLUSTER = f"clusters/{CLUSTER_ID}"


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)


class _Links:
    """What v3 answers tell, with links as the client came to this address."""

    def __init__(self, request: Request) -> None:
        self._root = f"{str(request.base_url).rstrip('/')}/v3"

    def of_one(self, *place: str) -> Metadata:
        path = "/".join(place)
        names = path.split("/")
        kinds = ("kafka", "topic", "partition" if "partitions" in names else "config")
        named = [f"{kind}={name}" for kind, name in zip(kinds, names[1::2], strict=False)]
        return Metadata(self=f"{self._root}/{path}", resource_name=f"crn:///{'/'.join(named)}")

    def of_list(self, *place: str) -> ListMetadata:
        return ListMetadata(self=f"{self._root}/{'/'.join(place)}")

    def cluster(self) -> ClusterData:
        return ClusterData(
            metadata=self.of_one(_CLUSTER),
            cluster_id=CLUSTER_ID,
            controller=self._to("brokers/0"),
            acls=self._to("acls"),
            brokers=self._to("brokers"),
            broker_configs=self._to("broker-configs"),
            consumer_groups=self._to("consumer-groups"),
            topics=self._to("topics"),
            partition_reassignments=self._to("topics/-/partitions/-/reassignment"),
        )

    def topic(self, topic: str, partitions: int) -> TopicData:
        return TopicData(
            metadata=self.of_one(_CLUSTER, "topics", topic),
            cluster_id=CLUSTER_ID,
            topic_name=topic,
            partitions_count=partitions,
            partitions=self._to(f"topics/{topic}/partitions"),
            configs=self._to(f"topics/{topic}/configs"),
            partition_reassignments=self._to(f"topics/{topic}/partitions/-/reassignment"),
        )

    def partition(self, topic: str, partition: int) -> PartitionData:
        path = f"topics/{topic}/partitions/{partition}"
        return PartitionData(
            metadata=self.of_one(_CLUSTER, path),
            cluster_id=CLUSTER_ID,
            topic_name=topic,
            partition_id=partition,
            leader=self._to(f"{path}/replicas/0"),
            replicas=self._to(f"{path}/replicas"),
            reassignment=self._to(f"{path}/reassignment"),
        )

    def config(self, topic: str, name: str) -> TopicConfigData:
        return TopicConfigData(
            metadata=self.of_one(_CLUSTER, "topics", topic, "configs", name),
            cluster_id=CLUSTER_ID,
            topic_name=topic,
            name=name,
            value=CONFIGS[name],
        )

    def _to(self, path: str) -> Relationship:
        return Relationship(related=f"{self._root}/{_CLUSTER}/{path}")
