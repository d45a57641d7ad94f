"""One instance: its directory, what it is called, its ports, and the record of its processes."""

import glob
import hashlib
import itertools
import json
import os
import random
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from . import cgroups, processes
from .errors import SlurmDevError
from .processes import Process

RECORD = "instance.json"
# slurmd's socket below the directory, spool/NODE/NODE_JOBID.STEPID, has to fit into 107 bytes.
MAX_DIR_BYTES = 70
# Below the ephemeral range, whose ports outgoing connections take at any moment.
PORTS = range(20000, 32000)


@dataclass(frozen=True)
class Instance:
    """What was decided when the instance was made; written once, to `instance.json`."""

    directory: str
    cluster: str
    nodes: tuple[str, ...]
    ctld_port: int
    dbd_port: int
    node_ports: tuple[int, ...]
    cgroup_v1: bool

    def path(self, *parts: str) -> str:
        """A path below the instance's directory."""
        return os.path.join(self.directory, *parts)

    @property
    def conf(self) -> str:
        """What SLURM_CONF is set to."""
        return self.path("etc", "slurm.conf")

    def node(self, name: str) -> str:
        """The node that n1 or n2 stands for: the first or second one here, whatever it is called."""
        return dict(zip(("n1", "n2"), self.nodes, strict=True)).get(name, name)

    def save(self) -> None:
        """Write the record; readable by all."""
        _write_json(self.path(RECORD), asdict(self))

    @property
    def complete(self) -> bool:
        """Whether its making was ever finished; one that was cut off half-way is worth nothing."""
        return os.path.exists(self.path("run", "complete"))

    def note_complete(self) -> None:
        """Record that its making is finished."""
        _write_json(self.path("run", "complete"), {})

    def note(self, daemon: str, process: Process) -> None:
        """Record a daemon's process."""
        _write_json(self.path("run", f"{daemon}.json"), asdict(process))

    def noted(self, daemon: str) -> Process | None:
        """The recorded process of a daemon; None if none was started, or it has ended."""
        try:
            with open(self.path("run", f"{daemon}.json"), encoding="utf-8") as file:
                process = Process(**json.load(file))
        except (OSError, ValueError, TypeError):
            return None
        return process if process.alive() else None

    def own_processes(self) -> list[Process]:
        """Every process of this instance: its daemons, slurmstepds, and all that its jobs started."""
        known = [process for process in processes.everyone() if self._is_daemon(process) or self._is_of_job(process)]
        in_cgroups = [process for pid in cgroups.pids(self.own_cgroups()) if (process := Process.of(pid))]
        return list({*known, *in_cgroups, *processes.descendants([*known, *in_cgroups])})

    def own_cgroups(self) -> list[str]:
        """Every cgroup directory of this instance."""
        if not self.cgroup_v1:
            return []
        directories = [directory for node in self.nodes for directory in cgroups.of_node(node)]
        return [*directories, *glob.glob(glob.escape(cgroups.of_daemons(self.cluster)))]

    def _is_daemon(self, process: Process) -> bool:
        """Marked by us; or slurmstepd, which writes its title over its environment but keeps its log open."""
        if processes.name(process.pid) == "slurmstepd":
            return any(path.startswith(self.path("log", "")) for path in processes.open_paths(process.pid))
        return processes.environment(process.pid).get(processes.MARK.encode()) == os.fsencode(self.directory)

    def _is_of_job(self, process: Process) -> bool:
        """Begun by a slurmstepd of ours; without cgroups, nothing else shows that of one that detached."""
        env = processes.environment(process.pid)
        return (
            env.get(b"SLURM_CONF") == os.fsencode(self.conf)
            and env.get(b"SLURMD_NODENAME", b"").decode(errors="replace") in self.nodes
        )


def default_directory() -> str:
    """EVALMON_SLURM_DIR, or one place per user.

    Not XDG_RUNTIME_DIR: other users cannot enter it, it is a small tmpfs, and it goes with the login session.
    """
    user = os.environ.get("SUDO_UID") if os.getuid() == 0 else str(os.getuid())
    return os.environ.get("EVALMON_SLURM_DIR") or f"/tmp/evalmon-slurm-{user or 0}"


def checked_directory(directory: str) -> str:
    """The absolute form of a directory's name, if it can serve.

    Raises:
        SlurmDevError: the name is too long, or holds what Slurm's configuration files cannot quote.
    """
    directory = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(directory))), os.path.basename(directory))
    if len(os.fsencode(directory)) > MAX_DIR_BYTES:
        raise SlurmDevError(f"{directory}: longer than {MAX_DIR_BYTES} bytes; the sockets below it would not fit")
    if not all(character.isalnum() or character in "/._-+" for character in directory):
        raise SlurmDevError(f"{directory}: Slurm takes only letters, digits and / . _ - + here")
    return directory


