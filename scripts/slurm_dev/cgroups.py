"""Handles an instance's cgroup (v1) directories: which exist, which instance they belong to, how to remove them."""

import glob
import os
import time
from contextlib import suppress

ROOT = "/sys/fs/cgroup"
# The controllers that proctrack/cgroup, task/cgroup and jobacct_gather/cgroup use.
CONTROLLERS = ("freezer", "memory", "devices", "cpuset", "cpuacct")


def v1_usable() -> bool:
    """Whether Slurm can use cgroup v1: like Slurm, this checks each hierarchy's `release_agent`."""
    return all(os.access(f"{ROOT}/{controller}/release_agent", os.W_OK) for controller in CONTROLLERS)


def swap_accounted() -> bool:
    """Whether the kernel counts swap per cgroup, so that memory limits hold where there is swap."""
    return os.path.exists(f"{ROOT}/memory/memory.memsw.limit_in_bytes")


def of_node(node: str) -> list[str]:
    """The directories slurmd uses for a node; `slurm_NODE`, for Debian builds --enable-multiple-slurmd."""
    return glob.glob(f"{ROOT}/*/slurm_{glob.escape(node)}")


def nodes_with_processes() -> set[str]:
    """The nodes of any instance in whose cgroups something is running."""
    directories = glob.glob(f"{ROOT}/*/slurm_*")
    return {directory.rpartition("/slurm_")[2] for directory in directories if pids([directory])}


def of_daemons(cluster: str) -> str:
    """The cgroup of an instance's daemons, outside the caller's memory limit and lifetime."""
    return f"{ROOT}/memory/evalmon_{cluster}"


def enter(directory: str, pid: int) -> None:
    """Move a process into a cgroup, which is created if needed; if that is refused, the process stays where it is."""
    with suppress(OSError):
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(pid))


def pids(directories: list[str]) -> set[int]:
    """The processes in these cgroups and those below them."""
    found: set[int] = set()
    for directory in directories:
        for parent, _, names in os.walk(directory):
            if "cgroup.procs" in names:
                with suppress(OSError), open(f"{parent}/cgroup.procs", encoding="ascii") as file:
                    found |= {int(line) for line in file}
    return found


def thaw(directories: list[str]) -> None:
    """Thaw frozen cgroups: a frozen process does not even die."""
    for directory in directories:
        for parent, _, names in os.walk(directory):
            if "freezer.state" in names:
                with suppress(OSError), open(f"{parent}/freezer.state", "w", encoding="ascii") as file:
                    file.write("THAWED")


def remove(directories: list[str], *, timeout_s: float) -> list[str]:
    """Remove cgroups bottom-up, waiting for their last processes to be gone; returns what is left."""
    deadline = time.monotonic() + timeout_s
    while True:
        for directory in directories:
            for parent, _, _ in os.walk(directory, topdown=False):
                with suppress(OSError):
                    os.rmdir(parent)
        left = [directory for directory in directories if os.path.isdir(directory)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
