"""Starts an instance's daemons, waits until each is ready, and quotes its log if it is not."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from . import cgroups, packages, processes
from .errors import SlurmDevError
from .instance import Instance
from .packages import SEARCH_PATH
from .processes import Process

READY_TIMEOUT_S = 60
STOP_GRACE_S = 20
COMMAND_TIMEOUT_S = 30
LOG_LINES = 15

# States of a node, as sinfo prints them, in which it responds and runs jobs.
TAKES_JOBS = ("idle", "mixed", "allocated", "completing")


def names(instance: Instance) -> list[str]:
    """All daemons, in the order in which they are started."""
    return ["munge", "mariadb", "slurmdbd", "slurmctld", *instance.nodes]


def program(instance: Instance, name: str) -> str:
    """The path of a program: the instance's release's, else this machine's.

    Raises:
        SlurmDevError: it isn't installed.
    """
    of_release = os.path.join(instance.programs, name)
    return of_release if instance.programs and os.path.exists(of_release) else packages.program(name)


def argv(instance: Instance, daemon: str) -> list[str]:
    """The command of a daemon, in the foreground, so that its pid is that of the started process."""
    at = instance.path
    if daemon == "munge":
        return [
            program(instance, "munged"),
            "--foreground",
            "--force",  # also below a directory that is not root's but that of the user who called sudo
            f"--socket={at('munge', 'socket')}",
            f"--key-file={at('munge', 'key')}",
            f"--pid-file={at('run', 'munged.pid')}",
            f"--seed-file={at('munge', 'seed')}",
            "--num-threads=10",  # what Slurm asks for under load,
        ]
    if daemon == "mariadb":
        return [
            program(instance, "mariadbd"),
            "--no-defaults",
            "--user=root",
            f"--datadir={at('db')}",
            f"--socket={at('run', 'mariadb.sock')}",
            f"--pid-file={at('run', 'mariadb.pid')}",
            f"--tmpdir={at('run')}",
            f"--init-file={at('etc', 'database.sql')}",
            "--skip-networking",
            "--skip-name-resolve",
            "--performance-schema=0",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-lock-wait-timeout=900",
            "--aria-pagecache-buffer-size=8M",
            "--key-buffer-size=1M",
            "--max-connections=20",
        ]
    if daemon in ("slurmdbd", "slurmctld"):
        return [program(instance, daemon), "-D"]
    if daemon in instance.nodes:
        stepd = ["-d", program(instance, "slurmstepd")] if instance.programs else []
        return [program(instance, "slurmd"), "-D", "-N", daemon, *stepd]
    raise SlurmDevError(f"no daemon {daemon!r} here; there are {', '.join(names(instance))}")


def environment(instance: Instance) -> dict[str, str]:
    """The environment of daemons and Slurm's commands: nothing of the caller's, and the instance's mark."""
    return {
        processes.MARK: instance.directory,
        "PATH": f"{instance.programs}:{SEARCH_PATH}" if instance.programs else SEARCH_PATH,
        "HOME": "/",
        "LC_ALL": "C.UTF-8",
        "SLURM_CONF": instance.conf,
        "MYSQL_UNIX_PORT": instance.path("run", "mariadb.sock"),
    }


def start(instance: Instance, daemon: str) -> bool:
    """Start a daemon unless it is running; returns whether it was started. It may not be ready yet."""
    if instance.noted(daemon):
        return False
    process = processes.spawn(
        argv(instance, daemon),
        env=environment(instance),
        cwd=instance.directory,
        output_path=instance.path("log", f"{daemon}.out"),
    )
    if process:
        if instance.cgroup_v1:
            cgroups.enter(cgroups.of_daemons(instance.cluster), process.pid)
        instance.note(daemon, process)
    return True


def stop(instance: Instance, daemon: str) -> bool:
    """End a daemon, by TERM if that is enough; returns whether it was running. Jobs continue when a slurmd ends."""
    process = instance.noted(daemon)
    if process is None:
        return False
    processes.end([process], grace_s=STOP_GRACE_S)
    return True


