"""Writes the report beside the command, in a thread: a file system that hangs holds nobody up.

The one place where whatever goes wrong with a report is caught. It becomes a note in the report, if a later
attempt to write succeeds, and never a word on the eval's output.
"""

import _thread
import os
import sys

from .report import Run, enter, new_report, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .arguments import Arguments
    from .placement import Job

_RETRY_AFTER_S = 30.0
_STACK_BYTES = 512 * 1024


class Reporter:
    """Reports the start at once, and the end when told."""

    def __init__(self, asked: "Arguments", job: "Job | None", *, stderr: int) -> None:
        """Nothing is touched yet.

        Args:
            asked: what `run` was asked to do.
            job: None outside of a job: that is said, and nothing is reported.
            stderr: a descriptor of the eval's stderr if there may be something to say, else -1; closed once
            all
                is said.
        """
        self._job = job
        self._monitor = _absolute(asked.dir or os.environ.get("EVALMON_DIR"))
        self._name = printable(asked.name or os.environ.get("EVALMON_NAME") or None)
        self._output_dir = printable(_absolute(asked.output_dir or os.environ.get("EVALMON_OUTPUT_DIR")))
        self._token = printable(asked.token)
        self._stderr = stderr
        self._notes: list[str] = []
        self._has_ended = _thread.allocate_lock()
        self._is_done = _thread.allocate_lock()

    def start(self, run: Run) -> None:
        """Report that the command runs."""
        self._has_ended.acquire()
        self._is_done.acquire()
        _thread.stack_size(_STACK_BYTES)
        try:
            _thread.start_new_thread(self._work, (run,))
        except RuntimeError:
            self._is_done.release()  # no room for a thread

    def finish(self, *, within_s: float) -> None:
        """Report that the command has ended (`run` holds how); wait for that no longer than `within_s`."""
        self._has_ended.release()
        self._is_done.acquire(timeout=within_s)

    def _work(self, run: Run) -> None:
        try:
            monitor = self._find_monitor()
            if self._job is not None and monitor is not None:
                self._report_until_the_end(run, self._job, monitor)
        except Exception as error:  # noqa: BLE001 (see above)
            self._note(error)
        finally:
            self._is_done.release()

    def _find_monitor(self) -> str | None:
        """Where to report to; says so if there is no such place."""
        from .jobs_directory import find_monitor_directory  # noqa: PLC0415 (imports json: later)

        monitor, why_not = self._monitor, ""
        if self._job is None:
            why_not = "not in a Slurm job"
        elif monitor is None:
            monitor = find_monitor_directory(os.environ)
            why_not = "" if monitor else "EVALMON_DIR is not set and no evalmon.yaml found"
        if self._stderr >= 0:
            if why_not:
                os.write(self._stderr, f"evalmon run: {why_not}: nothing is reported\n".encode())
            os.close(self._stderr)
        return monitor

    def _report_until_the_end(self, run: Run, job: "Job", monitor: str) -> None:
        while True:
            is_last = run.ended_at is not None
            is_written = self._write(run, job, monitor)
            if is_last:
                return
            self._has_ended.acquire(timeout=-1 if is_written else _RETRY_AFTER_S)

    def _write(self, run: Run, job: "Job", monitor: str) -> bool:
        from .jobs_directory import JobsDirectory  # noqa: PLC0415 (as above)

        try:
            with JobsDirectory(monitor) as jobs:
                file, report = job.file, jobs.load(job.file)
                if report is not None and report.get("raw_id") != job.raw_id:
                    file, report = job.spare_file, jobs.load(job.spare_file)
                report = report or new_report(job, uid=os.getuid())
                report["name"] = self._name or report.get("name")
                enter(report, self._attempt(job), run, notes=self._notes)
                jobs.save(file, report)
        except Exception as error:  # noqa: BLE001 (see above)
            self._note(error)
            return False
        return True

    def _attempt(self, job: "Job") -> "dict[str, Any]":
        return {
            "restart": job.restart,
            "token": self._token,
            "host": os.uname().nodename,
            "boot_id": _boot_id(),
            "time_limit_end": job.time_limit_end,
            "output_dir": self._output_dir,
            "interpreter": printable(sys.executable),
            "scope": job.scope,
        }

    def _note(self, error: Exception) -> None:
        note = f"report: {type(error).__name__}: {error}"[:300]
        if note not in self._notes:
            self._notes.append(note)


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None
