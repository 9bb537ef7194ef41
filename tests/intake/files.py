"""What the tests of files share: payments as rows of a foreign file, in every format, and their mapping."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc
from tests.intake.house import House

from tidegate.adapters.embedded.claims import EmbeddedClaims
from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.ingest import Ingest
from tidegate.intake.protect import reveal
from tidegate.streams.files import FILES
from tidegate.streams.schema import load_schema

MAPPING = b"""
stream: transactions
fields:
  event_time: CAST(paid AS TIMESTAMP)
  transaction_type: "'purchase'"
  channel: "'pos'"
  card_present: "true"
  authorisation: "'approved'"
  customer_id: CAST(customer AS VARCHAR)
  pan: CAST(card AS VARCHAR)
  amount_minor: CAST(round(amount * 100) AS BIGINT)
  currency: "'EUR'"
columns:
  card: string
  amount: double
"""

FORMATS = ("json", "ndjson", "csv", "parquet", "avro", "orc", "ndjson.gz", "csv.zst")


def payments(number: int) -> list[dict[str, Any]]:
    return [
        {
            "paid": f"2024-05-{1 + n % 27:02} 12:00:{n % 60:02}",
            "customer": f"cust-{n % 7}",
            "card": "4111111111111111",
            "amount": n + 0.25,
            "note": f"row {n}",
            "cvv": "123",
        }
        for n in range(number)
    ]


def encoded(rows: list[dict[str, Any]], suffix: str) -> bytes:
    """The rows as a file whose name ends so."""
    inner, _, packing = suffix.partition(".")
    content = _encoded(rows, inner)
    match packing:
        case "gz":
            return gzip.compress(content)
        case "zst":
            return pa.compress(content, "zstd", asbytes=True)
        case _:
            return content


def _encoded(rows: list[dict[str, Any]], suffix: str) -> bytes:
    binary = io.BytesIO()
    match suffix:
        case "json":
            return json.dumps(rows).encode()
        case "ndjson":
            return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        case "csv":
            text = io.StringIO()
            written = csv.DictWriter(text, list(rows[0]))
            written.writeheader()
            written.writerows(rows)
            return text.getvalue().encode()
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), binary, row_group_size=3_000, write_page_checksum=True)
        case "orc":
            orc.write_table(pa.Table.from_pylist(rows), binary)
        case _:
            types = {str: "string", float: "double"}
            fields = [{"name": name, "type": ["null", types[type(value)]]} for name, value in rows[0].items()]
            fastavro.writer(binary, {"type": "record", "name": "payment", "fields": fields}, rows, codec="deflate")
    return binary.getvalue()


def packed(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def open_envelopes(folder: Path) -> Envelopes:
    return Envelopes(EmbeddedKeys(folder / "keys"), EmbeddedClaims(folder / "claims"))


@contextmanager
def ingesting(house: House, *, mapping: bytes | None = MAPPING, workers: int = 1, **given: Any) -> Iterator[Ingest]:
    house.log.create(FILES, partitions=1)
    given = {"stream": "transactions", "mapping": mapping and ("test.yaml", mapping)} | given
    ingest = Ingest(house.log, SystemClock(), partial(open_envelopes, house.folder), workers=workers, **given)
    try:
        yield ingest
    finally:
        ingest.close()


def revealed(house: House, stream: str = "transactions") -> list[dict[str, Any]]:
    """The stream's records with what was sealed in them."""
    schema = load_schema(stream)
    return [record | reveal(house.envelopes, schema, record) for record in house.values(stream)]
