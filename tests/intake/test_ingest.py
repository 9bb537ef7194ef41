"""`Ingest`: rows of files become events, exactly once by file and row; what fails is told of."""

import json
import os
import signal
import subprocess
import sys

import pytest
from tests.intake.files import FORMATS, MAPPING, encoded, ingesting, packed, payments, revealed
from tests.intake.house import House

from tidegate.intake.ingest import journal
from tidegate.intake.protect import open_rejected


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """One house and one worker for all formats: to start a process takes longer than a file."""
    house = House(tmp_path_factory.mktemp("house"))
    with ingesting(house) as ingest:
        yield house, ingest
    house.close()


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_events(spoken, tmp_path, suffix):
    house, ingest = spoken
    before = len(house.records("transactions"))
    rows = payments(5)
    result = ingest.take(packed(tmp_path, f"sales.{suffix}", encoded(rows, suffix)))
    assert (result.state, result.rows, result.taken, result.rejected) == ("taken", 5, 5, 0), result
    events = revealed(house)[before:]
    assert [(e["customer_id"], e["pan"], e["amount_minor"], e["note"]) for e in events] == [
        (row["customer"], row["card"], round(row["amount"] * 100), row["note"]) for row in rows
    ]
    assert all(event["pan_bin"] == "411111" and event["event_id"].startswith("f-") for event in events)
    assert {event["event_time"] for event in events} >= {1_714_564_800_000_000}
    assert b"cvv" not in b"".join(record.value for record in house.records("transactions"))
    assert not any("cvv" in event for event in events)


def test_a_file_is_known_by_what_it_holds(spoken, tmp_path):
    house, ingest = spoken
    content = encoded(payments(7), "csv")
    assert ingest.take(packed(tmp_path, "a.csv", content)).state == "taken"
    before = len(house.records("transactions"))
    again = ingest.take(packed(tmp_path, "b.csv", content))
    assert (again.state, again.rows, again.taken) == ("known", 7, 7)
    with ingesting(house) as later:
        assert later.take(packed(tmp_path, "c.csv", content)).state == "known"
    assert len(house.records("transactions")) == before


def test_a_row_that_fails_is_rejected_and_the_others_are_taken(spoken, tmp_path):
    house, ingest = spoken
    rows = payments(6)
    rows[1]["amount"] = "a lot"
    rows[2]["card"] = "4111111111111112"
    rows[3]["paid"] = "yesterday"
    lines = [json.dumps(row) for row in rows]
    lines[4] = '{"paid": "2024-05-01 00:00:00", "cvv": 123'
    lines[5] = lines[5][:-1] + ', "note": "twice"}'
    before = len(house.records("transactions"))
    result = ingest.take(packed(tmp_path, "spoiled.ndjson", "\n".join(lines).encode()))
    assert (result.state, result.rows, result.taken, result.rejected) == ("taken", 6, 1, 5)
    assert len(house.records("transactions")) == before + 1
    told = house.rejected()[-5:]
    assert [(each.row, each.step, each.field) for each in told] == [
        *((2, "map", None), (3, "validate", "pan"), (4, "map", "event_time")),
        *((5, "decode", None), (6, "decode", None)),
    ]
    assert {each.file for each in told} == {"spoiled.ndjson"}
    originals = [open_rejected(house.envelopes, each) for each in told]
    assert json.loads(originals[0]) == {name: value for name, value in rows[1].items() if name != "cvv"}
    assert b"123" not in b"".join(originals[3:])
    for each in told:
        assert not any(value in each.reason for value in ("a lot", "4111", "yesterday", "123"))


def test_a_mapping_that_does_not_fit_refuses_the_file_and_the_next_is_taken(spoken, tmp_path):
    house, ingest = spoken
    refused = ingest.take(packed(tmp_path, "other.csv", b"a,b\n1,2\n"))
    assert refused.state == "refused"
    assert "whose columns are a, b" in (refused.reason or "")
    assert house.rejected()[-1].row is None
    told = len(house.records("rejected"))
    assert ingest.take(packed(tmp_path, "again.csv", b"a,b\n1,2\n")).state == "refused"
    assert len(house.records("rejected")) == told
    assert ingest.take(packed(tmp_path, "good.csv", encoded(payments(3)[2:], "csv"))).state == "taken"


