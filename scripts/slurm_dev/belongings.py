"""Finds and removes an instance's processes and cgroups, without a trace."""

import glob
import itertools
import os
import shutil
from contextlib import suppress

from . import cgroups, processes
from .errors import SlurmDevError
from .instance import Instance, cluster_name, load
from .processes import Process


def destroy(instance: Instance) -> None:
    """Kill every process of the instance, then remove its cgroups and its directory.

    Raises:
        SlurmDevError: something of it could not be removed; the message names it.
    """
    stop_everything(instance)
    with suppress(FileNotFoundError):
        shutil.rmtree(instance.directory)


def stop_everything(instance: Instance) -> None:
    """Kill every process of the instance and remove its cgroups; its files stay.

    Raises:
        SlurmDevError: a process or a cgroup is still there after some seconds.
    """
    for _ in range(10):  # one that forks during the search is found in the next round
        cgroups.thaw(own_cgroups(instance))
        own = own_processes(instance)
        if not own:
            break
        processes.end(own, grace_s=0)
    else:
        raise SlurmDevError(f"processes that would not die: {[process.pid for process in own]}")
    if left := cgroups.remove(own_cgroups(instance), timeout_s=10):
        raise SlurmDevError(f"cgroups that could not be removed: {', '.join(left)}")


def own_processes(instance: Instance) -> list[Process]:
    """Every process of this instance: its daemons, slurmstepds, and everything that its jobs started."""
    known = [
        process for process in processes.everyone() if _is_daemon(instance, process) or _is_of_job(instance, process)
    ]
    in_cgroups = [process for pid in cgroups.pids(own_cgroups(instance)) if (process := Process.of(pid))]
    return list({*known, *in_cgroups, *processes.descendants([*known, *in_cgroups])})


def own_cgroups(instance: Instance) -> list[str]:
    """Every cgroup directory of this instance, except those of another instance that reuses a name after a crash."""
    if not instance.cgroup_v1:
        return []
    nodes = {*instance.nodes} - _nodes_of_others(instance.directory)
    directories = [directory for node in nodes for directory in cgroups.of_node(node)]
    return [*directories, *glob.glob(glob.escape(cgroups.of_daemons(instance.cluster)))]


def _is_daemon(instance: Instance, process: Process) -> bool:
    """Whether the process has the instance's mark; or is a slurmstepd, whose title overwrites its environment."""
    if processes.name(process.pid) == "slurmstepd":
        return any(path.startswith(instance.path("log", "")) for path in processes.open_paths(process.pid))
    return processes.environment(process.pid).get(processes.MARK.encode()) == os.fsencode(instance.directory)


def _is_of_job(instance: Instance, process: Process) -> bool:
    """Whether a slurmstepd of this instance started it; without cgroups, only that shows a detached process."""
    env = processes.environment(process.pid)
    return (
        env.get(b"SLURM_CONF") == os.fsencode(instance.conf)
        and env.get(b"SLURMD_NODENAME", b"").decode(errors="replace") in instance.nodes
    )


def orphaned(directory: str) -> Instance | None:
    """What is still running of an instance whose directory was removed; None if nothing is."""
    mark = os.fsencode(directory)
    pids = [p.pid for p in processes.everyone() if processes.environment(p.pid).get(processes.MARK.encode()) == mark]
    if not pids:
        return None
    nodes = {node for pid in pids for node in _slurmd_nodes(processes.argv(pid))}
    return Instance(
        directory=directory,
        cluster=cluster_name(directory),
        nodes=tuple(sorted(nodes)),
        ctld_port=0,
        dbd_port=0,
        node_ports=(),
        cgroup_v1=cgroups.v1_usable(),
    )


def nodes_in_use() -> set[str]:
    """The node names that a new instance cannot use."""
    return _nodes_of_others("") | cgroups.nodes_with_processes()


def _nodes_of_others(directory: str) -> set[str]:
    """The node names of all other running instances, and of every foreign slurmd (for example in a container)."""
    nodes: set[str] = set()
    others: set[str] = set()
    for process in processes.everyone():
        mark = os.fsdecode(processes.environment(process.pid).get(processes.MARK.encode(), b""))
        if not directory or mark != directory:
            nodes |= {*_slurmd_nodes(processes.argv(process.pid))}
            others |= {mark} - {""}
    for other in others:
        with suppress(SlurmDevError):  # a stopped slurmd's name is in use too, and only the record has it
            if found := load(other):
                nodes |= {*found.nodes}
    return nodes


def _slurmd_nodes(argv: list[str]) -> list[str]:
    """The node name in a command line of slurmd; none in any other."""
    if not argv or os.path.basename(argv[0]) != "slurmd":
        return []
    return [word for flag, word in itertools.pairwise(argv) if flag == "-N"]
