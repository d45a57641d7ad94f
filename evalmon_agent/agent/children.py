"""Starts and ends evalmon's processes beside the command: the sampler, and short-lived writers of the report.

`run` waits for them only at the end, and not long.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from contextlib import suppress
from typing import NoReturn

from .arguments import Arguments
from .command import Run
from .job import Job
from .signals import ChildProcess

_END_WITHIN_S = 0.5
_STATUS_BYTES = 64 * 1024

# The exit status of a report's writer that failed without an errno; higher than any.
_NO_ERRNO = 255

_HEADER_BYTES = 16
_LENGTH_BYTES = 4
_REQUEST = 1


class SamplerProcess(ChildProcess):
    """The sampler's process: a fork of this one, which takes 1 ms where a second interpreter takes 30."""

    def __init__(self, options: Arguments, *, is_in_job: bool) -> None:
        """Starts nothing yet."""
        self._options = options
        self._is_in_job = is_in_job
        self._status: SharedMemory | None = None
        self._observed: SharedMemory | None = None
        self.trouble = ""
        """Why it did not sample, or ended."""

    def start(self) -> None:
        """Fork it, if it has an output directory; never raises."""
        # Outside of a job, an EVALMON_OUTPUT_DIR is somebody else's.
        directory = self._options.output_dir or (os.environ.get("EVALMON_OUTPUT_DIR") if self._is_in_job else None)
        if not directory:
            self.trouble = "neither --output-dir nor EVALMON_OUTPUT_DIR says where to"
        elif self._is_in_job and os.environ.get("SLURM_LOCALID", "0") != "0":
            self.trouble = "the first task of this step on this node does that"
        else:
            try:
                self._fork(os.path.abspath(directory))
            except Exception as error:  # noqa: BLE001 (nothing of the sampler's may disturb the rest of us)
                self.trouble = f"{type(error).__name__}: {error}"

    def finish(self) -> None:
        """End it within half a second; its `status` is complete afterwards."""
        if not self._pid:
            return
        os.kill(self._pid, signal.SIGTERM)
        self.wait(time.monotonic() + _END_WITHIN_S)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def status(self) -> bytes:
        """SamplerStatus.entry as JSON; empty if it has said nothing."""
        return self._status.get() if self._status is not None else b""

    def observed_evals(self) -> bytes:
        """The eval programs that it saw, as JSON; empty if it has reported nothing."""
        return self._observed.get() if self._observed is not None else b""

    @property
    def report_requests(self) -> int:
        """A counter that it increases when what it saw should be reported at once."""
        return self._observed.requests if self._observed is not None else 0

    def _ended(self, status: int) -> None:
        if os.WIFSIGNALED(status):
            is_told = os.WTERMSIG(status) == signal.SIGTERM
            self.trouble = "it was over too soon" if is_told else f"killed by signal {os.WTERMSIG(status)}"

    def _fork(self, directory: str) -> None:
        status, observed = SharedMemory(_STATUS_BYTES), SharedMemory()
        self._status, self._observed = status, observed
        run = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            self._live(directory, run, status, observed)

    def _live(self, directory: str, run: int, status: SharedMemory, observed: SharedMemory) -> NoReturn:
        """The sampler's life, in its own process."""
        try:
            # Told to end before there is anything to lose, it just dies.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            import gc  # noqa: PLC0415 (only here)

            gc.freeze()  # memory shared with `run` stays shared
            _close_descriptors()
            from .sampling import sampler  # noqa: PLC0415 (only here)
            from .witness.programs import job_processes  # noqa: PLC0415 (only here)
            from .witness.witness import Witness  # noqa: PLC0415 (only here)

            environ = dict(os.environ)
            witness = None
            if self._is_in_job:
                processes = job_processes(environ["SLURM_JOB_ID"])
                witness = Witness(processes, observed, wake_run=lambda: _wake(run))
            sampler.Sampler(
                directory,
                interval_s=self._options.sample_interval_s or sampler.DEFAULT_INTERVAL_S,
                environ=environ,
                parent=run,
                show=lambda sampled: status.put(sampled.to_json()),
                script=self._options.command[0] if self._options.is_script else None,
                witness=witness,
            ).run()
        finally:
            os._exit(0)


def _wake(run: int) -> None:
    """Send `run` a SIGCHLD: it looks at its children then, and does not pass that signal on."""
    if os.getppid() == run:
        os.kill(run, signal.SIGCHLD)


