"""`evalmon status`: shows what the files say; asks Slurm only if no other observer does."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from evalmon_agent.cli.options import CommandOnExperiment, json_option
from evalmon_agent.cli.output import interruptible, print_json, print_text, terminal_size
from evalmon_agent.cli.status_view import SORTS, Choice, samples_of_running, status_text
from evalmon_agent.collect.collect import progress
from evalmon_agent.errors import STILL_ACTIVE, UNVERIFIED, LockUnavailableError, UsageError
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.monitor_jobs import active_jobs, submit_monitor_job
from evalmon_agent.monitor.finish import Measurer, finalize, is_ready, measure
from evalmon_agent.monitor.poll import Observer, back_off_s
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.submitting.submit_waiting import Submitter, log_progress
from evalmon_agent.summary.attention import verdict_line
from evalmon_agent.summary.build import build
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.records import ExperimentState, MonitorJob
from evalmon_agent.tracking.verdict import NEEDS_YOU
from evalmon_agent.words.durations import human
from evalmon_agent.words.eval_names import named_evals
from evalmon_agent.words.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

_SILENT_POLLS = 2
_LOCK_WAIT_S = 2.0
_SEFF_AT_MOST_S = 60.0
"""How long somebody who waits for `report` waits for seff; accounting's figures do for the rest."""

_SHOWN_AGAIN_S = 5.0


