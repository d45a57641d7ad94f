"""Measures the cost of looking for evals once a second, with as many processes in a cgroup as a job has."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_JOB_ID = "4243"
_SETTLED_AFTER_S = 60.0

# A tenth of them are waiting shells, a tenth are Pythons, the rest wait. Older processes are looked at less often, so
# the cost soon after their start exceeds that of an hour. Any new process of this user on this node makes the witness
# list the job's processes, and any start or end makes it look at shells: hence the number of pids that were used
# meanwhile.
_CHILD = """
import json, os, subprocess, sys, time
from evalmon_agent.agent.children import SharedMemory
from evalmon_agent.agent.witness.programs import job_processes
from evalmon_agent.agent.witness.witness import Witness
processes, settled_s, seconds, begins = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
newest = lambda: int(open("/proc/loadavg").read().split()[-1])
wait = {0: ["sh", "-c", "sleep 600; true"], 1: [sys.executable, "-c", "import time; time.sleep(600)"]}
running = [subprocess.Popen(wait.get(n % 10, ["sleep", "600"]), start_new_session=True) for n in range(processes)]
running += [subprocess.Popen(["sh", "-c", script], start_new_session=True) for script in begins]
try:
    witness = Witness(job_processes(os.environ["SLURM_JOB_ID"]), SharedMemory(), wake_run=lambda: None)
    witness.start()
    time.sleep(settled_s)
    pid, cpu_s, at_s = newest(), time.process_time(), time.monotonic()
    time.sleep(seconds)
    cpu_s, passed_s = time.process_time() - cpu_s, time.monotonic() - at_s
    found = {"cpu_s_per_hour": round(cpu_s / passed_s * 3600, 2), "us_per_look": round(cpu_s / passed_s * 1e6)}
    found["pids_given_out_per_s"] = round((newest() - pid) / passed_s, 2)
    assert not witness._trouble, witness._trouble
    print(json.dumps(found))
finally:
    for process in running:
        os.killpg(process.pid, 9)
        process.wait()
"""


def measure(*, processes: tuple[int, ...], seconds: float) -> dict[str, dict[str, object]]:
    """For each number of processes, at a real look a second: back to back it would seem ten times cheaper.

    None of them begins or ends meanwhile, but for the last figure, for which one does each second.
    """
    figures = {f"{number} processes": _measure(number, seconds) for number in processes}
    most = max(processes)
    figures[f"{most} processes, one more each second"] = _measure(most, seconds, "while :; do sleep 1; done")
    return figures


def _measure(processes: int, seconds: float, *begins: str) -> dict[str, object]:
    root = _CGROUPS / "freezer" if (_CGROUPS / "freezer").is_dir() else _CGROUPS
    job = root / f"evalmon_bench_{os.getpid()}" / f"job_{_JOB_ID}"
    try:
        (job / "step_extern").mkdir(parents=True)
        (job / "step_batch").mkdir()
    except OSError as error:
        return {"error": f"no cgroup can be made: {error.strerror}"}
    try:
        enter = f'echo $$ > {job}/step_batch/cgroup.procs; exec "$@"'
        words = [sys.executable, "-c", _CHILD, f"{processes}", f"{min(_SETTLED_AFTER_S, 3 * seconds)}", f"{seconds}"]
        words += begins
        environment = {**os.environ, "SLURM_JOB_ID": _JOB_ID}
        done = subprocess.run(
            ["sh", "-ec", enter, "sh", *words], capture_output=True, text=True, check=False, env=environment
        )
        found: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-200:]}
        return found
    finally:
        time.sleep(0.2)
        for directory in (job / "step_batch", job / "step_extern", job, job.parent):
            directory.rmdir()
