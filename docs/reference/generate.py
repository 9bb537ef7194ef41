"""Writes the reference pages that the code itself can tell: streams, settings, commands. `make docs` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer.main

from tidegate.cli import app
from tidegate.intake import graphql_http, limits
from tidegate.intake.graphql import SCHEMA
from tidegate.settings import Settings
from tidegate.streams.schema import STREAMS, Schema, load_schema

HERE = Path(__file__).parent
WRITTEN = "<!-- Written by `make docs` from the code: change the code, not this page. -->\n\n"


#: Between the values of an enum, in a table's cell.
_OR = " \\| "


def streams() -> str:
    """A table a stream, from its Avro schema."""
    intro = """# Streams

Each stream is one Avro schema in `src/tidegate/streams/schemas/`. From it are made the check at the door, the columnar
batch that the kernel and the lake see, and this page.

A field marked **personal** holds a token once it is past the door; the original is sealed under the key of the person
whom the stream's *subject* field names, in the record's `sealed` or, if it is large, where its `claim` says. A `pan`
also leaves its first six digits in `pan_bin` and its last four in `pan_last4`.

`event_time` is sent as RFC 3339 text with an offset or as an integer of microseconds since 1970; from the door on it is
the integer.
"""
    return "\n".join([intro, *(_stream(load_schema(name)) for name in STREAMS)])


def _stream(schema: Schema) -> str:
    subject = f"`{schema.subject}`" if schema.subject else "none: the stream has no personal data"
    rows = [
        f"| `{field.name}` | {_OR.join(field.symbols) or field.kind} "
        f"| {'' if field.nullable else 'yes'} | {field.personal or ''} | {field.doc} |"
        for field in schema.fields
    ]
    return "\n".join(
        [
            f"## {schema.name}\n",
            f"{schema.doc} Key: `{schema.key}`. Subject: {subject}.\n",
            "| field | type | required | personal | meaning |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def settings() -> str:
    """One row a setting."""
    rows = [
        f"| `TIDEGATE_{name.upper()}` | `{_plain(field.default)}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    intro = (
        "# Settings\n\nEach is read from the environment; the commands' own options stand above it. No secret is a\n"
        "setting: secrets live in the key ring, which makes its own.\n\n"
    )
    return intro + "\n".join(["| variable | default | what it does |", "| --- | --- | --- |", *rows, ""])


def _plain(value: object) -> str:
    return "unset" if value is None or value == "" else str(value).replace("'", '"')


def commands() -> str:
    """One part a command, with its arguments and options."""
    intro = (
        "# Commands\n\nExit codes: 0 done, 1 found wrong (something does not hold), 2 used wrong. Every command has\n"
        "`--help`; those that report have `--json`.\n\n"
    )
    return intro + "\n".join(
        _command(path, command) for path, command in _walk(typer.main.get_command(app), "tidegate")
    )


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for name, child in sorted(command.commands.items()):
            if not child.hidden:
                yield from _walk(child, f"{path} {name}")
    else:
        yield path, command


def _command(path: str, command: Any) -> str:
    rows = [
        f"| `{'`, `'.join(part.opts) if part.param_type_name == 'option' else part.name.upper()}` "
        f"| {(part.help or '').strip()} | {_default(part)} |"
        for part in command.params
        if part.name != "help"
    ]
    table = ["| argument | what it does | default |", "| --- | --- | --- |", *rows, ""] if rows else []
    return "\n".join([f"## {path}\n", (command.help or "").strip(), "", *table])


def _default(part: Any) -> str:
    if part.required:
        return "required"
    return "" if part.default in (None, False) or callable(part.default) else f"`{part.default}`"


def graphql() -> str:
    """How it is asked, and the schema."""
    intro = f"""# GraphQL

`POST /graphql` with a source's API key or a signed token, as any route of the door. Events are sent as JSON in
variables, checked as by REST, and what is refused is kept in the stream `rejected`:

```sh
curl localhost:8080/graphql -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{{
  "query": "mutation($events: [Event!]!) {{ send(stream: transactions, events: $events) {{
    ... on Taken {{ event_id offset }} ... on Refused {{ step field detail }} }} }}",
  "variables": {{"events": [{{"event_id": "order-2", ...}}]}}}}'
```

Subscriptions come as server-sent events, in the manner of graphql-sse: send the same with `Accept: text/event-stream`.

An operation nests at most {limits.MAX_QUERY_DEPTH} fields, gives at most {limits.MAX_QUERY_ALIASES} names to fields and
costs at most {limits.MAX_QUERY_COST}: a field 1, an event that it sends 1, a decision that it waits for
{graphql_http.DECISION_COST}, what is listed as often as it is asked for. Several operations in an array are not taken.
400 says that nothing was done. An error has a `code` in its `extensions`: the last part of the problem's type that REST
would answer, or `graphql`.

```graphql
"""
    return intro + SCHEMA.as_str() + "\n```\n"


PAGES = {"streams.md": streams, "graphql.md": graphql, "settings.md": settings, "commands.md": commands}


def pages() -> dict[Path, str]:
    """The text of each page by its path."""
    return {HERE / name: WRITTEN + write() for name, write in PAGES.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
