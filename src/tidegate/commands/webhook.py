"""`tidegate webhook`: who is sent alerts and revisions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import msgspec
import typer

from tidegate.commands.options import FOUND_WRONG, AsJson, Data, print_json
from tidegate.errors import UsageError
from tidegate.settings import Settings, read_settings
from tidegate.streams.webhooks import DELIVERIES, SUBSCRIBERS, Delivery, Subscriber, Topic

if TYPE_CHECKING:
    from tidegate.commands.registered import Register
    from tidegate.readers.posting import Answer

app = typer.Typer(help="Addresses that alerts and revisions are sent to, signed.", no_args_is_help=True)

_READ_AT_ONCE = 1000

Name = Annotated[str, typer.Argument(help="The subscriber's name.")]


@app.command("add")
def add_webhook(
    name: Name,
    url: Annotated[str, typer.Argument(help="Where to send: https://...")],
    topic: Annotated[
        list[str] | None, typer.Option(help="alerts (as without it) or revisions; may be given again.")
    ] = None,
    data: Data = None,
) -> None:
    """Send what comes from now on, and print the secret that it is signed with, this once: it is kept sealed."""
    from tidegate.readers.posting import check_url
    from tidegate.streams.signature import new_secret

    settings = read_settings(data=data)
    check_url(url, settings.webhook_networks)
    register = _register(settings)
    register.registry.check_new(name)
    topics: list[Topic] = [each for each in get_args(Topic) if each in (topic or ("alerts",))]
    if set(topic or ()) - set(topics):
        raise UsageError(f"add webhook {name}: wanted --topic {' or '.join(get_args(Topic))}")
    subscriber = Subscriber(name=name, url=url, topics=topics, secrets=[], start={}, start_ms=0, at_ms=0)
    secret = new_secret()
    register.put(_from_now(register, subscriber), secret)
    typer.echo(secret)


@app.command("list")
def list_webhooks(data: Data = None, as_json: AsJson = False) -> None:
    """List who is sent what, and how far that is. Secrets are not shown."""
    register = _register(read_settings(data=data))
    states = _deliveries(register)
    told = [_told(subscriber, states.get(subscriber.name)) for subscriber in register.all]
    if as_json:
        print_json(told)
        return
    for each in told:
        failed = f"; the last failed: {each['failed']}" if each["failed"] else ""
        reason = f" ({each['reason']})" if each["reason"] else ""
        typer.echo(
            f"{each['name']}  {each['url']}  {', '.join(each['topics'])}  {each['state']}{reason}: "
            f"{each['delivered']:,} taken, {each['waiting']:,} wait, {each['given_up']:,} given up{failed}"
        )


@app.command("test")
def try_webhook(name: Name, data: Data = None) -> None:
    """Send a message of the type `webhook.test` now and say what came back. Exit code 1: it was not taken."""
    settings = read_settings(data=data)
    register = _register(settings)
    answer = asyncio.run(_test(settings, register, register.registry.named(name)))
    typer.echo(f"{name}: {answer.error or f'status {answer.status}'}")
    if not answer.is_taken:
        raise typer.Exit(FOUND_WRONG)


@app.command("pause")
def pause_webhook(name: Name, data: Data = None) -> None:
    """Send nothing until it is resumed; what comes in the meantime is kept."""
    register = _register(read_settings(data=data))
    register.put(msgspec.structs.replace(register.registry.named(name), state="paused"))
    typer.echo(f"{name} is paused.")


@app.command("resume")
def resume_webhook(name: Name, data: Data = None) -> None:
    """Go on where it was paused. One that was disabled is sent what comes from now on."""
    register = _register(read_settings(data=data))
    subscriber = register.registry.named(name)
    if subscriber.state == "disabled":
        subscriber = _from_now(register, subscriber)
    register.put(msgspec.structs.replace(subscriber, state="active", reason=None))
    typer.echo(f"{name} is active.")


@app.command("rotate")
def rotate_webhook(
    name: Name,
    keep_hours: Annotated[int, typer.Option(min=0, help="How long what is sent is signed with the old one too.")] = 24,
    data: Data = None,
) -> None:
    """Sign with a new secret, and print it, this once."""
    from tidegate.streams.signature import new_secret

    secret = new_secret()
    _register(read_settings(data=data)).rotate(name, secret, keep_hours)
    typer.echo(secret)


@app.command("remove")
def remove_webhook(name: Name, data: Data = None) -> None:
    """Send nothing any more, and destroy the secrets."""
    _register(read_settings(data=data)).remove(name)
    typer.echo(f"{name} is removed.")


def _register(settings: Settings) -> Register[Subscriber]:
    from tidegate.commands.registered import Register

    return Register(settings, SUBSCRIBERS, Subscriber)


def _from_now(register: Register[Subscriber], subscriber: Subscriber) -> Subscriber:
    start = {place.name: offset for place, offset in register.log.ends(subscriber.topics).items()}
    return msgspec.structs.replace(subscriber, start=start, start_ms=register.clock.now_ms())


def _deliveries(register: Register[Subscriber]) -> dict[str, Delivery]:
    """How far each is, by the newest records."""
    from tidegate.ports.log import read_on

    records = read_on(register.log, dict.fromkeys(register.log.ends([DELIVERIES]), 0))
    decoded = (msgspec.json.decode(record.value, type=Delivery) for record in records)
    return {delivery.subscriber: delivery for delivery in decoded}


def _told(subscriber: Subscriber, state: Delivery | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: getattr(subscriber, name) for name in ("name", "url", "topics", "state", "reason", "start_ms")
    }
    known = state if state and state.start_ms == subscriber.start_ms else None
    return told | {
        "delivered": known.delivered if known else 0,
        "waiting": len(known.waiting) if known else 0,
        "given_up": known.given_up if known else 0,
        "failing_since_ms": known.failing_since_ms if known else None,
        "failed": known.failed if known else None,
    }


async def _test(settings: Settings, register: Register[Subscriber], subscriber: Subscriber) -> Answer:
    from tidegate.governance.secrets import open_secret
    from tidegate.readers.notices import body, headers
    from tidegate.readers.posting import Poster
    from tidegate.streams.signature import key_of

    now_ms = register.clock.now_ms()
    keys = [
        cast("bytes", key_of(open_secret(register.keys, subscriber.owner, sealed))) for sealed in subscriber.secrets
    ]
    content = body("webhook.test", now_ms, {"subscriber": subscriber.name})
    poster = Poster(settings.webhook_networks)
    try:
        return await poster.post(subscriber.url, headers(keys, f"msg_test_{now_ms}", now_ms, content), content)
    finally:
        await poster.close()
