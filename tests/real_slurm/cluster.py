"""Runs commands on the local Slurm, and experiments there."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import as_root

ROOT = Path(__file__).resolve().parents[2]
SLURM_DEV = ROOT / "scripts" / "slurm-dev"
HEADER = "#!/bin/bash\n#SBATCH --time=5\n#SBATCH --mem=100\n"


@dataclass(frozen=True)
class Cluster:
    """A running Slurm: `environ` is the environment of its commands."""

    directory: Path
    environ: Mapping[str, str]

    def run(self, *argv: str, timeout: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
        env = {**self.environ, **more.pop("env", {})}
        return subprocess.run(argv, check=False, env=env, text=True, capture_output=True, timeout=timeout, **more)

    def as_root(self, *argv: str, check: bool = True) -> None:
        """Run a command that only an operator of the cluster may run."""
        as_root.run("env", *self._for_slurm(), *argv, check=check, timeout=60)

    def as_other(self, *argv: str, user: str) -> subprocess.CompletedProcess[str]:
        """Run a command of another user of the cluster."""
        account = pwd.getpwnam(user)
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"]
        return as_root.run("setpriv", *ids, "--", "env", *self._for_slurm(), *argv, timeout=60, cwd="/")

    def _for_slurm(self) -> list[str]:
        return [f"{name}={self.environ[name]}" for name in ("SLURM_CONF", "PATH")]

    def dev(self, *words: str) -> None:
        """scripts/slurm-dev for this cluster: stop and start its daemons."""
        subprocess.run([SLURM_DEV, *words, "--dir", self.directory], check=True, timeout=120, stdin=subprocess.DEVNULL)

    def mend(self) -> None:
        """Let every node take jobs again and warn with Slurm's reason, so that the next test has the whole cluster."""
        reasons = self.run("sinfo", "-h", "-N", "-p", "debug", "-t", "down,drain,fail", "-o", "%N is %T: %E").stdout
        if reasons:
            warnings.warn(f"the local Slurm was mended: {reasons.strip()}", stacklevel=1)
            self.dev("up")

    def sacct(self, job_id: str, *fields: str) -> list[list[str]]:
        done = self.run("sacct", "-n", "-P", "-D", "-X", "-j", job_id, "-o", ",".join(fields))
        return [line.split("|") for line in done.stdout.splitlines()]


@dataclass
class Exp:
    """One experiment directory on a cluster, with evalmon's commands."""

    root: Path
    cluster: Cluster
    started: list[str] = field(default_factory=list)

    @property
    def ours(self) -> Path:
        return self.root / "evalmon"

    def prepare(self) -> None:
        """An empty experiment that polls fast."""
        self.root.mkdir()
        self.settings()

    def settings(self, **settings: Any) -> None:
        quick = {"poll_interval": 2, "seff_retry_delay": 1, **settings}
        (self.root / "evalmon.yaml").write_text(json.dumps(quick))

    def script(self, run: str, cell: str, body: str, *, header: str = HEADER, name: str = "cell.slurm") -> Path:
        path = self.root / run / "eval" / cell / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + body)
        return path

    def evalmon(
        self, *words: str, timeout: float = 120, python: Path | str = sys.executable, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return self.cluster.run(
            str(python), "-m", "evalmon_agent", *words, timeout=timeout, env=env, cwd=str(self.root)
        )

    def submit(self, *words: str, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
        return self.evalmon("submit", str(self.root), *words, python=python)

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.ours / "state.json").read_text()))

    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.ours / "summary.json").read_text()))

    def evals(self) -> dict[str, dict[str, Any]]:
        return {ev["name"]: ev for ev in self.summary()["evals"]}

    def job(self, name: str) -> str:
        return str(self.state()["evals"][name]["job_id"])

    def log(self) -> str:
        path = self.ours / "monitor.log"
        return path.read_text() if path.exists() else ""

    def blocks(self, kind: str) -> list[str]:
        return [block for block in self.log().split("\n\n") if re.match(rf"\[[^]]+\] {kind}: ", block)]

    def transitions(self, name: str) -> list[tuple[str, str]]:
        """(previous, current) of each STATE_CHANGE of one eval, in the order of the log."""
        head = re.compile(rf"\[[^]]+\] STATE_CHANGE: {re.escape(name)}\n")
        found = [block.split("\n") for block in self.blocks("STATE_CHANGE") if head.match(block)]
        return [(lines[1].removeprefix("Previous: "), lines[2].removeprefix("Current: ")) for lines in found]

    def wait_complete(self, timeout: float = 90) -> None:
        wait_for(lambda: self.blocks("ALL_COMPLETE"), timeout, lambda: self.log() + self.outputs())
        wait_for(lambda: self.summary()["complete"], 20, self.log)

    def outputs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted(self.ours.glob("*.out")))

    def wait_state(self, job_id: str, *states: str, timeout: float = 60) -> None:
        """Wait until Slurm's own controller shows one of these states."""

        def shown() -> str:
            return self.cluster.run("squeue", "-a", "-h", "-t", "all", "-j", job_id, "-o", "%T").stdout.strip()

        wait_for(lambda: shown() in states, timeout, shown)

    def queued(self) -> set[str]:
        """Every queued or running job of this experiment, monitor jobs included."""
        listed = self.cluster.run("squeue", "-a", "-h", "-o", "%A|%o|%Z").stdout.splitlines()
        return {line.split("|")[0] for line in listed if str(self.root) in line}

    def cancel_all(self) -> None:
        """Cancel all of these jobs."""
        if mine := self.queued():
            self.cluster.run("scancel", "-f", *mine)


def wait_for(done: Callable[[], object], timeout: float, tell: Callable[[], object] = lambda: "") -> None:
    """Wait until `done()`; after `timeout` seconds fail and tell what was there instead."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if done():
                return
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"not so within {timeout} s; instead:\n{tell()}")


def most_at_once(exp: Exp, names: list[str]) -> int:
    """How many of these evals were in Slurm at the same time, by its accounting."""
    moves = []
    for name in names:
        [[submitted, ended]] = exp.cluster.sacct(exp.job(name), "Submit", "End")
        moves += [(submitted, 1), (ended, -1)]
    there = highest = 0
    for _, change in sorted(moves):
        there += change
        highest = max(highest, there)
    return highest


def another_python(folder: Path) -> Path:
    """A separate interpreter that finds evalmon and its dependencies, and can be removed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = [str(ROOT), sysconfig.get_paths()["purelib"]]
    (folder / "lib" / version / "site-packages" / "ours.pth").write_text("\n".join(paths))
    return folder / "bin" / "python"


def environ_of(directory: Path) -> dict[str, str]:
    """The environment of `slurm-dev env`, and leave to poll fast."""
    said = subprocess.run(
        ["bash", "-c", f'eval "$("{SLURM_DEV}" env --dir "{directory}")" && env -0'],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout.decode()
    pairs: Sequence[tuple[str, str, str]] = [entry.partition("=") for entry in said.split("\0") if entry]
    environ = {key: value for key, _, value in pairs if not key.startswith("PYTEST_")}
    return {**environ, "EVALMON_ALLOW_FAST_POLLING": "1", "PATH": environ.get("PATH", os.defpath)}
