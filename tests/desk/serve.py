"""Serves the desk on a data folder: `python -m tests.desk.serve DATA DOOR_URL`; says its port in a line of JSON."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import uvicorn
from tests.desk.stream import GROUPS, STORAGE_SECRET, Ports

from tidegate.desk import alert, frame
from tidegate.desk.app import create_app

#: A minute of the real desk, and a quarter of one.
_REVEALED_S = 2
_SESSION_CHECK_S = 0.5


def main(data: Path, door_url: str) -> None:
    alert.REVEALED_S = _REVEALED_S
    frame.SESSION_CHECK_S = _SESSION_CHECK_S
    ports = Ports(data)
    app = create_app(
        ports.log,
        ports.hotstore,
        ports.identity,
        ports.audit,
        ports.clock,
        door_url=door_url,
        storage_secret=STORAGE_SECRET,
        sessions=data / "sessions",
        groups=GROUPS,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
