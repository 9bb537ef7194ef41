import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import DecodeError
from tidegate.intake.decode import decode, kind, split_json, split_lines
from tidegate.intake.limits import MAX_DEPTH

SUITE = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "json-test-suite" / "test_parsing"


def refusal(event: bytes) -> str:
    with pytest.raises(DecodeError) as refused:
        decode(event)
    assert refused.value.step == "decode"
    return str(refused.value)


@pytest.mark.parametrize("case", sorted(SUITE.glob("y_*.json")), ids=lambda case: case.stem)
def test_what_must_be_json_is_refused_only_for_what_it_says(case):
    read = msgspec.json.decode(case.read_bytes())
    if isinstance(read, dict) and "duplicated" not in case.stem:
        assert decode(case.read_bytes()) == read
    else:
        assert re.search("wanted a JSON object|each name once", refusal(case.read_bytes()))


@pytest.mark.parametrize("case", sorted(SUITE.glob("n_*.json")), ids=lambda case: case.stem)
def test_what_is_no_json_is_refused(case):
    content = case.read_bytes()
    refusal(content)
    refusal(b'{"event_id": ' + content + b"}")


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"1" * 5000 + b"}",
        b"",
    ],
)
def test_no_reader_may_guess(content):
    refusal(content)


@pytest.mark.parametrize("bomb", [b"[", b'{"a":', b'{"a":[', b'[{"a":'])
@pytest.mark.parametrize("times", [MAX_DEPTH, 900, 100_000])
def test_a_bomb_of_nesting_is_refused(bomb, times):
    closing = {b"[": b"]", b"{": b"}"}
    nested = (
        bomb * times + b"1" + b"".join(closing[bytes([c])] for c in reversed(bomb * times) if bytes([c]) in closing)
    )
    refusal(b'{"event_id": ' + nested + b"}")


def test_nesting_at_the_interpreter_s_own_limit_is_refused_by_whichever_reader_meets_it_first():
    for times in range(900, 1000):
        event = b'{"a": "\\u003a", "cvv": ' + b"[" * times + b"]" * times + b"}"
        try:
            assert decode(event) == {"a": ":"}
        except DecodeError:
            assert "nesting" in refusal(event)


def test_nesting_is_taken_up_to_the_limit():
    lists = MAX_DEPTH - 1
    assert decode(b'{"a": ' + b"[" * lists + b"]" * lists + b"}")
    assert "nesting" in refusal(b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}")


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"b":{"a":1,"a":2}}',
        b'{"b":[{"a":1,"a":2}]}',
        b'{"a:":":","a:":":"}',
        b'{"a":"\\u003a","a":1}',
        b'{"a\\u003a":1,"a:":1}',
        b'{"a":"x:y","a":"\\u003A\\u003a"}',
    ],
)
def test_a_name_twice_is_refused(content):
    assert "one twice" in refusal(content)


class Pairs(list):
    """An object as it may be written: names may come twice."""


NAMES = st.sampled_from(["a", "b", ":", "a:", "é", '"', "\\"])
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(':a"\\é', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def written(tree) -> str:
    if isinstance(tree, Pairs):
        return "{" + " , ".join(f"{msgspec.json.encode(name).decode()} : {written(each)}" for name, each in tree) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(written(each) for each in tree) + "]"
    return msgspec.json.encode(tree).decode()


def doubled(tree) -> bool:
    if isinstance(tree, Pairs):
        return len(dict(tree)) != len(tree) or any(doubled(each) for _, each in tree)
    return isinstance(tree, list) and any(doubled(each) for each in tree)


@given(st.lists(st.tuples(NAMES, TREES), max_size=4).map(Pairs))
def test_doubled_names_are_found_and_only_they(tree):
    content = written(tree).encode()
    if doubled(tree):
        assert "one twice" in refusal(content)
    else:
        assert decode(content) == msgspec.json.decode(content)


def test_bodies_are_split_into_events():
    assert list(map(bytes, split_json(b' [ {"a":1} , 2 ] '))) == [b'{"a":1}', b"2"]
    assert split_json(b' {"a":1} ') == [b' {"a":1} ']
    assert split_lines(b'{"a":1}\r\n\n  \n{"b":2}') == [b'{"a":1}\r', b'{"b":2}']
    with pytest.raises(DecodeError):
        split_json(b'[{"a":1}')


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "null"),
        (True, "a boolean"),
        (7, "an integer"),
        (7.5, "a number"),
        ("secret", "a text of 6 characters"),
        (["secret"], "an array"),
        ({"secret": 1}, "an object"),
    ],
)
def test_the_kind_of_a_value_is_told_without_the_value(value, told):
    assert kind(value) == told
