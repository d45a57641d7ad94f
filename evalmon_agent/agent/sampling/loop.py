"""Samples: a tick at each deadline, looks at what passes quickly in between, and a last tick at the end.

Signals and deadlines are the main thread's; whatever asks the driver happens in the worker. Deadlines are absolute;
those that were missed are skipped and counted. Here is one of the two places where whatever goes wrong is caught:
a tick that fails is counted, and the next one comes.
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

# A last sample is worth it if so much time has passed since the one before.
_LAST_AFTER_S = 1.0
_LAST_WITHIN_S = 0.3

# When the job needs the memory we leave: a process of ours that the kernel kills makes a good eval OUT_OF_MEMORY, and
# so does one of the eval's that had to give way to us.
KEEP_FREE_BYTES = 64 * 1024 * 1024
_LOOK_AT_MEMORY_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a sampler shall do; `no_gpu` is why it need not look for GPUs, "" if it shall.

    `gpu_held_s`: so long somebody else is waited for who may write gpu_metrics.csv.
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
        """Nothing is touched yet.

        Args:
            plan: what to do.
            status: where counts and reasons go.
            wakeup: what wakes us.
            witness: looks for evals among the job's processes; None: nobody wants to know.
            show: makes the present state of `status` known.
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
        """Sample until there is a reason to end, which goes on status."""
        started_s = time.monotonic()
        self._start()
        why, number = self._wakeup.wait(0)[0] or self._why_leave(), 0
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
                self._status.trouble(f"no room to look for evals: {error}")
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
                self._status.texts["no_gpu_file"] = f"no room to look at the GPUs: {error}"

    def _tick(self) -> None:
        """One look at everything; the GPUs' rows follow when the worker has them."""
        self._last_tick_s = time.monotonic()
        self._status.count("ticks")
        try:
            self._tick_host()
            if self._witness is not None and self._witness.program_name:
                self._status.texts["eval_seen"] = self._witness.program_name
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
        """The worker's work; the first time it also finds out who can look."""
        if self._gpus is None:
            self._gpus = open_source(self._plan.environ)
        return self._gpus.tick()

    def _look_at_gpus(self) -> None:
        """What the worker does each second between two ticks."""
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
            self._status.trouble("another sampler is at work in this directory: waited for it")

    def _wait(self, until_s: float) -> str:
        """Until then; the reason to end before, if there is one."""
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
        """A last sample and a last look for evals, if they do not take long; then both files are let go."""
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
            if self._witness.program_name:
                self._status.texts["eval_seen"] = self._witness.program_name
        self._show()

    def _caught(self, error: BaseException) -> None:
        self._status.count("caught")
        self._status.trouble(f"{type(error).__name__}: {error}")


def why_leave(headroom_bytes: int | None) -> str:
    """The reason to leave; "" if there is none. `headroom_bytes` is as HostSource gives it."""
    if headroom_bytes is None or headroom_bytes >= KEEP_FREE_BYTES:
        return ""
    free_mib, least_mib = max(headroom_bytes, 0) >> 20, KEEP_FREE_BYTES >> 20
    return f"the job has {free_mib} MiB of memory left, less than {least_mib}: left it to the eval"
