"""Has the report written, by short-lived processes beside the command.

A process and not a thread: on a file system that hangs, a thread sits in the kernel where not even SIGKILL
reaches it, and a process with such a thread cannot end [ran: frozen ext4]. It also leaves this one small:
what the writer imports goes with it.
"""

from __future__ import annotations

import os
import signal
import time

from .arguments import Arguments
from .companion import Companion
from .job import Job
from .report import Run

# The exit status of a writer that failed without an errno; higher than any.
_NO_ERRNO = 255


class Reporter:
    """Reports the start at once, and the end when told."""

    def __init__(self, asked: Arguments, job: Job | None, *, stderr: int) -> None:
        """Nothing is touched yet.

        Args:
            asked: what `run` was asked to do.
            job: None outside of a job: that is said, and nothing is reported.
            stderr: a descriptor of the eval's stderr if there may be something to say, else -1; closed by
            `start`.
        """
        self._asked = asked
        self._job = job
        self._stderr = stderr
        self._notes: list[str] = []
        self._writer = 0
        self._run: Run | None = None
        self._companion: Companion | None = None
        self._is_due = False

    def start(self, run: Run, companion: Companion) -> None:
        """Report that the command runs, again and again until it is written; later also what the companion sees."""
        self._run, self._companion = run, companion
        self._fork(run)
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def finish(self, run: Run, *, within_s: float) -> None:
        """Report that the command has ended; wait for that no longer than `within_s`."""
        deadline = time.monotonic() + within_s
        if self._writer:
            # Ends its pauses; what it is writing it writes to the end.
            os.kill(self._writer, signal.SIGTERM)
            self._wait(deadline - within_s / 2)
        if self._writer:
            os.kill(self._writer, signal.SIGKILL)
            self._notes.append("start not reported: it took too long")
        if self._job is not None:
            self._fork(run)
            self._wait(deadline)

    def look(self) -> None:
        """Note whether the writer has ended since the last look; report again what the companion saw meanwhile."""
        self._look_at_writer()
        if self._companion is not None and self._companion.asks_for_report():
            self._is_due = True
        if self._is_due and not self._writer and self._run is not None and self._companion is not None:
            self._is_due = False
            self._run.evals_seen = self._companion.evals_seen()
            if self._job is not None:
                self._fork(self._run)

    def _look_at_writer(self) -> None:
        if self._writer:
            pid, status = os.waitpid(self._writer, os.WNOHANG)
            if pid:
                self._writer = 0
                if status:
                    self._notes.append(f"start not reported: {_reason(os.waitstatus_to_exitcode(status))}")

    def _wait(self, deadline: float) -> None:
        self._look_at_writer()
        while self._writer and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
            self._look_at_writer()

    def _fork(self, run: Run) -> None:
        parent = os.getpid()
        try:
            self._writer = os.fork()
        except OSError as error:
            self._writer = 0
            self._notes.append(f"start not reported: {error.strerror}")
            return
        if self._writer:
            return
        status = _NO_ERRNO
        try:
            from .writer import work  # noqa: PLC0415 (imports json, and only here)

            status = work(self._asked, self._job, run, notes=self._notes, parent=parent, stderr=self._stderr)
        finally:
            os._exit(status)


def _reason(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by signal {-exit_code}"
    return "unexpected error" if exit_code == _NO_ERRNO else os.strerror(exit_code)
