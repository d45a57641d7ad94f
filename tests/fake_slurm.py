"""Fakes Slurm by small programs that read files, for tests in which a real one cannot be made to misbehave.

`FakeSlurm(directory)` creates `bin/` with squeue, sacct, sbatch, seff, scancel, scontrol and sinfo, and the few tools
that they need, so that `bin/` alone can be PATH. Jobs are `Job` records; `show(jobs)` makes squeue and sacct print
them. A file `NAME.before` or `NAME.after` is run as part of that program, to make it hang, fail or lie.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

US, RS = "\x1f", "\x1e"
TOOLS = ("sh", "cat", "sed", "date", "mkdir", "sleep", "rm", "ls", "mv", "basename", "kill", "setsid", "env")
_OVER = ("PENDING", "RUNNING", "SUSPENDED")

_HEAD = """#!/bin/sh
dir={directory}
printf '%s\\n' "{name} $*" >> "$dir/calls"
[ -e "$dir/{name}.before" ] && . "$dir/{name}.before"
[ -e "$dir/{name}.err" ] && cat "$dir/{name}.err" >&2
[ -e "$dir/{name}.rc" ] && exit "$(cat "$dir/{name}.rc")"
"""
_BODIES = {
    "squeue": """
case "$*" in
*"-j "*) for id; do [ -e "$dir/ends/$id" ] && cat "$dir/ends/$id"; done; exit 0 ;;
*%Z*) cat "$dir/places.out"; exit 0 ;;
esac
cat "$dir/squeue.out"
for file in "$dir"/queue/*; do [ -e "$file" ] && cat "$file"; done
""",
    "sacct": """
for word; do case "$word" in --delimiter=*) delimiter=${word#--delimiter=} ;; esac; done
sed "s/\x1f/$delimiter/g" "$dir/sacct.out"
""",
    "sbatch": """
[ "$1" = --version ] && exec cat "$dir/version.out"
case " $* " in *" --test-only "*) is_test=yes ;; *) is_test= ;; esac
while [ "$1" != -- ]; do shift; done
script=$2
[ -e "$script" ] && cat "$script" > "$dir/last.script"
if [ -e "$dir/refused/${script##*/}" ]; then cat "$dir/refused/${script##*/}" >&2; exit 1; fi
if [ $is_test ]; then printf 'sbatch: Job 1 to start at 2026-11-26T14:00:21\\n' >&2; exit 0; fi
id=1001
while ! mkdir "$dir/ids/$id" 2>/dev/null; do id=$((id + 1)); done
[ -e "$script" ] && cat "$script" > "$dir/ids/$id/script"
now=$(date +%s)
start="\x1e$id\x1fPENDING\x1f$now\x1fN/A\x1fN/A\x1f0:00\x1f1:00:00"
printf '%s\\n' "$start\x1fPriority\x1f\x1f$script\x1fjob" > "$dir/ids/$id/row"
mv "$dir/ids/$id/row" "$dir/queue/$id"
printf '%s\\n' "$id"
""",
    "seff": """
[ -e "$dir/seff/$1" ] || { printf 'Job not found.\\n'; exit 2; }
cat "$dir/seff/$1"
""",
    "scancel": "",
    "scontrol": """
case "$*" in
*" show job "*) [ -e "$dir/jobs/${4%%_*}" ] && cat "$dir/jobs/${4%%_*}" || cat "$dir/scontrol.out" ;;
*show*) cat "$dir/scontrol.out" ;;
write*) cat "$dir/ids/$3/script" ;;
esac
""",
    "sinfo": """
cat "$dir/sinfo.out"
""",
}
_TAIL = """[ -e "$dir/{name}.after" ] && . "$dir/{name}.after"
exit 0
"""

SEFF = """Job ID: {id}
Cluster: test
User/Group: me/me
State: {state} (exit code {exit_code})
Nodes: 1
Cores per node: 4
CPU Utilized: 00:02:26
CPU Efficiency: 12.50% of 00:19:28 core-walltime
Job Wall-clock time: 00:04:52
Memory Utilized: 1.50 GB
Memory Efficiency: 37.50% of 4.00 GB
"""


@dataclass
class Job:
    """One attempt in Slurm's records. `queued`: squeue has it; `accounted`: sacct has it. Times are epoch seconds."""

    id: str
    state: str = "PENDING"
    submitted: int = 1_700_000_000
    started: int | None = None
    ended: int | None = None
    elapsed: int = 292
    limit_min: int = 30
    exit_code: str = "0:0"
    queued: bool = True
    accounted: bool = True
    command: str = ""
    name: str = "cell"
    reason: str = "Priority"
    user: str = "me"
    work_dir: str = "/nowhere"
    steps: bool = field(default=True)

    @property
    def over(self) -> bool:
        return self.state not in _OVER

    def place_row(self) -> str:
        return RS + US.join((self.id, str(self.submitted), "gpu", "lab", "normal", self.work_dir)) + "\n"

    def queue_row(self) -> str:
        started = "N/A" if self.started is None else str(self.started)
        ended = "N/A" if self.ended is None else str(self.ended)
        node = "n1" if self.started is not None else ""
        clock = f"{self.elapsed // 60}:{self.elapsed % 60:02}" if self.started is not None else "0:00"
        cells = (self.id, self.state, str(self.submitted), started, ended, clock)
        more = (f"{self.limit_min}:00", self.reason, node, self.command, self.name)
        return RS + US.join(cells + more) + "\n"

    def details(self) -> str:
        """What scontrol prints of where it runs."""
        array, _, task = self.id.partition("_")
        of_array = f" ArrayJobId={array} ArrayTaskId={task}" if task else ""
        lines = [f"JobId={array}{of_array} JobName=x", f"SubmitTime={self.submitted}", "Account=lab QOS=normal"]
        return "\n   ".join([*lines, "Partition=gpu", f"WorkDir={self.work_dir}"]) + "\n"

    def account_rows(self) -> str:
        started = "Unknown" if self.started is None else str(self.started)
        ended = "Unknown" if self.ended is None else str(self.ended)
        node = "n1" if self.started is not None else "None assigned"
        elapsed = str(self.elapsed if self.started is not None else 0)
        shared = (self.exit_code, str(self.submitted), started, ended, elapsed)
        job = (self.id, self.user, self.state, *shared, str(self.limit_min))
        rows = US.join((*job, "4", "1", "", "02:26.000", "4G", "", "cpu=4", "", "", "", node, self.name, "\n"))
        if self.started is None or not self.steps:
            return rows
        step = (f"{self.id}.batch", "", self.state, *shared, "")
        usage = "cpu=00:02:26,mem=1572864K"
        used = ("4", "1", "1", "02:26.000", "", "1572864K", "", usage, usage, "")
        return rows + US.join((*step, *used, node, "batch", "\n"))