def load(directory: str) -> Instance | None:
    """The instance in a directory; None if there is none.

    Raises:
        SlurmDevError: the directory is no instance of ours, or belongs to somebody other than root.
    """
    try:
        info = os.lstat(directory)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0:
        raise SlurmDevError(f"{directory}: not a directory of root's; choose another one with --dir")
    try:
        with open(os.path.join(directory, RECORD), encoding="utf-8") as file:
            record = json.load(file)
        return Instance(**{**record, "nodes": tuple(record["nodes"]), "node_ports": tuple(record["node_ports"])})
    except FileNotFoundError:
        if set(os.listdir(directory)) - {f"{RECORD}.tmp"}:
            raise SlurmDevError(f"{directory}: exists, and is none of ours; choose another one with --dir") from None
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise SlurmDevError(f"{directory}/{RECORD}: {error}; remove the directory by hand") from error


def orphaned(directory: str) -> Instance | None:
    """What still runs of an instance whose directory somebody removed; None if nothing does."""
    mark = os.fsencode(directory)
    pids = [p.pid for p in processes.everyone() if processes.environment(p.pid).get(processes.MARK.encode()) == mark]
    if not pids:
        return None
    nodes = {node for pid in pids for node in _slurmd_nodes(processes.argv(pid))}
    return Instance(
        directory=directory,
        cluster=_cluster_name(directory),
        nodes=tuple(sorted(nodes)),
        ctld_port=0,
        dbd_port=0,
        node_ports=(),
        cgroup_v1=cgroups.v1_usable(),
    )


def create(directory: str) -> Instance:
    """Choose names and ports and make the directory. The caller holds `lock("")` until the first daemon runs.

    Node names are n1 and n2 unless a running instance has them: slurmd's cgroups are called after the node
    and nothing else (`slurm_n1`; 22.05 has no setting for it), so two nodes of one name would share them.
    """
    taken = {node for other in _running() for node in other.nodes} | _nodes_of_any_slurmd()
    number = 1
    while any(_in_use(f"n{number + offset}", taken) for offset in (0, 1)):
        number += 2
    ports = _free_ports(4)
    instance = Instance(
        directory=directory,
        cluster=_cluster_name(directory),
        nodes=(f"n{number}", f"n{number + 1}"),
        ctld_port=ports[0],
        dbd_port=ports[1],
        node_ports=(ports[2], ports[3]),
        cgroup_v1=cgroups.v1_usable(),
    )
    with suppress(FileExistsError):
        os.mkdir(directory, 0o755)
    os.chmod(directory, 0o755)
    instance.save()
    return instance


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
    for _ in range(10):  # one that forks while we look is found in the next round
        cgroups.thaw(instance.own_cgroups())
        own = instance.own_processes()
        if not own:
            break
        processes.end(own, grace_s=0)
    else:
        raise SlurmDevError(f"processes that would not die: {[process.pid for process in own]}")
    if left := cgroups.remove(instance.own_cgroups(), timeout_s=10):
        raise SlurmDevError(f"cgroups that could not be removed: {', '.join(left)}")


@contextmanager
def lock(name: str, *, timeout_s: float = 120) -> Iterator[None]:
    """Only one of us at a time per name; "" is the whole machine's.

    An abstract socket: it goes with the process that holds it, and leaves no file.
    """
    deadline = time.monotonic() + timeout_s
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        while True:
            try:
                holder.bind(f"\0evalmon-slurm-dev-{digest}")
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SlurmDevError(f"another slurm-dev has been busy here for {timeout_s:.0f} s") from error
                time.sleep(0.1)
        yield


def _running() -> Iterator[Instance]:
    """All instances of this machine that have a process."""
    marks = {processes.environment(process.pid).get(processes.MARK.encode()) for process in processes.everyone()}
    for mark in marks - {None}:
        with suppress(SlurmDevError):
            if instance := load(os.fsdecode(mark or b"")):
                yield instance


def _nodes_of_any_slurmd() -> set[str]:
    """The node names of all slurmd on this machine, those in containers and foreign ones included."""
    return {node for process in processes.everyone() for node in _slurmd_nodes(processes.argv(process.pid))}


def _slurmd_nodes(argv: list[str]) -> list[str]:
    """The node name in a command line of slurmd; none in any other."""
    if not argv or os.path.basename(argv[0]) != "slurmd":
        return []
    return [word for flag, word in itertools.pairwise(argv) if flag == "-N"]


def _cluster_name(directory: str) -> str:
    return f"dev_{hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]}"


def _in_use(node: str, taken: set[str]) -> bool:
    return node in taken or bool(cgroups.pids(cgroups.of_node(node)))


def _free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise SlurmDevError(f"no {count} free ports from {PORTS.start} to {PORTS.stop}")


def _write_json(path: str, content: dict[str, object]) -> None:
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
