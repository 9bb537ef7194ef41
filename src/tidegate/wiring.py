"""The one place that picks adapters: a port in, the adapter that the settings choose out."""

from __future__ import annotations

import hashlib
import secrets
import socket
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from tidegate.adapters.embedded.audit import EmbeddedAudit
from tidegate.adapters.embedded.claims import EmbeddedClaims
from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.detectors import EmbeddedDetectors
from tidegate.adapters.embedded.hotstore import EmbeddedHotStore
from tidegate.adapters.embedded.identity import EmbeddedIdentity
from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.schemas import EmbeddedSchemas
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.intake.envelopes import Envelopes
from tidegate.ports.audit import Audit
from tidegate.ports.claims import Claims
from tidegate.ports.clock import Clock
from tidegate.ports.hotstore import HotStore
from tidegate.ports.identity import Identity, Role
from tidegate.ports.keys import Keys
from tidegate.ports.lake import Lake
from tidegate.ports.log import Log
from tidegate.ports.models import Models
from tidegate.ports.schemas import Schemas
from tidegate.ports.snapshots import Snapshots
from tidegate.settings import Settings
from tidegate.simulator.story import SOURCES
from tidegate.streams.control import DETECTORS
from tidegate.streams.files import FILES
from tidegate.streams.offsets import OFFSETS
from tidegate.streams.rejected import RETRIES
from tidegate.streams.topics import TOPICS
from tidegate.streams.webhooks import DELIVERIES, SUBSCRIBERS
from tidegate.streams.webhooks import SOURCES as WEBHOOK_SOURCES

if TYPE_CHECKING:
    from tidegate.adapters.kafka.log_connection import Connection
    from tidegate.hosts.flink.cluster import FlinkCluster
    from tidegate.hosts.flink.submission import Submission
    from tidegate.kernel.detector import Detector

#: One day of a topic's retention, in milliseconds.
_DAY_MS = 24 * 3600 * 1000

#: How long what was sent to whom is kept. The newest record of each subscriber is written anew every day.
_DELIVERIES_DAYS = 7


def open_clock() -> Clock:
    """The wall clock."""
    return SystemClock()


def open_log(settings: Settings) -> Log:
    """The log, with every topic made."""
    log = _open_log(settings)
    for topic in TOPICS:
        log.create(topic, partitions=settings.partitions, retention_ms=settings.retention_days * _DAY_MS)
    log.create(OFFSETS, partitions=1, retention_ms=settings.retention_days * _DAY_MS)
    # What decided is told for ever, and in one order.
    log.create(DETECTORS, partitions=1)
    # What was taken is known for ever.
    log.create(FILES, partitions=1)
    log.create(RETRIES, partitions=1)
    # Who is registered is told for ever, and in one order.
    log.create(WEBHOOK_SOURCES, partitions=1)
    log.create(SUBSCRIBERS, partitions=1)
    log.create(DELIVERIES, partitions=1, retention_ms=_DELIVERIES_DAYS * _DAY_MS)
    return log


def _open_log(settings: Settings) -> Log:
    if settings.log == "embedded":
        settings.data.mkdir(parents=True, exist_ok=True)
        return EmbeddedLog(settings.data / "log.sqlite")
    # Kafka's client is loaded only where it is asked for.
    from tidegate.adapters.kafka.log import KafkaLog

    return KafkaLog(_connection(settings))


def _connection(settings: Settings) -> Connection:
    from tidegate.adapters.kafka.log_connection import connect

    return connect(
        settings.log,
        instance=_instance(settings),
        sign_in=settings.kafka_sign_in,
        user=settings.kafka_user,
        password_file=settings.kafka_password_file,
        ca_file=settings.kafka_ca_file,
        certificate_file=settings.kafka_certificate_file,
        key_file=settings.kafka_key_file,
        aws_region=settings.kafka_aws_region,
    )


@contextmanager
def scratch(settings: Settings, host: Literal["local", "kafka"]) -> Generator[tuple[Settings, Log, Snapshots]]:
    """A log as that host reads, every topic made and nothing in it, snapshots, and the settings that name both. All of
    it is gone afterwards.

    Raises:
        SettingError: there is no Kafka in the settings.
    """
    with TemporaryDirectory() as folder, ExitStack() as stack:
        own = settings.model_copy(update={"data": Path(folder), "log": "embedded"})
        if host == "kafka":
            from tidegate.adapters.kafka.log import drop
            from tidegate.adapters.kafka.log_connection import beside

            own = own.model_copy(update={"log": beside(settings.log, secrets.token_hex(4))})
            stack.callback(drop, _connection(own))
        log = open_log(own)
        stack.callback(log.close)
        yield own, log, open_snapshots(own)


def open_flink(settings: Settings) -> FlinkCluster:
    """The Flink cluster."""
    from tidegate.hosts.flink.cluster import FlinkCluster

    return FlinkCluster(settings.flink, settings.flink_python.absolute())


def flink_submission(settings: Settings, detectors: Mapping[str, dict[str, str]]) -> Submission:
    """What a job on that cluster is submitted with that runs these detectors, given by name as their texts.

    Raises:
        SettingError: the log is not on Kafka, or the cluster's sign-in is none that Flink has.
    """
    from tidegate.hosts.flink.submission import Submission

    connection = _connection(settings)
    connection.java()
    return Submission(
        job=connection.name("engine"),
        log={"address": settings.log, "sign_in": settings.kafka_sign_in, "aws_region": settings.kafka_aws_region},
        detectors=dict(detectors),
    )


