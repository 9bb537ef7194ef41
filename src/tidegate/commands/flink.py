"""`tidegate flink`: the engine as a job on a Flink cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.commands.options import AsJson, print_json

if TYPE_CHECKING:
    from tidegate.hosts.flink.cluster import FlinkCluster, JobStatus
    from tidegate.hosts.flink.submission import Submission
    from tidegate.ports.log import Log

app = typer.Typer(help="The engine as a job on a Flink cluster, between Kafka's topics.", no_args_is_help=True)

Slots = Annotated[int, typer.Option(min=1, max=128, help="Slots that it is given.")]


def _opened() -> tuple[FlinkCluster, Submission, Log]:
    from tidegate.settings import read_settings
    from tidegate.wiring import flink_submission, open_flink, open_log, read_detector_texts

    settings = read_settings()
    submission = flink_submission(
        settings, {name: read_detector_texts(settings.detectors / name) for name in settings.live}
    )
    # Every topic is there before the job looks for it.
    return open_flink(settings), submission, open_log(settings)


def _told(status: JobStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(status)
        return
    state = status.state if status.running or status.ended else f"{status.state}, not yet on all its slots"
    typer.echo(f"job {status.name} ({status.id}): {state}")
    typer.echo(f"slots {status.slots}, checkpoints {status.checkpoints}, restarts {status.restarts}")


@app.command("submit")
def submit_job(
    slots: Slots = 1,
    savepoint: Annotated[str | None, typer.Option(help="Go on from this savepoint; else it begins anew.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the live detectors as a job. Without a savepoint it reads the log from its first record on."""
    from tidegate.hosts.flink.cluster import begin

    cluster, submission, log = _opened()
    _told(begin(cluster, submission, log, slots=slots, savepoint=savepoint), as_json=as_json)


@app.command("status")
def job_status(as_json: AsJson = False) -> None:
    """Say how the job is."""
    cluster, submission, _ = _opened()
    _told(cluster.status(submission.job), as_json=as_json)


@app.command("savepoint")
def take_savepoint(
    stop: Annotated[bool, typer.Option("--stop", help="End the job with it: nothing is decided after it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a savepoint and say where it is."""
    cluster, submission, _ = _opened()
    place = cluster.savepoint(submission.job, stop=stop)
    if as_json:
        print_json({"savepoint": place})
    else:
        typer.echo(place)


@app.command("rescale")
def rescale_job(
    slots: Annotated[int, typer.Argument(min=1, max=128, help="Slots that it is to have.")], as_json: AsJson = False
) -> None:
    """End the job with a savepoint and let it go on from there on more slots, or fewer. No decision changes."""
    cluster, submission, _ = _opened()
    _told(cluster.rescale(submission, slots), as_json=as_json)
