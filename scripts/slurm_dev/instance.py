"""Describes one instance: its directory, names, ports, and the record of its processes."""

import hashlib
import json
import os
import random
import socket
import stat
from collections.abc import Container
from contextlib import suppress
from dataclasses import asdict, dataclass

from . import cgroups
from .errors import SlurmDevError
from .processes import Process
from .releases import Release

RECORD = "instance.json"
# slurmd's socket below the directory, spool/NODE/NODE_JOBID.STEPID, must fit into 107 bytes.
MAX_DIR_BYTES = 70
# Below the ephemeral range, whose ports outgoing connections may use at any time.
PORTS = range(20000, 32000)


@dataclass(frozen=True)
class Instance:
    """What was decided when the instance was made; written once, to `instance.json`.

    `release`, `programs` and `plugins` are empty for this machine's own Slurm (see releases.py).
    """

    directory: str
    cluster: str
    nodes: tuple[str, ...]
    ctld_port: int
    dbd_port: int
    node_ports: tuple[int, ...]
    cgroup_v1: bool
    release: str = ""
    programs: str = ""
    plugins: str = ""

    def path(self, *parts: str) -> str:
        """A path below the instance's directory."""
        return os.path.join(self.directory, *parts)

    @property
    def conf(self) -> str:
        """The value of SLURM_CONF."""
        return self.path("etc", "slurm.conf")

    def node(self, name: str) -> str:
        """The node's real name for n1 or n2: that of the first or second node of this instance."""
        return dict(zip(("n1", "n2"), self.nodes, strict=True)).get(name, name)

    def save(self) -> None:
        """Write the record; readable by all."""
        _write_json(self.path(RECORD), asdict(self))

    @property
    def complete(self) -> bool:
        """Whether it was completely created; an interrupted creation is useless."""
        return os.path.exists(self.path("run", "complete"))

    def note_complete(self) -> None:
        """Record that it was completely created."""
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
    if not (directory.isascii() and all(letter.isalnum() or letter in "/._-+" for letter in directory)):
        raise SlurmDevError(f"{directory}: Slurm takes only letters, digits and / . _ - + here")
    return directory


def load(directory: str) -> Instance | None:
    """The instance in a directory; None if there is none.

    Raises:
        SlurmDevError: the directory was not made by slurm-dev, or does not belong to root.
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
            owner = os.fstat(file.fileno()).st_uid
        found = Instance(**{**record, "nodes": tuple(record["nodes"]), "node_ports": tuple(record["node_ports"])})
    except FileNotFoundError:
        if set(os.listdir(directory)) - {f"{RECORD}.tmp"}:
            raise SlurmDevError(
                f"{directory}: exists, and was not made by slurm-dev; choose another one with --dir"
            ) from None
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise SlurmDevError(f"{directory}/{RECORD}: {error}; remove the directory by hand") from error
    if owner != 0 or found.directory != directory:  # planted, or moved: `down` would remove another user's files
        raise SlurmDevError(f"{directory}/{RECORD}: not the record of this directory; remove it by hand")
    return found


def create(directory: str, *, taken: Container[str], release: Release | None = None) -> Instance:
    """Choose names and ports and make the directory. The caller is alone on the machine in doing so.

    Node names are n1 and n2 unless they are taken: slurmd's cgroups are called after the node and nothing else
    (`slurm_n1`; 22.05 has no setting for it), so two nodes of one name would share them.
    """
    number = 1
    while f"n{number}" in taken or f"n{number + 1}" in taken:
        number += 2
    ports = _free_ports(4)
    instance = Instance(
        directory=directory,
        cluster=cluster_name(directory),
        nodes=(f"n{number}", f"n{number + 1}"),
        ctld_port=ports[0],
        dbd_port=ports[1],
        node_ports=(ports[2], ports[3]),
        cgroup_v1=cgroups.v1_usable(),
        release=release.name if release else "",
        programs=release.programs if release else "",
        plugins=release.plugins if release else "",
    )
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o755)
    except OSError as error:
        raise SlurmDevError(f"{directory}: cannot be made ({error.strerror}); its parent must be there") from error
    os.chmod(directory, 0o755)
    instance.save()
    return instance


def cluster_name(directory: str) -> str:
    """The name of the cluster in a directory, the same at every start."""
    return f"dev_{hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]}"


def _free_ports(count: int) -> list[int]:
    """Ports on which no process listens now."""
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
