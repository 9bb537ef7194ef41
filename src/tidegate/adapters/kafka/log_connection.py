"""How a Kafka cluster is reached: its servers, who signs in and how, and what every client of it is told.

plain   no sign-in, no encryption: loopback, or a network that does both
scram   name and password (SASL/SCRAM-SHA-512) over TLS
mtls    a client's certificate over TLS
iam     the AWS identity of this process (Amazon MSK) over TLS
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException

from tidegate.errors import AccessError, FencedError, OverloadError, SettingError, StateError, TidegateError

SignIn = Literal["plain", "scram", "mtls", "iam"]

#: How long a request may take before whoever waits for it is told to come again.
REQUEST_TIMEOUT_S = 10

_RETRY_AFTER_S = 1

_SCHEME = "kafka://"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """`servers` is host:port, several with commas. `prefix` stands before the names of all topics and groups, so that
    several companies may live in one cluster. `instance` names this deployment of the engine among those that stand by.
    """

    servers: str
    prefix: str = ""
    instance: str = ""
    sign_in: SignIn = "plain"
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    aws_region: str = ""

    def name(self, name: str) -> str:
        """A topic or group as the cluster knows it."""
        return self.prefix + name

    def config(self) -> dict[str, Any]:
        """What every client is told.

        Raises:
            SettingError: what the sign-in needs is missing.
        """
        config: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "client.id": f"tidegate-{self.instance}" if self.instance else "tidegate",
            "logger": _log,
            "error_cb": _told,
            # A broker that comes back is noticed soon.
            "reconnect.backoff.max.ms": 1000,
        }
        if self.ca_file is not None:
            config["ssl.ca.location"] = str(self.ca_file)
        match self.sign_in:
            case "plain":
                return config
            case "scram":
                password = _needed(self.password_file, "kafka_password_file", self.sign_in).read_text("utf-8").strip()
                return config | {
                    "security.protocol": "SASL_SSL" if self.ca_file else "SASL_PLAINTEXT",
                    "sasl.mechanism": "SCRAM-SHA-512",
                    "sasl.username": _needed(self.user, "kafka_user", self.sign_in),
                    "sasl.password": password,
                }
            case "mtls":
                return config | {
                    "security.protocol": "SSL",
                    "ssl.certificate.location": str(
                        _needed(self.certificate_file, "kafka_certificate_file", self.sign_in)
                    ),
                    "ssl.key.location": str(_needed(self.key_file, "kafka_key_file", self.sign_in)),
                }
            case "iam":
                region = _needed(self.aws_region, "kafka_aws_region", self.sign_in)
                return config | {
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": "OAUTHBEARER",
                    "oauth_cb": partial(_aws_token, region),
                }

    def java(self) -> dict[str, str]:
        """What Kafka's client on the JVM is told, where Flink reads and writes.

        Raises:
            SettingError: the sign-in needs a secret, which would stand in the job.
        """
        config = {"bootstrap.servers": self.servers}
        if self.ca_file is not None:
            config |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.ca_file)}
        match self.sign_in:
            case "plain":
                return config
            case "scram" | "mtls":
                raise SettingError(
                    f"setting TIDEGATE_KAFKA_SIGN_IN: Flink signs in by `plain` or `iam`, got {self.sign_in!r}"
                )
            case "iam":
                return config | {
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": "AWS_MSK_IAM",
                    "sasl.jaas.config": "software.amazon.msk.auth.iam.IAMLoginModule required;",
                    "sasl.client.callback.handler.class": "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
                }


def connect(address: str, **given: Any) -> Connection:
    """The connection that an address names: kafka://host:port,host:port/prefix.

    Raises:
        SettingError: it is no such address.
    """
    servers, _, prefix = address.removeprefix(_SCHEME).partition("/")
    if not address.startswith(_SCHEME) or not servers:
        raise SettingError(f"setting TIDEGATE_LOG: wanted `embedded` or kafka://host:port/prefix, got {address!r}")
    return Connection(servers=servers, prefix=f"{prefix}." if prefix else "", **given)


def beside(address: str, name: str) -> str:
    """An address in the same cluster whose prefix no other has, if `name` is new.

    Raises:
        SettingError: the address is none of Kafka's.
    """
    if not address.startswith(_SCHEME):
        raise SettingError(f"setting TIDEGATE_LOG: wanted kafka://host:port/prefix, got {address!r}")
    return address + ("-" if "/" in address.removeprefix(_SCHEME) else "/") + name


def _needed(value: Any, name: str, sign_in: str) -> Any:
    if not value:
        raise SettingError(f"setting TIDEGATE_{name.upper()}: Kafka's sign-in {sign_in!r} needs it, got nothing")
    return value


def _aws_token(region: str, _config: str) -> tuple[str, float]:
    """A token and until when it holds, in seconds since 1970."""
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ImportError:
        raise SettingError("log: sign-in `iam` needs the package aws-msk-iam-sasl-signer-python") from None

    token, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
    return token, expires_ms / 1000


def _told(error: KafkaError) -> None:
    _log.warning("kafka: %s", error.str())


def translated(step: str, error: KafkaException | KafkaError) -> TidegateError:
    """What a Kafka error is here."""
    what = error if isinstance(error, KafkaError) else error.args[0]
    said = f"log: {step}: {what.str()}"
    match what.code():
        case (
            KafkaError._FENCED  # noqa: SLF001 - the library's names of its own errors
            | KafkaError.INVALID_PRODUCER_EPOCH
            | KafkaError.PRODUCER_FENCED
            | KafkaError.FENCED_INSTANCE_ID
            | KafkaError.INVALID_PRODUCER_ID_MAPPING
        ):
            return FencedError(f"{said}; a newer member, or the transaction's time-out, took over: this one stops")
        case (
            KafkaError.TOPIC_AUTHORIZATION_FAILED
            | KafkaError.GROUP_AUTHORIZATION_FAILED
            | KafkaError.CLUSTER_AUTHORIZATION_FAILED
            | KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        ):
            return AccessError(f"{said}; give this principal the right", known=True)
        case KafkaError.SASL_AUTHENTICATION_FAILED | KafkaError._AUTHENTICATION:  # noqa: SLF001
            return AccessError(f"{said}; see the settings TIDEGATE_KAFKA_*", known=False)
        case _ if what.fatal():
            return StateError(f"{said}; open the log again")
        case _:
            return OverloadError(f"{said}; try again", retry_after_s=_RETRY_AFTER_S)
