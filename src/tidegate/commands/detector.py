"""`tidegate detector`: check, compare, release and look at detectors."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tidegate.commands.options import (
    FOUND_WRONG,
    AsJson,
    By,
    Data,
    With,
    further_of,
    log_of,
    password_of,
    print_json,
    progress_bar,
)
from tidegate.errors import AccessError, NotFoundError, UsageError
from tidegate.settings import Settings, read_settings

if TYPE_CHECKING:
    from tidegate.hosts.diff import Diff
    from tidegate.hosts.history import Batches
    from tidegate.kernel.detector import Detector
    from tidegate.streams.control import Status

#: Sources of events that `diff` knows beside files.
LOG, LAKE = "log", "lake"

app = typer.Typer(help="Check, compare and release detectors.", no_args_is_help=True)

Version = Annotated[str | None, typer.Option("--version", help="A version that was released before.")]


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="The detector's folder.")],
    as_json: AsJson = False,
) -> None:
    """Compile a detector, run its examples, and say what is in it, or what is wrong and where: a text, a rule that can
    never fire, points that reach no outcome.
    """
    from tidegate.hosts import examples
    from tidegate.wiring import read_detector, read_detector_texts

    detector, texts = read_detector(folder), read_detector_texts(folder)
    if detector.model and detector.model.fault:
        raise NotFoundError(f"model {detector.model.id} of {detector.name}: {detector.model.fault}")
    deviations = examples.check_examples(detector, texts[examples.FILE]) if examples.FILE in texts else []
    live = [rule for rule in detector.rules if rule.status == "live"]
    # Of what lacks in a join, points and outcomes follow too.
    most = sum(max(rule.points, 0) for rule in live)
    unreachable = bool(live) and not detector.joins and most < detector.policy.review
    found: dict[str, Any] = {
        "name": detector.name,
        "version": detector.version,
        "stream": detector.stream.name,
        "features": {name: str(kind) for name, kind in detector.features.items()},
        "rules": {rule.name: rule.status for rule in detector.rules},
        "model": detector.model.id if detector.model else None,
        "deviations": [str(deviation) for deviation in deviations],
        "unreachable": unreachable,
    }
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"{detector.name} {detector.version}: {len(detector.features)} features over {detector.stream.name}, "
            f"{len(detector.rules)} rules, {len(live)} of them live"
            f"{f', model {detector.model.id}' if detector.model else ''}."
        )
        for deviation in deviations:
            typer.echo(f"{examples.FILE}: {deviation}")
        if unreachable:
            typer.echo(
                f"policy.yaml: review from {detector.policy.review} points on, and its live rules add {most} at most."
            )
        if deviations:
            typer.echo("Its examples come out otherwise than they say.")
        typer.echo("Something is wrong." if deviations or unreachable else "Nothing wrong.")
    if deviations or unreachable:
        raise typer.Exit(FOUND_WRONG)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A detector's folder, or NAME@VERSION, or NAME@live or NAME@shadow.")],
    after: Annotated[str, typer.Argument(help="The one to compare with it, told in the same ways.")],
    source: Annotated[str, typer.Option("--on", help="A file, or `log`, or `lake`.")],
    mapping: Annotated[Path | None, typer.Option(help="How a file's columns become a stream (YAML).")] = None,
    further: With = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say which decisions change from one version to another over the same events. Exit code 1: some do."""
    from tidegate.hosts import diff as comparing

    settings = read_settings(data=data)
    first, second = _read(settings, before), _read(settings, after)
    streams = list(dict.fromkeys([*first.streams, *second.streams]))
    with progress_bar("diff", hidden=as_json) as progress:
        task = progress.add_task("diff", total=None)

        def tell(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        found = comparing.diff(first, second, _history(settings, source, mapping, further, streams, tell))
    _print_diff(found, as_json=as_json)


def _print_diff(found: Diff, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(found.lines()))
    if found.changed:
        raise typer.Exit(FOUND_WRONG)


def _history(
    settings: Settings,
    source: str,
    mapping: Path | None,
    further: list[str] | None,
    streams: list[str],
    progress: Any,
) -> Batches:
    from tidegate.files.mapping import read_mapping
    from tidegate.hosts import history
    from tidegate.wiring import open_lake

    if source in (LOG, LAKE):
        if mapping is not None or further:
            raise UsageError(f"diff: wanted --mapping and --with with a file alone, got them with {source}")
        log = log_of(settings, "detector")
        return (
            history.of_log(log, streams, progress)
            if source == LOG
            else history.of_lake(open_lake(settings), streams, progress)
        )
    if mapping is None:
        raise UsageError("diff: wanted --mapping, which says how the file's columns become a stream, got none")
    return history.of_file(Path(source), read_mapping(mapping), progress, further_of(further))


def _read(settings: Settings, told: str) -> Detector:
    """A detector by its folder, or by name and version."""
    from tidegate.hosts.promotion import standing_now, texts_of
    from tidegate.kernel.detector import compile_detector
    from tidegate.streams.control import Standing
    from tidegate.wiring import open_models, read_detector

    name, at, version = told.partition("@")
    if not at:
        return read_detector(Path(told))
    log = log_of(settings, "detector")
    if version in ("live", "shadow"):
        release = getattr(standing_now(log).get(name, Standing()), version)
        if release is None:
            raise NotFoundError(f"detector {name!r}: no version of it is {version}")
        version = release.version
    return compile_detector(name, texts_of(log, name, version), open_models())


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="The detector's name: that of its folder.")],
    by: By,
    to: Annotated[Literal["shadow", "live"], typer.Option(help="Beside what decides, or in its place.")] = "live",
    version: Version = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Release a version: the folder's, or an older one. Its windows are filled from the log, and from the lake beyond
    that; until then the version before decides. Exit code 1: its examples come out otherwise than they say.
    """
    from tidegate.hosts import examples
    from tidegate.hosts.promotion import texts_of
    from tidegate.kernel.detector import compile_detector
    from tidegate.wiring import open_models, read_detector_texts

    settings = read_settings(data=data)
    log = log_of(settings, "detector")
    texts = texts_of(log, name, version) if version else read_detector_texts(settings.detectors / name)
    detector = compile_detector(name, texts, open_models())
    _allow(settings, name, texts, to, by)
    if examples.FILE in texts and examples.check_examples(detector, texts[examples.FILE]):
        typer.echo(f"The examples of {name} come out otherwise than they say: see tidegate detector check.", err=True)
        raise typer.Exit(FOUND_WRONG)
    _release(settings, name, texts, to, by, as_json=as_json)


@app.command()
def retire(
    name: Annotated[str, typer.Argument(help="The detector's name.")],
    by: By,
    version: Version = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """End a version that is shadow or live; without --version, the live one: nothing then decides in its place."""
    from tidegate.hosts.promotion import standing_now, texts_of
    from tidegate.streams.control import Standing

    settings = read_settings(data=data)
    log = log_of(settings, "detector")
    standing = standing_now(log).get(name, Standing())
    running = [release.version for release in (standing.live, standing.shadow) if release]
    ended = version or (standing.live.version if standing.live else None)
    if ended not in running:
        raise NotFoundError(f"detector {name!r}: wanted a version that decides, got {version}; {running or 'none'} do")
    texts = texts_of(log, name, ended)
    _allow(settings, name, texts, "retired", by)
    _release(settings, name, texts, "retired", by, as_json=as_json)


def _allow(settings: Settings, name: str, texts: dict[str, str], status: Status, by: str) -> None:
    """Only who may release; who may not is told to the audit trail."""
    from tidegate.governance.roles import require
    from tidegate.wiring import open_identity

    identity = open_identity(settings)
    try:
        require(identity.who(identity.sign_in(by, password_of(by))), "detectors:release")
    except AccessError:
        _tell(settings, name, texts, status, by, "refused")
        raise


def _tell(
    settings: Settings,
    name: str,
    texts: dict[str, str],
    status: Status,
    by: str,
    outcome: Literal["done", "refused"],
) -> None:
    from tidegate.kernel.detector import version_of
    from tidegate.ports.audit import AuditEntry
    from tidegate.wiring import open_audit, open_clock

    on, what = f"{name} {version_of(texts)}", f"release {status}"
    open_audit(settings).write(
        AuditEntry(time_ms=open_clock().now_ms(), who=by, what=what, on=on, where="terminal", outcome=outcome)
    )


def _release(settings: Settings, name: str, texts: dict[str, str], status: Status, by: str, *, as_json: bool) -> None:
    """Told to the audit trail before it is done."""
    from tidegate.hosts.promotion import release
    from tidegate.wiring import open_clock, open_lake, open_models, open_snapshots

    _tell(settings, name, texts, status, by, "done")
    with progress_bar("windows", hidden=as_json) as progress:
        task = progress.add_task("windows", total=None)
        released = release(
            log_of(settings, "detector"),
            open_snapshots(settings),
            lambda: open_lake(settings),
            name,
            texts,
            status=status,
            by=by,
            clock=open_clock(),
            models=open_models(),
            progress=lambda done: progress.update(task, completed=done),
        )
    if as_json:
        print_json(released)
    else:
        typer.echo(f"{name} {released.version} is {status} from here on.")


@app.command()
def shadow(
    name: Annotated[str, typer.Argument(help="The detector's name.")], data: Data = None, as_json: AsJson = False
) -> None:
    """Say what the shadow version decided otherwise than the live one. Exit code 1: some decisions."""
    from tidegate.hosts.diff import shadow_diff
    from tidegate.wiring import open_shadow_log

    settings = read_settings(data=data)
    _print_diff(shadow_diff(log_of(settings, "detector"), open_shadow_log(settings), name), as_json=as_json)


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """Say which version of each detector is live, which is shadow, and which rules are demoted."""
    from tidegate.hosts.promotion import standing_now

    standings = standing_now(log_of(read_settings(data=data), "detector"))
    if as_json:
        print_json(standings)
        return
    for name, standing in sorted(standings.items()):
        live, shadow = (each.version if each else "none" for each in (standing.live, standing.shadow))
        typer.echo(f"{name}: live {live}, shadow {shadow}")
        for rule, demotion in standing.demoted.items():
            typer.echo(
                f"  rule {rule} leads to review at most: it fired {demotion.fired} times in {demotion.decided} "
                f"decisions, and {demotion.forecast:g} in 1,000 were forecast"
            )


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="The detector's name.")], data: Data = None, as_json: AsJson = False
) -> None:
    """Say what became of a detector's versions: which, when, by whom."""
    from tidegate.hosts.controls import controls
    from tidegate.streams.control import Candidate, Demotion, Release, Warm

    log = log_of(read_settings(data=data), "detector")
    found = [(record.offset, control) for record, control in controls(log) if control.detector == name]
    if not found:
        raise NotFoundError(f"detector {name!r}: the log knows no version of it")
    if as_json:
        print_json([{"offset": offset, "record": control} for offset, control in found])
        return
    for offset, control in found:
        when = datetime.fromtimestamp(control.at_ms / 1000, UTC).isoformat(timespec="seconds")
        match control:
            case Release():
                became = f"{control.status}, by {control.by}"
            case Demotion():
                became = f"rule {control.rule} demoted"
            case Candidate():
                became = "candidate: it is made ready to go live"
            case Warm():
                became = "ready to go live"
        typer.echo(f"{offset}  {when}  {control.version} {became}")
