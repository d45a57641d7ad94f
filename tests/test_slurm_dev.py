"""Tests scripts/slurm-dev: two real Slurms side by side, each complete, and removed without a trace."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import as_root

pytestmark = [pytest.mark.slurm, pytest.mark.full]

SLURM_DEV = Path(__file__).parents[1] / "scripts" / "slurm-dev"
UNTIL_S = 60


@dataclass(frozen=True)
class Slurm:
    directory: Path
    work: Path

    def dev(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(str(SLURM_DEV), *words, "--dir", str(self.directory))

    def ask(self, *words: str) -> str:
        answer = self.run(*words)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(*words, env=self.env(), cwd=self.work)

    def env(self) -> dict[str, str]:
        lines = self.dev("env").stdout.splitlines()
        exported = dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)
        assert list(exported) == ["SLURM_CONF"]
        return {**outside_slurm(), **exported}

    def nodes(self) -> list[str]:
        return json.loads((self.directory / "instance.json").read_text())["nodes"]

    def submit(self, script: str, *options: str) -> str:
        return self.ask("sbatch", "--parsable", "-o", f"{self.work}/%j.out", *options, "--wrap", script)

    def state(self, job: str) -> str:
        return self.ask("sacct", "-n", "-X", "-P", "-j", job, "-o", "State")

    def ended(self, job: str) -> str:
        until(lambda: self.state(job) not in ("", "PENDING", "RUNNING"))
        return self.state(job)

    def output(self, job: str) -> list[str]:
        path = self.work / f"{job}.out"
        return path.read_text().splitlines() if path.exists() else []


def outside_slurm() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    defaults = {"capture_output": True, "text": True, "timeout": 900, "env": outside_slurm()}
    return subprocess.run(list(words), check=False, **{**defaults, **options})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UNTIL_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def traces(directory: Path, nodes: list[str]) -> list[str]:
    """The traces of an instance on this machine: processes that name it, cgroups, mounts, files."""
    found = [str(path) for node in nodes for path in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line]
    found += [str(directory)] if directory.exists() else []
    return found + [f"{pid}: {words}" for pid, words in processes() if str(directory) in words]


SHOW_PROCESSES = """
import sys
from pathlib import Path
for entry in Path("/proc").iterdir():
    if entry.name.isdigit() and entry.name not in sys.argv:
        try:
            print(entry.name, repr((entry / "cmdline").read_bytes()), repr((entry / "environ").read_bytes()))
        except OSError:
            continue