class FakeSlurm:
    """The programs in `bin`, and their answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        for folder in ("bin", "seff", "refused", "ids", "queue", "ends", "jobs"):
            (directory / folder).mkdir(parents=True)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        for name, body in _BODIES.items():
            program = self.bin / name
            program.write_text((_HEAD + body + _TAIL).replace("{directory}", str(directory)).replace("{name}", name))
            program.chmod(0o755)
        self.answer("version", "slurm 24.11.5\n")
        self.answer("scontrol", "AccountingStorageType   = accounting_storage/slurmdbd\nClusterName = test\n")
        self.answer("sinfo", f"main*{US}1-00:00:00{US}NO{US}n/a\n")
        self.show([])

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which these are the only programs."""
        return {"PATH": str(self.bin), "HOME": "/nonexistent", "LANG": "C.UTF-8", "EVALMON_ALLOW_FAST_POLLING": "1"}

    def answer(self, name: str, text: str | bytes) -> None:
        """The output of `squeue`, `sacct`, `scontrol` or `sinfo` from now on."""
        self._write(f"{name}.out", text)

    def show(self, jobs: Iterable[Job]) -> None:
        """Make squeue and sacct show these jobs, and seff those that are over and were measured."""
        jobs = list(jobs)
        self.answer("squeue", "".join(job.queue_row() for job in jobs if job.queued))
        self.answer("places", "".join(job.place_row() for job in jobs if job.queued))
        self.answer("sacct", "".join(job.account_rows() for job in jobs if job.accounted))
        for number in {job.id.partition("_")[0] for job in jobs}:
            of_number = (job.details() for job in jobs if job.queued and job.id.partition("_")[0] == number)
            self._write(f"jobs/{number}", "".join(of_number))

    def measure(self, job: Job) -> None:
        """Give seff figures of this job."""
        self._write(f"seff/{job.id}", SEFF.format(id=job.id, state=job.state, exit_code=job.exit_code.split(":")[0]))

    def fail(self, name: str, words: str, *, rc: int = 1) -> None:
        """Make this program print only this text on stderr and fail."""
        self._write(f"{name}.err", words + "\n")
        self._write(f"{name}.rc", str(rc))

    def mend(self, name: str) -> None:
        """Make the program work again."""
        for ending in ("err", "rc", "before", "after"):
            (self.directory / f"{name}.{ending}").unlink(missing_ok=True)

    def before(self, name: str, script: str) -> None:
        """Set shell lines that run at the start of this program."""
        self._write(f"{name}.before", script)

    def after(self, name: str, script: str) -> None:
        """Set shell lines that run at the end of this program."""
        self._write(f"{name}.after", script)

    def refuse(self, script: str, words: str) -> None:
        """Make sbatch refuse scripts of this file name."""
        self._write(f"refused/{script}", words + "\n")

    def remove(self, name: str) -> None:
        """Remove the program."""
        (self.bin / name).unlink()

    def calls(self, name: str = "") -> list[str]:
        """The calls of the programs (or of this one) so far."""
        path = self.directory / "calls"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        assert not any("/proc/" in line for line in lines), "an I/O path means nothing to another process"
        return [line for line in lines if line.split(" ")[0] == name or not name]

    def accepted(self) -> list[tuple[str, str]]:
        """(id, file name of the script) of each accepted job: those in the queue, since one rename creates each."""
        rows = [path.read_text().split(US) for path in (self.directory / "queue").iterdir()]
        found = [(row[0].removeprefix(RS), os.path.basename(row[-2])) for row in rows]
        return sorted(found, key=lambda one: int(one[0]))

    def start(self, job_id: str) -> None:
        """Start an accepted job."""
        row = (self.directory / "queue" / job_id).read_text().split(US)
        row[1], row[3], row[7], row[8] = "RUNNING", row[2], "None", "n1"
        self._write(f"queue/{job_id}", US.join(row))

    def _write(self, name: str, text: str | bytes) -> None:
        # Replaced atomically: programs are reading them.
        path = self.directory / f".{os.path.basename(name)}.new"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.replace(self.directory / name)
