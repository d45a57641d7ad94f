"""Creates an experiment of thousands of evals on fake Slurm programs, so that only evalmon's own part is measured."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from bench_parts.contenders import EVALMON
from fake_slurm import FakeSlurm, Job

TASKS_PER_ARRAY = 1000
_SCRIPT = (
    "#!/bin/bash\n#SBATCH --array=0-{last}\n#SBATCH --time=30\n#SBATCH --mem=50\n#SBATCH --output=%A_%a.out\ntrue\n"
)
# Prints the requested columns of the requested jobs, for any caller; the first line of the data has the names.
_SACCT = r"""
BEGIN {
  delimiter = "|"; end = ""
  for (i = 1; i < ARGC; i++) {
    word = ARGV[i]
    if (word == "-j") ids = ARGV[++i]
    else if (word == "-o") fields = ARGV[++i]
    else if (word == "--parsable" || word == "-p") end = "yes"
    else if (word == "--helpformat") { getline line < DATA; gsub("\t", " ", line); print line; exit }
    else if (sub(/^--jobs=/, "", word)) ids = word
    else if (sub(/^--format=/, "", word)) fields = word
    else if (sub(/^--delimiter=/, "", word)) delimiter = word
  }
  count = split(ids, list, ",")
  for (i = 1; i <= count; i++) asked[list[i]] = 1
  wanted = split(fields, field, ",")
  getline line < DATA
  columns = split(line, name, "\t")
  for (i = 1; i <= columns; i++) at[name[i]] = i
  while ((getline line < DATA) > 0) {
    split(line, cell, "\t")
    id = cell[at["JobID"]]; sub(/\..*/, "", id); job = id; sub(/_.*/, "", job)
    if (!(id in asked) && !(job in asked)) continue
    row = cell[at[field[1]]]
    for (i = 2; i <= wanted; i++) row = row delimiter ((field[i] in at) ? cell[at[field[i]]] : "")
    print row (end ? delimiter : "")
  }
}
"""
_JOB = {
    "AdminComment": "",
    "Cluster": "test",
    "User": "me",
    "State": "COMPLETED",
    "ExitCode": "0:0",
    "DerivedExitCode": "0:0",
    "ElapsedRaw": "292",
    "Elapsed": "00:04:52",
    "TimelimitRaw": "30",
    "Timelimit": "00:30:00",
    "AllocCPUS": "4",
    "NNodes": "1",
    "NTasks": "",
    "TotalCPU": "02:26.000",
    "ReqMem": "4G",
    "MaxRSS": "",
    "AllocTRES": "cpu=4,mem=4G,node=1",
    "TRESUsageInTot": "",
    "TRESUsageInMax": "",
    "NodeList": "n1",
    "JobName": "cell",
}
_BATCH = {"NTasks": "1", "MaxRSS": "1572864K", "TRESUsageInTot": "cpu=00:02:26,mem=1572864K", "JobName": "batch"}


class Synthetic:
    """Submit `evals` evals in arrays with the real `evalmon submit`, to programs that only answer."""

    def __init__(self, scratch: Path, evals: int) -> None:
        self.experiment = scratch / "study"
        self.slurm = FakeSlurm(scratch / "slurm")
        self.environ = self.slurm.environ | {"HOME": str(scratch), "TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
        self.python_environ = self.environ | {"PYTHONPATH": os.environ["PYTHONPATH"]}
        self._now = int(time.time())
        sizes = [min(TASKS_PER_ARRAY, evals - start) for start in range(0, evals, TASKS_PER_ARRAY)]
        for number, size in enumerate(sizes):
            script = self.experiment / f"r/eval/many_epoch{number}/cell.slurm"
            script.parent.mkdir(parents=True)
            script.write_text(_SCRIPT.format(last=size - 1))
        settings = {"poll_interval": 600, "seff_retry_delay": 1}  # no other process polls during the measurement
        (self.experiment / "evalmon.yaml").write_text(json.dumps(settings))
        subprocess.run([EVALMON, "submit", self.experiment], env=self.environ, check=True, stdout=subprocess.DEVNULL)
        arrays = [job_id for job_id, script_name in self.slurm.accepted() if script_name == "cell.slurm"]
        for job_id in arrays:  # each task has its own row
            (self.slurm.directory / "queue" / job_id).unlink()
        self.ids = [f"{job_id}_{task}" for job_id, size in zip(arrays, sizes, strict=True) for task in range(size)]

    def environ_with(self, programs: Path) -> dict[str, str]:
        """The environment with these programs first on PATH."""
        return self.environ | {"PATH": f"{programs}:{self.slurm.bin}"}

    def show(self, running: int) -> None:
        """Make squeue show the first `running` evals as running and the others as pending."""
        self.slurm.answer("squeue", self.queue(running))

    def queue(self, running: int) -> str:
        """The output of squeue then."""
        waiting = [Job(job_id, submitted=self._now) for job_id in self.ids[running:]]
        started = [Job(job_id, "RUNNING", submitted=self._now, started=self._now) for job_id in self.ids[:running]]
        return "".join(job.queue_row() for job in [*started, *waiting])


def sacct_of(directory: Path, ids: list[str]) -> Path:
    """A directory with a `sacct` that knows these jobs, each COMPLETED with its batch step."""
    directory.mkdir()
    now = int(time.time())
    times = {"Submit": f"{now - 400}", "Start": f"{now - 300}", "End": f"{now - 8}"}
    columns = ["JobID", "JobIDRaw", *_JOB, *times]
    rows = [columns]
    for number, job_id in enumerate(ids):
        job = _JOB | times | {"JobID": job_id, "JobIDRaw": str(100_000 + number)}
        step = job | _BATCH | {"JobID": f"{job_id}.batch", "JobIDRaw": f"{100_000 + number}.batch"}
        rows += [[row[column] for column in columns] for row in (job, step)]
    data = directory / "jobs.tsv"
    data.write_text("".join("\t".join(row) + "\n" for row in rows))
    program = directory / "sacct"
    body = directory / "sacct.awk"
    body.write_text(_SACCT.replace("DATA", json.dumps(str(data))))
    program.write_text(f'#!/bin/sh\nexec {shutil.which("awk")} -f {body} -- "$@"\n')
    program.chmod(0o755)
    return directory
