"""Kafka's sign-ins, each at a real broker that asks for it; AWS's, which no broker here knows, up to its token."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from infra.stack.kafka import Kafka

from tidegate.adapters.kafka.log import KafkaLog
from tidegate.adapters.kafka.log_connection import Connection, connect
from tidegate.errors import SettingError
from tidegate.ports.log import Entry, TopicPartition

WORD = "a-word-for-tests"


class Authority:
    """Vouches for a broker and a client, all in PEM files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._signed("authority", self._key, ca=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate_file.write_bytes(self._signed(name, key, ca=False))
        plain = serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return certificate_file, key_file

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(java: None, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Kafka]:
    """A broker with a listener for each sign-in."""
    folder = tmp_path_factory.mktemp("guarded")
    certificate_file, key_file = authority.issue("broker")
    store = folder / "broker.pem"
    store.write_bytes(key_file.read_bytes() + certificate_file.read_bytes())
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    broker = Kafka(
        folder,
        listeners={"SCRAM": "SASL_SSL", "CERTIFICATE": "SSL"},
        scram={"tidegate": WORD},
        settings={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.ca_file),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": jaas,
            "listener.name.certificate.ssl.client.auth": "required",
        },
    ).start()
    yield broker
    broker.stop()


def works(connection: Connection) -> bool:
    log = KafkaLog(connection)
    log.create("in", partitions=1)
    [at] = log.append([Entry("in", "key", b"value", 0)])
    [record] = log.read({TopicPartition("in", 0): at.offset}, 1)
    log.close()
    return record.value == b"value"


def test_name_and_password(guarded: Kafka, authority: Authority, tmp_path: Path) -> None:
    password_file = tmp_path / "word"
    password_file.write_text(WORD + "\n")
    address = f"kafka://localhost:{guarded.ports['SCRAM']}/scram"
    given = {"sign_in": "scram", "user": "tidegate", "ca_file": authority.ca_file, "password_file": password_file}
    assert works(connect(address, **given))


def test_a_certificate(guarded: Kafka, authority: Authority) -> None:
    certificate_file, key_file = authority.issue("client")
    address = f"kafka://localhost:{guarded.ports['CERTIFICATE']}/mtls"
    given = {"ca_file": authority.ca_file, "certificate_file": certificate_file, "key_file": key_file}
    assert works(connect(address, sign_in="mtls", **given))


def test_aws_signs_a_token_for_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    config = connect("kafka://broker:9098", sign_in="iam", aws_region="eu-central-1").config()
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
    token, expires_s = config["oauth_cb"]("")
    url = urlparse(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    assert url.hostname == "kafka.eu-central-1.amazonaws.com"
    assert parse_qs(url.query)["Action"] == ["kafka-cluster:Connect"]
    assert expires_s > dt.datetime.now(dt.UTC).timestamp()


@pytest.mark.parametrize(
    ("sign_in", "missing"),
    [("scram", "KAFKA_PASSWORD_FILE"), ("mtls", "KAFKA_CERTIFICATE_FILE"), ("iam", "KAFKA_AWS_REGION")],
)
def test_what_a_sign_in_needs_is_named(sign_in: str, missing: str) -> None:
    with pytest.raises(SettingError, match=missing):
        connect("kafka://broker:9092", sign_in=sign_in).config()


@pytest.mark.parametrize("address", ["kafka://", "kafka:///prefix", "broker:9092", "sqlite"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(SettingError, match="TIDEGATE_LOG"):
        connect(address)
