"""Prepares the soak's directory, a small disk for the experiments, the Slurm, and the user's shell."""

import os
import pwd
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm_dev import instance
from slurm_dev.instance import Instance
from slurm_dev.processes import Process

ROOT = Path(__file__).resolve().parents[2]
SLURM_DEV = ROOT / "scripts" / "slurm-dev"
DISK_MIB = 48
DAEMONS = ("slurmctld", "slurmdbd", "n1", "n2")


@dataclass(frozen=True)
class Shell:
    """The user who types the commands and owns the experiments; the soak itself runs as root."""

    account: pwd.struct_passwd
    environ: dict[str, str]

    def ask(self, *argv: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command; a failure is part of the result, a hang counts as failed."""
        options = {"capture_output": True, "text": True, "timeout": timeout_s, **self._as_user()}
        try:
            return subprocess.run(list(map(str, argv)), check=False, **options)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, "", "no answer in time")

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command in the background."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, **self._as_user())

    def make(self, directory: Path) -> None:
        """Make a directory and its parents, each owned by the user."""
        if not directory.is_dir():
            self.make(directory.parent)
            directory.mkdir(exist_ok=True)
            self.own(directory)

    def own(self, path: Path) -> None:
        """Give a file to the user."""
        os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def _as_user(self) -> dict[str, Any]:
        account = self.account
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        return {
            "env": self.environ,
            "user": account.pw_uid,
            "group": account.pw_gid,
            "extra_groups": groups,
            "cwd": "/",
        }


@dataclass(frozen=True)
class Place:
    """One soak's place. The records of evals and killer are outside the disk that is filled."""

    directory: Path
    slurm_dir: Path
    is_slurm_ours: bool
    account: pwd.struct_passwd
    token: str = field(default_factory=lambda: os.urandom(3).hex())

    @property
    def disk(self) -> Path:
        """A tmpfs of DISK_MIB with all experiments; by its name accounting tells this soak's jobs from others."""
        return self.directory / f"disk-{self.token}"

    @property
    def truth(self) -> Path:
        """One file per eval, a line for its start and its end."""
        return self.directory / "truth"

    @property
    def hits(self) -> Path:
        """The killer's record, a line of JSON for each hit."""
        return self.directory / "hits.jsonl"

    def prepare(self) -> None:
        """Make the directories, mount the disk, and start a Slurm if none was given."""
        self.truth.mkdir(parents=True)
        self.disk.mkdir()
        self.directory.chmod(0o755)
        _run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "evalmon-soak", self.disk)
        for path in (self.truth, self.disk):
            os.chown(path, self.account.pw_uid, self.account.pw_gid)
        if self.is_slurm_ours:
            _run(SLURM_DEV, "up", "--dir", self.slurm_dir)
        _run(SLURM_DEV, "user", "--dir", self.slurm_dir, self.account.pw_name)

    def give_back(self, *, keep: bool) -> None:
        """End the Slurm started here and unmount the disk; its kept content is in a directory of the same name."""
        if self.is_slurm_ours:
            _run(SLURM_DEV, "down", "--dir", self.slurm_dir)
        if keep:
            shutil.copytree(self.disk, self.directory / "kept", symlinks=True)
        _run("umount", "--lazy", self.disk)
        if keep:
            self.disk.rmdir()
            (self.directory / "kept").rename(self.disk)
            _run("chown", "-R", f"{self.account.pw_uid}:{self.account.pw_gid}", self.directory)
        else:
            shutil.rmtree(self.directory)

    @property
    def instance(self) -> Instance:
        """The Slurm's record."""
        found = instance.load(str(self.slurm_dir))
        assert found is not None
        return found

    def daemon(self, name: str) -> Process | None:
        """A daemon's process, None while it is not running."""
        return self.instance.noted(self.instance.node(name))

    def dev(self, *words: str) -> bool:
        """Run scripts/slurm-dev for this Slurm; returns whether it succeeded."""
        argv = [str(SLURM_DEV), *words, "--dir", str(self.slurm_dir)]
        return subprocess.run(argv, check=False, capture_output=True, timeout=300).returncode == 0

    def shell(self) -> Shell:
        """The user's shell with what `slurm-dev env` says, and leave to poll fast."""
        said = subprocess.run([SLURM_DEV, "env", "--dir", self.slurm_dir], check=True, capture_output=True, text=True)
        shell = ["bash", "-c", f"{said.stdout}\nenv -0"]
        pairs = subprocess.run(shell, check=True, capture_output=True, text=True).stdout.split("\0")
        found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        not_theirs = ("EVALMON_", "PYTEST_", "PYTHON", "SUDO_")
        clean = {key: value for key, value in found.items() if not key.startswith(not_theirs)}
        name = self.account.pw_name
        own = {"HOME": self.account.pw_dir, "USER": name, "LOGNAME": name, "EVALMON_ALLOW_FAST_POLLING": "1"}
        return Shell(self.account, clean | own)


def say(text: str) -> None:
    """Print a message for the person at the terminal."""
    print(f"soak: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def free(path: Path) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _run(*argv: str | Path) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise SystemExit(f"soak: {' '.join(map(str, argv))}: {(done.stderr or done.stdout).strip()}")