@click.command("status", cls=CommandOnExperiment)
@click.option("--all", "show_all", is_flag=True, help="Show every eval, even if the terminal is too small.")
@click.option("--failed", is_flag=True, help="Show only evals that need attention.")
@click.option("--name", "patterns", multiple=True, metavar="NAME", help="Show only this eval, array or pattern.")
@click.option("--sort", type=click.Choice([*SORTS]), help="Sort the table by this.")
@click.option(
    "--watch", is_flag=True, help="Refresh until all evals are over, with a bar of their samples; Ctrl-C ends it."
)
@json_option
def command(
    experiment: Experiment,
    show_all: bool,
    failed: bool,
    patterns: Sequence[str],
    sort: str | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Show whether the evals succeeded, what needs attention, and a table of all."""
    if watch and (as_json or show_all):
        raise click.UsageError(f"--watch shows a table in a terminal; leave out {'--json' if as_json else '--all'}.")
    session = Session.of_command(experiment, for_reading=True)

    def show(summary: Summary, size: os.terminal_size | None) -> str:
        names = (
            named_evals(patterns, [ev.name for ev in summary.evals], experiment=experiment.root) if patterns else None
        )
        choice = Choice(show_all=show_all, failed=failed, names=names, sort=sort)
        heartbeat = state_file.load_heartbeat(experiment)
        return status_text(summary, heartbeat, choice, now=time.time(), size=size)

    if watch:
        with interruptible("evals keep running; evalmon status --watch shows them again"):
            summary = _watch(lambda: status(session), show, every_s=session.settings.poll_interval)
    else:
        gc.set_threshold(250_000)  # all that is read is shown: among 9,000 evals, looking for garbage takes long
        summary = status(session)
        if as_json:
            print_json(summary)
        else:
            print_text(show(summary, terminal_size()))
    note_if_read_only(experiment)
    sys.exit(exit_status(summary))


def status(session: Session) -> Summary:
    """What is known now, in the shape of the summary; nothing is written but what a poll finds.

    A reader needs no lock: where nothing can be written (another's experiment, a full disk, a lock that is held),
    this is what the files say.
    """
    experiment = session.experiment
    state = present_state(session)
    so_far = progress(experiment, state, owner=None if experiment.is_ours else experiment.owner)
    return build(state, now=session.clock(), settings=session.settings, progress=so_far)


def present_state(session: Session) -> ExperimentState:
    """The state as it is known now, also of another user's experiment."""
    experiment = session.experiment
    experiment.require_monitored()
    if not experiment.may_be_written:
        return _read(experiment)
    experiment.check_owner()
    try:
        return look(Observer(session, role="command", lock_wait_s=_LOCK_WAIT_S))
    except (LockUnavailableError, OSError):
        state = state_file.load(experiment)
        if state is None:
            raise
        return state


def note_if_read_only(experiment: Experiment) -> None:
    """Print on stderr that what was shown is what the files say, where this user may only read them."""
    if not experiment.may_be_written:
        last = state_file.load_heartbeat(experiment)
        polled = "" if last is None else f"; the last poll was {human(max(time.time() - last.polled_at, 0.0))} ago"
        click.echo(
            f"note: {printable(experiment.directory)} is read-only for you; nothing was written{polled}", err=True
        )


def exit_status(summary: Summary) -> int:
    """3 while evals are active, else 1 if one did not succeed, else 4 if one could not be verified, else 0."""
    if summary.verdicts["active"]:
        return STILL_ACTIVE
    if any(summary.verdicts[verdict] for verdict in NEEDS_YOU):
        return 1
    return UNVERIFIED if summary.verdicts["unverified"] else 0


def look(observer: Observer) -> ExperimentState:
    """The state; one poll first if the observer in charge has been silent for two and something is active.

    Where no monitor job is left to do it, the end is made here, and late-comers get a completion job. After a
    lost state the end is in the log already, but the figures must be captured again.
    """
    state = _polled(observer)
    is_done = state.is_complete and is_ready(state)
    if state.all_final and not is_done and not state.somebody_completes:
        return _finish(observer, state)
    return state


def _polled(observer: Observer) -> ExperimentState:
    experiment = observer.experiment
    last = state_file.load_heartbeat(experiment)
    age_s = time.time() - last.polled_at if last is not None else None
    state = observer.record()
    if state.all_final and state.is_complete:
        return state
    interval_s = _interval_s(observer.settings, state)
    silent = age_s is None or age_s < 0 or age_s > _SILENT_POLLS * interval_s
    if not silent or not observer.slurm.has("squeue"):
        return state
    observed = observer.observe_once(at_least_s=interval_s)
    if observed.queue is not None and observed.state.lacks_completion and observer.slurm.has("sbatch"):
        return _submit_waiting(observer, _with_completion(observer, observed.state))
    return _submit_waiting(observer, observed.state)


def _interval_s(settings: Settings, state: ExperimentState) -> float:
    """A poll interval; longer while Slurm does not answer: who looks in a loop asks no oftener than a sidecar."""
    failures = state.outage.failures if state.outage is not None else 0
    return back_off_s(settings.poll_interval, failures=failures, alert_after=settings.alert_after)


def _with_completion(observer: Observer, state: ExperimentState) -> ExperimentState:
    """A completion job for evals that were added or requeued after the completion."""
    waiting_for = active_jobs(observer.experiment, state)
    if not waiting_for:
        return state
    outcome = submit_monitor_job(observer.session, "completion", afterany=waiting_for)

    def change(state: ExperimentState, now: float) -> list[list[str]]:
        del now
        if state.completion is not None:
            state.completion.status = MonitorJob.REFUSED  # once: the next command that finds all over completes instead
        return []

    return observer.record() if outcome.job_id is not None else observer.transact(change)


def _submit_waiting(observer: Observer, state: ExperimentState) -> ExperimentState:
    """Submit what waits, since no other process polls, if this environment is the one that it must have."""
    if not state.has_more_to_come or not observer.slurm.has("sbatch"):
        return state
    return log_progress(observer, Submitter(observer.session, "looking").run())


def _read(experiment: Experiment) -> ExperimentState:
    """Read an experiment that this user may not write to: another user's, or one on a read-only file system."""
    experiment.check_place()
    try:
        state = state_file.load_foreign(experiment)
    except PermissionError:
        raise experiment.unreadable() from None
    if state is None:
        raise UsageError(f"{experiment.directory}: evalmon has written nothing there yet; ask its owner")
    return state


def _finish(observer: Observer, state: ExperimentState) -> ExperimentState:
    """Measure by accounting and finish, without seff's second call, for which a command should not wait."""
    measurer = Measurer(session=observer.session, retry_delay_s=0.0)
    state = measure(observer, measurer, state, deadline=time.monotonic() + _SEFF_AT_MOST_S)
    state = measure(observer, measurer, state, final=True)
    return finalize(observer) if is_ready(state) else state


_Show = Callable[[Summary, os.terminal_size | None], str]


def _watch(ask: Callable[[], Summary], show: _Show, *, every_s: float) -> Summary:
    """The view, renewed until no eval is active or the user ends it; in a file or a pipe a line for each change."""
    from rich.console import Console, Group  # noqa: PLC0415 - a tenth of a second, which only this needs
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        return _watch_line_by_line(ask, show, every_s=every_s)
    summary = ask()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            bar = _samples_bar(summary)
            size = os.terminal_size((console.width, console.height - len(bar)))
            text = Text.from_ansi(show(summary, size), no_wrap=True, overflow="crop")
            live.update(Group(text, *bar), refresh=True)
            if not summary.verdicts["active"]:
                return summary
            time.sleep(min(every_s, _SHOWN_AGAIN_S))
            summary = ask()


def _samples_bar(summary: Summary) -> list[RenderableType]:
    """How many samples the running evals have done, as far as that is known; empty if it is of none."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    samples = samples_of_running(summary)
    if samples is None:
        return []
    columns = (TextColumn("Samples"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, auto_refresh=False)
    of = "" if samples.evals == samples.running else f" of {samples.running}"
    bar.add_task(f"in {samples.evals}{of} running evals", completed=samples.done, total=samples.total)
    return [bar.get_renderable()]


def _watch_line_by_line(ask: Callable[[], Summary], show: _Show, *, every_s: float) -> Summary:
    """The verdict, whenever it changes, until no eval is active; then the view."""
    last = ""
    while (summary := ask()).verdicts["active"]:
        line = verdict_line(summary)
        if line != last:
            print_text(line)
        last = line
        time.sleep(min(every_s, _SHOWN_AGAIN_S))
    print_text(show(summary, None))
    return summary
