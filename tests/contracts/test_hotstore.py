"""What every hot store does: a projection in any order, twice or once, found by key, with its positions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.adapters.embedded.hotstore import EmbeddedHotStore
from tidegate.errors import StateError
from tidegate.ports.hotstore import RECENT_KEPT, SESSION_KEPT_MS, HotStore, Projection, RecentTransaction, Session
from tidegate.ports.log import Positions, TopicPartition
from tidegate.streams.decision import Decision, Outcome
from tidegate.streams.revision import Cause, Revision

Opener = Callable[[Path], HotStore]

NOWHERE: Positions = {}
JOIN_TIMEOUT_S = 60


def open_embedded(folder: Path) -> HotStore:
    return EmbeddedHotStore(folder / "hotstore.sqlite")


@pytest.fixture(params=[open_embedded], ids=["embedded"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
def hotstore(opener: Opener, tmp_path: Path) -> Generator[HotStore]:
    hotstore = opener(tmp_path)
    yield hotstore
    hotstore.close()


def transaction(number: int, *, pan: str | None = "pan_A", customer: str = "customer_A") -> dict[str, Any]:
    return {
        "event_id": f"tx-{number}",
        "event_time": 1_000_000 * number,
        "transaction_type": "purchase",
        "channel": "pos",
        "card_present": True,
        "authorisation": "approved",
        "customer_id": customer,
        "pan": pan,
        "pan_bin": None if pan is None else "411111",
        "pan_last4": None if pan is None else "1111",
        "merchant_id": "shop-ä",
        "merchant_country": "DE",
        "terminal_id": None,
        "amount_minor": 100 * number,
        "currency": "EUR",
        "sealed": "c2VhbGVk",
    }


def decision(number: int, outcome: Outcome = "review", detector: str = "card_fraud") -> Decision:
    return Decision(
        event_id=f"tx-{number}",
        event_time=1_000_000 * number,
        stream="transactions",
        detector=detector,
        detector_version="0123456789ab",
        features={"spent": 1.5, "seen": 3, "known": None},
        rules={"often": True},
        late=False,
        score=60,
        outcome=outcome,
        reasons=["often"],
    )


def revision(number: int, of: int, detector: str = "card_fraud") -> Revision:
    return Revision(
        event_id=f"tx-{of}",
        event_time=1_000_000 * of,
        stream="transactions",
        detector=detector,
        detector_version="0123456789ab",
        number=number,
        decision_hash="",
        old_outcome="approve" if number % 2 else "review",
        new_outcome="review" if number % 2 else "approve",
        old_score=0,
        new_score=60,
        fired=["often"],
        ceased=[],
        rules=["often"],
        reasons=["often"],
        causes=[Cause(stream="labels", event_id="label-9", event_time=1, place="labels/0@7")],
        revised_hash="",
        inputs={"transactions/0": 4},
    )


def label(number: int, *, is_fraud: bool) -> dict[str, Any]:
    return {"event_id": f"label-{number}-{is_fraud}", "transaction_id": f"tx-{number}", "is_fraud": is_fraud}


def session_event(number: int, action: str, customer: str | None = None, session: str = "s1") -> dict[str, Any]:
    return {
        "event_id": f"se-{number}",
        "event_time": 1_000_000 * number,
        "session_id": session,
        "customer_id": customer,
        "action": action,
    }


def put(hotstore: HotStore, **parts: Any) -> None:
    hotstore.apply(Projection(**parts), NOWHERE)


def ids(recent: list[RecentTransaction]) -> list[str]:
    return [seen.event_id for seen in recent]


def everything(hotstore: HotStore) -> list[Any]:
    numbers = range(8)
    return [
        [hotstore.transaction(f"tx-{n}") for n in numbers],
        [hotstore.decision(f"tx-{n}") for n in numbers],
        [hotstore.revision(f"tx-{n}", "card_fraud") for n in numbers],
        [hotstore.recent("pan", pan, 50) for pan in ("pan_A", "pan_B")],
        [hotstore.recent("customer_id", customer, 50) for customer in ("customer_A", "customer_B")],
        [hotstore.session(session) for session in ("s0", "s1")],
        hotstore.positions(),
    ]


def test_what_is_not_there_is_none(hotstore: HotStore) -> None:
    assert hotstore.transaction("tx-1") is None
    assert hotstore.decision("tx-1") is None
    assert hotstore.revision("tx-1", "card_fraud") is None
    assert hotstore.session("s1") is None
    assert hotstore.recent("pan", "pan_A", 10) == []
    assert hotstore.positions() == {}


def test_the_newest_revision_is_told_beside_the_first_decision(hotstore: HotStore) -> None:
    put(hotstore, decisions=[decision(1)], revisions=[revision(2, 1), revision(1, 1), revision(1, 1, "other")])
    put(hotstore, revisions=[revision(1, 1)])
    assert hotstore.revision("tx-1", "card_fraud") == revision(2, 1)
    assert hotstore.revision("tx-1", "other") == revision(1, 1, "other")
    assert hotstore.decision("tx-1") == decision(1)


def test_the_list_tells_the_outcome_now_beside_the_first(hotstore: HotStore) -> None:
    put(hotstore, transactions=[transaction(1), transaction(2)], decisions=[decision(1), decision(2)])
    put(hotstore, decisions=[decision(1, "decline", "strict")], revisions=[revision(2, 1), revision(1, 1, "strict")])
    seen = {each.event_id: (each.outcome, each.revised_outcome) for each in hotstore.recent("pan", "pan_A", 10)}
    assert seen == {"tx-1": ("decline", "review"), "tx-2": ("review", None)}


def test_a_transaction_comes_back_whole(hotstore: HotStore) -> None:
    put(hotstore, transactions=[transaction(1), transaction(2, pan=None)])
    assert hotstore.transaction("tx-1") == transaction(1)
    assert hotstore.transaction("tx-2") == transaction(2, pan=None)


def test_recent_is_by_card_or_customer_the_newest_first(hotstore: HotStore) -> None:
    put(
        hotstore,
        transactions=[
            transaction(3),
            transaction(1, customer="customer_B"),
            transaction(2, pan="pan_B"),
            transaction(4, pan=None),
        ],
    )
    assert ids(hotstore.recent("pan", "pan_A", 10)) == ["tx-3", "tx-1"]
    assert ids(hotstore.recent("customer_id", "customer_A", 10)) == ["tx-4", "tx-3", "tx-2"]
    assert ids(hotstore.recent("customer_id", "customer_A", 2)) == ["tx-4", "tx-3"]


@pytest.mark.parametrize("first", ["transactions", "decisions", "labels"])
def test_decision_and_label_find_their_transaction_in_any_order(hotstore: HotStore, first: str) -> None:
    parts = {"transactions": [transaction(1)], "decisions": [decision(1)], "labels": [label(1, is_fraud=True)]}
    put(hotstore, **{first: parts.pop(first)})
    put(hotstore, **parts)
    [seen] = hotstore.recent("pan", "pan_A", 10)
    assert (seen.outcome, seen.is_fraud, seen.amount_minor, seen.merchant_id) == ("review", True, 100, "shop-ä")
    assert hotstore.decision("tx-1") == decision(1)


def test_before_its_decision_and_label_a_transaction_has_neither(hotstore: HotStore) -> None:
    put(hotstore, transactions=[transaction(1)])
    [seen] = hotstore.recent("pan", "pan_A", 10)
    assert (seen.outcome, seen.is_fraud) == (None, None)


def test_the_label_that_came_last_holds(hotstore: HotStore) -> None:
    put(hotstore, transactions=[transaction(1)], labels=[label(1, is_fraud=True), label(1, is_fraud=False)])
    assert hotstore.recent("pan", "pan_A", 1)[0].is_fraud is False


def test_of_several_detectors_the_strictest_is_shown(hotstore: HotStore) -> None:
    decisions = [decision(1, "review", "b"), decision(1, "decline", "c"), decision(1, "approve", "a")]
    put(hotstore, transactions=[transaction(1)], decisions=decisions)
    assert hotstore.decision("tx-1") == decisions[1]
    assert hotstore.recent("pan", "pan_A", 1)[0].outcome == "decline"


def test_a_session_counts_its_actions(hotstore: HotStore) -> None:
    put(hotstore, sessions=[session_event(5, "view"), session_event(2, "login", "customer_A")])
    put(hotstore, sessions=[session_event(7, "view"), session_event(9, "view", session="s2")])
    assert hotstore.session("s1") == Session(
        session_id="s1",
        customer_id="customer_A",
        started=2_000_000,
        last_seen=7_000_000,
        actions={"login": 1, "view": 2},
    )


def test_positions_are_kept_by_partition(hotstore: HotStore, opener: Opener, tmp_path: Path) -> None:
    hotstore.apply(Projection(), {TopicPartition("labels", 0): 3, TopicPartition("labels", 1): 4})
    hotstore.apply(Projection(), {TopicPartition("labels", 0): 5})
    other = opener(tmp_path)
    assert other.positions() == {TopicPartition("labels", 0): 5, TopicPartition("labels", 1): 4}
    other.close()


def test_a_projection_that_fails_moves_nothing(hotstore: HotStore) -> None:
    broken = [transaction(1), {"event_id": "tx-2"}]
    with pytest.raises(KeyError):
        hotstore.apply(Projection(transactions=broken), {TopicPartition("transactions", 0): 2})
    assert hotstore.transaction("tx-1") is None
    assert hotstore.positions() == {}


#: Rows of any table, several of one event among them, as the log may hold them.
row = st.one_of(
    st.tuples(
        st.just("transactions"),
        st.builds(
            lambda n: transaction(n, pan=(None, "pan_A", "pan_B")[n % 3], customer=f"customer_{'AB'[n % 2]}"),
            st.integers(0, 7),
        ),
    ),
    st.tuples(st.just("decisions"), st.builds(decision, st.integers(0, 7))),
    st.tuples(st.just("revisions"), st.builds(revision, st.integers(1, 3), st.integers(0, 7))),
    st.tuples(st.just("labels"), st.builds(lambda n: label(n, is_fraud=n % 2 == 0), st.integers(0, 7))),
    st.tuples(
        st.just("sessions"),
        st.builds(lambda n: session_event(n, ("view", "login")[n % 2], session=f"s{n % 2}"), st.integers(0, 7)),
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, max_size=25), shuffled=st.randoms(use_true_random=False), cut=st.integers(0, 25))
def test_order_repeats_and_batches_do_not_matter(
    opener: Opener,
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, Any]],
    shuffled: Any,
    cut: int,
) -> None:
    def filled(*batches: list[tuple[str, Any]]) -> list[Any]:
        hotstore = opener(tmp_path_factory.mktemp("hotstore"))
        for batch in batches:
            parts = {name: [of for kind, of in batch if kind == name] for name in Projection.__struct_fields__}
            hotstore.apply(Projection(**parts), {TopicPartition("in", 0): 1})
        found = everything(hotstore)
        hotstore.close()
        return found

    other_order = list(rows)
    shuffled.shuffle(other_order)
    once = filled(rows)
    assert filled(other_order[:cut], other_order[cut:]) == once
    assert filled(rows, rows[:cut], rows) == once


# --- keeping


def test_the_newest_of_each_card_and_customer_stay(hotstore: HotStore) -> None:
    heavy = [transaction(n) for n in range(RECENT_KEPT + 30)]
    # Another card of the customer, older than all of the first: past for the customer, not for the card.
    rare = [{**transaction(500, pan="pan_B"), "event_time": 0}]
    others = [transaction(600, pan="pan_C", customer="customer_C")]
    put(hotstore, transactions=[*heavy, *rare, *others], decisions=[decision(n) for n in range(RECENT_KEPT + 30)])
    assert hotstore.expire(0) == 30
    assert hotstore.expire(0) == 0
    kept = [f"tx-{n}" for n in range(RECENT_KEPT + 29, 29, -1)]
    assert ids(hotstore.recent("pan", "pan_A", 10**6)) == kept
    assert ids(hotstore.recent("pan", "pan_B", 10)) == ["tx-500"]
    assert ids(hotstore.recent("customer_id", "customer_C", 10)) == ["tx-600"]
    assert hotstore.decision("tx-29") is None
    assert hotstore.decision("tx-30") == decision(30)


def test_a_session_that_ended_long_ago_goes(hotstore: HotStore) -> None:
    put(hotstore, sessions=[session_event(1, "view"), session_event(2, "view"), session_event(3, "view", session="s2")])
    assert hotstore.expire(2000 + SESSION_KEPT_MS) == 0
    assert hotstore.expire(2001 + SESSION_KEPT_MS) == 1
    assert hotstore.session("s1") is None
    assert hotstore.session("s2") is not None


# --- many at once


def test_others_read_while_one_writes(hotstore: HotStore, opener: Opener, tmp_path: Path) -> None:
    over = threading.Event()
    torn: list[int] = []

    def read() -> None:
        other = opener(tmp_path)
        while not over.is_set():
            position = other.positions().get(TopicPartition("in", 0), 0)
            if position and other.decision(f"tx-{position}") is None:
                torn.append(position)
        other.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(1, 100):
        projection = Projection(transactions=[transaction(n)], decisions=[decision(n)])
        hotstore.apply(projection, {TopicPartition("in", 0): n})
    over.set()
    for reader in readers:
        reader.join(JOIN_TIMEOUT_S)
    assert torn == []
    assert hotstore.positions() == {TopicPartition("in", 0): 99}


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hotstore.sqlite"
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    with pytest.raises(StateError, match="another program"):
        EmbeddedHotStore(path)
