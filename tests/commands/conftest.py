"""The command line as a user has it, within the test's own process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from tidegate import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tidegate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tidegate`: exit code, what it says, what it complains of. A password is given on its standard input."""

    def run(*arguments: str, password: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tidegate", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(password + "\n"))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run
