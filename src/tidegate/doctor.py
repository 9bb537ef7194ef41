"""Looks over a deployment: what is missing, what is damaged, and how to mend it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec

from tidegate.errors import TidegateError
from tidegate.hosts.promotion import standing_now, texts_of
from tidegate.kernel.detector import Detector, compile_detector
from tidegate.settings import Settings
from tidegate.streams.control import Standing
from tidegate.wiring import open_audit, open_keys, open_lake, open_log, open_models, open_snapshots, read_detector

#: Below this the lake's next commits may not fit.
MIN_FREE_BYTES = 1 << 30


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `says` tells what was found and, if it is not well, how to mend it."""

    what: str
    well: bool
    says: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything, in the order in which one thing needs another. Changes nothing."""
    looks: list[tuple[str, Callable[[Settings], str]]] = [
        ("installation", _installation),
        ("space", _space),
        *((f"detector {name}", _detector(name)) for name in settings.live),
    ]
    if settings.data.exists():
        looks += [("key ring", _keys), ("log", _log)]
        looks += [(f"state of {name}", _state(name)) for name in settings.live]
        looks += [("lake", _lake), ("audit trail", _audit)]
    return [_look(what, look, settings) for what, look in looks]


def _look(what: str, look: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(what, well=True, says=look(settings))
    except (TidegateError, OSError) as error:
        return Finding(what, well=False, says=str(error))


def _installation(_: Settings) -> str:
    return f"tidegate {version('tidegate')}, Python {sys.version.split()[0]}, duckdb {version('duckdb')}"


def _space(settings: Settings) -> str:
    place = next(path for path in (settings.data.resolve(), *settings.data.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        raise OSError(
            f"{free >> 20} MiB free at {place}, wanted {MIN_FREE_BYTES >> 20}: make room or name another --data"
        )
    if not settings.data.exists():
        return f"{free >> 30} GiB free; {settings.data} is not there yet and is made by the first `demo` or `up`"
    return f"{free >> 30} GiB free"


def _detector(name: str) -> Callable[[Settings], str]:
    def look(settings: Settings) -> str:
        detector = read_detector(Path(settings.detectors) / name)
        live = _live(settings, name)
        said = f"version {detector.version}, {len(detector.features)} features, {len(detector.rules)} rules"
        if live is None or live.version == detector.version:
            return said
        return f"{said}; version {live.version} is live: tidegate detector promote {name} releases the folder's"

    return look


def _live(settings: Settings, name: str) -> Detector | None:
    """The version that decides, as the log has it; None if none was ever released."""
    if not settings.data.exists():
        return None
    log = open_log(settings)
    live = standing_now(log).get(name, Standing()).live
    return compile_detector(name, texts_of(log, name, live.version), open_models()) if live else None


def _keys(settings: Settings) -> str:
    open_keys(settings).close()
    return "the root key fits the ring"


def _log(settings: Settings) -> str:
    log = open_log(settings)
    ends = log.ends(log.topics())
    lags = {group: sum(log.lag(group).values()) for group in ("engine", "hotstore", "lake", "webhooks")}
    behind = ", ".join(f"{group} {lag:,}" for group, lag in lags.items())
    return f"{sum(ends.values()):,} records in {len(log.topics())} topics; still to be read: {behind}"


def _state(name: str) -> Callable[[Settings], str]:
    def look(settings: Settings) -> str:
        # The kernel brings a compiler along, which takes a second to load.
        from tidegate.kernel.decide import Kernel

        detector = _live(settings, name)
        if detector is None:
            return "no version is live"
        snapshot = open_snapshots(settings).newest(name)
        if snapshot is None or snapshot.meta["version"] != detector.version:
            return f"no snapshot of version {detector.version} yet"
        kernel = Kernel(detector)
        kernel.restore(snapshot.arrays)
        parts = (
            f"{part} {name}: {size.rows:,} rows, {size.keys:,} keys, {size.bytes / 1e6:,.1f} MB"
            for part, name, size in kernel.sizes()
        )
        return "; ".join(parts) or "none is kept"

    return look


def _lake(settings: Settings) -> str:
    counts = open_lake(settings).row_counts()
    return f"{sum(counts.values()):,} rows in {len(counts)} tables"


def _audit(settings: Settings) -> str:
    return f"{sum(1 for _ in open_audit(settings).entries()):,} entries, the chain holds"
