"""Fetches a file from an address, to be taken like any other."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from tidegate.errors import NotFoundError, OverloadError, UsageError
from tidegate.intake.limits import MAX_FETCH_BYTES

_TIMEOUT_S = 60

#: A name without a folder in it, and not hidden.
_NAME = re.compile(r"[^./\\\0][^/\\\0]{0,200}")


def fetch(url: str, folder: Path) -> Path:
    """Fetch what an http or https address gives, into a file of the same name in `folder`.

    Raises:
        UsageError: the address is of another kind, ends with no name, or gives more than MAX_FETCH_BYTES.
        NotFoundError: there is nothing at it.
        OverloadError: it gives nothing now.
    """
    parts = urlsplit(url)
    name = unquote(parts.path).rpartition("/")[2]
    where = f"fetch {parts.scheme}://{parts.hostname}/.../{name}"
    if parts.scheme not in ("http", "https") or not _NAME.fullmatch(name):
        raise UsageError("fetch: wanted an http or https address that ends with a file's name, such as .../sales.csv")
    path, size = folder / name, 0
    try:
        with httpx.stream("GET", url, timeout=_TIMEOUT_S, follow_redirects=True) as answer, path.open("wb") as file:
            if answer.is_client_error:
                raise NotFoundError(f"{where}: answered {answer.status_code}")
            answer.raise_for_status()
            for block in answer.iter_bytes():
                size += len(block)
                if size > MAX_FETCH_BYTES:
                    raise UsageError(f"{where}: gives more than {MAX_FETCH_BYTES} bytes; send it in parts")
                file.write(block)
    except httpx.HTTPError as error:
        raise OverloadError(f"{where}: no whole answer ({type(error).__name__}); try again", retry_after_s=1) from None
    return path
