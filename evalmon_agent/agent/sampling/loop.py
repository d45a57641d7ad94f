"""Samples: a tick at each deadline, short looks in between at values that pass quickly, and a last tick at the end.

The main thread handles signals and deadlines; the worker thread makes all calls to the driver. Deadlines are absolute;
missed ones are skipped and counted. Every exception of a tick is caught here and counted, and sampling goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evalmon_agent.agent.witness.witness import Witness

from . import gpu_rows, host_usage
from .csv_file import CsvFile
from .gpu_rows import GpuTick
from .gpu_source import NoGpuError, Source, open_source
from .host_usage import HostSource, Usage
from .sampler_status import SamplerStatus
from .wakeup import Wakeup, Worker

# A last sample is taken only if this much time has passed since the one before.
_LAST_AFTER_S = 1.0
_LAST_WITHIN_S = 0.3

# The sampler ends when the job needs the memory: if the kernel kills the sampler, or kills a process of the eval to
# make room for the sampler, a good eval becomes OUT_OF_MEMORY.
KEEP_FREE_BYTES = 64 * 1024 * 1024
_LOOK_AT_MEMORY_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a sampler is to do; `no_gpu`: why it need not look for GPUs, "" if it must.

    `gpu_held_s`: how long to wait for another process that may write gpu_metrics.csv.
    """

    directory: str
    suffix: str
    interval_s: float
    environ: Mapping[str, str]
    no_gpu: str
    open_host: Callable[[], HostSource]
    end_unix_s: float | None
    gpu_held_s: float


