"""A file of the simulated company's transactions as they were sent: late, twice, out of order; and its mapping."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tidegate.simulator.company import Company
from tidegate.simulator.day import Day
from tidegate.streams.schema import load_schema

START_US = 1_760_000_000_000_000


def simulated(folder: Path) -> tuple[Path, Path, int]:
    """The file, the mapping, and how many events there are, each counted once."""
    day = Day(Company(5, 200), start_us=START_US, rate_per_s=50, fraud_share=0.05, spoiled_share=0)
    sent = [event for event in day.until(START_US + 60_000_000) if event.stream == "transactions"]
    bodies = [event.body | {"event_time": datetime.fromisoformat(event.body["event_time"])} for event in sent]
    times, ids = [body["event_time"] for body in bodies], {body["event_id"] for body in bodies}
    assert times != sorted(times)
    assert len(ids) < len(bodies)
    schema = load_schema("transactions")
    names = [field.name for field in schema.fields]
    types = [(name, schema.protected_columns[name]) for name in names]
    pq.write_table(pa.Table.from_pylist(bodies, pa.schema(types)), folder / "sent.parquet")
    (folder / "mapping.yaml").write_text(
        yaml.safe_dump({"stream": "transactions", "fields": {name: name for name in names}})
    )
    return folder / "sent.parquet", folder / "mapping.yaml", len(ids)
