"""`evalmon notify`: sends the notifications that are due, or a test to each target."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

import click

from evalmon_agent.cli.options import experiment_argument
from evalmon_agent.errors import UsageError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.notify.deliver import INSTALL, NOT_INSTALLED, RUN_AT_MOST_S, send, send_due, targets_of
from evalmon_agent.session import Session
from evalmon_agent.summary.notifications import a_test


@click.command("notify")
@experiment_argument()
@click.option("--test", "is_test", is_flag=True, help="Send a test to each target, and say whether it was sent.")
@click.option("--last-try", is_flag=True, hidden=True)
@click.option("--experiment-id", hidden=True)
def command(experiment: Experiment, is_test: bool, last_try: bool, experiment_id: str | None) -> None:
    """Send the notifications that are due, or a test.

    evalmon sends what is due by itself.
    """
    experiment.expect(experiment_id)
    session = Session.of_command(experiment, for_reading=True)
    if is_test:
        sys.exit(_test(session))
    experiment.require_monitored()
    experiment.check()
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)
    signal.alarm(int(RUN_AT_MOST_S))
    send_due(experiment, session.settings, session.environ, is_last_try=last_try)


def _end(number: int, frame: FrameType | None) -> None:
    """Leave in an orderly way, so that the next process need not wait."""
    del number, frame
    sys.exit(1)


def _test(session: Session) -> int:
    """A line for each target; 1 if one could not be reached."""
    targets = targets_of(session.settings)
    if not targets:
        raise UsageError(f"{session.experiment.settings}: set notify or notify_command first")
    is_all_sent = True
    for target in targets:
        notification = a_test(session.experiment.root, now=time.time())
        why = send(target, notification, environ=os.environ, cwd=session.experiment.root)
        is_all_sent = is_all_sent and why is None
        remedy = f"; run: {INSTALL}" if why == NOT_INSTALLED else ""
        click.echo(f"{target.label}: " + ("sent" if why is None else f"not sent: {why}{remedy}"))
    return 0 if is_all_sent else 1
