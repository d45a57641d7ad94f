"""Inside real jobs: the eval ends in Slurm as it would have ended without us."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from real_slurm.cluster import HEADER, Exp, another_python, wait_for

pytestmark = pytest.mark.slurm

PYTHON_HEADER = f"#!{sys.executable}\n#SBATCH --time=5\n#SBATCH --mem=100\n"
ENDINGS = {
    "zero": (HEADER, "true\n"),
    "three": (HEADER, "exit 3\n"),
    "two_hundred": (HEADER, "exit 200\n"),
    "killed": (HEADER, "kill -KILL $$\n"),
    "terminated": (HEADER, "kill -TERM $$\n"),
    "strict": (HEADER, "set -euo pipefail\nfalse | cat\n"),
    "login": (HEADER.replace("/bin/bash", "/bin/bash -l"), "shopt -q login_shell && exit 4\n"),
    "exec": (HEADER, "exec python3 -c 'import sys; sys.exit(5)'\n"),
    "background": (HEADER, "sleep 0.5 & wait\nexit 6\n"),
    "python": (PYTHON_HEADER, "import sys\nprint('from python')\nsys.exit(7)\n"),
    "stderr": (HEADER, "echo out; echo err >&2; exit 8\n"),
    "srun": (HEADER, "srun --ntasks=1 bash -c 'exit 9'\n"),
    "child_signal": (HEADER, "sleep 100 & kill -USR1 $!; wait $!\n"),
    "here_document": (HEADER, "cat <<END\n#SBATCH --time=99\nEND\nexit 10\n"),
}


def test_every_way_to_end_is_the_same_with_us_and_without(exp: Exp, tmp_path: Path) -> None:
    plain: dict[str, str] = {}
    for name, (header, body) in ENDINGS.items():
        exp.script("r1", f"{name}_epoch0", body, header=header)
        alone = tmp_path / "alone" / name
        alone.mkdir(parents=True)
        (alone / "cell.slurm").write_text(header + body)
        done = exp.cluster.run("sbatch", "--parsable", "cell.slurm", cwd=str(alone))
        plain[name] = done.stdout.strip()
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    for name, job in plain.items():
        ours = exp.job(f"r1/{name}/epoch0")
        fields = ("State", "ExitCode", "JobName", "TimelimitRaw", "ReqMem")
        wait_for(lambda job=ours: exp.cluster.sacct(job, "JobName") != [["allocation"]], 20)
        assert (name, exp.cluster.sacct(ours, *fields)) == (name, exp.cluster.sacct(job, *fields))
        with_us = (exp.root / f"r1/eval/{name}_epoch0" / f"slurm-{ours}.out").read_text()
        without = (tmp_path / "alone" / name / f"slurm-{job}.out").read_text()
        assert (name, _normal(with_us, ours)) == (name, _normal(without, job))


def _normal(output: str, job: str) -> str:
    """The output without what differs between any two jobs: ids, and where the script's copy lies."""
    lines = [line for line in output.replace(job, "JOB").splitlines() if "slurm_script" not in line]
    return "\n".join(line for line in lines if "snapshot/cell.slurm" not in line)


@pytest.mark.survives("F27")
def test_a_trap_sees_each_signal_once_and_decides_the_end(exp: Exp) -> None:
    exp.script(
        "r1",
        "trap_epoch0",
        "trap 'echo USR1 >>seen' USR1\ntrap 'echo TERM >>seen; exit 7' TERM\ntouch ready\n"
        "while :; do sleep 0.2; done\n",
    )
    assert exp.submit("--mode", "dependency").returncode == 0
    folder = exp.root / "r1/eval/trap_epoch0"
    wait_for((folder / "ready").exists, 30)
    job = exp.job("r1/trap/epoch0")
    exp.cluster.run("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: (folder / "seen").read_text(), 10)
    exp.cluster.run("scancel", job)
    exp.wait_complete()
    assert (folder / "seen").read_text() == "USR1\nTERM\n"
    [ev] = exp.summary()["evals"]
    assert (ev["state"], ev["exit_code"], ev["witnesses"]["self"]) == ("CANCELLED", 7, "exit 7")


def test_a_script_with_the_hook_reports_itself(exp: Exp) -> None:
    hook = f'eval "$({sys.executable} -m evalmon_agent hook --name mine/task/epoch0)"\n'
    path = exp.script("r1", "hooked", hook + "echo body >>ran; exit 3\n", name="own.sh")
    done = exp.cluster.run("sbatch", "--parsable", path.name, cwd=str(path.parent))
    wait_for(lambda: (path.parent / "ran").exists(), 30)
    job = done.stdout.strip()
    wait_for(lambda: exp.cluster.sacct(job, "State") == [["FAILED"]], 30)
    wait_for(lambda: exp.evalmon("report", str(exp.root), "--json").returncode == 1, 30, exp.log)
    [ev] = exp.summary()["evals"]
    assert (ev["name"], ev["job_id"], ev["state"], ev["exit_code"]) == ("mine/task/epoch0", job, "FAILED", 3)
    assert (path.parent / "ran").read_text() == "body\n"


def test_where_our_interpreter_is_gone_the_eval_runs_as_if_we_were_not_there(exp: Exp, tmp_path: Path) -> None:
    exp.settings(poll_interval=1)
    exp.script("r1", "alone_epoch0", "sleep 8; exit 3\n", header=HEADER + "#SBATCH --hold\n")
    done = exp.submit(python=another_python(tmp_path / "venv"))
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(tmp_path / "venv")
    exp.cluster.run("scontrol", "release", exp.job("r1/alone/epoch0"))
    wait_for(lambda: exp.cluster.sacct(exp.job("r1/alone/epoch0"), "State", "ExitCode") == [["FAILED", "3:0"]], 60)
    # The sidecar's interpreter is gone as well: the login node tells what happened.
    # (While squeue still has the job as COMPLETING it is running.)
    wait_for(lambda: exp.evalmon("report", str(exp.root)).returncode == 1, 30, exp.log)
    assert exp.transitions("r1/alone/epoch0") == [("PENDING", "RUNNING"), ("RUNNING", "FAILED")]
