"""Sets up a lab's shared directory, and another member of the lab who attacks it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import second_user
from real_slurm.cluster import ROOT, Cluster, Exp, wait_for

LAYOUTS = {"2770": (0o2770, 0o2770), "sticky": (0o3770, 0o3770), "0777": (0o2770, 0o777)}
"""The modes of the lab's directory and of EXP in it."""


@dataclass
class Lab:
    """An experiment in a directory of the lab's.

    `private`: a directory that only this user can enter; `user`: the attacker. `is_sticky`: no other user can rename
    this user's files; `by_anybody`: anybody can.
    """

    exp: Exp
    private: Path
    user: str
    is_sticky: bool
    by_anybody: bool

    def settings(self, **settings: Any) -> None:
        """The experiment's settings; if anybody can write there, they allow it."""
        self.exp.settings(allow_world_writable=self.by_anybody, **settings)

    @property
    def canary(self) -> Path:
        """Exists once a script of the attacker's has run as this user."""
        return self.private / "canary"

    @property
    def evil(self) -> str:
        """A script of the attacker's."""
        return f"#!/bin/sh\n#SBATCH --time=5 --mem=100 --output=/dev/null\nid -un >>{self.canary}\n"

    @property
    def moved(self) -> Path:
        """Where the attacker moved EXP/evalmon to."""
        return self.exp.root / "moved"

    def attack(self, script: str, *arguments: str | Path) -> str:
        """The output of a shell of the attacker's; `python` and `evil` (a file) exist there, and $exp."""
        words = {"python": sys.executable, "evil": str(self.exp.root.parent / "evil.sh"), "exp": str(self.exp.root)}
        lines = "\n".join(f"{name}={value}" for name, value in words.items())
        here = f"export PYTHONPATH={ROOT} EVALMON_ALLOW_FAST_POLLING=1\n"
        argv = ["sh", "-ec", f"umask 022\n{lines}\n{here}{script}", "sh", *map(str, arguments)]
        return self.exp.cluster.as_other(*argv, user=self.user).stdout

    def forge(self) -> Path:
        """An experiment of the attacker's with this experiment's id, in which a script waits for submission."""
        return Path(self.attack(_FORGE, self.identity()).splitlines()[-1])

    def identity(self) -> str:
        """The content of experiment.json: not a secret, since the id is in command lines."""
        path = self.exp.ours / "experiment.json"
        return path.read_text() if path.exists() else "{}"

    def eval(self, name: str, body: str = "", *, header: str = "", **more: Any) -> Path:
        """A script that records in `ran` that it ran, and its own bytes."""
        tells = 'echo "$EVALMON_NAME${SLURM_ARRAY_TASK_ID-} $(sha256sum <"$0")" >>'
        top = f"#!/bin/bash\n#SBATCH --time=5\n#SBATCH --mem=50\n{header}"
        return self.exp.script("r1", name, f"{body}{tells}{self.private}/ran\n", header=top, **more)

    def ran(self) -> list[str]:
        """The records of `eval`'s scripts, in order of their names."""
        path = self.private / "ran"
        return sorted(path.read_text().splitlines()) if path.exists() else []

    def jobs(self, *words: str) -> list[list[str]]:
        """The experiment's queued jobs: the id, the state, the name, the working directory."""
        return [job for job in self.all_jobs(*words) if job[3].startswith(str(self.exp.root))]

    def all_jobs(self, *words: str) -> list[list[str]]:
        """All jobs of this user."""
        listed = self.exp.cluster.run("squeue", "--me", "-h", "-o", "%A|%T|%j|%Z", *words).stdout
        return [line.split("|") for line in listed.splitlines()]

    def job_of(self, name: str) -> str:
        """The id of a monitor job."""
        [found] = [job[0] for job in self.jobs() if job[2].startswith(name)]
        return found

    def is_over(self, job_id: str) -> str | None:
        """The exit code of a job (`77:0`), None while it is not over."""
        rows = self.exp.cluster.sacct(job_id, "State", "ExitCode")
        return rows[-1][1] if rows and rows[-1][0] not in {"PENDING", "RUNNING", "REQUEUED"} else None

    def put_back(self) -> None:
        """The victim notices, and moves the right directory back."""
        if self.moved.exists():
            if os.path.lexists(self.exp.ours):
                self.exp.ours.rename(self.exp.root / f"planted-{os.urandom(4).hex()}")
            self.moved.rename(self.exp.ours)

    def another_study(self) -> Exp:
        """A private experiment of this user, with waiting evals and old temporary files."""
        root = self.private / "precious"
        root.mkdir()
        found = Exp(root, self.exp.cluster)
        found.settings(max_submit=1, completion={"extra": ["--hold"]})
        for name in ("a_epoch0", "b_epoch0"):
            found.script(
                "r9", name, f"touch {self.private}/precious-ran-{name}\n", header="#!/bin/sh\n#SBATCH --hold\n"
            )
        done = found.submit("--mode", "dependency")
        assert done.returncode == 0, done.stderr
        old = found.ours / ".state.json.0123456789abcdef.tmp"
        old.touch()
        os.utime(old, (0, 0))
        return found


@contextmanager
def renaming(place: Lab, *planted: Path | str) -> Iterator[None]:
    """The attacker puts each of these in place of EXP/evalmon and removes it again, without a pause.

    A path is moved there; the text `-> PATH` becomes a link.
    """
    stop = place.exp.root.parent / "stop"
    others = json.dumps([str(one) for one in planted])
    argv = second_user.argv(sys.executable, "-c", _RENAME, place.exp.root, stop, others)
    with _at_work(argv, stop) as said:
        yield
    assert int(said[0]) > 10, said


