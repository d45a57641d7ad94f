"""`evalmon run`: runs the command as without evalmon, and reports its start and end.

    hold signals back -> start the command -> let go of its files -> pass signals on, report beside it
                      -> end as it ended

If evalmon fails before the command runs, it becomes the command. If it fails later, it waits for the command and ends
as that did.
"""

from __future__ import annotations

import os
import time
from typing import NoReturn

from evalmon_agent.errors import UsageError
from evalmon_agent.words.printable import printable

from . import arguments, command, signals
from .children import ReportProcess, SamplerProcess
from .command import Command, Inherited, Run
from .job import find_ancestor, job_of, variables_of_another_eval

# After the command's end a job is held no longer than this, whatever hangs.
_LEAVE_WITHIN_S = 2.0

# As a shell says it: found but cannot be run, and not found.
_CANNOT_RUN = 126
_NOT_FOUND = 127

# Set, to the job's id, only where we became the command because we failed: a hook in it must not start over.
UNMONITORED = "EVALMON_UNMONITORED"


def main(argv: list[str]) -> NoReturn:
    """Run the command of `argv` (without `evalmon run`); never returns."""
    mask = signals.hold_back()
    try:
        options = arguments.parse_run(argv)
    except UsageError as error:
        _leave(error.exit_status, message=str(error))
    if options.wants_help:
        _leave(0, message=arguments.RUN_HELP.rstrip("\n"), descriptor=1)
    inherited = Inherited(mask)
    try:
        program = command.from_script(options.command) if options.is_script else command.from_words(options.command)
        _monitor(program, inherited, options)
        program.replace_us(inherited)
    except OSError as error:
        _leave(
            _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN,
            message=f"evalmon run: {printable(options.command[0])}: {error.strerror}",
        )


def _monitor(program: Command, inherited: Inherited, options: arguments.Arguments) -> None:
    """Start the command and end as it ends; returns only if it is not started.

    That is so if a `run` among the ancestors does all this already, and if evalmon failed.
    """
    try:
        ancestor = find_ancestor(os.environ.get("SLURM_JOB_ID"))
        if ancestor.is_run:
            return
        for name in variables_of_another_eval(os.environ):
            os.environ.pop(name, None)
        job = job_of(os.environ, pid=os.getpid(), is_script=options.is_script, step=ancestor.step)
        has_a_place = job is not None and (options.dir or os.environ.get("EVALMON_DIR"))
        report = ReportProcess(options, job, stderr=-1 if has_a_place else _copy_of_stderr())
        leads = options.is_script and job is not None and command.may_lead_a_group(job.raw_id)
        pid = program.spawn(inherited, leads_group=leads)
    except Exception:  # noqa: BLE001 (evalmon must not keep the command from running)
        inherited.environment[UNMONITORED.encode()] = os.environb.get(b"SLURM_JOB_ID", b"1")
        return
    run = Run(options.command[0], pid)
    sampler = SamplerProcess(options, is_in_job=job is not None)
    signals.end_as(_accompany(run, report, sampler, group=pid if leads else 0))


def _accompany(run: Run, report: ReportProcess, sampler: SamplerProcess, *, group: int) -> int:
    """Wait for the command, which leads `group` if that is not 0; returns its wait status."""
    status = None
    try:
        _let_go_of_files()
        probe = signals.BroadcastProbe(group=group)
        report.start(run, sampler)
        sampler.start()
        status = signals.Relay(run.pid, probe, report, sampler).until_the_command_ends()
        run.has_ended(status)
        probe.end()
        deadline = time.monotonic() + _LEAVE_WITHIN_S
        sampler.finish()
        run.sampler_status, run.sampler_trouble = sampler.status(), sampler.trouble
        run.observed_evals = sampler.observed_evals()
        report.finish(run, within_s=deadline - time.monotonic())
    except Exception:  # noqa: BLE001 (evalmon must not change the command's end)
        if status is None:
            _, status = os.waitpid(run.pid, 0)
    return status


def _copy_of_stderr() -> int:
    try:
        return os.dup(2)
    except OSError:
        return -1


def _let_go_of_files() -> None:
    """Close files, pipes and locks that this process shares with the command.

    Otherwise a reader of the command's output would wait for evalmon too. And evalmon cannot write there by mistake.
    """
    try:
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor > 2 and _is_the_commands(descriptor):
                os.close(descriptor)
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return  # no descriptor left: holding the files does less harm than missing signals
    for descriptor in range(3):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


def _is_the_commands(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # the listing's own, closed again


def _leave(status: int, *, message: str, descriptor: int = 2) -> NoReturn:
    try:
        os.write(descriptor, f"{message}\n".encode())
    finally:
        os._exit(status)
