"""Causes each kind of hit: a signal, a cancel, a requeue, an outage, a full disk."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from slurm_dev import daemons, processes
from slurm_dev.processes import Process
from soak_parts import targets
from soak_parts.place import DAEMONS, Place, Shell, free
from soak_parts.plan import Planned
from soak_parts.user import evalmon, experiments

T = TypeVar("T")
# A command takes a third of a second; a hit lasts two on average.
_COMMAND_DIES_EARLIER = 12
# A controller killed while it saves forgets jobs that it has acknowledged: that is Slurm's loss, not evalmon's.
_DAEMON_ENDS_WITHIN_S = 60.0


class Hitters:
    """Causes hits, several at once in several threads. A hit without a target is None, otherwise its description."""

    def __init__(self, place: Place, shell: Shell) -> None:
        self._place = place
        self._shell = shell
        self._stopped: list[Process] = []
        self._busy = {daemon: threading.Lock() for daemon in DAEMONS}

    def hit(self, planned: Planned) -> tuple[str, str] | None:
        """Cause the first of the planned kinds that has a target; returns its kind and target when it is over."""
        for what in planned.what:
            hit = self._hit(what, planned)
            if hit is not None:
                return what, hit
        return None

    def _hit(self, what: str, planned: Planned) -> str | None:
        verb, target = what.split()
        makers: dict[str, Callable[[str, Planned], str | None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "term": self._terminate,
            "cancel": self._cancel,
            "requeue": self._requeue,
            "restart": self._restart,
            "fill": self._fill,
        }
        return makers[verb](target, planned)

    def undo(self) -> None:
        """Undo every lasting effect: stopped processes, daemons, the full disk."""
        for process in self._stopped:
            process.send(signal.SIGCONT)
        free(self._place.disk / "ballast")
        for _ in range(3):
            with suppress(subprocess.TimeoutExpired):
                if self._place.dev("up"):
                    return
        raise SystemExit("soak: the Slurm did not come back")

    def _kill(self, target: str, planned: Planned) -> str | None:
        if target in {"command", "submit"}:
            return self._kill_command(target, planned)
        if target in DAEMONS:
            return self._restart(target, planned, how=signal.SIGKILL)
        return self._signal(target, planned, signal.SIGKILL)

    def _terminate(self, target: str, planned: Planned) -> str | None:
        return self._signal(target, planned, signal.SIGTERM)

    def _stop(self, target: str, planned: Planned) -> str | None:
        found = self._processes(target)
        process = _one_of(found, planned.draw)
        if process is None:
            return None
        self._stopped.append(process)
        process.send(signal.SIGSTOP)
        time.sleep(planned.lasts_s)
        process.send(signal.SIGCONT)
        return f"pid {process.pid} for {planned.lasts_s:.1f} s"

    def _signal(self, target: str, planned: Planned, number: signal.Signals) -> str | None:
        process = _one_of(self._processes(target), planned.draw)
        if process is None:
            return None
        process.send(number)
        return f"pid {process.pid}"

    def _processes(self, target: str) -> list[Process]:
        if target in DAEMONS:
            found = self._place.daemon(target)
            return [] if found is None else [found]
        return targets.of_role(self._place, target)

    def _kill_command(self, target: str, planned: Planned) -> str | None:
        """A command of the user's, killed within its first second or so."""
        verb = "submit" if target == "submit" else ("status", "report")[int(planned.draw * 1000) % 2]
        experiment = _one_of(experiments(self._place), planned.draw)
        if experiment is None:
            return None
        words = [evalmon(), verb, str(experiment)]
        child = self._shell.start(*words)
        try:
            child.wait(planned.lasts_s / _COMMAND_DIES_EARLIER)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return f"{verb} {experiment.name} after {planned.lasts_s / _COMMAND_DIES_EARLIER:.2f} s"
        return None

    def _cancel(self, target: str, planned: Planned) -> str | None:
        jobs = self._jobs(target, {"PENDING", "RUNNING"})
        return self._slurm(_one_of(jobs, planned.draw), "scancel")

    def _requeue(self, target: str, planned: Planned) -> str | None:
        jobs = self._jobs(target, {"RUNNING", "COMPLETED", "FAILED"} if target == "eval" else {"RUNNING"})
        return self._slurm(_one_of(jobs, planned.draw), "scontrol", "requeue")

    def _jobs(self, target: str, states: set[str]) -> list[targets.Job]:
        if target == "eval":
            found = targets.evals(self._place, self._shell)
        else:
            found = targets.helpers(self._place, self._shell, target)
        return [job for job in found if job.state in states]

    def _slurm(self, job: targets.Job | None, *words: str) -> str | None:
        if job is None:
            return None
        done = self._shell.ask(*words, job.job_id)
        return f"job {job.job_id} ({job.folder.name}) {job.state}" if done.returncode == 0 else None

    def _restart(self, target: str, planned: Planned, *, how: signal.Signals = signal.SIGTERM) -> str | None:
        """End a daemon and start it after a while. Its start is not waited for: others may be down as well."""
        instance, busy = self._place.instance, self._busy[target]
        if not busy.acquire(blocking=False):
            return None
        try:
            process = self._place.daemon(target)
            if process is None:
                return None
            processes.end([process], grace_s=0 if how is signal.SIGKILL else _DAEMON_ENDS_WITHIN_S)
            time.sleep(planned.lasts_s)
            daemons.start(instance, instance.node(target))
        finally:
            busy.release()
        return f"pid {process.pid} away for {planned.lasts_s:.1f} s"

    def _fill(self, _target: str, planned: Planned) -> str | None:
        ballast = self._place.disk / "ballast"
        if ballast.exists():
            return None
        chunk = bytes(1 << 16)
        try:
            with suppress(OSError), open(ballast, "wb", buffering=0) as file:
                while True:
                    file.write(chunk)
            # Room that becomes free meanwhile is used up as well, to the last byte.
            deadline = time.monotonic() + planned.lasts_s
            while time.monotonic() < deadline:
                with suppress(OSError), open(ballast, "ab", buffering=0) as file:
                    while file.write(chunk[:512]):
                        pass
                time.sleep(0.05)
        finally:
            free(ballast)
        return f"for {planned.lasts_s:.1f} s"


def _one_of(found: Sequence[T], draw: float) -> T | None:
    return found[int(draw * len(found))] if found else None