def test_a_bad_cell_is_the_fault_of_its_row(spoken, tmp_path):
    house, _ = spoken
    as_it_is = MAPPING.replace(b"CAST(round(amount * 100) AS BIGINT)", b"cents").split(b"columns:")[0]
    as_it_is = as_it_is.replace(b"CAST(customer AS VARCHAR)", b"customer").replace(b"CAST(card AS VARCHAR)", b"card")
    with ingesting(house, mapping=as_it_is) as ingest:
        rows = "paid,customer,card,cents\n2024-05-01,007,4111111111111111,1\n2024-05-01,8,4111111111111111,x\n"
        result = ingest.take(packed(tmp_path, "cents.csv", rows.encode()))
        assert (result.taken, result.rejected) == (1, 1), result
        assert revealed(house)[-1]["customer_id"] == "007"
        told = house.rejected()[-1]
        assert (told.row, told.step) == (2, "map")
        assert told.reason.startswith("map: column cents: wanted int64")
        # Amounts in units are no cents: that is the fault of the mapping.
        units = ingest.take(packed(tmp_path, "units.csv", rows.replace(",1\n", ",1.25\n").replace(",x", ",2").encode()))
    assert (units.state, "write the CAST" in (units.reason or "")) == ("refused", True)


def test_what_may_not_be_kept_is_not_read(spoken, tmp_path):
    house, _ = spoken
    with ingesting(house, mapping=MAPPING.replace(b"customer AS", b"cvv AS")) as ingest:
        refused = ingest.take(packed(tmp_path, "a.csv", encoded(payments(2), "csv")))
    assert (refused.state, "cvv may not be kept" in (refused.reason or "")) == ("refused", True)


def test_without_a_mapping_the_columns_have_the_names_of_the_fields(spoken, tmp_path):
    house, _ = spoken
    rows = "event_time,shop_id,temperature_c,seen\n2024-05-01T12:00:00Z,m-1,21.5,007\n"
    before = house.values("weather")
    with ingesting(house, mapping=None, stream="weather") as ingest:
        result = ingest.take(packed(tmp_path, "weather.csv", rows.encode()))
    assert (result.taken, result.rejected) == (1, 0), house.rejected()[-1]
    event = revealed(house, "weather")[len(before)]
    assert (event["temperature_c"], event["seen"]) == (21.5, "007")


def test_many_workers_keep_the_order_of_the_file(tmp_path):
    house = House(tmp_path)
    told = []
    with ingesting(house, workers=2, progress=lambda *done: told.append(done)) as ingest:
        result = ingest.take(packed(tmp_path, "sales.ndjson", encoded(payments(21_000), "ndjson")))
    assert (result.state, result.taken) == ("taken", 21_000)
    assert [event["event_id"].rsplit("-", 1)[1] for event in house.values("transactions")] == [
        str(row) for row in range(1, 21_001)
    ]
    assert told[-1] == ("sales.ndjson", 21_000, 21_000)
    house.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.intake.files import ingesting
from tests.intake.house import House
if __name__ == "__main__":
    def progress(name, done, total):
        if done >= 4000:
            os.kill(os.getpid(), signal.SIGKILL)
    with ingesting(House(Path(sys.argv[1])), progress=progress) as ingest:
        ingest.take(Path(sys.argv[2]))
"""


def test_killed_it_goes_on_where_it_was(tmp_path):
    rows = payments(9_000)
    rows[100]["card"] = rows[8_000]["card"] = "1"
    sales = packed(tmp_path, "sales.csv", encoded(rows, "csv"))
    house = House(tmp_path)
    script = packed(tmp_path, "killed.py", KILLED.encode())
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run([sys.executable, script, tmp_path, sales], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    taken = len(house.records("transactions"))
    assert 0 < taken < 9_000
    with ingesting(house) as ingest:
        result = ingest.take(sales)
    assert (result.state, result.taken, result.rejected, result.duplicates) == ("taken", 8_998, 2, 0)
    assert len({record.id for record in house.records("transactions")}) == 8_998
    assert [each.row for each in house.rejected()] == [101, 8_001]
    assert [record.state for record in journal(house.log)][-1] == "taken"
    house.close()


def test_two_that_take_one_file_at_once_take_each_row_once(tmp_path):
    house = House(tmp_path)
    sales = packed(tmp_path, "sales.csv", encoded([*payments(50), payments(1)[0] | {"card": "1"}], "csv"))
    with ingesting(house) as one, ingesting(house) as other:
        assert one.take(sales).taken == 50
        late = other.take(sales)
    assert (late.taken, late.duplicates) == (50, 50)
    assert (len(house.records("transactions")), len(house.rejected())) == (50, 1)
    house.close()
