"""`tidegate source`: who may send, with a key of the door or by signed webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from tidegate.commands.options import AsJson, Data, print_json, secret_of
from tidegate.errors import UsageError
from tidegate.settings import Settings, read_settings
from tidegate.streams.webhooks import Kind, Source

if TYPE_CHECKING:
    from tidegate.commands.registered import Register

app = typer.Typer(help="Sources that may send.", no_args_is_help=True)

#: Kinds whose secret is ours to choose; the others show theirs to whoever sets the webhook up.
_OURS = ("standard", "salesforce", "sap")

SourceName = Annotated[str, typer.Argument(help="The source's name.")]


@app.command("add")
def add_source(
    name: SourceName,
    stream: Annotated[list[str], typer.Option(help="A stream that it may write to; may be given again.")],
    webhook: Annotated[Kind | None, typer.Option(help="It sends webhooks, signed as this kind does it.")] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="How a webhook's message becomes an event (YAML); without: it is one.")
    ] = None,
    org_id: Annotated[str | None, typer.Option(help="Salesforce: the organisation that messages must be of.")] = None,
    issuer: Annotated[str | None, typer.Option(help="SAP: who must have signed the tokens of OAuth.")] = None,
    audience: Annotated[str | None, typer.Option(help="SAP: for whom these tokens must be.")] = None,
    data: Data = None,
) -> None:
    """Add a source and print its API key, this once: only its hash is kept. With --webhook, its secret is asked for or
    read from a pipe, and kept sealed; where the secret is ours to choose, an empty answer makes one and prints it.
    """
    from tidegate.streams.schema import load_schema
    from tidegate.wiring import open_identity

    for each in stream:
        load_schema(each)
    settings = read_settings(data=data)
    if webhook is None:
        typer.echo(open_identity(settings).add_source(name, frozenset(stream)))
        return
    if len(stream) != 1:
        raise UsageError("add source: wanted one --stream: the messages of a webhook become events of it")
    source = Source(
        name=name,
        kind=webhook,
        stream=stream[0],
        mapping=_mapping_text(mapping, stream[0]) if mapping else None,
        secrets=[],
        org_id=org_id,
        issuer=issuer,
        audience=audience,
        at_ms=0,
    )
    register = _register(settings)
    register.registry.check_new(name)
    register.put(source, _new_secret(source))
    typer.echo(f"{name} may send to /v1/webhooks/{name}")


@app.command("list")
def list_sources(data: Data = None, as_json: AsJson = False) -> None:
    """List the sources that send webhooks. Secrets are not shown."""
    sources = _register(read_settings(data=data)).all
    if as_json:
        hidden = {"secrets", "mapping"}
        told = [{k: v for k, v in msgspec.structs.asdict(source).items() if k not in hidden} for source in sources]
        print_json(told)
        return
    for source in sources:
        typer.echo(f"{source.name}  {source.kind}  {source.stream}  {source.state}  {len(source.secrets)} secrets")


@app.command("pause")
def pause_source(name: SourceName, data: Data = None) -> None:
    """Answer its webhooks with 503 until it is resumed: senders keep them, and try again."""
    _change(read_settings(data=data), name, "paused")


@app.command("resume")
def resume_source(name: SourceName, data: Data = None) -> None:
    """Take its webhooks again."""
    _change(read_settings(data=data), name, "active")


@app.command("remove")
def remove_source(name: SourceName, data: Data = None) -> None:
    """Take no webhooks of it any more, and destroy its secrets."""
    _register(read_settings(data=data)).remove(name)
    typer.echo(f"{name} is removed.")


@app.command("rotate")
def rotate_source(
    name: SourceName,
    keep_hours: Annotated[int, typer.Option(min=0, help="How long what counts now goes on to count beside it.")] = 24,
    data: Data = None,
) -> None:
    """Give a source that sends webhooks a new secret."""
    register = _register(read_settings(data=data))
    kept = register.rotate(name, _new_secret(register.registry.named(name)), keep_hours)
    typer.echo(f"{name} has a new secret; {kept} others count for {keep_hours} hours at most.")


def _register(settings: Settings) -> Register[Source]:
    from tidegate.commands.registered import Register
    from tidegate.streams.webhooks import SOURCES

    return Register(settings, SOURCES, Source)


def _change(settings: Settings, name: str, state: Literal["active", "paused"]) -> None:
    register = _register(settings)
    register.put(msgspec.structs.replace(register.registry.named(name), state=state))
    typer.echo(f"{name} is {state}.")


def _new_secret(source: Source) -> str:
    """Asked for, or made and shown.

    Raises:
        UsageError: it is none that this kind signs with.
    """
    from tidegate.intake.verifiers import check_secret
    from tidegate.streams.signature import new_secret

    ours = source.kind in _OURS
    secret = secret_of(source.name, empty="makes one" if ours else None)
    made = not secret and ours
    if made:
        secret = new_secret()
    check_secret(source, secret)
    if made:
        typer.echo(secret)
    return secret


def _mapping_text(path: Path, stream: str) -> str:
    from tidegate.files.mapping import read_mapping
    from tidegate.intake.sources import map_of

    mapping = read_mapping(path)
    if mapping.schema.name != stream:
        raise UsageError(f"mapping {mapping.name}: makes {mapping.schema.name}, wanted {stream}")
    text = mapping.text.decode()
    map_of(mapping.name, text)
    return text
