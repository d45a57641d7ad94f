"""Runs scripts/soak."""

import argparse
import json
import os
import pwd
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from soak_parts import compare, plan, truth
from soak_parts.evals import scripts
from soak_parts.hitters import Hitters
from soak_parts.options import parser
from soak_parts.place import Place, Shell, say
from soak_parts.plan import Planned
from soak_parts.told import read
from soak_parts.user import User

_WAVE_S = 9.0
_AT_ONCE = 8
# An eval that reaches its limit of a minute needs at least two.
_TIMEOUTS_FROM_S = 240


def main() -> int:
    """Soak; 0 if evalmon reported exactly what happened."""
    options = parser().parse_args()
    if os.geteuid() != 0:
        print("soak: takes root: it stops Slurm's daemons and mounts a small disk; run scripts/soak", file=sys.stderr)
        return 2
    place = _place(options)
    place.prepare()
    keep = True
    try:
        findings, line = _soak(place, options)
        keep = bool(findings)
    finally:
        place.give_back(keep=keep)
    for finding in findings:
        print(f"{finding.kind}: {finding.what}")
    if keep:
        print(f"everything is kept in {place.directory}")
    print(line)
    return int(keep)


def _soak(place: Place, options: argparse.Namespace) -> tuple[list[compare.Finding], str]:
    shell = place.shell()
    began = time.time()
    made = scripts(options.seed, str(place.truth), has_timeout=options.seconds >= _TIMEOUTS_FROM_S)
    user = User(place, shell, made)
    hitters = Hitters(place, shell)
    try:
        kills = _kill(place, hitters, user, options)
    finally:
        hitters.undo()
    say(f"{kills} kills; waiting for the end")
    try:
        user.finish()
        truths = truth.gather(place, shell, user.made, since=began)
    finally:
        _cancel_all(place, shell)
    findings = [
        compare.Finding(finding.kind, f"{experiment.name}: {finding.what}")
        for experiment, mine in truths.items()
        for finding in compare.compare(mine, read(experiment))
    ]
    count = {kind: sum(finding.kind == kind for finding in findings) for kind in ("lost", "invented", "duplicate")}
    evals = sum(len(mine) for mine in truths.values())
    return findings, (
        f"soak: {kills} kills, {evals} evals, {count['lost']} lost, {count['invented']} invented, "
        f"{count['duplicate']} duplicates, seed {options.seed}"
    )


def _kill(place: Place, hitters: Hitters, user: User, options: argparse.Namespace) -> int:
    """Start evals in waves, with hits meanwhile, for the given time; returns how many hits found a target."""
    over = threading.Event()
    waves = threading.Thread(target=_waves, args=(user, over))
    waves.start()
    made: list[Future[bool]] = []
    deadline = time.monotonic() + options.seconds
    free = threading.Semaphore(_AT_ONCE)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for planned in plan.hits(options.seed):
            time.sleep(planned.pause_s)
            free.acquire()  # a hit that waits for its turn would come long after it was planned
            if time.monotonic() > deadline:
                break
            made.append(pool.submit(_make, place, hitters, planned))
            made[-1].add_done_callback(lambda _: free.release())
        over.set()
    waves.join()
    return sum(future.result() for future in made)


def _waves(user: User, over: threading.Event) -> None:
    count = 2
    while not over.is_set():
        user.add(count)
        count = 1
        over.wait(_WAVE_S)


def _make(place: Place, hitters: Hitters, planned: Planned) -> bool:
    at = time.time()
    hit = hitters.hit(planned)
    what, target = hit or (planned.what[0], "nothing there")
    record = {"at": at, "until": time.time(), **asdict(planned), "made": what, "target": target}
    with open(place.hits, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    say(f"{what}: {target}")
    return hit is not None


def _cancel_all(place: Place, shell: Shell) -> None:
    """Remove what is left of the monitor jobs on a Slurm that keeps running."""
    listed = shell.ask("squeue", "-a", "-h", "-o", "%A|%Z").stdout.splitlines()
    mine = {line.split("|", 1)[0] for line in listed if str(place.disk) in line}
    if mine:
        shell.ask("scancel", "-f", *sorted(mine))


def _place(options: argparse.Namespace) -> Place:
    directory = Path(options.dir or tempfile.mkdtemp(prefix="evalmon-soak.")).resolve()
    if options.dir:
        if directory.exists() and any(directory.iterdir()):
            raise SystemExit(f"soak: {directory}: not empty; give a new directory")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    given = options.slurm or os.environ.get("EVALMON_SLURM_DIR") or None
    slurm = Path(given or directory / "slurm").resolve()
    return Place(directory, slurm, is_slurm_ours=given is None, account=pwd.getpwnam(options.user))


if __name__ == "__main__":
    sys.exit(main())
