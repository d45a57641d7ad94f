"""Runs the verbs of `slurm-dev`."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from . import accounts, belongings, cluster, daemons, instance, packages, releases
from .errors import SlurmDevError
from .instance import Instance
from .lock import lock
from .releases import Release

DESCRIPTION = """A real Slurm on this machine, for development and tests: slurmctld, two slurmd with
two GPUs each (devices without a driver), slurmdbd, MariaDB and munge, from Debian's or Ubuntu's
packages, all in one directory and on ports of its own. Several live side by side, one per directory.

  scripts/slurm-dev up && eval "$(scripts/slurm-dev env)" && sinfo"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit status is 0, or 1 with a message on stderr."""
    arguments = _parser().parse_args(argv)
    os.umask(0o022)  # what root creates here must be readable by every user of the cluster
    try:
        directory = instance.checked_directory(arguments.dir or instance.default_directory())
        if arguments.needs_root and os.geteuid() != 0:
            _become_root(directory, _words(arguments))
        status: int = arguments.run(directory, arguments)
    except SlurmDevError as error:
        print(f"slurm-dev: {error}", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as error:
        print(f"slurm-dev: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def up(directory: str, arguments: argparse.Namespace) -> int:
    """Start an instance, or its missing daemons."""
    began = time.monotonic()
    if absent := packages.missing():
        print(f"installing {' '.join(absent)} (no service is started or enabled)", flush=True)
        packages.install(absent)
    release = releases.get(arguments.release) if arguments.release else None
    with lock(directory):
        found = instance.load(directory) or belongings.orphaned(directory)
        if found and release and found.complete and found.release != release.name:
            raise SlurmDevError(f"{directory}: runs another release; end it first with `slurm-dev down`")
        if found and found.complete and any(daemons.recorded(found).values()):
            return _complete(found)
        if found:
            print(f"{directory}: remains of an earlier instance, starting afresh", flush=True)
            belongings.destroy(found)
        made = _start_fresh(directory, release)
    print(f"{directory}: ready after {time.monotonic() - began:.0f} s, nodes {' '.join(made.nodes)}")
    print(f'eval "$({shlex.quote(os.path.abspath(sys.argv[0]))} env --dir {shlex.quote(directory)})"')
    return 0


def down(directory: str, _arguments: argparse.Namespace) -> int:
    """End an instance and remove all of it."""
    with lock(directory):
        found = instance.load(directory) or belongings.orphaned(directory)
        if found is None:
            print(f"{directory}: nothing there")
            return 0
        belongings.destroy(found)
    print(f"{directory}: gone")
    return 0


def status(directory: str, _arguments: argparse.Namespace) -> int:
    """Print what is running; 0 if jobs can run and are accounted for."""
    found = instance.load(directory)
    if found is None:
        print(f"{directory}: no instance")
        return 1
    for daemon, process in daemons.recorded(found).items():
        print(f"{daemon:<10} {f'pid {process.pid}' if process else 'not running'}")
    states = daemons.node_states(found)
    for node in found.nodes:
        print(f"{'node ' + node:<10} {states.get(node, 'unknown')}")
    is_usable = cluster.usable(found)
    print(f"{directory}: {'usable' if is_usable else 'not usable'}")
    return 0 if is_usable else 1


def env(directory: str, _arguments: argparse.Namespace) -> int:
    """Print the shell lines that point Slurm's commands at an instance."""
    found = _existing(directory)
    print(f"export SLURM_CONF={shlex.quote(found.conf)}")
    if found.programs:
        print(f'export PATH={shlex.quote(found.programs)}:"$PATH"')
    return 0


def user(directory: str, arguments: argparse.Namespace) -> int:
    """Let users of this machine submit jobs."""
    with lock(directory):
        accounts.add_users(_existing(directory), arguments.users)
    return 0


def python(_directory: str, arguments: argparse.Namespace) -> int:
    """Print the path of another release's own Python."""
    print(releases.python(releases.get(arguments.release).name))
    return 0


def start(directory: str, arguments: argparse.Namespace) -> int:
    """Start one daemon and wait until it answers."""
    return _one_daemon(directory, arguments.daemon, _start_one)


def stop(directory: str, arguments: argparse.Namespace) -> int:
    """Stop one daemon."""
    return _one_daemon(directory, arguments.daemon, _stop_one)


def restart(directory: str, arguments: argparse.Namespace) -> int:
    """Stop and start one daemon."""
    return _one_daemon(directory, arguments.daemon, _stop_one, _start_one)


def _start_fresh(directory: str, release: Release | None) -> Instance:
    with lock(""):
        made = instance.create(directory, taken=belongings.nodes_in_use(), release=release)
        cluster.prepare(made)
        daemons.start(made, "munge")
    if not made.cgroup_v1:
        print("no cgroup v1 controllers here: memory limits are not enforced, devices not confined", flush=True)
    try:
        cluster.make_database(made)
        cluster.start(made)
        made.note_complete()
    except BaseException:
        belongings.stop_everything(made)
        raise
    return made


def _complete(found: Instance) -> int:
    if cluster.usable(found):
        accounts.add_users(found, accounts.likely_users())
        print(f"{found.directory}: already running")
    else:
        cluster.start(found)
        print(f"{found.directory}: complete again")
    return 0


def _existing(directory: str) -> Instance:
    found = instance.load(directory)
    if found is None:
        raise SlurmDevError(f"{directory}: no instance; start one with `slurm-dev up`")
    return found


def _one_daemon(directory: str, daemon: str, *steps: Callable[[Instance, str], None]) -> int:
    with lock(directory):
        found = _existing(directory)
        daemon = found.node(daemon)
        daemons.argv(found, daemon)
        for step in steps:
            step(found, daemon)
    return 0


def _start_one(found: Instance, daemon: str) -> None:
    started = daemons.start(found, daemon)
    daemons.wait_ready(found, daemon)
    if all(daemons.recorded(found).values()):
        cluster.wait_usable(found)
    print(f"{daemon}: {'started' if started else 'already running'}")


def _stop_one(found: Instance, daemon: str) -> None:
    print(f"{daemon}: {'stopped' if daemons.stop(found, daemon) else 'was not running'}")


def _become_root(directory: str, words: list[str]) -> None:
    if not shutil.which("sudo"):
        raise SlurmDevError("this takes root, and there is no sudo here")
    kept = [f"{name}={os.environ[name]}" for name in releases.VARIABLES if name in os.environ]
    call = [sys.executable, os.path.abspath(sys.argv[0]), *words, "--dir", directory]
    os.execvp("sudo", ["sudo", "--", "env", *kept, *call])


def _words(arguments: argparse.Namespace) -> list[str]:
    """The same command line without the directory."""
    daemon = [arguments.daemon] if "daemon" in arguments else []
    users = arguments.users if "users" in arguments else []
    release = ["--release", arguments.release] if getattr(arguments, "release", None) else []
    return [arguments.verb, *daemon, *users, *release]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/slurm-dev", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    starts = _add_verb(verbs, up, needs_root=True)
    starts.add_argument("--release", choices=releases.NAMES, help="that Debian release's Slurm, not this machine's own")
    _add_verb(verbs, user, needs_root=True).add_argument("users", metavar="NAME", nargs="+")
    prints = _add_verb(verbs, python, needs_root=True)
    prints.add_argument("--release", choices=releases.NAMES, required=True, help="that Debian release's")
    for run, needs_root in ((down, True), (status, False), (env, False)):
        _add_verb(verbs, run, needs_root=needs_root)
    for one_daemon in (start, stop, restart):
        verb = _add_verb(verbs, one_daemon, needs_root=True)
        verb.add_argument("daemon", metavar="DAEMON", help="munge, mariadb, slurmdbd, slurmctld, n1 or n2")
    return parser


def _add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    run: Callable[[str, argparse.Namespace], int],
    *,
    needs_root: bool,
) -> argparse.ArgumentParser:
    summary = (run.__doc__ or "").splitlines()[0]
    verb = verbs.add_parser(run.__name__, help=summary, description=summary)
    verb.add_argument("--dir", help="the instance's directory (default: $EVALMON_SLURM_DIR, or one in /tmp per user)")
    verb.set_defaults(run=run, needs_root=needs_root)
    return verb
