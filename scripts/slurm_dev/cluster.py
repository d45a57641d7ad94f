"""Starts an instance: its files, then its daemons in the order in which they need each other."""

import os
import secrets
import socket
import stat
import subprocess

from . import accounts, cgroups, configs, daemons
from .errors import SlurmDevError
from .instance import Instance
from .packages import slurm_version

NVIDIA_MAJOR = 195  # Documentation/admin-guide/devices.txt; no driver needs to be there
INSTALL_DB_TIMEOUT_S = 120


def prepare(instance: Instance) -> None:
    """Make everything a fresh instance's daemons want to find, except the database."""
    for name in ("dev", "etc", "log", "spool", "state"):
        os.mkdir(instance.path(name), 0o755)
    os.mkdir(instance.path("run"), 0o755)
    os.mkdir(instance.path("munge"), 0o755)
    os.mkdir(instance.path("db"), 0o700)
    _write(instance.path("munge", "key"), secrets.token_bytes(1024), 0o600)
    hostname = socket.gethostname().partition(".")[0]
    version = slurm_version(daemons.program(instance, "slurmd"))
    cgroup_conf = configs.cgroup_conf(instance, version=version, swap_accounted=cgroups.swap_accounted())
    _write(instance.path("etc", "slurm.conf"), configs.slurm_conf(instance, hostname=hostname).encode(), 0o644)
    _write(instance.path("etc", "slurmdbd.conf"), configs.slurmdbd_conf(instance).encode(), 0o600)
    _write(instance.path("etc", "database.sql"), configs.database_sql().encode(), 0o644)
    _write(instance.path("etc", "cgroup.conf"), cgroup_conf.encode(), 0o644)
    _write(instance.path("etc", "gres.conf"), configs.gres_conf(instance).encode(), 0o644)
    for number, (_, path) in enumerate(configs.device_paths(instance)):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(NVIDIA_MAJOR, number % configs.GPUS_PER_NODE))
        os.chmod(path, 0o666)


def make_database(instance: Instance) -> None:
    """Fill MariaDB's data directory.

    Raises:
        SlurmDevError: mariadb-install-db failed; the message ends with what it said.
    """
    answer = subprocess.run(
        [
            daemons.program(instance, "mariadb-install-db"),
            "--no-defaults",
            "--user=root",
            f"--datadir={instance.path('db')}",
            "--auth-root-authentication-method=socket",
            "--auth-root-socket-user=root",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=8M",
        ],
        env=daemons.environment(instance),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=INSTALL_DB_TIMEOUT_S,
    )
    if answer.returncode != 0:
        raise SlurmDevError("mariadb-install-db failed:\n" + "\n".join(answer.stdout.splitlines()[-15:]))


def start(instance: Instance) -> None:
    """Start what does not run yet and wait until jobs can be submitted and are accounted for.

    Raises:
        SlurmDevError: a daemon failed or was too slow; the message ends with its log.
    """
    for daemon in ("munge", "mariadb", "slurmdbd"):
        daemons.start(instance, daemon)
        daemons.wait_ready(instance, daemon)
    daemons.wait_until(
        lambda: _cluster_is_known(instance),
        "slurmdbd to know the cluster",
        evidence=lambda: daemons.log_tail(instance, "slurmdbd"),
    )
    accounts.prepare(instance)
    for daemon in ("slurmctld", *instance.nodes):
        daemons.start(instance, daemon)
    daemons.wait_ready(instance, "slurmctld")
    for line in daemons.resume_nodes(instance):
        print(line, flush=True)
    for node in instance.nodes:
        daemons.wait_ready(instance, node)
    wait_usable(instance)


def wait_usable(instance: Instance) -> None:
    """Wait until jobs can be submitted and are accounted for; all daemons run already.

    Raises:
        SlurmDevError: they did not find together in time; the message ends with slurmctld's log.
    """
    daemons.wait_until(
        lambda: usable(instance),
        "nodes and accounting to be at slurmctld's service",
        evidence=lambda: daemons.log_tail(instance, "slurmctld"),
    )


def usable(instance: Instance) -> bool:
    """Whether all daemons run, both nodes take jobs, and accounting works."""
    if not all(daemons.recorded(instance).values()):
        return False
    states = daemons.node_states(instance)
    return all(states.get(node) in daemons.TAKES_JOBS for node in instance.nodes) and daemons.accounting_works(instance)


def _cluster_is_known(instance: Instance) -> bool:
    """Before slurmctld starts: slurmdbd would not know it, and slurmctld would try again much later."""
    show = ("sacctmgr", "-n", "-P", "show", "cluster", instance.cluster, "format=cluster")
    if instance.cluster in (daemons.command(instance, *show) or ""):
        return True
    return daemons.command(instance, "sacctmgr", "-i", "add", "cluster", instance.cluster) is not None


def _write(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
