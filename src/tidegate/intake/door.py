"""The parts of one door."""

from __future__ import annotations

import asyncio

from tidegate.intake.access import Access, RateLimit
from tidegate.intake.append import Appender
from tidegate.intake.body import Bodies
from tidegate.intake.consumer_groups import Groups
from tidegate.intake.decisions import Decisions
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.limits import SIGN_IN_BURST, SIGN_IN_EVERY_S, SIGN_INS_AT_ONCE
from tidegate.intake.metrics import Metrics
from tidegate.intake.sources import Sources
from tidegate.intake.take import Intake
from tidegate.ports.audit import Audit
from tidegate.ports.claims import Claims
from tidegate.ports.clock import Clock
from tidegate.ports.hotstore import HotStore
from tidegate.ports.identity import Identity
from tidegate.ports.keys import Keys
from tidegate.ports.log import Log
from tidegate.ports.schemas import Schemas


class Door:
    """What the routes share. `start` and `stop` belong to the event loop that serves."""

    def __init__(
        self,
        *,
        log: Log,
        keys: Keys,
        claims: Claims,
        identity: Identity,
        hotstore: HotStore,
        schemas: Schemas,
        audit: Audit,
        clock: Clock,
        detector: str,
        decision_timeout_ms: int,
        rate_limit_per_s: int,
    ) -> None:
        self.log, self.keys, self.identity, self.hotstore, self.audit = log, keys, identity, hotstore, audit
        self.schemas, self.clock = schemas, clock
        self.envelopes = Envelopes(keys, claims)
        self.decision_timeout_s = decision_timeout_ms / 1000
        self.metrics = Metrics()
        self.access = Access(identity, RateLimit(rate_limit_per_s, rate_limit_per_s, clock))
        self.sign_in_rate = RateLimit(1 / SIGN_IN_EVERY_S, SIGN_IN_BURST, clock)
        self.sign_ins = asyncio.Semaphore(SIGN_INS_AT_ONCE)
        self.sources = Sources(log, keys, clock)
        self.bodies = Bodies(self.metrics)
        self.appender = Appender(log, self.envelopes, self.metrics)
        self.decisions = Decisions(log, detector)
        self.groups = Groups(log, self.appender, clock)
        self.intake = Intake(self.envelopes, clock, self.appender, self.metrics)

    def start(self) -> None:
        self.appender.start()
        self.decisions.start()

    async def stop(self) -> None:
        """Write what was taken, then end."""
        await self.appender.stop()
        await self.decisions.stop()
        self.intake.stop()