def _close_descriptors() -> None:
    """Close all of `run`'s descriptors but the standard three, which lead to /dev/null."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            with suppress(OSError):  # the listing's own
                os.close(descriptor)


class ReportProcess(ChildProcess):
    """Reports the start at once, and the end when told, by short-lived processes.

    A process and not a thread: on a file system that hangs, a thread sits in the kernel where not even SIGKILL
    reaches it, and a process with such a thread cannot end [ran: frozen ext4]. It also leaves this one small:
    what the writer imports goes with it.
    """

    def __init__(self, options: Arguments, job: Job | None, *, stderr: int) -> None:
        """Opens nothing yet.

        Args:
            options: what `run` was asked to do.
            job: None outside of a job: that is said, and nothing is reported.
            stderr: a descriptor of the eval's stderr if there may be something to say, else -1; closed by
                `start`.
        """
        self._options = options
        self._job = job
        self._stderr = stderr
        self._notes: list[str] = []
        self._unwritten = "start not reported"
        self._run: Run | None = None
        self._sampler: SamplerProcess | None = None
        self._requests_met = 0

    def start(self, run: Run, sampler: SamplerProcess) -> None:
        """Report that the command runs, with retries until it is written; later also what the sampler sees."""
        self._run, self._sampler = run, sampler
        self._fork(run)
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def check(self) -> None:
        """Check whether the writer has ended; report what the sampler saw, if the sampler asked for that."""
        super().check()
        run, sampler = self._run, self._sampler
        if self._pid or run is None or sampler is None or sampler.report_requests == self._requests_met:
            return
        self._requests_met = sampler.report_requests
        run.observed_evals = sampler.observed_evals()
        self._fork(run)

    def finish(self, run: Run, *, within_s: float) -> None:
        """Report that the command has ended; wait at most `within_s` for that."""
        deadline = time.monotonic() + within_s
        self._sampler = None  # what it saw is in `run`
        if self._pid:
            # Ends its pauses; what it is writing it writes to the end.
            os.kill(self._pid, signal.SIGTERM)
            self.wait(deadline - within_s / 2)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._notes.append(f"{self._unwritten}: it took too long")
        if self._job is not None:
            self._fork(run)
            self.wait(deadline)

    def _ended(self, status: int) -> None:
        if not status:
            self._unwritten = "evals seen not reported"
        else:
            self._notes.append(f"{self._unwritten}: {_reason(os.waitstatus_to_exitcode(status))}")

    def _fork(self, run: Run) -> None:
        parent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError as error:
            self._pid = 0
            self._notes.append(f"{self._unwritten}: {error.strerror}")
            return
        if self._pid:
            return
        status = _NO_ERRNO
        try:
            from .report import write_report  # noqa: PLC0415 (imports json, and only here)

            status = write_report(self._options, self._job, run, notes=self._notes, parent=parent, stderr=self._stderr)
        finally:
            os._exit(status)


def _reason(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by signal {-exit_code}"
    return "unexpected error" if exit_code == _NO_ERRNO else os.strerror(exit_code)


class SharedMemory:
    """Memory that both share: two halves that are written in turn, and a first byte that says which one counts.

    Make it before the fork. One side puts, the other gets.
    """

    def __init__(self, half_bytes: int = 256 * 1024) -> None:
        self._half_bytes = half_bytes
        self._memory = mmap.mmap(-1, _HEADER_BYTES + 2 * half_bytes)

    def put(self, data: bytes) -> bool:
        """Replace the present bytes; False if there is no room for these."""
        if len(data) > self._half_bytes - _LENGTH_BYTES:
            return False
        half = 1 - self._memory[0]
        start = _HEADER_BYTES + half * self._half_bytes
        content = len(data).to_bytes(_LENGTH_BYTES, "big") + data
        self._memory[start : start + len(content)] = content
        self._memory[0] = half
        return True

    def get(self) -> bytes:
        """What is there; empty if nothing was put."""
        start = _HEADER_BYTES + self._memory[0] * self._half_bytes
        end = start + _LENGTH_BYTES
        return self._memory[end : end + int.from_bytes(self._memory[start:end], "big")]

    def ask_for_report(self) -> None:
        """Say that what was put is worth a report at once."""
        self._memory[_REQUEST] = (self._memory[_REQUEST] + 1) % 256

    @property
    def requests(self) -> int:
        """A number that changes with each request."""
        return self._memory[_REQUEST]
