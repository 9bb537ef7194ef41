"""What would have been is what comes out where the event is another: fed in its place, it gets that decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from tests.hosts.stream import decisions, detector, entry, stream, transaction
from tests.hosts.test_rollout import LAX, SMALL, Company

from tidegate.errors import NotFoundError, StateError, UsageError
from tidegate.hosts.whatif import WhatIf, what_if
from tidegate.ports.log import Entry
from tidegate.streams.decision import Decision


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path / "company")
    yield company
    company.log.close()


def asked(company: Company, decision: Decision, *, usual: bool = False, **had: str) -> list[WhatIf]:
    return what_if(company.log, [SMALL], decision, had, usual=usual, progress=lambda _done, _total: None)


def changed(entries: list[Entry], event_id: str, **columns: object) -> list[Entry]:
    """The stream with other values in one event."""
    return [
        msgspec.structs.replace(each, value=msgspec.json.encode({**msgspec.json.decode(each.value), **columns}))
        if each.id == event_id
        else each
        for each in entries
    ]


@pytest.mark.parametrize("place", [30, 120, -1])
def test_it_is_what_comes_out_with_the_other_event_in_its_place(company: Company, tmp_path: Path, place: int) -> None:
    entries = stream(200, seed=3)
    company.log.append(entries[:100])
    company.release(LAX)
    company.log.append(entries[100:])
    company.decide()
    decision = decisions(company.log)[place]
    for column, text, value in (
        ("pan", "pan_3", "pan_3"),
        ("customer_id", "nobody", "nobody"),
        ("terminal_id", "null", None),
        ("amount_minor", "7", 7),
        ("merchant_id", "m2", "m2"),
    ):
        other = Company(tmp_path / column)
        others = changed(entries, decision.event_id, **{column: value})
        other.log.append(others[:100])
        other.release(LAX)
        other.log.append(others[100:])
        other.decide()
        [expected] = [each for each in decisions(other.log) if each.event_id == decision.event_id]
        other.log.close()
        assert asked(company, decision, **{column: text}) == [
            WhatIf(column=column, value=value, outcome=expected.outcome, score=expected.score, reasons=expected.reasons)
        ]


def test_what_is_usual_for_the_customer_is_asked(company: Company) -> None:
    entries = [entry("transactions", transaction(n, pan=f"pan_{n % 3}", terminal_id="t1")) for n in range(11)]
    entries.append(entry("transactions", transaction(11, pan="pan_2", terminal_id="t9", merchant_id="m8")))
    company.log.append(entries)
    company.decide()
    decision = decisions(company.log)[-1]
    assert Counter(n % 3 for n in range(11)).most_common(1) == [(0, 4)]
    answers = asked(company, decision, usual=True, amount_minor="5")
    assert {each.column: each.value for each in answers} == {
        "amount_minor": 5,
        "pan": "pan_0",
        "terminal_id": "t1",
        "merchant_id": "m1",
    }


def test_a_decision_that_the_log_does_not_give_is_not_explained(company: Company) -> None:
    company.log.append(stream(40, seed=3))
    company.decide()
    decision = decisions(company.log)[20]
    with pytest.raises(StateError, match="tidegate verify says more"):
        asked(company, msgspec.structs.replace(decision, hash="0" * 64), amount_minor="5")
    with pytest.raises(NotFoundError, match="no texts of small 000000000000"):
        asked(company, msgspec.structs.replace(decision, detector_version="000000000000"), amount_minor="5")


@pytest.mark.parametrize(("column", "text"), [("nothing", "1"), ("event_id", "1"), ("amount_minor", "much")])
def test_what_the_event_can_not_have_is_refused(company: Company, column: str, text: str) -> None:
    company.log.append(stream(10, seed=3))
    company.decide()
    with pytest.raises(UsageError, match=column):
        asked(company, decisions(company.log)[0], **{column: text})


def test_the_version_that_decided_is_asked(company: Company) -> None:
    company.log.append([entry("transactions", transaction(n)) for n in range(6)])
    company.decide(detector("small", LAX))
    decision = decisions(company.log)[-1]
    company.append_release(LAX)
    [answer] = asked(company, decision, amount_minor="5")
    assert (answer.outcome, answer.score) == ("approve", 0)
