"""Runs the script corpus on a real Slurm with and without evalmon, and returns each run's results in comparable form.

`corpus/NAME.slurm` is a script, `corpus/NAME/` (if it exists) holds the files beside it. Each is run as `cell.slurm`.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from real_slurm.cluster import Cluster, Exp, wait_for

CORPUS = Path(__file__).with_name("corpus")
NAMES = sorted(path.stem for path in CORPUS.glob("*.slurm"))
SLOW = frozenset({"trap_usr1_by_slurm"})  # Slurm sends it up to a minute early: with a shorter limit, at the start

FIELDS = ("State", "ExitCode", "DerivedExitCode", "JobName", "TimelimitRaw", "ReqMem", "NCPUS", "AllocTRES")
_OURS = re.compile(r"(?:.*/)?host_metrics\.csv|(?:.*/)?gpu_metrics\.csv")
_ACTIVE = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED")
_HEADER_OF_OURS = b"timestamp_unix [s]"
# Process ids in a shell's messages, nodes, times.
_ONE_RUNS_OWN = (
    (rb"(?<=: line )(\d+): +\d+ ", rb"\1: PID "),
    (rb"\bn[0-9]+\b", b"NODE"),
    (rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?", b"TIME"),
)


@dataclass(frozen=True)
class Outcome:
    """One script's run. `jobs`: its rows in sacct with steps; `files`: mode and content of the files in its folder."""

    job_id: str
    jobs: Sequence[tuple[str, ...]]
    files: Mapping[str, tuple[str, bytes]]

    @property
    def state(self) -> str:
        """State and exit code of the job's rows, those of an array one after another."""
        rows = [row for row in self.jobs if "." not in row[0]]
        return " ".join(f"{row[1]} {row[2]}" for row in rows)


@dataclass(frozen=True)
class Pair:
    """The same script without and with evalmon."""

    plain: Outcome
    ours: Outcome


def run_all(cluster: Cluster, folder: Path, names: Sequence[str], *, env: Mapping[str, str]) -> dict[str, Pair]:
    """Submit all scripts at once in both ways; wait for their ends; collect the results."""
    exp = Exp(folder / "study", Cluster(cluster.directory, {**cluster.environ, **env}))
    exp.root.mkdir(parents=True)
    exp.settings(mode="dependency", sample_interval=1)
    plain: dict[str, str] = {}
    for name in names:
        lay_out(name, exp.root / "r1" / "eval" / f"{name}_epoch0")
        alone = folder / "plain" / name
        lay_out(name, alone)
        done = exp.cluster.run("sbatch", "--parsable", "cell.slurm", cwd=str(alone), env={"PWD": str(alone)})
        assert done.returncode == 0, (name, done.stderr)
        plain[name] = done.stdout.strip()
    try:
        done = exp.submit("--mode", "dependency")
        assert done.returncode == 0, done.stderr
        ours = {name: job_of(exp, name) for name in names}
        wait_for(lambda: not active(cluster, [*plain.values(), *ours.values()]), 400, lambda: active(cluster, []))
        rows = accounted(cluster, [*plain.values(), *ours.values()])
        return {
            name: Pair(
                outcome(rows[plain[name]], plain[name], folder / "plain" / name),
                outcome(rows[ours[name]], ours[name], exp.root / "r1" / "eval" / f"{name}_epoch0"),
            )
            for name in names
        }
    finally:
        exp.cancel_all()
        cluster.run("scancel", "-Q", *plain.values())


def lay_out(name: str, folder: Path) -> None:
    """The script as `cell.slurm`, and its files beside it."""
    beside = CORPUS / name
    if beside.is_dir():
        shutil.copytree(beside, folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(CORPUS / f"{name}.slurm", folder / "cell.slurm")


def job_of(exp: Exp, name: str) -> str:
    """The eval's job; for an array, the array's."""
    evals = exp.state()["evals"]
    found = next(ev["job_id"] for known, ev in evals.items() if known.partition("[")[0] == f"r1/{name}/epoch0")
    return str(found).partition("_")[0]


def active(cluster: Cluster, job_ids: Sequence[str]) -> list[list[str]]:
    """The rows of these jobs in accounting without an end, or incomplete ones; without ids, all jobs in the queue."""
    if not job_ids:
        return [line.split() for line in cluster.run("squeue", "-h").stdout.splitlines()]
    rows = cluster.sacct(",".join(job_ids), "JobID", "State", "JobName", "TimelimitRaw")
    known = {row[0].partition("_")[0].partition("+")[0] for row in rows}
    last = {row[0]: row for row in rows}
    open_rows = [row for row in last.values() if row[1] in _ACTIVE or row[2:] == ["allocation", ""]]
    return open_rows + [[job_id] for job_id in job_ids if job_id not in known]


def accounted(cluster: Cluster, job_ids: Sequence[str]) -> Mapping[str, list[list[str]]]:
    """All rows of these jobs in accounting, steps too, by the job that sbatch said."""
    fields = ",".join(("JobID", "JobIDRaw", *FIELDS))
    done = cluster.run("sacct", "-n", "-P", "-D", "-j", ",".join(job_ids), "-o", fields)
    rows: dict[str, list[list[str]]] = defaultdict(list)
    for line in done.stdout.splitlines():
        rows[re.split(r"[_+.]", line, maxsplit=1)[0].partition("|")[0]].append(line.split("|"))
    return rows


def outcome(rows: Sequence[Sequence[str]], job_id: str, folder: Path) -> Outcome:
    """One job's results in its folder, with ids and paths replaced by words."""
    ids = {part.partition(".")[0] for row in rows for part in row[:2]} | {job_id}
    words = _Words({re.split(r"[_+]", one)[0] for one in ids}, folder)
    # Steps that run in parallel have their numbers in any order.
    jobs = sorted((re.sub(r"\.\d+$", ".step", words.of(row[0])), *row[2:]) for row in rows)
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        if not _OURS.fullmatch(name) or (name == "gpu_metrics.csv" and _HEADER_OF_OURS not in content):
            shown = _shapes(content) if name == "gpu_metrics.csv" else content
            files[words.of(name)] = (oct(path.stat().st_mode & 0o777), words.in_bytes(shown))
    return Outcome(job_id, jobs, files)


class _Words:
    """Replace what differs between any two jobs: their ids, their folder, and what belongs to one run."""

    def __init__(self, ids: set[str], folder: Path) -> None:
        self._ids = re.compile(rb"(?<![0-9])0*(?:" + b"|".join(i.encode() for i in ids) + rb")(?![0-9])")
        self._folder = str(folder).encode()

    def in_bytes(self, content: bytes) -> bytes:
        content = content.replace(self._folder, b"FOLDER")
        kept = re.search(rb"([^\s:'\"]*)/slurm_script\b", content)
        content = content.replace(kept[1], b"SPOOL") if kept is not None and kept[1] else content
        for pattern, word in _ONE_RUNS_OWN:
            content = re.sub(pattern, word, content)
        return self._ids.sub(b"JOB", content)

    def of(self, text: str) -> str:
        return self.in_bytes(text.encode()).decode()


def _shapes(csv: bytes) -> bytes:
    """The kinds of lines in a CSV of measurements; how many there are, and their numbers, differ from run to run."""
    return b"\n".join(dict.fromkeys(re.sub(rb"[0-9]+", b"9", line) for line in csv.splitlines()))
