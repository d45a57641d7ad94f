"""Plays the user: submits now and then, repeats failed submissions, and reports where no monitor job is left to."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from soak_parts import targets
from soak_parts.evals import Script
from soak_parts.place import Place, Shell, say

SETTINGS = {"poll_interval": 2, "seff_retry_delay": 1, "sample_interval": 2, "lost_after": 90}
# One sidecar for all, one that hands over within its minute, and none.
EXPERIMENTS: dict[str, dict[str, object]] = {
    "steady": {},
    "handing-on": {"sidecar": {"time": "00:01:00"}},
    "without": {"mode": "dependency"},
}
_COMMAND_TIMEOUT_S = 120
END_WITHIN_S = 300.0


def evalmon() -> str:
    """The program that people call."""
    return str(Path(sys.executable).with_name("evalmon"))


def experiments(place: Place) -> list[Path]:
    """The experiments that exist so far."""
    return [place.disk / name for name in EXPERIMENTS if (place.disk / name / "evalmon").is_dir()]


class User:
    """Adds evals to the experiments in turn, and submits."""

    def __init__(self, place: Place, shell: Shell, scripts: Iterator[Script]) -> None:
        self._place = place
        self._shell = shell
        self._scripts = scripts
        self.made: list[tuple[Path, Script]] = []
        self._owed: set[Path] = set()

    def add(self, count: int) -> None:
        """Write scripts into each experiment and submit it, with what could not be submitted before."""
        for name, settings in EXPERIMENTS.items():
            experiment = self._place.disk / name
            if self._write_settings(experiment, settings):
                for _ in range(count):
                    self._write(experiment, next(self._scripts))
                self._owed.add(experiment)
        self.submit_owed()

    def submit_owed(self) -> bool:
        """Submit every experiment whose last submission failed; returns whether all succeeded now."""
        for experiment in sorted(self._owed):
            done = self._evalmon("submit", experiment)
            if done.returncode == 0:
                self._owed.discard(experiment)
            else:
                say(f"submit {experiment.name}: {done.returncode}: {(done.stderr.splitlines() or ['?'])[-1]}")
        return not self._owed

    def finish(self) -> None:
        """Cancel held jobs, and wait until each experiment is over.

        If no monitor job was left alive, the user must run something: `submit`, which starts them again if evals are
        active, and in the end `report`.
        """
        self._cancel_held()
        self._owed |= {experiment for experiment in experiments(self._place) if not self._has_helper(experiment)}
        deadline = time.monotonic() + END_WITHIN_S
        while not self.submit_owed() and time.monotonic() < deadline:
            time.sleep(2)
        self._cancel_held()
        left = experiments(self._place)
        while left and time.monotonic() < deadline:
            time.sleep(1)
            left = [experiment for experiment in left if not self._is_over(experiment)]

    def _has_helper(self, experiment: Path) -> bool:
        """Whether a monitor job is alive, as far as Slurm answers; no answer is no news."""
        jobs = targets.told_jobs(self._place, self._shell)
        return jobs is None or any(job.folder == experiment and job.state in targets.ALIVE for job in jobs)

    def _is_over(self, experiment: Path) -> bool:
        """Whether nothing of it is active and the summary is written; calls `report` if no monitor job will do it."""
        jobs = targets.told_jobs(self._place, self._shell)
        if jobs is None:
            return False
        alive = [job for job in jobs if job.state in targets.ALIVE]
        names = {name for at, script in self.made if at == experiment for name in script.names}
        if is_complete(experiment, names) and not any(experiment in job.folder.parents for job in alive):
            say(f"{experiment.name}: over")
            return True
        if not any(job.folder == experiment for job in alive):
            done = self._evalmon("report", experiment)
            say(f"{experiment.name}: no helper lives; report said {done.returncode}")
        return False

    def _cancel_held(self) -> None:
        waiting = [job for job in targets.evals(self._place, self._shell) if job.state == "PENDING"]
        held = [job.job_id for job in waiting if job.folder.name.startswith("held")]
        if held:
            self._shell.ask("scancel", *held)

    def _evalmon(self, verb: str, experiment: Path) -> subprocess.CompletedProcess[str]:
        return self._shell.ask(evalmon(), verb, experiment, timeout_s=_COMMAND_TIMEOUT_S)

    def _write_settings(self, experiment: Path, more: dict[str, object]) -> bool:
        """Whether the files exist; on a full disk they may not yet."""
        path = experiment / "evalmon.yaml"
        try:
            self._shell.make(experiment)
            if not path.exists():
                self._write_whole(path, json.dumps({**SETTINGS, **more}))
        except OSError:
            return False
        return True

    def _write(self, experiment: Path, script: Script) -> None:
        path = experiment / script.run / "eval" / script.cell / "cell.slurm"
        try:
            self._shell.make(path.parent)
            self._write_whole(path, script.text)
        except OSError as error:
            say(f"{script.cell} was not written: {error.strerror}")
            return
        self.made.append((experiment, script))

    def _write_whole(self, path: Path, text: str) -> None:
        """By one rename: a simultaneous `submit` must not find half of it."""
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        self._shell.own(temporary)
        temporary.rename(path)


def is_complete(experiment: Path, names: set[str]) -> bool:
    """Whether the summary has these evals and is complete, and ALL_COMPLETE follows all transitions."""
    try:
        summary = json.loads((experiment / "evalmon/summary.json").read_text())
        log = (experiment / "evalmon/monitor.log").read_text()
    except (OSError, ValueError):
        return False
    has_all = names <= {ev["name"] for ev in summary["evals"]}
    return bool(summary["complete"]) and has_all and log.rfind("] ALL_COMPLETE: ") > log.rfind("] STATE_CHANGE: ")
