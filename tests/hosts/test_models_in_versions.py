"""Versions with models: each decision is that of the model of its own version, however large, and stays provable."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest
from tests.hosts.stream import FEATURES, RULES, decisions, everything, open_log, stream
from tests.hosts.test_rollout import HandClock, leave, no_lake
from tests.hosts.test_shadow import made_by, own_log

from tidegate.adapters.embedded.models import EmbeddedModels
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.hosts.controls import CONTROL, controls
from tidegate.hosts.local import LocalHost
from tidegate.hosts.promotion import begin, first_detectors, release, texts_of
from tidegate.hosts.shadow import ShadowHost
from tidegate.hosts.verify import verify
from tidegate.kernel.detector import version_of
from tidegate.ports.log import MAX_RECORD_BYTES, Entry
from tidegate.streams.control import DETECTORS, Controls, Release, Status
from tidegate.streams.decision import REJECTED

MODELS = EmbeddedModels()
LIKELY = "  - {name: likely, when: model_score > 0.5, points: 45, reason: Looks like fraud, status: live}\n"
CARD = """
name: toy
version: "{version}"
sha256: {sha256}
features: {{amount: DOUBLE, payments: BIGINT}}
score: The chance of fraud.
data: Drawn.
metrics: {{auc_roc: 0.5}}
made_by: hand
"""


def trained(seed: int, rounds: int) -> str:
    chance = np.random.default_rng(seed)
    rows = np.stack([chance.integers(0, 1000, 4000), chance.integers(1, 9, 4000)], axis=1).astype(np.float64)
    frauds = (rows[:, 0] > 500) ^ (chance.random(4000) < 0.3)
    told = {"objective": "binary", "seed": seed, "verbosity": -1, "num_threads": 1, "deterministic": True}
    data = lightgbm.Dataset(rows, frauds.astype(np.int8), feature_name=["amount", "payments"])
    return lightgbm.train(told, data, rounds).model_to_string()


def texts(version: str, model: str) -> dict[str, str]:
    return {
        "features.sql": FEATURES,
        "rules.yaml": RULES + LIKELY,
        "policy.yaml": "lateness: 10 minutes\ndedupe: 1 day\noutcomes: {review: 40, decline: 80}\ncap: 100\n"
        "model: {missing: nothing}\n",
        "model/card.yaml": CARD.format(version=version, sha256=hashlib.sha256(model.encode()).hexdigest()),
        "model/model.txt": model,
    }


SMALL, LARGE = texts("1", trained(1, 5)), texts("2", trained(2, 500))


class Company:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = open_log(folder)
        self.snapshots = EmbeddedSnapshots(folder / "snapshots")
        self.clock = HandClock()
        begin(self.log, "small", SMALL, self.clock)

    def release(self, texts: dict[str, str], status: Status = "live") -> Release:
        told = {"status": status, "by": "anton", "clock": self.clock, "models": MODELS, "patience_s": 0}
        return release(self.log, self.snapshots, no_lake, "small", texts, **told)

    def decide(self) -> None:
        """As one process, which leaves a snapshot."""
        first = first_detectors(self.log, MODELS)
        host = LocalHost(self.log, self.snapshots, first, self.clock, snapshot_every_ms=10**12, models=MODELS)
        while host.step(0):
            pass
        leave(host)

    def holds(self) -> set[bool | None]:
        first = first_detectors(self.log, MODELS)
        found = verify(self.log, first, models=MODELS, progress=lambda _done, _total: None)
        return {each.holds for each in found}


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path / "company")
    yield company
    company.log.close()


def test_old_decisions_are_proven_by_the_old_model(company: Company) -> None:
    assert len(LARGE["model/model.txt"]) > MAX_RECORD_BYTES
    entries = stream(200, seed=3)
    company.log.append(entries[:100])
    company.decide()
    company.release(LARGE)
    company.log.append(entries[100:150])
    company.decide()
    company.log.append(entries[150:])
    company.decide()
    company.release(SMALL)
    company.log.append([msgspec.structs.replace(entries[0], id="tx-again", value=_renamed(entries[0]))])
    company.decide()
    made = decisions(company.log)
    place = sum(entry.topic == "transactions" for entry in entries[:100])
    after = len(made) - place - 1
    assert [each.model_version for each in made] == ["toy 1"] * place + ["toy 2"] * after + ["toy 1"]
    assert [each.detector_version for each in made[place:-1]] == [version_of(LARGE)] * after
    for versions, model in (("toy 1", SMALL), ("toy 2", LARGE)):
        own = [each for each in made if each.model_version == versions]
        rows = np.array([[each.features["amount"], each.features["payments"]] for each in own], np.float64)
        expected = lightgbm.Booster(model_str=model["model/model.txt"]).predict(rows)
        np.testing.assert_allclose([each.model_score for each in own], expected, rtol=1e-12)
    assert company.holds() == {True}


def _renamed(entry: Entry) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(entry.value), "event_id": "tx-again"})


def test_a_large_text_stands_in_the_log_once(company: Company) -> None:
    for _ in range(3):
        company.release(LARGE)
    records = company.log.read({CONTROL: 0}, 1000)
    assert max(len(record.value) for record in records) < MAX_RECORD_BYTES
    assert sum(len(record.value) for record in records) < 1.5 * len(LARGE["model/model.txt"])
    assert texts_of(company.log, "small", version_of(LARGE)) == LARGE
    assert texts_of(company.log, "small", version_of(SMALL)) == SMALL


def test_a_release_whose_large_text_is_not_there_is_not_followed(company: Company) -> None:
    release = company.release(LARGE)
    whole = company.log.read({CONTROL: 0}, 1000)[-1]
    other = Company(company.folder.parent / "other")
    other.log.append([Entry(DETECTORS, "small", whole.value, release.at_ms), *stream(10, seed=1)])
    other.decide()
    assert {each.model_version for each in decisions(other.log)} == {"toy 1"}
    assert len(everything(other.log, REJECTED)) == 1
    assert [control.version for _, control in controls(other.log)] == [version_of(SMALL)]
    # Nor one that another text was put under.
    reader = Controls()
    assert reader.read(whole.value) is None
    other.log.close()


def test_a_shadow_decides_by_its_model(company: Company) -> None:
    entries = stream(60, seed=5)
    company.release(LARGE, "shadow")
    company.log.append(entries)
    # A shadow sees what the engine took.
    company.decide()
    own = own_log(company.folder)
    shadow = ShadowHost(company.log, own, company.snapshots, company.clock, models=MODELS)
    while shadow.step():
        pass
    made = made_by(own)
    assert {each.model_version for each in made} == {"toy 2"}
    assert all(each.model_score is not None for each in made)
    own.close()
