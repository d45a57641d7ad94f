"""Samples what the job uses: a tick at each deadline, and a last one at the end.

The main thread handles signals and deadlines, and measures the host; the GPUs have a thread of their own. Deadlines are
absolute; missed ones are skipped and counted. Every exception of a tick is caught and counted, and sampling goes on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

from evalmon_agent.agent import arguments
from evalmon_agent.agent.job import host_suffix
from evalmon_agent.agent.signals import forbid_core_dumps, hold_back, wait_for_signal
from evalmon_agent.agent.witness.witness import Witness
from evalmon_agent.errors import BUG, UsageError, status_of
from evalmon_agent.words.csv_columns import GpuColumn, HostColumn

from . import host_usage
from .csv_file import CsvFile, SamplerStatus
from .gpu_sampler import GpuSampler
from .host_usage import CgroupUsage, TreeUsage, Usage, job_directories
from .nvml import no_gpu_reason

DEFAULT_INTERVAL_S = 30.0

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_NICE = 19

# Slurm may let a job run on for a while (OverTimeLimit, KillWait).
_SLACK_S = 600.0

# A last sample is taken only if this much time has passed since the one before.
_LAST_AFTER_S = 1.0
_LAST_WITHIN_S = 0.3

# The sampler ends when the job needs the memory: if the kernel kills the sampler, or kills a process of the eval to
# make room for the sampler, a good eval becomes OUT_OF_MEMORY.
KEEP_FREE_BYTES = 64 * 1024 * 1024
_LOOK_AT_MEMORY_EVERY_S = 5.0

# How long to wait for a script that samples itself, before assuming that it does not this time.
_HELD_INTERVALS = 3

_SCRIPT_BYTES = 1 << 20
_SAMPLES_ITSELF = (b"nvidia-smi", b"gpu_metrics.csv")


def main(argv: list[str]) -> NoReturn:
    """Sample as `argv` (without `evalmon sample`) asks for; never returns."""
    status = BUG
    try:
        options = arguments.parse_sample(argv)
        if options.wants_help:
            os.write(1, arguments.SAMPLE_HELP.encode())
        else:
            _sample(os.path.abspath(options.output_dir or ""), options.sample_interval_s or DEFAULT_INTERVAL_S)
        status = 0
    except UsageError as error:
        os.write(2, f"{error}\n".encode(errors="backslashreplace"))
        status = error.exit_status
    except OSError as error:
        status = status_of(error)
        os.write(2, f"evalmon sample: {error}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(status)


def _sample(directory: str, interval_s: float) -> None:
    hold_back()
    show = _Messages().show
    Sampler(directory, interval_s=interval_s, environ=dict(os.environ), parent=os.getppid(), show=show).run()


class _Messages:
    """Says once on stderr what is not written and why; closes stdin and stdout at once, stderr after that."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)

    def show(self, status: SamplerStatus) -> None:
        """Print the messages as soon as there are any."""
        why_not = status.texts.get("no_gpu_file")
        is_settled = bool(why_not or status.counts["gpus"] or status.texts.get("ended"))
        if is_settled and self._stderr >= 0:
            stderr, self._stderr = self._stderr, -1
            lines = [f"no gpu_metrics.csv: {why_not}"] if why_not else []
            if status.counts["dropped_rows"]:
                lines += [f"{trouble}; tried again later" for trouble in status.troubles]
            for line in lines:
                os.write(stderr, f"evalmon sample: {line}\n".encode(errors="backslashreplace"))
            os.close(stderr)


