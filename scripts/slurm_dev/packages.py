"""Installs the Debian or Ubuntu packages that are needed, with no service started or enabled."""

import os
import shutil
import subprocess
import tempfile

from .errors import SlurmDevError

# Program (as found on PATH or in /usr/sbin) -> package. The server core of MariaDB holds no service at all.
PACKAGE_OF = {
    "munged": "munge",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client",  # which mariadb-install-db calls
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "sbatch": "slurm-client",
}
# Plugins, which no program on PATH represents: cgroup and task plugins, and slurmdbd's connector to the database.
PLUGINS = {
    "proctrack_cgroup.so": "slurm-wlm-basic-plugins",
    "accounting_storage_mysql.so": "slurm-wlm-mysql-plugin",
}
PLUGIN_DIRS = ("slurm-wlm", "slurm")

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
APT_TIMEOUT_S = 600

# The programs by which packages' maintainer scripts start or enable a service, by bare name.
SERVICE_TOOLS = ("deb-systemd-helper", "deb-systemd-invoke", "invoke-rc.d", "systemctl", "update-rc.d")
GUARD = """#!/bin/sh
# Our packages' services stay off; everything else goes through.
case "$*" in *slurm* | *munge* | *mariadb* | *mysql*) exit 0 ;; esac
PATH={path}
command -v {tool} >/dev/null || exit 0
exec {tool} "$@"
"""


def program(name: str) -> str:
    """The path of an installed program.

    Raises:
        SlurmDevError: it isn't installed.
    """
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise SlurmDevError(f"{name} is not installed: run `slurm-dev up`, which installs {PACKAGE_OF[name]}")
    return found


def slurm_version(slurmd: str) -> tuple[int, int]:
    """Slurm's release, e.g. (22, 5), from `slurmd -V` (`slurm-wlm 22.05.8`)."""
    answer = subprocess.run([slurmd, "-V"], capture_output=True, text=True, check=True)
    major, minor = answer.stdout.split()[-1].split(".")[:2]
    return int(major), int(minor)


def missing() -> list[str]:
    """The packages that are needed and not installed, sorted."""
    packages = {package for name, package in PACKAGE_OF.items() if not shutil.which(name, path=SEARCH_PATH)}
    packages |= {package for plugin, package in PLUGINS.items() if not _has_plugin(plugin)}
    return sorted(packages)


def install(packages: list[str]) -> None:
    """Install packages with apt-get; none of their services is started or enabled.

    Raises:
        SlurmDevError: there is no apt-get, or it failed; the message ends with its last lines.
    """
    if not shutil.which("apt-get"):
        raise SlurmDevError(f"no apt-get here; install by hand what {', '.join(packages)} are on Debian")
    with tempfile.TemporaryDirectory(prefix="slurm-dev-guard-") as guard_dir:
        _write_guard(guard_dir)
        os.chmod(guard_dir, 0o755)
        # apt gives dpkg, and so the maintainer scripts, the PATH of this option: the guard comes first on it.
        path = f"-oDPkg::Path={guard_dir}:{os.environ.get('PATH', SEARCH_PATH)}:{SEARCH_PATH}"
        # Nothing is removed to make room: an installed MySQL may be in use.
        words = [path, "install", "-y", "--no-install-recommends", "--no-remove", *packages]
        first = _apt(words)
        if first.returncode != 0:  # often only because the lists are old or were never fetched
            _apt(["update"])
            second = _apt(words)
            if second.returncode != 0:
                raise SlurmDevError(f"apt-get could not install {' '.join(packages)}:\n{_tail(second.stdout)}")
    if still := missing():
        raise SlurmDevError(f"apt-get succeeded, and yet this is missing: {', '.join(still)}")


def _apt(words: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["apt-get", "-qq", "-oDPkg::Lock::Timeout=300", *words],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=APT_TIMEOUT_S,
    )


def _write_guard(directory: str) -> None:
    for tool in SERVICE_TOOLS:
        path = os.path.join(directory, tool)
        with open(path, "w", encoding="utf-8") as file:
            file.write(GUARD.format(tool=tool, path=SEARCH_PATH))
        os.chmod(path, 0o755)


def _has_plugin(name: str) -> bool:
    multiarch = [os.path.join("/usr/lib", entry) for entry in os.listdir("/usr/lib") if entry.endswith("-linux-gnu")]
    return any(os.path.exists(os.path.join(lib, sub, name)) for lib in multiarch for sub in PLUGIN_DIRS)


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
