"""Files that were cut off or had bits flipped: a clear refusal, nothing half taken, and the next file is taken."""

import random

import pytest
from tests.intake.files import encoded, ingesting, packed, payments
from tests.intake.house import House

ROWS = 300


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("house"))
    with ingesting(house) as ingest:
        yield house, ingest
    house.close()


def damaged(content, seed):
    """Cut off, or with one to four bits flipped."""
    chance = random.Random(seed)
    if seed % 2:
        return content[: chance.randrange(len(content))]
    spoiled = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
    return bytes(spoiled)


@pytest.mark.parametrize("suffix", ["parquet", "avro", "orc", "ndjson.gz", "ndjson.zst"])
def test_what_is_damaged_is_taken_whole_or_not_at_all(spoken, tmp_path, request, suffix):
    house, ingest = spoken
    good, refused = encoded(payments(ROWS), suffix), 0
    for seed in range(request.config.getoption("--corruptions")):
        before = len(house.records("transactions"))
        name = f"{seed}.{suffix}"
        result = ingest.take(packed(tmp_path, name, damaged(good, seed)))
        after = len(house.records("transactions"))
        if result.state == "refused":
            refused += 1
            assert after == before, (seed, result)
            assert f"file {name}" in result.reason or "mapping test.yaml" in result.reason, (seed, result.reason)
        else:
            # Its bits say something else now, or nobody reads those that were flipped.
            assert result.taken + result.rejected == result.rows, (seed, result)
            assert after - before == result.taken - result.duplicates, (seed, result)
    assert refused > request.config.getoption("--corruptions") // 3
    assert ingest.take(packed(tmp_path, f"good.{suffix}", good)).taken == ROWS
