"""Every setting, its default and what it does. Each is read from the environment: TIDEGATE_<NAME>.

docs/reference/settings.md is written from here.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidegate.errors import SettingError


class Settings(BaseSettings):
    """The settings of one deployment. No secret is among them: those live in the key ring."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", frozen=True, extra="forbid")

    data: Path = Field(default=Path("data"), description="Folder of all state: log, hot store, lake, keys, audit.")
    log: str = Field(
        default="embedded",
        description="Where the log is: `embedded` (a file in the data folder), or a Kafka cluster: "
        "`kafka://host:port,host:port/prefix`. The prefix stands before the names of all topics and groups.",
    )
    kafka_sign_in: Literal["plain", "scram", "mtls", "iam"] = Field(
        default="plain",
        description="How to sign in to Kafka: `plain` (not at all), `scram` (name, password), `mtls` (a certificate), "
        "`iam` (the AWS identity of the process, for Amazon MSK).",
    )
    kafka_user: str = Field(default="", description="Name for Kafka's sign-in by `scram`.")
    kafka_password_file: Path | None = Field(
        default=None, description="File that holds the password for Kafka's sign-in by `scram`."
    )
    kafka_ca_file: Path | None = Field(
        default=None,
        description="Certificates, in PEM, of whoever vouches for Kafka's servers; unset takes the system's.",
    )
    kafka_certificate_file: Path | None = Field(
        default=None, description="Certificate, in PEM, for Kafka's sign-in by `mtls`."
    )
    kafka_key_file: Path | None = Field(default=None, description="Its private key, in PEM.")
    kafka_aws_region: str = Field(default="", description="AWS region of the cluster, for Kafka's sign-in by `iam`.")
    flink: str = Field(
        default="http://127.0.0.1:8081",
        description="Where the JobManager of a Flink cluster answers, for `tidegate flink`.",
    )
    flink_python: Path = Field(
        default=Path("build/flink/bin/python"), description="Python of the environment that has PyFlink and Tidegate."
    )
    detectors: Path = Field(default=Path("detectors"), description="Folder of the detectors' folders.")
    live: list[str] = Field(
        default=["card_fraud"], description="Detectors that decide, as a JSON list; the first answers `/v1/decisions`."
    )
    host: str = Field(
        default="127.0.0.1", description="Address that the door, the desk and the engine's metrics listen on."
    )
    door_port: int = Field(default=0, ge=0, le=65535, description="Port of the door; 0 takes a free one.")
    desk_port: int = Field(default=0, ge=0, le=65535, description="Port of the desk; 0 takes a free one.")
    engine_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the engine's `/metrics`, which ask for no key; 0 takes a free one.",
    )
    partitions: int = Field(default=4, ge=1, le=1024, description="Partitions of a topic, when it is made.")
    retention_days: int = Field(
        default=30, ge=1, description="How long the log keeps a record that every reader has read; the lake keeps all."
    )
    decision_timeout_ms: int = Field(
        default=800, ge=1, description="How long `POST /v1/decisions` waits for the engine before it answers `pending`."
    )
    rate_limit_per_s: int = Field(
        default=2_000, ge=1, description="Requests per second that one key may send before the door answers 429."
    )
    webhook_networks: list[IPv4Network | IPv6Network] = Field(
        default=[],
        description='Networks that are not public, as a JSON list such as `["127.0.0.0/8"]`, to which webhooks may be '
        "sent, by plain http too. None: they go to public addresses alone.",
    )
    snapshot_every_s: int = Field(default=30, ge=1, description="How often the engine writes a snapshot of its state.")
    revise_after_s: int = Field(
        default=10,
        ge=0,
        description="How long an event waits for those that belong before it until its decision is looked at again. "
        "What comes later is gone back for, which costs more.",
    )
    shadow_memory_mb: int = Field(
        default=2048, ge=256, description="Memory that the process of the shadow versions may take, in MiB."
    )
    lake_commit_every_s: int = Field(
        default=5, ge=1, le=10, description="How often new records are committed to the lake."
    )


def read_settings(**given: object) -> Settings:
    """The settings of the environment, with `given` (from the command line) above them.

    Raises:
        SettingError: a value is not what its setting takes; says which, what it takes and what it got.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType]  # checked by pydantic, here
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingError(f"setting TIDEGATE_{name.upper()}: {first['msg']}, got {first['input']!r}") from None