class Sampler:
    """Samples on one node until there is a reason to end."""

    def __init__(
        self,
        directory: str,
        *,
        interval_s: float,
        environ: Mapping[str, str],
        parent: int,
        show: Callable[[SamplerStatus], object],
        script: str | None = None,
        witness: Witness | None = None,
    ) -> None:
        """Prepares this process, which is the sampler's alone.

        Args:
            directory: absolute; made where it is missing.
            interval_s: from tick to tick.
            environ: as it was at the start.
            parent: the parent process, with which the sampler ends, and whose tree is the job's where there is no
                cgroup.
            show: makes the status known; called again and again.
            script: the batch script that runs in this job, if there is one.
            witness: looks for evals meanwhile.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # before there is a second thread
        forbid_core_dumps()
        os.chdir("/")
        with suppress(OSError):  # the highest nice value allowed
            os.nice(_NICE)
        self._interval_s = interval_s
        self._environ = environ
        self._parent = parent
        self._witness = witness
        self._end_unix_s = _end(environ)
        suffix = host_suffix(environ, hostname=os.uname().nodename)
        held_s = _HELD_INTERVALS * interval_s if script and samples_itself(script) else 0.0
        self._gpu_file = CsvFile(f"{directory}/gpu_metrics{suffix}.csv", GpuColumn.first_line(), held_s=held_s)
        self._host_file = CsvFile(f"{directory}/host_metrics{suffix}.csv", HostColumn.first_line())
        self._before: tuple[float, Usage] | None = None
        self._gpus: GpuSampler | None = None
        self._last_tick_s = 0.0
        self._status = SamplerStatus(show)
        self._status.counts["interval_ms"] = round(interval_s * 1000)

    def run(self) -> SamplerStatus:
        """Sample until the end. The caller leaves the process at once, by os._exit."""
        try:
            self._start()
            self._end(self._sample())
        except Exception as error:  # noqa: BLE001 (outside of a tick, so this is the end; it shall not be a silent one)
            self._status.texts["ended"] = f"{type(error).__name__}: {error}"
            self._status.show()
        return self._status

    def _start(self) -> None:
        """Find out what there is to sample, and start the threads."""
        texts = self._status.texts
        self._host = open_host_source(self._environ, root=self._parent)
        texts["host_source"] = self._host.name
        texts["no_gpu_file"] = no_gpu_reason(self._environ) or ""
        if not texts["no_gpu_file"]:
            try:
                self._gpus = GpuSampler(self._environ, self._gpu_file, self._status)
            except RuntimeError as error:
                texts["no_gpu_file"] = f"cannot sample the GPUs: {error}"
        if self._witness is not None:
            try:
                self._witness.start()
            except RuntimeError as error:
                self._status.trouble(f"cannot look for evals: {error}")

    def _sample(self) -> str:
        """Sample until there is a reason to end, which is returned."""
        started_s, number = time.monotonic(), 0
        why = self._wait(started_s)
        while not why:
            self._tick()
            passed = int((time.monotonic() - started_s) / self._interval_s)
            self._status.count("missed_ticks", max(passed - number, 0))
            number = max(number, passed) + 1
            why = self._wait(started_s + number * self._interval_s)
        return why

    def _tick(self) -> None:
        """Sample host and GPUs once; the GPUs' rows follow when the driver has answered."""
        self._last_tick_s = time.monotonic()
        self._status.count("ticks")
        try:
            self._tick_host()
        except Exception as error:  # noqa: BLE001 (a tick's catch-all)
            self._status.caught(error)
        if self._gpus is not None and self._host_file.is_turn:
            self._gpus.sample()
        self._status.show()

    def _tick_host(self) -> None:
        at_unix_s, at_s = time.time(), time.monotonic()
        try:
            usage = self._host.usage()
        except (OSError, ValueError) as error:
            self._status.count("host_gaps")
            self._status.trouble(f"host metrics: {error}")
            return
        row = host_usage.row(usage, self._before, at_unix_s=at_unix_s, at_s=at_s)
        self._before = (at_s, usage)
        self._status.append(row, self._host_file, "host_rows")

    def _wait(self, until_s: float) -> str:
        """Wait until then (monotonic); returns the reason to end earlier, or ""."""
        while True:
            left_s = max(until_s - time.monotonic(), 0.0)
            ending = wait_for_signal(_ENDING, min(left_s, _LOOK_AT_MEMORY_EVERY_S))
            if ending is not None:
                return signal.Signals(ending).name
            if (why := self._why_leave()) or time.monotonic() >= until_s:
                return why

    def _why_leave(self) -> str:
        if os.getppid() != self._parent:
            return "the parent is gone"
        if self._end_unix_s is not None and time.time() >= self._end_unix_s:
            return "the job's time is over"
        try:
            return why_leave(self._host.headroom_bytes())
        except (OSError, ValueError):
            return ""

    def _end(self, why: str) -> None:
        """Take a last sample and a last look for evals, if they do not take long."""
        deadline_s = time.monotonic() + _LAST_WITHIN_S
        self._status.texts["ended"] = why
        self._status.show()
        if self._witness is not None:
            self._witness.end()
        if self._last_tick_s and time.monotonic() - self._last_tick_s > _LAST_AFTER_S:
            self._tick()
        if self._gpus is not None:
            self._gpus.wait(deadline_s - time.monotonic())
        if self._witness is not None:
            self._witness.wait(max(deadline_s - time.monotonic(), 0.0))
        self._status.show()


def _end(environ: Mapping[str, str]) -> float | None:
    text = environ.get("SLURM_JOB_END_TIME", "")
    if not (text.isascii() and text.isdigit()) or int(text) < time.time():
        return None  # not set, or by the job that this one was submitted from
    return int(text) + _SLACK_S


def open_host_source(environ: Mapping[str, str], *, root: int) -> CgroupUsage | TreeUsage:
    """The job's cgroup, or the process tree below `root` if there is no readable cgroup."""
    try:
        return CgroupUsage(job_directories(environ.get("SLURM_JOB_ID", "")))
    except (OSError, ValueError):
        return TreeUsage(root)


def why_leave(headroom_bytes: int | None) -> str:
    """The reason to leave; "" if there is none. `headroom_bytes`: None without a known limit."""
    if headroom_bytes is None or headroom_bytes >= KEEP_FREE_BYTES:
        return ""
    free_mib, least_mib = max(headroom_bytes, 0) >> 20, KEEP_FREE_BYTES >> 20
    return f"the job has {free_mib} MiB of memory left, less than {least_mib}: left the memory to the eval"


def samples_itself(script: str) -> bool:
    """Whether the batch script seems to write gpu_metrics.csv itself; False if it cannot be read.

    Many did before us: `nvidia-smi --query-gpu=... -l 30 > gpu_metrics.csv &`. By its text, since what appends to the
    file later cannot be seen beforehand. Comments do not count.
    """
    try:
        with open(script, "rb", buffering=0) as file:
            text = file.read(_SCRIPT_BYTES) or b""
    except OSError:
        return False
    code = b"\n".join(line for line in text.split(b"\n") if not line.lstrip().startswith(b"#"))
    return all(word in code for word in _SAMPLES_ITSELF)
