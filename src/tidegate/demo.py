"""The company on one machine: all services, simulated sources, and a live account of what happens.

What it counts it reads from the log, beside the services, not from what they say of themselves; only the latency until
an alert is readable comes from the desk, which is where it becomes readable.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, get_args

import httpx
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from tidegate.errors import StateError
from tidegate.ports.log import Log, Positions, read_on
from tidegate.settings import Settings
from tidegate.signals import stop_on
from tidegate.streams.decision import ALERTS, DECISIONS, REJECTED, Outcome
from tidegate.streams.revision import REVISIONS, Revision, decode_revision
from tidegate.streams.schema import STREAMS
from tidegate.streams.topics import TOPICS
from tidegate.supervisor import Start, Supervisor, addresses, running
from tidegate.wiring import DemoAccess, demo_access, free_ports, open_lake, open_log

#: How long the demo waits, once the sources have stopped, until all that was taken is decided and readable.
DRAIN_TIMEOUT_S = 60

_READ_LIMIT = 10_000
_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Play:
    """What the simulated company does."""

    rate_per_s: float
    fraud_share: float
    spoiled_share: float
    seed: int


class _Seen(msgspec.Struct):
    """The part of a decision that is counted."""

    outcome: str


class Account:
    """Counts what this run added to the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._began = log.ends(TOPICS)
        self._read: Positions = {place: end for place, end in self._began.items() if place.topic == DECISIONS}
        self.outcomes: Counter[str] = Counter()

    def by_topic(self) -> Counter[str]:
        """Records added to each topic since the run began."""
        counts: Counter[str] = Counter()
        for place, end in self._log.ends(TOPICS).items():
            counts[place.topic] += end - self._began.get(place, 0)
        return counts

    def count_outcomes(self) -> None:
        for record in read_on(self._log, self._read):
            self.outcomes[msgspec.json.decode(record.value, type=_Seen).outcome] += 1

    def revisions(self) -> dict[str, int]:
        """What was revised in this run, how often that raised an alert, and what came too late for it."""
        at = {place: end for place, end in self._began.items() if place.topic == REVISIONS}
        counts = {"revised": 0, "alerts": 0, "missed": 0}
        for record in read_on(self._log, at):
            revision = decode_revision(record.value)
            if not isinstance(revision, Revision):
                counts["missed"] += 1
                continue
            counts["revised"] += 1
            outcomes: tuple[str, ...] = get_args(Outcome)
            counts["alerts"] += outcomes.index(revision.new_outcome) > outcomes.index(revision.old_outcome)
        return counts

    def undecided(self) -> int:
        """Transactions in the log that the engine has not decided yet."""
        return self._log.lag("engine").get("transactions", 0)

    def unread(self) -> int:
        """Decisions that are not in the hot store yet."""
        return self._log.lag("hotstore").get(DECISIONS, 0)


