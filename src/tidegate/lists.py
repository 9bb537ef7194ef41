"""The commands of lists: a file or a thing goes through the door, what is on a list is read from the log."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tidegate.errors import AccessError, NotFoundError, OverloadError, UsageError
from tidegate.hosts.arrivals import records_before
from tidegate.ports.log import Log
from tidegate.streams.lists import KINDS, LISTS, Listed, listed

#: Entries in one request: as many as the door takes, with room for long reasons.
_ENTRIES = 500

_TIMEOUT_S = 30

#: Columns of a file beside the things that can be listed.
_OTHERS = ("expires_at", "removed", "reason")

#: Refusals that are told one by one.
_TOLD = 20

Entry = dict[str, Any]


class Sent(msgspec.Struct):
    """What became of the entries of a list."""

    taken: int = 0
    again: int = 0
    """There already, in this version."""
    refused: int = 0
    told: list[str] = msgspec.field(default_factory=list[str])
    """Why, of the first that were refused."""


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of a file: CSV with a header, or JSON lines.

    Raises:
        NotFoundError: there is no such file.
        UsageError: its name, its header or a line is not what it should be. No value is told.
    """
    if not path.is_file():
        raise NotFoundError(f"list {path}: there is no such file")
    if path.suffix.lower() not in (".csv", ".jsonl", ".ndjson"):
        raise UsageError(f"list {path}: wanted a file named *.csv, *.jsonl or *.ndjson")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _csv_entries(path, file) if path.suffix.lower() == ".csv" else _json_entries(path, file)
        try:
            yield from lines
        except UnicodeDecodeError:
            raise UsageError(f"list {path}: wanted UTF-8, got other bytes") from None


def _csv_entries(path: Path, file: Iterator[str]) -> Iterator[Entry]:
    rows = csv.DictReader(file)
    names = rows.fieldnames or []
    known = (*KINDS, *_OTHERS)
    if not set(KINDS) & set(names) or not set(names) <= set(known):
        raise UsageError(f"list {path}: wanted a header of {', '.join(known)}, one thing to list at least")
    for row in rows:
        entry: Entry = {name: value for name, value in row.items() if value}
        if "removed" in entry:
            entry["removed"] = entry["removed"].lower() == "true"
        yield entry


def _json_entries(path: Path, file: Iterator[str]) -> Iterator[Entry]:
    for number, line in enumerate(file, 1):
        try:
            entry = json.loads(line) if line.strip() else None
        except ValueError:
            raise UsageError(f"list {path}: line {number}: wanted a JSON object") from None
        if entry is not None:
            yield entry


class Door:
    """The door's way to the lists, for a person who signs in."""

    def __init__(self, url: str, name: str, password: str) -> None:
        """
        Raises:
            AccessError: no such name and password.
            OverloadError: the door could not be reached, or has too much to do.
        """
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S)
        self._headers: dict[str, str] = {}
        answer = self._post("/v1/sign-in", json.dumps({"name": name, "password": password}), "application/json")
        self._headers = {"Authorization": f"Bearer {answer['token']}"}

    def change(self, name: str, entries: Iterator[Entry], version: str, progress: Callable[[int], None]) -> Sent:
        """Send a list's entries. Broken off and sent again, with the same version, each counts once.

        Raises:
            AccessError: the person may not change lists.
            UsageError: the door can't read an entry. Those of earlier requests are taken.
            OverloadError: the door could not be reached, or has too much to do.
        """
        sent, done = Sent(), 0
        while part := list(islice(entries, _ENTRIES)):
            body = "\n".join(json.dumps(entry) for entry in part)
            answer = self._post(f"/v1/lists/{name}", body, "application/x-ndjson", {"version": version})
            for number, result in enumerate(answer["results"], done + 1):
                if "problem" in result:
                    sent.refused += 1
                    sent.told += [f"entry {number}: {result['problem']['detail']}"][: _TOLD - len(sent.told)]
                elif result["duplicate"]:
                    sent.again += 1
                else:
                    sent.taken += 1
            done += len(part)
            progress(done)
        return sent

    def _post(self, path: str, body: str, kind: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        headers = self._headers | {"Content-Type": kind}
        try:
            response = self._http.post(path, content=body, headers=headers, params=params)
        except httpx.HTTPError as error:
            raise OverloadError(
                f"list: the door gave no answer ({type(error).__name__}); start it with `tidegate up`, name its port "
                "with --door-port, and try again: nothing counts twice",
                retry_after_s=1,
            ) from None
        answer: dict[str, Any] = response.json()
        if response.is_success or "results" in answer:
            return answer
        said = f"list: the door refused: {answer.get('detail') or answer.get('title')}"
        match response.status_code:
            case 401:
                raise AccessError(said, known=False)
            case 403:
                raise AccessError(said, known=True)
            case 429 | 503:
                raise OverloadError(said, retry_after_s=int(response.headers.get("Retry-After", "1")))
            case _:
                raise UsageError(said)

    def close(self) -> None:
        self._http.close()


def standing(log: Log, name: str, now_us: int) -> list[Listed]:
    """What is on a list now, by the log."""
    return listed(_events(log), name, now_us)


def _events(log: Log) -> Iterator[dict[str, Any]]:
    return (msgspec.json.decode(record.value) for record in records_before(log, log.ends([LISTS])))
