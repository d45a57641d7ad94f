"""Another release's Slurm and Python beside this machine's: from a tree of that Debian release, made once.

Only the programs come from the tree. They run in this machine's own root, with the tree's dynamic linker and libraries
written into them, so jobs see the same paths, Python and home as with the machine's own Slurm. No chroot, no mount.
"""

import glob
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from . import packages
from .errors import SlurmDevError
from .lock import lock

NAMES = ("trixie", "forky")
# What creating a tree needs, by package. Without the keys nothing would be verified.
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
TOOLS = {"/usr/sbin/debootstrap": "debootstrap", "/usr/bin/patchelf": "patchelf", KEYS: "debian-archive-keyring"}
MAKE_TIMEOUT_S = 1200
# What decides where a tree comes from and where it goes.
VARIABLES = ("EVALMON_SLURM_CACHE", "EVALMON_DEBIAN_MIRROR")

# debootstrap fetches these with all dependencies.
PACKAGES = (
    "slurm-client",
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
)
# For `scripts/test` on these releases' Pythons.
PYTHON_PACKAGES = ("python3", "python3-venv")
# Debian's names; the real file behind /etc/alternatives ends in `-wlm`.
DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "slurmstepd")
COMMANDS = (
    *("sacct", "sacctmgr", "salloc", "sattach", "sbatch", "sbcast", "scancel", "scontrol", "scrontab", "sdiag"),
    *("sinfo", "sprio", "squeue", "sreport", "srun", "sshare", "sstat", "strigger"),
)


@dataclass(frozen=True)
class Release:
    """One release's Slurm. `programs` comes first on PATH, `plugins` is its PluginDir."""

    name: str
    programs: str
    plugins: str


def get(name: str) -> Release:
    """The release's Slurm, made now if it is not there yet (a minute or two, 300 MB).

    Raises:
        SlurmDevError: it could not be made; the message ends with what debootstrap or patchelf said.
    """
    tree = os.path.join(cache_directory(), name)
    with lock(tree, timeout_s=MAKE_TIMEOUT_S):
        if not (os.path.isdir(_programs(tree)) and os.path.exists(python(name))):
            _make(name, tree)
    return Release(name, _programs(tree), os.path.join(_libraries(tree), "slurm-wlm"))


def python(name: str) -> str:
    """The release's own Python, in its tree."""
    return os.path.join(cache_directory(), name, "usr", "bin", "python3")


def cache_directory() -> str:
    """EVALMON_SLURM_CACHE, or a place below /var/cache."""
    return os.environ.get("EVALMON_SLURM_CACHE") or "/var/cache/evalmon-slurm-dev"


def _make(name: str, tree: str) -> None:
    absent = [package for path, package in TOOLS.items() if not os.path.exists(path)]
    if absent:
        packages.install(absent)
    print(f"making {tree} from a Debian mirror (once; a minute or two)", file=sys.stderr, flush=True)
    made = f"{tree}.new"
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(made, mode=0o755)
    options = (
        "--variant=minbase",
        "--force-check-gpg",
        f"--keyring={KEYS}",
        f"--include={','.join(PACKAGES + PYTHON_PACKAGES)}",
    )
    # Releases differ in nothing that matters to debootstrap, and it may be older than the release.
    _run("debootstrap", *options, name, made, _mirror(), "/usr/share/debootstrap/scripts/sid")
    os.mkdir(_programs(made))
    for program in (*DAEMONS, *COMMANDS):
        copy = os.path.join(_programs(made), program)
        shutil.copy2(_found(made, program), copy)
        _link(copy, tree)
    _adopt_python(made, tree)
    os.rename(made, tree)


def _found(made: str, program: str) -> str:
    candidates = [
        os.path.join(made, "usr", sub, name) for sub in ("bin", "sbin") for name in (f"{program}-wlm", program)
    ]
    source = next((path for path in candidates if os.path.isfile(path) and not os.path.islink(path)), None)
    if source is None:
        raise SlurmDevError(f"no {program} in {made}")
    return source


def _adopt_python(made: str, tree: str) -> None:
    """Let the tree's Python run where it is, and make virtual environments with the pip of the tree."""
    program = os.path.realpath(os.path.join(made, "usr", "bin", "python3"))
    _link(program, tree)
    # Debian's own: where `venv` finds pip's wheel.
    for path in glob.glob(f"{glob.escape(made)}/usr/lib/{os.path.basename(program)}/_sysconfigdata_*.py"):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("'/usr/share/python-wheels/'", f"'{tree}/usr/share/python-wheels/'"))


def _link(program: str, tree: str) -> None:
    """Name the linker and the libraries of a program by their paths in the tree.

    An RPATH, not a RUNPATH: that would not hold for what the libraries and plugins need themselves.
    """
    linker = subprocess.run(["patchelf", "--print-interpreter", program], capture_output=True, text=True, check=True)
    libraries = _libraries(tree)
    _run(
        "patchelf",
        "--set-interpreter",
        f"{tree}/usr{linker.stdout.strip()}",
        "--force-rpath",
        "--set-rpath",
        f"{libraries}/slurm-wlm:{libraries}",
        program,
    )


def _programs(tree: str) -> str:
    return os.path.join(tree, "evalmon")


def _libraries(tree: str) -> str:
    return os.path.join(tree, "usr", "lib", f"{os.uname().machine}-linux-gnu")


def _mirror() -> str:
    """EVALMON_DEBIAN_MIRROR, or the first Debian archive among apt's own sources.

    Raises:
        SlurmDevError: there is none.
    """
    words = ("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian")
    listed = subprocess.run(["apt-get", *words], capture_output=True, text=True, check=False).stdout.split()
    found = os.environ.get("EVALMON_DEBIAN_MIRROR") or next(iter(listed), None)
    if found is None:
        raise SlurmDevError("no Debian archive among apt's sources; name one: EVALMON_DEBIAN_MIRROR=URL")
    return found


def _run(*argv: str) -> None:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=MAKE_TIMEOUT_S,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode != 0:
        raise SlurmDevError(f"{argv[0]} failed:\n" + "\n".join(done.stdout.splitlines()[-15:]))
