"""`evalmon logs`: shows the end of what an eval's job printed, and follows it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import click

from evalmon_agent.cli.options import CommandOnExperiment, names_argument
from evalmon_agent.cli.output import interruptible
from evalmon_agent.collect.attempt_files import Outputs, outputs_of, script_of
from evalmon_agent.commands.status import present_state
from evalmon_agent.errors import UsageError
from evalmon_agent.evidence.diagnosis.output import without_colours
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.trusted import OwnedFiles, read_at
from evalmon_agent.session import Session
from evalmon_agent.summary.build import build
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.words.eval_names import named_evals
from evalmon_agent.words.printable import printable

_LINE_BYTES = 4096
"""What one line is expected to take at most on average; of longer lines fewer are shown."""
_AT_MOST_BYTES = 16 * 1024 * 1024
_PAUSE_S = 1.0
_LOOKED_UP_EVERY = 5
"""Every so many pauses it is looked whether the eval is over."""


@click.command("logs", cls=CommandOnExperiment)
@names_argument(several=False)
@click.option("--follow", "-f", is_flag=True, help="Print what is added, until the eval is over.")
@click.option("--lines", "-n", type=click.IntRange(1, 100_000), default=50, help="How many lines (default: 50).")
@click.option("--error", is_flag=True, help="Only the lines that the diagnosis rests on.")
def command(experiment: Experiment, name: str, follow: bool, lines: int, error: bool) -> None:
    """Show the end of what an eval's job printed.

    The errors follow, if they are in a file of their own. The paths are on stderr.
    """
    session = Session.of_command(experiment, for_reading=True)
    state = present_state(session)
    names = named_evals([name], state.names, experiment=experiment.root)
    if len(names) > 1:
        raise UsageError(f"{name} means {len(names)} evals, such as {names[0]} and {names[1]}; name one of them")
    logs = _Logs(session, names[0])
    if error:
        has_output = logs.show_error(state)
    elif follow:
        with interruptible("no longer following; the eval keeps running"):
            has_output = logs.follow(state, lines=lines, sleep=time.sleep)
    else:
        has_output = logs.show(state, lines=lines)
    if not has_output:
        click.echo(f"evalmon: {printable(names[0])}: {logs.why_nothing}", err=True)
        sys.exit(1)


class _Logs:
    """The output of one eval's latest job."""

    def __init__(self, session: Session, name: str) -> None:
        self.why_nothing = ""
        self._session = session
        self._name = name
        self._tails: dict[str, _Tail] = {}
        owner = None if session.experiment.is_ours else session.experiment.owner
        self._files = OwnedFiles(os.geteuid() if owner is None else owner)

    def show_error(self, state: ExperimentState) -> bool:
        """Print the evidence of its diagnosis; False if there is none."""
        summary = build(state, now=self._session.clock(), settings=self._session.settings)
        [ev] = [ev for ev in summary.evals if ev.name == self._name]
        if ev.diagnosis is None or ev.diagnosis.evidence is None:
            self.why_nothing = "no error is known"
            return False
        if ev.log is not None:
            click.echo(printable(ev.log), err=True)
        _print(f"{ev.diagnosis.evidence}\n".encode())
        return True

    def show(self, state: ExperimentState, *, lines: int) -> bool:
        """Print the end of its output, then that of its errors; False if there is nothing."""
        self._find(state)
        return _print(*(tail.last_lines(lines) for tail in self._tails.values()))

    def follow(self, state: ExperimentState, *, lines: int, sleep: Callable[[float], object]) -> bool:
        """Print the same, then what is added until the eval is over; a later job's output from its start."""
        has_output = self.show(state, lines=lines)
        turn = 0
        while not self._is_over(state):
            sleep(_PAUSE_S)
            turn += 1
            if turn % _LOOKED_UP_EVERY == 0:
                state = present_state(self._session)
                self._find(state)
            has_output = _print(*(tail.added() for tail in self._tails.values())) or has_output
        return _print(*(tail.added(to_the_end=True) for tail in self._tails.values())) or has_output

    def _is_over(self, state: ExperimentState) -> bool:
        ev = state.evals.get(self._name)
        return self._name not in state.waiting and (ev is None or ev.final)

    def _find(self, state: ExperimentState) -> None:
        """Find the files of its latest job; the path of a new one is printed on stderr."""
        ev = state.evals.get(self._name)
        outputs = Outputs() if ev is None else self._outputs(ev)
        paths = [path for path in (outputs.output, outputs.errors) if path is not None]
        if ev is None:
            self.why_nothing = "it was never submitted, so it has no output"
        elif not paths:
            self.why_nothing = f"where job {ev.job_id} writes its output is not known"
        else:
            self.why_nothing = f"nothing in {' or '.join(map(printable, paths))} ({ev.state})"
        for path in paths:
            if path not in self._tails:
                self._tails[path] = _Tail(path, self._files)
                click.echo(printable(path), err=True)

    def _outputs(self, ev: Eval) -> Outputs:
        script = script_of(self._session.experiment, ev, ev.job_id, files=self._files)
        outputs = outputs_of(script, ev, ev.job_id, files=self._files)
        if outputs.output is not None:
            return outputs
        by_slurm = self._session.slurm.details(ev.job_id)
        return Outputs(by_slurm[0].output, by_slurm[0].errors) if by_slurm else outputs


class _Tail:
    """The end of one file of the owner's, which may grow, be cut or not be there yet."""

    def __init__(self, path: str, files: OwnedFiles) -> None:
        self.path = path
        self._files = files
        self._read_to = 0

    def last_lines(self, count: int) -> bytes:
        """Its last lines; empty if it cannot be read."""
        text = self._read(at_most=min(count * _LINE_BYTES, _AT_MOST_BYTES), from_start=False)
        return b"".join(text.splitlines(keepends=True)[-count:])

    def added(self, *, to_the_end: bool = False) -> bytes:
        """What was added since it was last read: whole lines, unless it is read `to_the_end`."""
        text = self._read(at_most=_AT_MOST_BYTES, from_start=True)
        whole = len(text) if to_the_end else text.rfind(b"\n") + 1
        self._read_to -= len(text) - whole
        return text[:whole]

    def _read(self, *, at_most: int, from_start: bool) -> bytes:
        try:
            with self._files.open(self.path) as (descriptor, size_bytes):
                begin = self._read_to if self._read_to <= size_bytes else 0  # it was cut: the job was requeued
                begin = begin if from_start else max(size_bytes - at_most, 0)
                text = read_at(descriptor, begin, min(size_bytes - begin, at_most))
        except OSError:
            return b""
        self._read_to = begin + len(text)
        return text


def _print(*texts: bytes) -> bool:
    """Print what a job printed: as it is where no terminal would obey it; returns whether there was anything."""
    text = b"".join(texts)
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return bool(text)
    for line in without_colours(text.decode(errors="replace")).splitlines():
        click.echo(printable(line.expandtabs()))
    return bool(text)
