"""What every schema registry does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.embedded.schemas import EmbeddedSchemas
from tidegate.errors import NotFoundError, UsageError
from tidegate.files.evolution import MAX_SCHEMA_BYTES, parse, unreadable
from tidegate.ports.schemas import MAX_VERSIONS


@pytest.fixture
def schemas(tmp_path):
    schemas = EmbeddedSchemas(tmp_path / "schemas.sqlite")
    yield schemas
    schemas.close()


def record(*fields, name="event"):
    return json.dumps({"type": "record", "name": name, "namespace": "shop", "fields": list(fields)})


ID = {"name": "id", "type": "string"}
AMOUNT = {"name": "amount", "type": "long"}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
FIRST, SECOND, THIRD = record(ID), record(ID, NOTE), record(ID, NOTE, AMOUNT)


def test_versions_are_counted_and_a_schema_has_one_id(schemas):
    first = schemas.register("orders-value", FIRST)
    assert (first.version, first.schema) == (1, FIRST)
    assert schemas.register("orders-value", json.dumps(json.loads(FIRST), indent=2)) == first
    second = schemas.register("orders-value", SECOND)
    assert (second.version, second.id != first.id) == (2, True)
    elsewhere = schemas.register("returns-value", SECOND)
    assert (elsewhere.version, elsewhere.id) == (1, second.id)
    assert schemas.subjects() == ["orders-value", "returns-value"]
    assert schemas.versions("orders-value") == [first, second]
    assert schemas.named(second.id) == [second, elsewhere]
    assert schemas.versions("nothing") == []
    for nobody in (99, -1, 1 << 70):
        with pytest.raises(NotFoundError):
            schemas.named(nobody)


def test_what_is_registered_stays(tmp_path):
    path = tmp_path / "schemas.sqlite"
    schemas = EmbeddedSchemas(path)
    first = schemas.register("orders-value", FIRST)
    schemas.set_compatibility("FULL", "orders-value")
    other = EmbeddedSchemas(path)
    assert other.versions("orders-value") == [first]
    schemas.close()
    assert EmbeddedSchemas(path).compatibility("orders-value") == other.compatibility("orders-value") == "FULL"
    other.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]x", '{"type": "record"}', '"nothing"', "[" * 100_000, '"' + "x" * MAX_SCHEMA_BYTES + '"']
)
def test_what_is_not_avro_is_refused(schemas, text):
    for ask in (schemas.register, schemas.conflicts):
        with pytest.raises(UsageError, match="schema"):
            ask("orders-value", text)
    assert schemas.subjects() == []


#: By level, whether the new version may follow the ones before.
FOLLOWING = [
    ("NONE", [FIRST], THIRD, True),
    ("BACKWARD", [FIRST], SECOND, True),
    ("BACKWARD", [SECOND], FIRST, True),
    ("BACKWARD", [FIRST], THIRD, False),
    ("FORWARD", [FIRST], THIRD, True),
    ("FORWARD", [THIRD], FIRST, False),
    ("FULL", [FIRST], SECOND, True),
    ("FULL", [FIRST], THIRD, False),
    ("FULL", [THIRD], FIRST, False),
    ("BACKWARD", [record(AMOUNT), record(NOTE)], record(AMOUNT | {"default": 0}), True),
    ("BACKWARD", [record(AMOUNT), record(NOTE)], record(AMOUNT | {"type": "string", "default": ""}), True),
    ("BACKWARD_TRANSITIVE", [record(AMOUNT), record(NOTE)], record(AMOUNT | {"type": "string", "default": ""}), False),
    ("FORWARD_TRANSITIVE", [record(AMOUNT), record(NOTE)], record(NOTE, ID), False),
    ("FULL_TRANSITIVE", [record(NOTE), record()], record(NOTE | {"doc": "why"}), True),
]


@pytest.mark.parametrize(("level", "before", "new", "follows"), FOLLOWING)
def test_a_version_follows_by_the_subject_s_compatibility(schemas, level, before, new, follows):
    schemas.set_compatibility("NONE")
    for schema in before:
        schemas.register("s", schema)
    schemas.set_compatibility(level, "s")
    assert (schemas.conflicts("s", new) == []) == follows
    if follows:
        assert schemas.register("s", new).version == len(before) + 1
    else:
        with pytest.raises(UsageError, match="not compatible"):
            schemas.register("s", new)
        assert len(schemas.versions("s")) == len(before)


def test_backward_is_what_holds_unless_said_otherwise(schemas):
    assert (schemas.compatibility(), schemas.compatibility("s")) == ("BACKWARD", None)
    schemas.register("s", FIRST)
    assert schemas.conflicts("s", THIRD) == ["version 1: /amount: is not written and has no default"]
    assert schemas.conflicts("s", THIRD, 1)
    assert schemas.conflicts("other", THIRD) == []
    with pytest.raises(NotFoundError):
        schemas.conflicts("s", THIRD, 2)
    schemas.set_compatibility("NONE")
    assert schemas.conflicts("s", THIRD) == []


def test_a_subject_has_so_many_versions_and_no_more(schemas, monkeypatch):
    monkeypatch.setattr("tidegate.adapters.embedded.schemas.MAX_VERSIONS", 3)
    assert MAX_VERSIONS > 3
    for number in range(3):
        schemas.register("s", record(ID, NOTE | {"doc": str(number)}))
    with pytest.raises(UsageError, match="3 versions"):
        schemas.register("s", FIRST)


ENUM = {"type": "enum", "name": "colour", "symbols": ["red", "green"]}
FIXED = {"type": "fixed", "name": "hash", "size": 4}
TREE = {
    "type": "record",
    "name": "tree",
    "fields": [{"name": "left", "type": ["null", "tree"]}, {"name": "value", "type": "int"}],
}


@pytest.mark.parametrize(
    ("reader", "writer", "reads"),
    [
        ("long", "int", True),
        ("int", "long", False),
        ("double", "float", True),
        ("string", "bytes", True),
        ("string", "long", False),
        (["null", "long"], "int", True),
        ("long", ["null", "long"], False),
        (["null", "long", "string"], ["null", "string"], True),
        (ENUM | {"symbols": ["red"]}, ENUM, False),
        (ENUM | {"symbols": ["red"], "default": "red"}, ENUM, True),
        (ENUM | {"symbols": ["red", "green", "blue"]}, ENUM, True),
        (ENUM | {"name": "paint", "aliases": ["colour"]}, ENUM, True),
        (ENUM | {"name": "paint"}, ENUM, False),
        (FIXED | {"size": 8}, FIXED, False),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, True),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, False),
        ({"type": "long", "logicalType": "timestamp-micros"}, "int", True),
        (TREE, TREE, True),
        (TREE, {**TREE, "fields": [TREE["fields"][0], {"name": "value", "type": "string"}]}, False),
    ],
)
def test_resolution_is_avro_s(reader, writer, reads):
    assert (unreadable(parse(json.dumps(reader)), parse(json.dumps(writer))) == []) == reads


@given(st.lists(st.sampled_from(["int", "long", "double", "string", "boolean"]), min_size=1, max_size=4, unique=True))
def test_every_schema_reads_its_own(types):
    schema = parse(json.dumps({"type": "record", "name": "r", "fields": [{"name": "a", "type": types}]}))
    assert unreadable(schema, schema) == []
