"""`tidegate explain`: a decision in words, and what would have been decided otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.commands.options import AsJson, Data, log_of, print_json, progress_bar
from tidegate.desk import text
from tidegate.errors import NotFoundError
from tidegate.settings import read_settings

if TYPE_CHECKING:
    from tidegate.hosts.whatif import WhatIf
    from tidegate.ports.log import Log
    from tidegate.streams.decision import Decision


def explain(
    event_id: Annotated[str, typer.Argument(help="The event whose decisions are explained.")],
    data: Data = None,
    had: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE: say what would have been decided, had this been so; may be given again."),
    ] = None,
    usual: Annotated[
        bool, typer.Option("--usual", help="Say so also of what is usual for the customer: device, address, ...")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say why an event was decided as it was: reasons, what moved the model, what would have led to another outcome.
    With --had or --usual the version that decided is asked again, over the log. Exit code 2: the event is not known.
    """
    log = log_of(read_settings(data=data), "explain")
    asked: dict[str, str] = {}
    for each in had or []:
        column, given, value = each.partition("=")
        if not given:
            raise typer.BadParameter(f"wanted COLUMN=VALUE, such as amount_minor=5000; got {each!r}")
        asked[column] = value
    found = _decisions(log, event_id)
    told = [(decision, _otherwise(log, decision, asked, usual=usual, hidden=as_json)) for decision in found]
    if as_json:
        print_json([{"decision": decision, "what_if": answers} for decision, answers in told])
    else:
        typer.echo("\n\n".join("\n".join(_lines(decision, answers)) for decision, answers in told))


def _decisions(log: Log, event_id: str) -> list[Decision]:
    """All about an event that the log has, of whichever detector."""
    import msgspec

    from tidegate.hosts.arrivals import records_before
    from tidegate.streams.decision import DECISIONS, Decision

    records = records_before(log, log.ends([DECISIONS]))
    found = [msgspec.json.decode(record.value, type=Decision) for record in records if record.key == event_id]
    if not found:
        raise NotFoundError(f"explain: the log holds no decision about event {event_id!r}")
    return found


def _otherwise(log: Log, decision: Decision, had: dict[str, str], *, usual: bool, hidden: bool) -> list[WhatIf]:
    if not had and not usual:
        return []
    from tidegate.hosts.promotion import first_detectors
    from tidegate.hosts.whatif import what_if
    from tidegate.wiring import open_models

    models = open_models()
    with progress_bar("explain", hidden=hidden) as progress:
        task = progress.add_task("explain", total=None)
        return what_if(
            log,
            first_detectors(log, models),
            decision,
            had,
            models=models,
            usual=usual,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _lines(decision: Decision, answers: list[WhatIf]) -> Iterator[str]:
    yield (
        f"{decision.event_id}: {decision.outcome}, score {decision.score}, by {decision.detector} "
        f"{decision.detector_version}, {text.full_time(decision.event_time)}"
    )
    if decision.model_score is not None:
        yield f"Model {decision.model_version}: score {decision.model_score:.4g}"
    if decision.late:
        yield "It came late."
    yield "Reasons:" if decision.reasons else "No rule gave a reason."
    for (name, points), reason in zip(decision.points.items(), decision.reasons, strict=False):
        yield f"  {points:+d}  {reason} ({name})"
    for rule in decision.demoted:
        yield f"  The rule {rule} was demoted: its points lead to review at most."
    for name, state in decision.freshness.items():
        yield f"  {name} was {state}."
    explanation = decision.explanation
    if explanation and explanation.contributions:
        yield "What moved the model:"
        yield from (f"  {text.words(each.feature)}: {text.moved(each.amount)}" for each in explanation.contributions)
    if decision.outcome != "approve":
        told = explanation.counterfactuals if explanation else []
        yield (
            "What would have led to another outcome:"
            if told
            else "Nothing was found that would have led to another outcome."
        )
        yield from (f"  {text.would_have_been(each, None)}" for each in told)
    if answers:
        yield "Asked again over the log:"
        for each in answers:
            value = text.feature(each.column, each.value, None)
            why = f" ({each.reasons[0]})" if each.reasons else ""
            yield f"  {each.column} = {value}: {each.outcome}, score {each.score}{why}"