class Demo:
    """One run. `summary` is what `--json` prints."""

    def __init__(self, settings: Settings, play: Play, console: Console) -> None:
        self.settings = free_ports(settings)
        self.console = console
        self.log = open_log(self.settings)
        self.access: DemoAccess = demo_access(self.settings)
        company = Start(
            "simulator",
            self.settings.model_dump(mode="json"),
            {"play": asdict(play), "credentials": self.access.source_keys},
        )
        self.stop = threading.Event()
        self._sources = Supervisor([company], self.settings.data / "logs", say=self._say, given_up=self.stop)
        self.urls = addresses(self.settings)
        self.account = Account(self.log)

    def _say(self, text: str) -> None:
        self.console.print(f"[yellow]{text}[/yellow]")

    def run(self, duration_s: float | None, *, show: Callable[[Demo, Callable[[], None]], None]) -> dict[str, Any]:
        """Start everything, play until Ctrl-C or for `duration_s` seconds, drain, stop; returns the summary."""
        stop_on(self.stop, signal.SIGINT, signal.SIGTERM)
        with running(self.settings, self._say, self.stop) as check:
            try:
                self._sources.start()
                deadline = time.monotonic() + duration_s if duration_s else None

                def wait() -> None:
                    while not self.stop.wait(_TICK_S) and (deadline is None or time.monotonic() < deadline):
                        self.account.count_outcomes()

                show(self, wait)
                check()
                self._sources.check()
            finally:
                self._sources.stop()
            self._drain()
            pulse = self.pulse(timeout_s=DRAIN_TIMEOUT_S)
        return self._summary(pulse)

    def pulse(self, timeout_s: float = 2) -> dict[str, Any]:
        """What the desk measured."""
        try:
            return httpx.get(f"{self.urls['desk']}/pulse", timeout=timeout_s).json()
        except httpx.HTTPError:
            return {"alerts": 0, "latency_ms": {"p50": None, "p99": None, "max": None}}

    def sources(self) -> dict[str, Any]:
        """What the simulated sources say of themselves."""
        return self._sources.services["simulator"].said.get("stats", {})

    def _drain(self) -> None:
        """Wait until every transaction taken is decided and every decision is in the hot store."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while self.account.undecided() or self.account.unread():
            if time.monotonic() > deadline:
                raise StateError(
                    f"stop: {self.account.undecided()} transactions were not decided within {DRAIN_TIMEOUT_S} s; "
                    "they are in the log and will be at the next start. "
                    f"See {self.settings.data / 'logs' / 'engine.log'}"
                )
            time.sleep(0.1)
        self.account.count_outcomes()

    def _summary(self, pulse: dict[str, Any]) -> dict[str, Any]:
        counts = self.account.by_topic()
        return {
            "events": {"in": sum(counts[stream] for stream in STREAMS), "rejected": counts[REJECTED]},
            "decisions": counts[DECISIONS],
            "outcomes": {outcome: self.account.outcomes[outcome] for outcome in get_args(Outcome)},
            "alerts": counts[ALERTS],
            "revisions": self.account.revisions(),
            "latency_ms": pulse["latency_ms"],
            "streams": {stream: counts[stream] for stream in STREAMS},
            "lake_rows": open_lake(self.settings).row_counts(),
            "urls": self.urls,
            "sources": self.sources(),
        }


def show_nothing(demo: Demo, wait: Callable[[], None]) -> None:
    """For `--headless`."""
    del demo
    wait()


def show_live(demo: Demo, wait: Callable[[], None]) -> None:
    """For a terminal: where to look, who may sign in, and a live account that is drawn anew twice a second."""
    demo.console.print(_welcome(demo))
    with Live(_account(demo), console=demo.console, refresh_per_second=2, get_renderable=lambda: _account(demo)):
        wait()


def _welcome(demo: Demo) -> RenderableType:
    people = Table(title="Sign-ins of this run", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("role", "name", "password"):
        people.add_column(column)
    for role, (name, password) in demo.access.sign_ins.items():
        people.add_row(role, name, password)
    return Group(
        f"[bold]The fraud desk[/bold]  {demo.urls['desk']}",
        f"The door        {demo.urls['door']}/openapi.json",
        f"State and logs  {demo.settings.data}",
        "",
        people,
        "",
        "Ctrl-C stops the company cleanly; run it again on the same folder and it goes on.",
        "",
    )


def _account(demo: Demo) -> RenderableType:
    counts, pulse, outcomes = demo.account.by_topic(), demo.pulse(), demo.account.outcomes
    latency = pulse["latency_ms"]
    line = Table.grid(padding=(0, 3, 0, 0))
    line.add_row(
        f"events [bold]{sum(counts[stream] for stream in STREAMS):,}[/bold]",
        f"rejected {counts[REJECTED]:,}",
        f"decisions [bold]{counts[DECISIONS]:,}[/bold]",
        f"[green]approve {outcomes['approve']:,}[/green]",
        f"[yellow]review {outcomes['review']:,}[/yellow]",
        f"[red]decline {outcomes['decline']:,}[/red]",
    )
    line.add_row(
        f"waiting {demo.account.undecided():,}",
        f"alerts {counts[ALERTS]:,}",
        f"revised {counts[REVISIONS]:,}",
        "door to alert",
        f"p50 {_ms(latency['p50'])}",
        f"p99 {_ms(latency['p99'])}",
        f"max {_ms(latency['max'])}",
    )
    return line


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
