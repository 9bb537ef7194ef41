"""`tidegate ingest`: files, folders and addresses, and what is said of them."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.commands.conftest import Run
from tests.intake.files import MAPPING, encoded, packed, payments


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tidegate: Run) -> Run:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    packed(tmp_path, "sales.yaml", MAPPING)
    return tidegate


def test_a_folder_is_taken_file_by_file(run: Run, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "may").mkdir(parents=True)
    packed(inbox, "a.csv", encoded(payments(3), "csv"))
    packed(inbox / "may", "b.ndjson", encoded(payments(4), "ndjson")[:-10])
    packed(inbox, ".c.csv", b"still being written")
    packed(inbox, "readme.txt", b"not for you")
    (inbox / "link.csv").symlink_to(inbox / "may" / "b.ndjson")
    told = ("ingest", str(inbox), "--stream", "transactions", "--mapping", str(tmp_path / "sales.yaml"))
    code, out, _ = run(*told, "--json")
    summary = json.loads(out)
    assert (code, summary["taken"], summary["rejected"]) == (1, 6, 1)
    assert [(file["file"], file["state"]) for file in summary["files"]] == [
        *(("a.csv", "taken"), ("b.ndjson", "taken"), ("readme.txt", "refused")),
    ]
    code, out, _ = run(*told)
    assert (code, "a.csv: known, 3 rows taken" in out, "wanted a file named *.json" in out) == (1, True, True)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that its files are served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=str(folder)))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def test_what_an_address_gives_is_taken(run: Run, tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, url = served
    packed(folder, "sales.csv", encoded(payments(2), "csv"))
    told = ("--stream", "transactions", "--mapping", str(tmp_path / "sales.yaml"))
    code, out, err = run("ingest", f"{url}/sales.csv?of=may", *told)
    assert code == 0, err
    assert "sales.csv: taken, 2 rows taken (0 there before), 0 rejected\n" in out
    assert run("ingest", f"{url}/other.csv", *told)[0] == 2
    assert run("ingest", f"{url}/..%2f", *told)[0] == 2
    assert run("ingest", "file:///etc/passwd", *told)[0] == 2


def test_what_is_asked_wrong_is_told(run: Run, tmp_path: Path) -> None:
    sales = str(packed(tmp_path, "sales.csv", b"a\n1\n"))
    assert run("ingest", sales, "--stream", "sales")[0] == 2
    assert run("ingest", str(tmp_path / "no.csv"), "--stream", "transactions")[0] == 2
    code, _, err = run("ingest", sales, "--stream", "labels", "--mapping", str(tmp_path / "sales.yaml"))
    assert (code, "makes transactions, wanted labels" in err) == (2, True)