def wait_ready(instance: Instance, daemon: str, *, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until a daemon answers.

    Raises:
        SlurmDevError: it ended or did not answer in time; the message ends with the tail of its log.
    """
    wait_until(
        lambda: _answers(instance, daemon),
        f"{daemon} to answer",
        timeout_s=timeout_s,
        failed=lambda: instance.noted(daemon) is None,
        evidence=lambda: log_tail(instance, daemon),
    )


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    timeout_s: float = READY_TIMEOUT_S,
    failed: Callable[[], bool] = lambda: False,
    evidence: Callable[[], str] = lambda: "",
) -> None:
    """Poll a condition.

    Raises:
        SlurmDevError: it can no longer come true, or did not in time; the message holds the evidence.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if failed():
            raise SlurmDevError(f"waited for {what}: it ended\n{evidence()}".rstrip())
        if time.monotonic() > deadline:
            raise SlurmDevError(f"waited {timeout_s:.0f} s for {what}\n{evidence()}".rstrip())
        time.sleep(0.1)


def run(instance: Instance, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands on this instance, as root.

    Raises:
        subprocess.TimeoutExpired: it hangs.
    """
    return subprocess.run(
        [program(instance, words[0]), *words[1:]],
        env=environment(instance),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )


def command(instance: Instance, *words: str) -> str | None:
    """The output of one of Slurm's commands about this instance; None if it fails or hangs."""
    with suppress(subprocess.TimeoutExpired):
        done = run(instance, *words)
        return done.stdout if done.returncode == 0 else None
    return None


def node_states(instance: Instance) -> dict[str, str]:
    """Node -> its state as sinfo prints it (`idle`, `mixed`, `down*`); empty if slurmctld does not answer."""
    if instance.noted("slurmctld") is None:
        return {}  # known at once, where sinfo would take its 9 s to find out
    answer = command(instance, "sinfo", "-h", "-N", "-p", "debug", "-o", "%N %T") or ""
    return dict(line.split(maxsplit=1) for line in answer.splitlines() if " " in line)


def resume_nodes(instance: Instance) -> list[str]:
    """Let drained nodes take jobs again; a line for each, with Slurm's reason.

    Slurm drains a node itself, for example when a job's process outlives SIGKILL for UnkillableStepTimeout.
    """
    resumed = []
    for line in (command(instance, "sinfo", "-h", "-N", "-p", "debug", "-o", "%N|%T|%E") or "").splitlines():
        node, state, reason = line.split("|", 2)
        if state.startswith("drain"):
            command(instance, "scontrol", "update", f"NodeName={node}", "State=RESUME")
            resumed.append(f"{node}: was {state} ({reason}), takes jobs again")
    return resumed


def accounting_works(instance: Instance) -> bool:
    """Whether sacct answers, and slurmctld has introduced itself to slurmdbd."""
    ports = command(instance, "sacctmgr", "-n", "-P", "show", "cluster", instance.cluster, "format=controlport")
    return (ports or "").strip() not in ("", "0") and command(instance, "sacct", "-n", "-X") is not None


def log_tail(instance: Instance, daemon: str, lines: int = LOG_LINES) -> str:
    """The last lines of a daemon's output; in the foreground all of them print everything on stderr."""
    path = instance.path("log", f"{daemon}.out")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "\n".join([f"--- {path}", *file.read().splitlines()[-lines:]])
    except OSError as error:
        return str(error)


def _answers(instance: Instance, daemon: str) -> bool:
    if instance.noted(daemon) is None:
        return False
    if daemon == "munge":
        return _connects(socket.AF_UNIX, instance.path("munge", "socket"))
    if daemon == "mariadb":
        return _connects(socket.AF_UNIX, instance.path("run", "mariadb.sock"))
    if daemon == "slurmdbd":
        return _connects(socket.AF_INET, ("127.0.0.1", instance.dbd_port))
    if daemon == "slurmctld":
        return "is UP" in (command(instance, "scontrol", "ping") or "")
    return node_states(instance).get(daemon) in TAKES_JOBS


def _connects(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(2)
        return probe.connect_ex(address) == 0


def recorded(instance: Instance) -> dict[str, Process | None]:
    """Each daemon's process, None if it is not running."""
    return {daemon: instance.noted(daemon) for daemon in names(instance)}