@contextmanager
def snatching(place: Lab) -> Iterator[list[str]]:
    """The attacker waits until sbatch gets a script below EXP/evalmon, and replaces that script.

    Yields a list that holds, at the end, how often that was done.
    """
    stop = place.exp.root.parent / "stop"
    argv = second_user.argv(sys.executable, "-c", _SNATCH, place.exp.root, stop, place.exp.root.parent / "evil.sh")
    with _at_work(argv, stop) as said:
        yield said


@contextmanager
def _at_work(argv: Sequence[str], stop: Path) -> Iterator[list[str]]:
    """Yields a list that holds, at the end, what it printed."""
    said: list[str] = []
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield said
        finally:
            stop.touch()
            said += process.communicate(timeout=30)[:1]
            stop.unlink()


_SNATCH = """
import glob, os, re, shutil, sys
exp, stop, evil = sys.argv[1:]
ours, moved, planted = exp + "/evalmon", exp + "/moved", exp + "/planted"
seen, count = set(), 0
while not os.path.exists(stop):
    for path in glob.glob("/proc/[1-9]*/cmdline"):
        if path in seen:
            continue
        try:
            words = open(path).read()
        except OSError:
            continue
        found = re.search(re.escape(ours) + r"/(scripts/[0-9a-f]{16}/home)/([^\\0]+)", words)
        if "sbatch" not in words or not found:
            continue
        seen.add(path)
        os.makedirs(f"{planted}/{found[1]}")
        shutil.copy(evil, f"{planted}/{found[1]}/{found[2]}")
        try:
            os.rename(ours, moved)
            os.rename(planted, ours)
            count += 1
            while os.path.exists(os.path.dirname(path)):
                pass
        finally:
            os.rename(ours, planted)
            os.rename(moved, ours)
        shutil.rmtree(planted)
print(count)
"""
"""Waits for an sbatch that is given a script by its path below EXP/evalmon."""

_RENAME = """
import json, os, random, sys, time
exp, stop, planted = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ours, moved, count = exp + "/evalmon", exp + "/moved", 0
def put(make, path):
    try:
        make(path, ours)
    except OSError:  # in between, `submit` has made a directory of its own
        os.rename(ours, f"{exp}/made-{os.urandom(4).hex()}")
        make(path, ours)
while not os.path.exists(stop):
    for one in planted:
        os.rename(ours, moved)
        is_link = one.startswith("-> ")
        put(os.symlink, one[3:]) if is_link else put(os.rename, one)
        time.sleep(random.random() / 50)
        os.unlink(ours) if is_link else os.rename(ours, one)
        put(os.rename, moved)
        time.sleep(random.random() / random.choice([10, 200]))
        count += 1
print(count)
"""


@contextmanager
def lab(cluster: Cluster, layout: str, *, private: Path, user: str) -> Iterator[Lab]:
    """A lab's directory below /tmp, which is removed afterwards with everything in it."""
    above, mode = LAYOUTS[layout]
    place = Path(tempfile.mkdtemp(prefix="evalmon-lab-", dir="/tmp"))
    exp = Exp(place / "study", cluster)
    try:
        second_user.share(place, above)
        exp.root.mkdir()
        second_user.share(exp.root, mode)
        private.mkdir(mode=0o700)
        found = Lab(exp, private, user, is_sticky=layout == "sticky", by_anybody=layout == "0777")
        found.settings()
        (place / "evil.sh").write_text(found.evil)
        yield found
        assert not found.canary.exists(), found.canary.read_text()
    finally:
        exp.cancel_all()
        Exp(private, cluster).cancel_all()
        cluster.as_other("scancel", "--user", user, user=user)
        wait_for(lambda: not found.jobs(), 30)
        cluster.as_root("rm", "-rf", str(place))
        shutil.rmtree(place, ignore_errors=True)


def listing(directory: Path) -> dict[str, Any]:
    """Everything in it: a file that was there for a moment is seen by its directory's time."""
    found: dict[str, Any] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path)] = (status.st_mtime_ns, status.st_mode, status.st_uid, content)
    return found


MOVE_AND_PLANT = """
squeue -a -h -t all -o %o | sort -u >"$exp/../commands"
mv "$exp/evalmon" "$exp/moved"
mkdir "$exp/evalmon" "$exp/evalmon/scripts" "$exp/evalmon/jobs"
printf %s "$1" >"$exp/evalmon/experiment.json"
plant() {
  mkdir -p "$1" 2>/dev/null || return 0
  for name in slurm_script "$2"; do cp "$evil" "$1/$name" && chmod 755 "$1/$name"; done 2>/dev/null || :
}
while read -r command; do
  case $command in */*/*) ;; *) continue ;; esac
  directory=${command%/*} name=${command##*/}
  plant "$directory" "$name"
  token=${directory%/home} && token=${token##*/}
  for part in . home launcher snapshot; do plant "$exp/evalmon/scripts/$token/$part" "$name"; done
done <"$exp/../commands"
"""
"""Scripts of the attacker's at every path that `squeue` and our layout suggest; $1: a copy of our identity."""

_FORGE = """
place=$(mktemp -d "$exp/../forged.XXXXXX")
mkdir -p "$place/r1/eval"
for name in a b c; do { cat "$evil"; echo "# $name"; } >"$place/r1/eval/${name}_epoch0.slurm"; done
echo '{"max_submit": 1, "completion": {"extra": ["--hold"]}}' >"$place/evalmon.yaml"
"$python" -m evalmon_agent submit "$place" --mode dependency >&2
printf %s "$1" >"$place/evalmon/experiment.json"
touch -d @0 "$place/evalmon/.state.json.0123456789abcdef.tmp"
chmod -R a+rX "$place"
echo "$place/evalmon"
"""
