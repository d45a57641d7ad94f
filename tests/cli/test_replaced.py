"""Tests that a process which finds another directory in place of EXP/evalmon says so and ends, changing nothing there.

In a group-writable EXP, others may rename EXP/evalmon at any time, although they cannot write in it, and put there a
directory of their own, a link to a private directory of the user, or the directory of another experiment of the user.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import as_root
import faults
import second_user
from agent.in_a_job import RUN, environ, less_often
from evalmon_agent.commands.submit import submit
from evalmon_agent.errors import ReplacedError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import for_monitor_jobs
from experiments import STARTED, Exp, ended, record_script, running

KINDS = ("of another user", "a link to a private one", "of another experiment")
SCRIPT = "#!/bin/sh\n#SBATCH --time=5\ntrue\n"
POLL_S = 0.2


@dataclass
class Swap:
    """What is put in the place of EXP/evalmon (`planted`), and the message about it."""

    exp: Exp
    planted: Path
    says: str
    before: Any = None

    def __post_init__(self) -> None:
        self.calls = len(self.exp.slurm.calls("sbatch"))

    @property
    def moved(self) -> Path:
        return self.exp.root / "moved"

    def do(self) -> None:
        self.exp.ours.rename(self.moved)
        self.planted.rename(self.exp.ours)
        self.before = self.content()

    def undo(self) -> None:
        self.exp.ours.rename(self.planted)
        self.moved.rename(self.exp.ours)

    def put_back(self) -> None:
        """Go back from wherever it was interrupted."""
        if self.moved.exists():
            if os.path.lexists(self.exp.ours):
                self.exp.ours.rename(self.planted)
            self.moved.rename(self.exp.ours)

    def while_squeue_is_asked(self) -> None:
        """Another user replaces the directory in the middle of a command."""
        ours = self.exp.ours
        self.before = self.content()
        swaps = f"mv {ours} {self.moved}; mv {self.planted} {ours}"
        self.exp.slurm.before("squeue", f"[ -e {self.moved} ] || {{ {swaps}; }}\n")

    def content(self) -> dict[str, Any]:
        """All files below it, with the times of its directories, so that a short-lived file shows as well."""
        place = self.exp.ours if self.moved.exists() else self.planted
        found: dict[str, Any] = {}
        for path in [place.resolve(), *sorted(place.resolve().rglob("*"))]:
            status = path.lstat()
            name = str(path.relative_to(place.resolve()))
            found[name] = (status.st_mtime_ns, status.st_mode, path.read_bytes() if path.is_file() else None)
        return found

    def is_untouched(self) -> bool:
        return bool(self.before) and self.content() == self.before

    def message(self) -> str:
        said = f"{self.exp.ours} was moved or replaced; {self.says}, and nothing was done there"
        return f"{said}; move the right directory back"


@pytest.fixture(params=KINDS)
def swap(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Swap]:
    exp = Exp(tmp_path)
    (exp.root / "evalmon.yaml").write_text(json.dumps({"poll_interval": POLL_S, "seff_retry_delay": 0.1}))
    exp.register(r1_c="11", r1_d="12")
    for name, job_id in (("c", 11), ("d", 12)):
        path = exp.root / "r1" / f"{name}.slurm"
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCRIPT)
        record_script(exp.experiment, f"{job_id:016x}", str(path), SCRIPT)
    exp.report("12", "r1/d", started_at=float(STARTED))
    exp.slurm.show([ended("11", "FAILED"), running("12")])
    exp.observer().observe_once(at_least_s=0)
    os.unlink(exp.ours / "observer.json")  # No observer has polled for long.
    forged = forge(tmp_path, exp)
    planted = exp.root / "planted"
    if request.param == "of another user":
        forged.rename(planted)
        with of_another_user(planted) as who:
            found = Swap(exp, planted, f"it now belongs to {who}")
            yield found
            found.put_back()
    elif request.param == "of another experiment":
        forged.rename(planted)
        yield Swap(exp, planted, "it is now another directory of yours")
    else:
        planted.symlink_to(forged)
        yield Swap(exp, planted, "it is now another file or link of yours")


def forge(tmp_path: Path, exp: Exp) -> Path:
    """An evalmon directory in whose registry a script waits for submission, with old temporary files in it."""
    root = tmp_path / "forged"
    for name in ("a", "b"):
        path = root / "r1" / "eval" / f"{name}_epoch0.slurm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPT)
    env = exp.slurm.environ
    settings = Settings(poll_interval=1.0, max_submit=1)
    session = Session(Experiment.at(str(root)), settings, Slurm(env), env)
    submit(session, named=(), mode="sidecar", dry_run=False)
    left = root / "evalmon" / ".state.json.0123456789abcdef.tmp"
    left.touch()
    os.utime(left, (0, 0))
    (root / "evalmon" / "jobs" / left.name).write_bytes(b"")
    os.utime(root / "evalmon" / "jobs" / left.name, (0, 0))
    return root / "evalmon"


@contextmanager
def of_another_user(path: Path) -> Iterator[str]:
    """Give a directory and its content to another user, readable for all; the user who then owns it."""
    if not as_root.has_root:
        pytest.skip("needs root, or sudo without a password")
    before = f"{os.geteuid()}:{os.getegid()}"
    as_root.run("chmod", "-R", "a+rX", path)
    as_root.run("chown", "-R", "-h", f"{as_root.OTHER}:{as_root.OTHER}", path)
    try:
        yield pwd.getpwuid(as_root.OTHER).pw_name
    finally:
        as_root.run("chown", "-R", "-h", before, path)


def evalmon(exp: Exp, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**for_monitor_jobs(exp.slurm.environ), "SLURM_JOB_ID": "77"}
    argv = [sys.executable, "-m", "evalmon_agent", *words]
    return subprocess.run(argv, check=False, env=env, cwd="/", capture_output=True, text=True, timeout=60)


def new_script(exp: Exp) -> str:
    path = exp.root / "r1" / "eval" / "e_epoch0.slurm"
    path.parent.mkdir(parents=True)
    path.write_text(SCRIPT)
    return str(path)


COMMANDS: dict[str, Callable[[Exp], list[str]]] = {
    "status": lambda exp: ["status", str(exp.root)],
    "report": lambda exp: ["report", str(exp.root)],
    "submit": lambda exp: ["submit", str(exp.root), new_script(exp)],
    "watch": lambda exp: ["watch", str(exp.root), "99"],
    "retry": lambda exp: ["retry", str(exp.root)],
    "stop": lambda exp: ["stop", str(exp.root)],
    "complete": lambda exp: ["complete", str(exp.root)],
}


def each_kind(*, fully: Sequence[str], commands: Iterable[str]) -> list[Any]:
    """Each command meets another user's directory; those that are tested `fully` meet each kind, the others with --all.

    The kinds are told apart by one function, which all commands call.
    """
    pairs = [(kind, command) for kind in KINDS for command in commands]
    is_often = {pair: pair[0] == KINDS[0] or pair[1] in fully for pair in pairs}
    return [pytest.param(*pair, marks=[] if is_often[pair] else [pytest.mark.full]) for pair in pairs]


@pytest.mark.survives("S17")
@pytest.mark.parametrize(
    ("swap", "command"), each_kind(fully=("submit", "complete"), commands=COMMANDS), indirect=["swap"]
)
def test_a_command_during_which_it_is_replaced_says_so_and_ends(swap: Swap, command: str) -> None:
    exp = swap.exp
    words = COMMANDS[command](exp)
    exp.slurm.show([ended("11", "FAILED"), running("12"), running("99")])
    submitted = exp.slurm.calls("sbatch")
    swap.while_squeue_is_asked()
    done = evalmon(exp, *words)
    assert swap.moved.exists()
    assert (done.returncode, done.stderr) == (77, f"evalmon: {swap.message()}\n")
    assert exp.slurm.calls("sbatch") == submitted
    assert swap.is_untouched()


@pytest.mark.survives("S17")
def test_a_running_sidecar_submits_nothing_more_and_ends_with_a_block_in_its_own_log(swap: Swap) -> None:
    exp = swap.exp
    submitted = exp.slurm.calls("sbatch")
    env = {
        **for_monitor_jobs(exp.slurm.environ),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_END_TIME": str(int(time.time()) + 86400),
    }
    argv = [sys.executable, "-m", "evalmon_agent", "sidecar", "--experiment-id", str(exp.experiment.id), str(exp.root)]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            faults.wait_until(lambda: exp.log().count("STATUS_CHECK") >= 2)
            swap.do()
            assert process.wait(20) == 77
            assert process.stdout is not None
            assert process.stdout.read() == f"evalmon: {swap.message()}\n"
        finally:
            process.kill()
    assert exp.slurm.calls("sbatch") == submitted
    assert swap.is_untouched()
    swap.undo()
    assert f"Reason: {swap.message()}\nJob ID: 77" in exp.blocks("MONITOR_STOPPED")[0]


@pytest.mark.survives("S17")
def test_the_completion_job_ends_with_a_block_in_its_own_log(swap: Swap) -> None:
    swap.while_squeue_is_asked()
    assert evalmon(swap.exp, "complete", str(swap.exp.root)).returncode == 77
    swap.undo()
    [block] = swap.exp.blocks("MONITOR_STOPPED")
    assert block.startswith(f"MONITOR_STOPPED: completion job\nReason: {swap.message()}\nJob ID: 77")


@pytest.mark.survives("S17")
@pytest.mark.parametrize("body", ["sidecar", "complete"])
def test_a_monitor_job_that_starts_in_another_experiment_refuses_it(swap: Swap, body: str) -> None:
    exp = swap.exp
    expected = str(exp.experiment.id)
    submitted = exp.slurm.calls("sbatch")
    swap.do()
    done = evalmon(exp, body, "--experiment-id", expected, str(exp.root))
    assert (done.returncode, done.stdout, done.stderr) == (77, "", f"evalmon: {swap.message()}\n")
    assert exp.slurm.calls("sbatch") == submitted
    assert swap.is_untouched()


@pytest.mark.survives("S17")
def test_an_evals_job_writes_no_report_there(swap: Swap) -> None:
    exp = swap.exp
    ours = ["--experiment-id", str(exp.experiment.id)]
    env = environ(SLURM_JOB_ID="12", EVALMON_DIR=str(exp.ours))
    swap.do()
    done = subprocess.run(
        [*RUN, *ours, "--", "sh", "-c", "echo out; exit 6"], env=env, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (6, b"out\n", b"")
    assert swap.is_untouched()


@pytest.mark.survives("S17")
def test_an_evals_job_writes_no_report_there_if_it_is_replaced_during_the_run(swap: Swap) -> None:
    exp = swap.exp
    ours = ["--experiment-id", str(exp.experiment.id)]
    env = environ(SLURM_JOB_ID="12", EVALMON_DIR=str(exp.ours))
    report = exp.ours / "jobs" / "12.json"
    report.unlink()
    with subprocess.Popen([*RUN, *ours, "--", "sh", "-c", "read x; exit 6"], env=env, stdin=subprocess.PIPE) as run:
        faults.wait_until(report.exists)
        swap.do()
        assert run.stdin is not None
        run.stdin.write(b"\n")
        run.stdin.close()
        assert run.wait(20) == 6
    assert swap.is_untouched()
    swap.undo()
    [attempt] = json.loads(report.read_text())["attempts"]
    assert attempt["exit_code"] is None


@pytest.mark.survives("S17")
@pytest.mark.parametrize(
    ("swap", "command"), each_kind(fully=("report", "submit"), commands=COMMANDS), indirect=["swap"]
)
def test_a_command_that_starts_there_does_nothing(swap: Swap, command: str) -> None:
    exp = swap.exp
    words = COMMANDS[command](exp)
    submitted = exp.slurm.calls("sbatch")
    swap.do()
    done = evalmon(exp, *words)
    # Another user's experiment is shown if that user allows it.
    if command not in {"status", "report"} or "belongs to" not in swap.says:
        assert (done.returncode in {2, 77}, done.stdout, done.stderr.count("\n")) == (True, "", 1), (
            done.returncode,
            done.stdout,
            done.stderr,
        )
        assert done.stderr.startswith(f"evalmon: {exp.ours}")
    assert exp.slurm.calls("sbatch") == submitted
    assert swap.is_untouched()


@contextmanager
def swapping(swap: Swap) -> Iterator[None]:
    """Replaces the directory again and again."""
    swap.before = swap.content()

    def again_and_again() -> None:
        while True:
            swap.exp.ours.rename(swap.moved)
            swap.planted.rename(swap.exp.ours)
            time.sleep(random.random() / 50)
            swap.undo()
            time.sleep(random.random() / 10)

    pid = faults.forked(again_and_again)
    os.kill(pid, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        swap.put_back()


def of_this_experiment(command: str) -> Callable[[Exp], list[str]]:
    return lambda exp: [command, "--experiment-id", str(exp.experiment.id), str(exp.root)]


WITH_ID = ("sidecar", "complete")
RACED = {**COMMANDS, **{name: of_this_experiment(name) for name in WITH_ID}}


@pytest.mark.survives("S17")
@pytest.mark.parametrize("command", [less_often(name, ("status", "sidecar")) for name in RACED])
def test_replacements_at_any_time_and_repeatedly_do_no_harm(
    swap: Swap, command: str, request: pytest.FixtureRequest
) -> None:
    exp = swap.exp
    words = RACED[command](exp)
    exp.slurm.show([ended("11", "FAILED"), running("12"), running("99")])
    began, codes = time.monotonic(), Counter[int]()
    least_s = 20 if request.config.getoption("--all") else 3
    with swapping(swap):
        # A slow machine needs longer until one of them finds the other directory.
        while (lasts := time.monotonic() - began) < least_s or (lasts < 30 and not codes[77] + codes[2]):
            codes[evalmon_for(1.5, exp, *words)] += 1
    assert swap.is_untouched()
    assert not [call for call in exp.slurm.calls("sbatch")[swap.calls :] if "/forged/" in call]
    assert 70 not in codes
    assert codes[77] + codes[2], codes


def evalmon_for(seconds: float, exp: Exp, *words: str) -> int:
    """Its exit status, or that of SIGKILL."""
    env = {**for_monitor_jobs(exp.slurm.environ), "SLURM_JOB_ID": "77"}
    argv = [sys.executable, "-m", "evalmon_agent", *words]
    with subprocess.Popen(argv, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=seconds)
            assert b"Traceback" not in said, said
            assert b"bug" not in said, said
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode


@pytest.mark.survives("S17")
def test_a_job_whose_experiment_lost_its_id_ends(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    (exp.ours / "experiment.json").unlink()
    for body in ("sidecar", "complete"):
        assert evalmon(exp, body, "--experiment-id", "0" * 32, str(exp.root)).returncode == 77
    assert not (exp.ours / "monitor.log").exists()


def test_the_id_is_created_once_and_passed_to_the_jobs(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    new_script(exp)
    assert exp.experiment.id is None
    env = exp.slurm.environ
    settings = Settings(poll_interval=1.0)
    exp.slurm.after(
        "sbatch", 'case "$script" in *evalmon-*) cat "$dir/last.script" > "$dir/${script##*/}.text" ;; esac\n'
    )
    submit(exp.session(settings, environ=env), named=(), mode="sidecar", dry_run=False)
    first = exp.experiment.id
    assert first is not None
    assert len(first) == 32
    exp.experiment.prepare(group_readable=False)
    assert exp.anew().experiment.id == first
    for kind in ("sidecar", "completion"):
        assert f"--experiment-id {first} -- " in (exp.slurm.directory / f"evalmon-{kind}.text").read_text()
    [launcher] = [path for path in exp.ours.rglob("e_epoch0.slurm") if path.is_file()]
    assert f"--experiment-id {first} " in launcher.read_text()


@faults.needs_strace
@pytest.mark.survives("F1")
def test_a_kill_while_the_id_is_created_lets_the_next_process_create_it(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    work = lambda: exp.experiment.prepare(group_readable=False)  # noqa: E731
    exp.root.mkdir(exist_ok=True)
    for point in faults.points(work, tmp_path / "trace"):
        (exp.ours / "experiment.json").unlink(missing_ok=True)
        faults.killed_at(work, point)
        exp.anew().experiment.prepare(group_readable=False)
        assert len(str(exp.experiment.id)) == 32


@pytest.mark.survives("S17")
def test_a_copy_of_the_experiment_is_refused(tmp_path: Path) -> None:
    """It has the same id, but its waiting evals may have been submitted since."""
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    subprocess.run(["cp", "-a", exp.ours, exp.root / "copy"], check=True)
    exp.ours.rename(exp.root / "moved")
    (exp.root / "copy").rename(exp.ours)
    with pytest.raises(ReplacedError), locked(exp.experiment):
        pass


def test_a_moved_experiment_is_accepted_and_its_copy_refused(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    exp.observe_to_the_end()
    first, moved, copy = str(exp.experiment.id), tmp_path / "moved", tmp_path / "copy"
    exp.root.rename(moved)
    assert evalmon(exp, "status", str(moved)).returncode == 0
    subprocess.run(["cp", "-a", moved, copy], check=True)
    done = evalmon(exp, "status", str(copy))
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.endswith(f"(if it is a copy that you made: rm {copy}/evalmon/experiment.json)\n")
    (copy / "evalmon" / "experiment.json").unlink()
    assert evalmon(exp, "status", str(copy)).returncode == 0
    again = Experiment.at(str(copy))
    again.prepare(group_readable=False)
    assert again.id not in {first, None}


@pytest.mark.survives("F22", "S17")
def test_a_directory_that_is_missing_for_a_while_is_not_taken_for_replaced(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.ours.rename(exp.root / "away")
    with pytest.raises(FileNotFoundError, match=str(exp.ours)), locked(exp.experiment):
        pass
    (exp.root / "away").rename(exp.ours)
    with locked(exp.experiment):
        pass


@pytest.mark.survives("S17")
@pytest.mark.parametrize(
    "command", [less_often(name, ("submit", "status")) for name in ("submit", "status", "retry", "stop", "doctor")]
)
def test_another_users_link_in_place_of_the_experiment_is_not_followed(tmp_path: Path, command: str) -> None:
    """Others can write above EXP; the link leads to a private directory of the user that has scripts as well."""
    exp = Exp(tmp_path)
    new_script(exp)
    link = tmp_path / "link"
    link.symlink_to(exp.root)
    assert evalmon(exp, "status", f"{link}/r1/..").stderr.count("nothing is monitored here") == 1  # the user's own link
    second_user.give(link)
    for path in (link, link / "r1" / ".."):
        done = evalmon(exp, command, str(path))
        said = f"evalmon: {path}: {link} is a link of {second_user.name()}, which leads to {exp.root}; "
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"{said}if that is the right experiment, name it by that path\n"
    assert exp.slurm.calls("sbatch") == []
    assert not exp.ours.exists()
