"""Builds experiments as `submit` leaves them, without Slurm, and reads their logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.scripts import launcher_of
from evalmon_agent.files.lock import WAIT_S
from evalmon_agent.files.pinned import shown
from evalmon_agent.monitor.finish import Measurer, finalize, is_ready, measure, write_summary
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.sbatch import read_head
from evalmon_agent.submission.launcher import render
from evalmon_agent.submission.plan import Prepared, Script
from evalmon_agent.tracking.registry import Accepted, Intent, Submission
from evalmon_agent.words.job_id import JobId
from fake_slurm import FakeSlurm, Job

SUBMITTED = 1_700_000_000
STARTED, ENDED = SUBMITTED + 60, SUBMITTED + 352
_STAMP = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ")
_BY_POLL = ("STATUS_CHECK",)


def record_script(experiment: Experiment, token: str, path: str, text: str) -> None:
    """The registry's lines of the script at `path`, submitted under this token."""
    prepared = Prepared(Script(path, text.encode(), read_head(text)), Submission("x", path, "/x", token=token))
    launcher = render(
        prepared,
        monitor_dir=experiment.directory,
        experiment_id="",
        interpreter="/nowhere",
        package_parent="/nowhere",
        sample_interval_s=30.0,
    )
    scripts.write(experiment, token, [os.path.basename(path)], launcher)


class Exp:
    """One experiment on a fake Slurm."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "study"
        self.root.mkdir(parents=True)
        self.ours = self.root / "evalmon"
        self.slurm = FakeSlurm(directory / "slurm")
        self.experiment = Experiment.at(str(self.root))
        self.settings = Settings(poll_interval=1.0, seff_retry_delay=0.0)

    def anew(self) -> Exp:
        """The experiment as a new process has it: each opens the directory once."""
        self.experiment = Experiment.at(str(self.root))
        return self

    def register(self, **evals: str) -> None:
        """Register these evals (name=job id) as submitted and accepted; `_` in a name stands for `/`."""
        self.experiment.prepare(group_readable=False)
        for name, job_id in evals.items():
            self.accept(name.replace("_", "/"), job_id)

    def accept(self, name: str, job_id: str, *, what: Any = "eval", token: str = "") -> str:
        token = token or f"{int(job_id):016x}"
        script = str(self.root / f"{name}.slurm")
        submission = Submission(name, script, token=token) if what == "eval" else Submission(token=token, what=what)
        self.experiment.ledger.append(Intent(submission, SUBMITTED - 1.0, "host", 1))
        self.experiment.ledger.append(Accepted(token, JobId(job_id), SUBMITTED + 0.5))
        return token

    def record(self, call: str) -> Path:
        """The record of what an sbatch call submitted, below scripts/{token}."""
        at = Path(call.rpartition(" ")[2])
        token = at.parts[-3] if at.parent.name == "home" else at.parent.name
        return Path(shown(launcher_of(self.experiment, token, at.name)))

    def session(self, settings: Settings | None = None, **more: Any) -> Session:
        """`environ`: that of the commands, if not the fake Slurm's own."""
        environ = more.pop("environ", self.slurm.environ)
        slurm = more.pop("slurm", None) or Slurm(environ)
        return Session(self.experiment, settings or self.settings, slurm, environ, **more)

    def observer(self, *, lock_wait_s: float = WAIT_S, **more: Any) -> Observer:
        return Observer(self.session(**more), role="command", lock_wait_s=lock_wait_s)

    def measurer(self) -> Measurer:
        return Measurer(session=self.session(), retry_delay_s=0.0)

    def observe_to_the_end(self) -> None:
        """Do everything that an observer does: a poll, the figures of ended evals, and the end once all are over."""
        observer = self.observer()
        state = observer.observe_once(at_least_s=0).state
        state = measure(observer, self.measurer(), state, final=True)
        if is_ready(state):
            state = state if state.is_complete else finalize(observer)
            write_summary(observer, state)

    def evalmon(
        self, *words: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in EXP, with these variables added to the fake Slurm's; `options` of subprocess.run."""
        defaults = {"cwd": self.root, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 200}
        argv = [sys.executable, "-m", "evalmon_agent", *words]
        environ = {**self.slurm.environ, **(env or {})}
        done = subprocess.run(argv, check=False, env=environ, **{**defaults, **options})
        assert "--debug" in words or "Traceback" not in str(done.stderr), done.stderr
        assert "/proc/self/fd" not in f"{done.stdout}{done.stderr}"
        return done

    def write_script(self, name: str, head: str = "") -> Path:
        """Write the script of the eval `r1/{name}/epoch0`, with further lines below its options."""
        path = self.root / "r1" / "eval" / f"{name}_epoch0.slurm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n#SBATCH --time=5\n{head}true\n")
        return path

    def end_accepted(self, state: str = "COMPLETED") -> None:
        """End every accepted job in Slurm, evals with this state; monitor jobs leave no record."""
        jobs = []
        for job_id, name in self.slurm.accepted():
            row = self.slurm.directory / "queue" / job_id
            at = int(row.read_text().split("\x1f")[2])
            if name.endswith(".slurm"):
                jobs.append(ended(job_id, state, submitted=at, started=at, ended=at + 1))
            row.unlink()
        self.slurm.show(jobs)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.ours / "state.json").read_text())
        return state

    def log(self) -> str:
        path = self.ours / "monitor.log"
        text = path.read_text() if path.exists() else ""
        assert "/proc/" not in text, "an I/O path means nothing to people"
        return text

    def blocks(self, *kinds: str) -> list[str]:
        """The blocks of the log without their time stamps, in order: those of `kinds`, or all."""
        log = self.log()
        assert not log or log.endswith("\n\n"), f"torn: {log[-200:]!r}"
        found = log.split("\n\n")[:-1]
        for block in found:
            assert _STAMP.match(block), block
            assert "\n[" not in block, block
        bare = [_STAMP.sub("", block) for block in found]
        return [block for block in bare if not kinds or block.partition(":")[0] in kinds]

    def news(self) -> list[str]:
        """The blocks except those that every poll writes."""
        return [block for block in self.blocks() if block.partition(":")[0] not in _BY_POLL]

    def transitions(self) -> list[tuple[str, str, str]]:
        """(name, previous, current) of each STATE_CHANGE."""
        found = (block.split("\n") for block in self.blocks("STATE_CHANGE"))
        return [
            (lines[0].removeprefix("STATE_CHANGE: "), lines[1].removeprefix("Previous: "), lines[2][9:])
            for lines in found
        ]

    def temporaries(self) -> list[str]:
        return sorted(str(path.relative_to(self.ours)) for path in self.ours.rglob(".*.tmp"))

    def report(self, job_id: str, name: str | None = None, **attempt: Any) -> Path:
        """A job's own report."""
        path = self.ours / "jobs" / f"{job_id}.json"
        whole = {"restart": 0, "started_at": time.time(), "notes": [], "commands": [], **attempt}
        path.write_text(json.dumps({"schema": 1, "job_id": job_id, "name": name, "attempts": [whole]}))
        return path


def pending(job_id: str, **more: Any) -> Job:
    return Job(job_id, **more)


def running(job_id: str, **more: Any) -> Job:
    return Job(job_id, "RUNNING", **{"started": STARTED, **more})


def ended(job_id: str, state: str = "COMPLETED", **more: Any) -> Job:
    return Job(job_id, state, **{"started": STARTED, "ended": ENDED, "queued": False, **more})