"""


def processes() -> Iterator[tuple[int, str]]:
    """(pid, command line and environment) of all processes but this one."""
    for line in as_root.run(sys.executable, "-c", SHOW_PROCESSES, str(os.getpid())).stdout.splitlines():
        pid, _, words = line.partition(" ")
        yield int(pid), words


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A short path that every user may enter: for sockets and the jobs of ordinary users."""
    if not as_root.has_root:
        pytest.skip("needs root, or sudo without a password")
    directory = Path(tempfile.mkdtemp(prefix="sd-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def two(place: Path) -> Iterator[list[Slurm]]:
    slurms = []
    try:
        for name in ("a", "b"):
            slurm = Slurm(directory=place / name, work=place / f"work-{name}")
            slurm.work.mkdir(mode=0o777)
            slurm.work.chmod(0o777)
            slurms.append(slurm)
            answer = slurm.dev("up")
            assert answer.returncode == 0, answer.stderr
        yield slurms
    finally:
        for slurm in slurms:
            slurm.dev("down")


@pytest.fixture(params=[0, 1], ids=["first", "second"])
def slurm(two: list[Slurm], request: pytest.FixtureRequest) -> Slurm:
    return two[request.param]


def test_each_instance_works_and_says_so(slurm: Slurm) -> None:
    answer = slurm.dev("status")
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, f"{slurm.directory}: usable")
    assert slurm.ask("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %T").splitlines() == [
        f"{node} idle" for node in slurm.nodes()
    ]


def test_up_on_a_running_one_changes_nothing(slurm: Slurm) -> None:
    before = slurm.dev("status").stdout
    assert slurm.dev("up").stdout == f"{slurm.directory}: already running\n"
    assert slurm.dev("status").stdout == before


def test_the_instances_share_neither_nodes_nor_names_nor_jobs(two: list[Slurm]) -> None:
    first, second = two
    assert not {*first.nodes()} & {*second.nodes()}
    clusters = [slurm.ask("sacctmgr", "-n", "-P", "show", "cluster", "format=cluster") for slurm in two]
    assert clusters[0] != clusters[1]
    job = first.submit("sleep 30", "--job-name=only-in-the-first")
    assert second.ask("squeue", "-h", "-t", "all", "-n", "only-in-the-first") == ""
    first.ask("scancel", job)


def test_a_job_gets_the_gpu_it_asks_for_and_is_accounted_for(slurm: Slurm) -> None:
    job = slurm.submit("echo $SLURM_JOB_GPUS $CUDA_VISIBLE_DEVICES", "--gres=gpu:1")
    assert slurm.ended(job) == "COMPLETED"
    assert slurm.output(job) == ["0 0"]
    usage = slurm.ask("sacct", "-n", "-X", "-P", "-j", job, "-o", "AllocTRES")
    assert "gres/gpu=1" in usage.split(",")


def test_a_user_without_an_account_cannot_submit_until_one_is_added(slurm: Slurm) -> None:
    words = as_root.argv("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "--", "env", "-C", "/")
    srun = [*words, f"SLURM_CONF={slurm.directory}/etc/slurm.conf", "srun", "id", "-un"]
    refused = run(*srun)
    assert (refused.returncode, "Invalid account" in refused.stderr) == (1, True)
    assert slurm.dev("user", "daemon").returncode == 0
    taken = run(*srun)
    assert (taken.stdout, taken.returncode) == ("daemon\n", 0), taken.stderr
    assert slurm.dev("user", "no-such-user").returncode == 1


def test_a_user_has_two_accounts_and_a_qos_with_a_limit(slurm: Slurm) -> None:
    for words in (("-A", "lab_a"), ("-A", "lab_b"), ("-q", "few", "-A", "lab_b")):
        assert slurm.ended(slurm.submit("true", *words)) == "COMPLETED"
    assert slurm.run("sbatch", "-A", "none", "--wrap", "true").returncode == 1
    jobs = [slurm.submit("sleep 60", "-q", "few") for _ in range(4)]
    refused = slurm.run("sbatch", "-q", "few", "--wrap", "true")
    assert (refused.returncode, "QOSMaxSubmitJobPerUserLimit" in refused.stderr) == (1, True)
    slurm.ask("scancel", *jobs)


@as_root.not_as_root
def test_a_user_does_not_see_hidden_partitions_or_other_users_jobs(slurm: Slurm) -> None:
    job = slurm.submit("sleep 60", "-p", "hidden", "--time=5")
    assert "hidden" not in slurm.ask("sinfo", "-h", "-o", "%P").split()
    assert "hidden" in slurm.ask("sinfo", "-a", "-h", "-o", "%P").split()
    assert job not in slurm.ask("squeue", "--me", "-h", "-o", "%A").split()
    assert job in slurm.ask("squeue", "-a", "--me", "-h", "-o", "%A").split()
    slurm.ask("scancel", job)
    conf = f"SLURM_CONF={slurm.directory}/etc/slurm.conf"
    other = as_root.run("env", "-C", "/", conf, "sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 60")
    theirs = other.stdout.strip()
    assert theirs not in slurm.ask("squeue", "-a", "-h", "-o", "%A").split()
    assert slurm.ask("sacct", "-n", "-X", "-j", theirs, "-o", "JobID") == ""
    as_root.run("env", conf, "scancel", theirs)


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmdbd", "n1"])
def test_jobs_survive_an_outage(slurm: Slurm, daemon: str) -> None:
    job = slurm.submit("sleep 3; echo survived", "--nodelist", slurm.nodes()[0])
    until(lambda: slurm.ask("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING")
    assert slurm.dev("stop", daemon).returncode == 0
    assert slurm.dev("status").returncode == 1
    assert slurm.dev("start", daemon).returncode == 0
    assert slurm.dev("status").returncode == 0
    assert slurm.ended(job) == "COMPLETED"
    assert slurm.output(job) == ["survived"]


def test_up_restarts_a_missing_daemon(slurm: Slurm) -> None:
    job = slurm.submit("true")
    assert slurm.ended(job) == "COMPLETED"
    slurm.dev("stop", "slurmctld")
    slurm.dev("stop", "n2")
    assert slurm.dev("up").stdout == f"{slurm.directory}: complete again\n"
    assert slurm.state(job) == "COMPLETED"


def test_up_lets_a_drained_node_take_jobs_again(slurm: Slurm) -> None:
    node = slurm.nodes()[0]
    env = [f"{name}={value}" for name, value in slurm.env().items() if name in ("SLURM_CONF", "PATH")]
    as_root.run("env", *env, "scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=Kill task failed")
    assert slurm.dev("status").returncode == 1
    assert f"{node}: was drained (Kill task failed), takes jobs again\n" in slurm.dev("up").stdout
    assert slurm.dev("status").returncode == 0


def test_an_unknown_daemon_is_refused_by_name(slurm: Slurm) -> None:
    answer = slurm.dev("stop", "slurmrestd")
    assert (answer.returncode, "slurmctld" in answer.stderr) == (1, True)


def test_another_users_directory_is_left_alone(place: Path) -> None:
    stranger = Slurm(directory=place / "full", work=place)
    stranger.directory.mkdir()
    (stranger.directory / "thesis.txt").touch()
    assert stranger.dev("up").returncode == 1
    assert stranger.dev("down").returncode == 1
    assert [path.name for path in stranger.directory.iterdir()] == ["thesis.txt"]


def test_an_instance_started_with_a_private_umask_works_for_every_user(place: Path) -> None:
    slurm = Slurm(directory=place / "private", work=place)
    assert run(str(SLURM_DEV), "up", "--dir", str(slurm.directory), umask=0o077).returncode == 0
    try:
        assert run(str(SLURM_DEV), "user", "daemon", "--dir", str(slurm.directory)).returncode == 0
        words = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "--", "env", "-C", "/"]
        srun = as_root.run(*words, f"SLURM_CONF={slurm.directory}/etc/slurm.conf", "srun", "id", "-un")
        assert srun.stdout == "daemon\n"
    finally:
        slurm.dev("down")


def test_an_interrupted_start_does_not_prevent_the_next(place: Path) -> None:
    slurm = Slurm(directory=place / "cut", work=place)
    with subprocess.Popen([SLURM_DEV, "up", "--dir", slurm.directory], stdout=subprocess.DEVNULL) as starting:
        time.sleep(0.7)
        # Under sudo it is a child.
        mine = Path(f"/proc/{starting.pid}/task/{starting.pid}/children").read_text().split()
        as_root.run("kill", "-KILL", *([str(starting.pid)] if as_root.is_root else mine))
    assert slurm.dev("up").returncode == 0
    nodes = slurm.nodes()
    assert slurm.dev("down").returncode == 0
    assert traces(slurm.directory, nodes) == []


@pytest.mark.parametrize(("release", "version"), [("trixie", "slurm-wlm 24.11"), ("forky", "slurm-wlm 26.05")])
def test_an_instance_of_another_release_has_its_own_commands_and_uses_this_machines_files(
    place: Path, release: str, version: str
) -> None:
    other = Slurm(directory=place / release, work=place / f"work-{release}")
    other.work.mkdir()
    answer = other.dev("up", "--release", release)
    assert answer.returncode == 0, answer.stderr
    try:
        shell = (
            f'{other.dev("env").stdout}\nsinfo --version; srun --version; exec sbatch --parsable -o "$0" --wrap "$1"'
        )
        script = f"{sys.executable} --version; scontrol --version; pwd"
        done = run("bash", "-c", shell, f"{other.work}/%j.out", script, cwd=other.work, env=outside_slurm())
        *versions, job = done.stdout.splitlines()
        assert [version[:15] for version in versions] == [version] * 2, done.stderr
        until(lambda: len(other.output(job)) == 3)
        python = f"Python {platform.python_version()}"
        assert other.output(job) == [python, versions[0], str(other.work)]
    finally:
        other.dev("down")


def test_down_removes_one_instance_completely_and_leaves_the_other(two: list[Slurm], place: Path) -> None:
    third = Slurm(directory=place / "c", work=place / "work-c")
    third.work.mkdir()
    assert third.dev("up").returncode == 0
    nodes = third.nodes()
    job = third.submit("setsid sleep 4243 & env -i setsid sleep 4244 & sleep 4245")
    until(lambda: third.ask("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING")
    other = two[0].submit("sleep 2; echo unharmed")
    assert third.dev("down").returncode == 0
    assert traces(third.directory, nodes) == []
    assert [words for _, words in processes() if any(f"424{end}" in words.split()[0] for end in (3, 4, 5))] == []
    assert two[0].ended(other) == "COMPLETED"
    assert two[0].output(other) == ["unharmed"]


def test_without_an_instance_down_succeeds_and_the_others_report_it(place: Path) -> None:
    nothing = Slurm(directory=place / "nothing", work=place)
    assert [nothing.dev(verb).returncode for verb in ("down", "status", "env")] == [0, 1, 1]
    assert nothing.dev("env").stdout == ""