class Loop:
    """One sampler on one node."""

    def __init__(
        self, plan: Plan, status: SamplerStatus, wakeup: Wakeup, witness: Witness | None, *, show: Callable[[], None]
    ) -> None:
        """Nothing is opened yet.

        Args:
            plan: what to do.
            status: takes counts and reasons.
            wakeup: wakes the main thread.
            witness: looks for evals among the job's processes; None if that is not needed.
            show: publishes the present state of `status`.
        """
        self._plan = plan
        self._status = status
        self._wakeup = wakeup
        self._show = show
        self._witness = witness
        self._gpu_file = CsvFile(
            os.path.join(plan.directory, f"gpu_metrics{plan.suffix}.csv"), gpu_rows.HEADER, held_s=plan.gpu_held_s
        )
        self._host_file = CsvFile(os.path.join(plan.directory, f"host_metrics{plan.suffix}.csv"), host_usage.HEADER)
        self._host: HostSource | None = None
        self._before: tuple[float, Usage] | None = None
        self._worker: Worker | None = None
        self._gpus: Source | None = None
        self._last_tick_s = 0.0

    def run(self) -> None:
        """Sample until there is a reason to end, which is put into the status."""
        started_s = time.monotonic()
        self._start()
        number = 0
        signal_name, _ = self._wakeup.wait(0)
        why = signal_name or self._why_leave()
        while not why:
            self._tick()
            passed = int((time.monotonic() - started_s) / self._plan.interval_s)
            self._status.count("missed_ticks", max(passed - number, 0))
            number = max(number, passed) + 1
            why = self._wait(started_s + number * self._plan.interval_s)
        self._end(why)

    def _start(self) -> None:
        if self._witness is not None:
            try:
                self._witness.start()
            except RuntimeError as error:
                self._status.trouble(f"cannot look for evals: {error}")
        self._status.texts["no_gpu_file"] = self._plan.no_gpu
        try:
            self._host = self._plan.open_host()
            self._status.texts["host_source"] = self._host.name
        except (OSError, ValueError) as error:
            self._status.texts["no_host_file"] = f"{error}"
        if not self._plan.no_gpu:
            try:
                self._worker = Worker(self._sample_gpus, idle=self._look_at_gpus)
                self._wakeup.listen_to(self._worker.done)
            except (RuntimeError, OSError) as error:
                self._status.texts["no_gpu_file"] = f"cannot sample the GPUs: {error}"

    def _tick(self) -> None:
        """Sample host and GPUs once; the GPUs' rows follow when the worker has them."""
        self._last_tick_s = time.monotonic()
        self._status.count("ticks")
        try:
            self._tick_host()
        except Exception as error:  # noqa: BLE001 (a tick's catch-all)
            self._caught(error)
        if self._worker is not None and self._host_file.is_turn:
            if self._worker.is_busy:
                self._status.count("gpu_gaps")
                self._status.trouble("the GPU driver had not answered when the next sample was due")
            else:
                self._worker.ask()
        self._show()

    def _tick_host(self) -> None:
        if self._host is None:
            return
        at_unix_s, at_s = time.time(), time.monotonic()
        try:
            usage = self._host.usage()
        except (OSError, ValueError) as error:
            self._status.count("host_gaps")
            self._status.trouble(f"host metrics: {error}")
            return
        row = host_usage.row(usage, self._before, at_unix_s=at_unix_s, at_s=at_s)
        self._before = (at_s, usage)
        self._write(self._host_file, row, "host_rows", count=1)

    def _sample_gpus(self) -> GpuTick:
        """Sample the GPUs (in the worker); the first call also opens the source, NVML or nvidia-smi."""
        if self._gpus is None:
            self._gpus = open_source(self._plan.environ)
        return self._gpus.tick()

    def _look_at_gpus(self) -> None:
        """Look at the GPUs, in the worker, each second between two ticks."""
        try:
            if self._gpus is not None:
                self._gpus.look()
        except Exception as error:  # noqa: BLE001 (a tick's catch-all)
            self._caught(error)

    def _take_answer(self) -> None:
        if self._worker is None:
            return
        answer = self._worker.answer()
        if isinstance(answer, GpuTick) and self._gpus is not None:
            self._status.texts["gpu_source"] = self._gpus.name
            self._status.counts["gpus"] = self._gpus.count
            self._status.count("gpu_gaps", answer.gaps)
            for trouble in answer.troubles:
                self._status.trouble(trouble)
            if answer.rows_count:
                self._write(self._gpu_file, answer.rows, "gpu_rows", count=answer.rows_count)
        elif isinstance(answer, NoGpuError):
            self._status.texts["no_gpu_file"] = f"{answer}"
            self._worker = None
        elif isinstance(answer, BaseException):
            self._caught(answer)
            if self._gpus is None:  # not even begun: trying again each time would cost more than it is worth
                self._status.texts["no_gpu_file"] = f"{type(answer).__name__}: {answer}"
                self._worker = None
        self._show()

    def _write(self, file: CsvFile, rows: bytes, counter: str, *, count: int) -> None:
        if file.append(rows):
            self._status.count(counter, count)
        elif file.is_turn:
            self._status.count("dropped_rows", count)
            self._status.trouble(file.trouble)
        else:
            self._status.trouble("another sampler is writing to this directory; waited for it")

    def _wait(self, until_s: float) -> str:
        """Wait until then; returns the reason to end earlier, or ""."""
        while time.monotonic() < until_s:
            look_s = min(until_s, time.monotonic() + _LOOK_AT_MEMORY_EVERY_S)
            why, is_done = self._wakeup.wait(look_s)
            if is_done:
                self._take_answer()
            if why := why or self._why_leave():
                return why
        return ""

    def _why_leave(self) -> str:
        end_unix_s = self._plan.end_unix_s
        if end_unix_s is not None and time.time() >= end_unix_s:
            return "the job's time is over"
        try:
            return why_leave(self._host.headroom_bytes()) if self._host else ""
        except (OSError, ValueError):
            return ""

    def _end(self, why: str) -> None:
        """Take a last sample and a last look for evals, if they do not take long; then close both files."""
        deadline_s = time.monotonic() + _LAST_WITHIN_S
        self._status.texts["ended"] = why
        self._show()
        if self._witness is not None:
            self._witness.end()
        if self._last_tick_s and time.monotonic() - self._last_tick_s > _LAST_AFTER_S:
            self._tick()
            while self._worker is not None and self._worker.is_busy and time.monotonic() < deadline_s:
                _, is_done = self._wakeup.wait(deadline_s)
                if is_done:
                    self._take_answer()
        self._gpu_file.close()
        self._host_file.close()
        if self._witness is not None:
            self._witness.wait(max(deadline_s - time.monotonic(), 0.0))
        self._show()

    def _caught(self, error: BaseException) -> None:
        self._status.count("caught")
        self._status.trouble(f"{type(error).__name__}: {error}")


def why_leave(headroom_bytes: int | None) -> str:
    """The reason to leave; "" if there is none. `headroom_bytes` is as HostSource gives it."""
    if headroom_bytes is None or headroom_bytes >= KEEP_FREE_BYTES:
        return ""
    free_mib, least_mib = max(headroom_bytes, 0) >> 20, KEEP_FREE_BYTES >> 20
    return f"the job has {free_mib} MiB of memory left, less than {least_mib}: left the memory to the eval"
