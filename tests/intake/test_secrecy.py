"""No clear value leaves its envelope: not to the disk, an answer, a metric or a log line."""

from __future__ import annotations

import json
import logging
from base64 import b64encode

from tests.intake.house import PERSONAL, transaction
from tests.intake.test_decode import SUITE
from tests.intake.test_events import EVENTS, JSON, NDJSON, problem

from tidegate.intake.limits import MAX_EVENT_BYTES

#: Texts that stand for one person and appear nowhere else.
SENSITIVE = {
    "cvv": "98761234",
    "nested": {
        "card_verification_code": "98761234",
        "TRACK-1": "%B4111111111111111^QUIXOTIC/ZOE^28121010000000098761234?",
    },
    "said": "my pin is 98761234",
}
UNKNOWN = {"comment": "pays with 4111111111111111, ask zoe.quixotic@example.org", "passport": "PX-4499001177"}

CLEAR = [
    *PERSONAL.values(),
    "4111111111111111",
    "411111111111",
    "Quixotic",
    "quixotic",
    "Invalidenstra",
    "PX-4499001177",
    "98761234",
    "301820",
]


def leaks(content: bytes) -> list[str]:
    """Which clear values stand in the content: plain, in JSON's escapes, in base64 at any of its alignments."""
    found = []
    for text in CLEAR:
        plain = text.encode()
        forms = [plain, json.dumps(text)[1:-1].encode(), text.encode("utf-16-le")]
        forms += [b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4] for shift in range(3)]
        if any(form in content for form in forms if len(form) > 4):
            found.append(text)
    return found


def test_the_search_for_leaks_finds_them():
    for text in CLEAR:
        assert leaks(json.dumps({"a": text}).encode())
        assert len(text) < 12 or all(leaks(b64encode(b"x" * shift + text.encode() + b"yyy")) for shift in range(3))


def test_no_clear_value_leaves_its_envelope(house, caplog):
    caplog.set_level(logging.DEBUG)
    answers, analyst, ops = [], house.person("analyst"), house.person("fraud_ops")
    with house.open_door(decision_timeout_ms=1) as door:

        def send(method, path, **given):
            answers.append(door.request(method, path, **given))

        good = transaction(**SENSITIVE, **UNKNOWN)
        send("POST", EVENTS, json=good)
        send("POST", "/v1/decisions", json=good | {"event_id": "tx-2"})
        send("POST", EVENTS, json=[good | {"event_id": "tx-3"}, good | {"currency": PERSONAL["pan"]}, 7])
        for field in good.keys() - {"event_id", *PERSONAL, *SENSITIVE, *UNKNOWN}:
            for wrong in ("4111111111111111", PERSONAL["email"], {"a": PERSONAL["email"]}, [PERSONAL["pan"]]):
                send("POST", EVENTS, json=good | {field: wrong})
        for field in PERSONAL:
            send("POST", EVENTS, json=good | {field: {"nested": PERSONAL[field]}})
            send("POST", EVENTS, json=good | {field: PERSONAL[field] * 200})
        for wrong_id in ("4111111111111111", "4111-1111-1111-1111", PERSONAL["email"]):
            send("POST", EVENTS, json=good | {"event_id": wrong_id})
        text = json.dumps(good, ensure_ascii=False).encode()
        for broken in (text[:-1], text + b"}", b"[" + text, text.replace(b"{", b"{{"), text.decode().encode("utf-16")):
            for headers in (JSON, NDJSON):
                send("POST", EVENTS, content=broken, headers=headers)
        send("POST", EVENTS, content=text, headers={"Content-Type": "text/" + PERSONAL["pan"].replace(" ", "")})
        for clear in ("4111111111111111", PERSONAL["email"]):
            for path in (
                "/v1/decisions/{}",
                "/v1/customers/{}/recent",
                "/v1/sessions/{}",
                "/{}",
                "/v1/streams/{}/events",
            ):
                send("GET", path.format(clear), headers=analyst)
            send("POST", f"/v1/streams/{clear}/events", json=good)
            send("POST", f"/v1/transactions/{clear}/reveal", headers=ops)
            send("POST", EVENTS, json=good, headers={"Authorization": f"Bearer {clear}"})
        send("GET", "/metrics")
    assert {answer.status_code for answer in answers} >= {200, 202, 207, 401, 404, 405, 415, 422}
    assert not {answer.status_code for answer in answers} & {500}
    for answer in answers:
        assert not leaks(answer.content + str(answer.headers.raw).encode()), (answer.url, answer.text)
    said = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]  # the client's own
    assert len(said) > 50
    assert not leaks("\n".join(said).encode())
    written = [path for path in house.folder.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"log.sqlite", "log.sqlite-wal"}
    for path in written:
        assert not leaks(path.read_bytes()), path
    assert len(house.rejected()) > 50


def test_no_form_of_json_makes_the_door_fail(house, door):
    """Every file of the JSON test suite as a body, as an array's element and as a line."""
    for case in sorted(SUITE.glob("*.json")):
        content = case.read_bytes()
        for body, headers in (
            (content, JSON),
            (b"[" + content + b"]", JSON),
            (content, NDJSON),
            (b"{}\n" + content, NDJSON),
        ):
            answer = door.post(EVENTS, content=body, headers=headers)
            if len(content) > MAX_EVENT_BYTES and headers == NDJSON:
                problem(answer, 413)
            else:
                said = problem(answer, 422)
                assert said["step"] == "decode" or headers == NDJSON or not case.stem.startswith("n_")
    assert not house.records("transactions")