def _instance(settings: Settings) -> str:
    """This deployment's name among those that share a log: the same after each start."""
    place = f"{socket.gethostname()}:{settings.data.resolve()}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def open_shadow_log(settings: Settings) -> Log:
    """The log that shadow versions write: a file of its own, so that they can hold nobody up."""
    from tidegate.hosts.shadow import SHADOW_TOPICS

    settings.data.mkdir(parents=True, exist_ok=True)
    log = EmbeddedLog(settings.data / "shadow.sqlite")
    for topic in SHADOW_TOPICS:
        log.create(topic, partitions=1, retention_ms=settings.retention_days * _DAY_MS)
    return log


def open_hotstore(settings: Settings) -> HotStore:
    """The hot store."""
    return EmbeddedHotStore(settings.data / "hotstore.sqlite")


def open_schemas(settings: Settings) -> Schemas:
    """The schema registry."""
    return EmbeddedSchemas(settings.data / "schemas.sqlite")


def open_lake(settings: Settings) -> Lake:
    """The lake."""
    # PyIceberg takes more than a second to load: only who needs the lake waits for it.
    from tidegate.adapters.embedded.lake import EmbeddedLake

    return EmbeddedLake(settings.data / "lake")


def open_keys(settings: Settings) -> Keys:
    """The key ring."""
    return EmbeddedKeys(settings.data / "keys")


def open_claims(settings: Settings) -> Claims:
    """Where large envelopes are kept."""
    return EmbeddedClaims(settings.data / "claims")


def open_envelopes(settings: Settings) -> Envelopes:
    """What seals and opens: the key ring and the claims."""
    return Envelopes(open_keys(settings), open_claims(settings))


def open_identity(settings: Settings) -> Identity:
    """Users, sources and the key their tokens are signed with."""
    signing_key = open_keys(settings).signing_key("identity")
    return EmbeddedIdentity(settings.data / "identity.sqlite", signing_key, open_clock())


def open_audit(settings: Settings) -> Audit:
    """The audit trail."""
    return EmbeddedAudit(settings.data / "audit", open_keys(settings).signing_key("audit"))


def open_snapshots(settings: Settings) -> Snapshots:
    """The engine's snapshots."""
    return EmbeddedSnapshots(settings.data / "snapshots")


def open_models() -> Models:
    """What loads models."""
    # The trees are compiled, which takes a second to load.
    from tidegate.adapters.embedded.models import EmbeddedModels

    return EmbeddedModels()


def read_detector(folder: Path) -> Detector:
    """The detector in a folder.

    Raises:
        NotFoundError: there is none.
        DetectorError: its text is wrong.
    """
    # The kernel brings a compiler along, which takes a second to load.
    from tidegate.kernel.detector import compile_detector

    return compile_detector(folder.resolve().name, read_detector_texts(folder), open_models())


def read_detector_texts(folder: Path) -> dict[str, str]:
    """The texts in a detector's folder, by file name.

    Raises:
        NotFoundError: there is none.
    """
    folder = folder.resolve()
    return EmbeddedDetectors(folder.parent).read(folder.name)


def begin_detectors(settings: Settings) -> list[str]:
    """Record the folders' versions of what is to decide, of the detectors that the log does not know yet. Returns the
    names of the others whose folder holds another version than the one that decides.
    """
    from tidegate.hosts.promotion import begin, standing_now
    from tidegate.kernel.detector import compile_detector

    log = open_log(settings)
    versions: dict[str, str] = {}
    for name in settings.live:
        texts = read_detector_texts(settings.detectors / name)
        begin(log, name, texts, open_clock())
        versions[name] = compile_detector(name, texts).version
    live = {name: standing.live for name, standing in standing_now(log).items()}
    others = [name for name, version in versions.items() if (now := live[name]) is None or now.version != version]
    log.close()
    return others


def free_ports(settings: Settings) -> Settings:
    """The same settings with a free port wherever they say 0."""
    return settings.model_copy(
        update={
            "door_port": settings.door_port or _free_port(settings.host),
            "desk_port": settings.desk_port or _free_port(settings.host),
            "engine_port": settings.engine_port or _free_port(settings.host),
        }
    )


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@dataclass(frozen=True, slots=True)
class DemoAccess:
    """Who may enter in a demo: `sign_ins` by role (name, password), `source_keys` by source."""

    sign_ins: dict[Role, tuple[str, str]]
    source_keys: dict[str, str]


#: Names of the demo's people, by role.
_PEOPLE: dict[Role, str] = {
    "fraud_ops": "fiona",
    "analyst": "anton",
    "data_scientist": "dana",
    "auditor": "aurel",
    "admin": "ada",
}


def demo_access(settings: Settings) -> DemoAccess:
    """Make the demo's people and sources, with new secrets at each run."""
    identity = open_identity(settings)
    sign_ins: dict[Role, tuple[str, str]] = {}
    for role, name in _PEOPLE.items():
        password = secrets.token_urlsafe(9)
        identity.add_user(name, password, frozenset({role}))
        sign_ins[role] = (name, password)
    return DemoAccess(sign_ins, {name: identity.add_source(name, streams) for name, streams in SOURCES.items()})
