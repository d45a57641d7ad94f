"""Tests the templates, filled in as by a user: by sbatch alone and by `evalmon submit`, monitored exactly once."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from evalmon_agent.commands.template import names, text
from nvml_standin.world import World
from real_slurm.cluster import ROOT, Cluster, Exp, wait_for

pytestmark = pytest.mark.slurm

EVALS = ("inspect-eval", "inspect-array", "gpu-command")
TASKS = ROOT / "scripts" / "demo_files" / "tasks.py"
# Writes lm-evaluation-harness's results by a Python program of its name.
LM_EVAL = """#!/usr/bin/env python3
import json, pathlib, sys, time
time.sleep(3)
folder = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1], "path__to__checkpoint")
folder.mkdir(parents=True, exist_ok=True)
results = {
    "results": {"hellaswag": {"alias": "hellaswag", "acc,none": 0.5, "acc_stderr,none": 0.1}},
    "n-samples": {"hellaswag": {"original": 12, "effective": 12}},
    "config": {"model": "hf", "model_args": "pretrained=/path/to/checkpoint"},
    "date": time.time(),
    "model_name": "/path/to/checkpoint",
}
(folder / time.strftime("results_%Y-%m-%dT%H-%M-%S.123456.json")).write_text(json.dumps(results))
time.sleep(1)
"""


@pytest.fixture
def gpu_exp(exp: Exp, standin: Path, tmp_path: Path) -> Exp:
    """An experiment whose user has evalmon, lm_eval and GPUs."""
    programs = tmp_path / "bin"
    World(tmp_path, standin).install_nvidia_smi(programs)
    lm_eval = programs / "lm_eval"
    lm_eval.write_text(LM_EVAL)
    lm_eval.chmod(0o755)
    exp.settings(sample_interval=1)
    (exp.root / "adapter").mkdir()
    (exp.root / "adapter" / "adapter.json").write_text('{"accuracy": 1.0}')
    environ = World(tmp_path, standin).environment(exp.cluster.environ)
    path = f"{programs}:{ROOT}/.venv/bin:{environ['PATH']}"
    return Exp(exp.root, Cluster(exp.cluster.directory, {**environ, "PATH": path}))


def fill_in(exp: Exp, name: str, *, array: str) -> str:
    """The template with a user's values in its fields."""
    fields = {
        "#SBATCH --mem=32G": "#SBATCH --mem=1G",
        "#SBATCH --cpus-per-task=4": "#SBATCH --cpus-per-task=1",
        "#SBATCH --array=0-2%2": f"#SBATCH --array={array}",
        "$HOME/venv/bin/activate": f"{ROOT}/.venv/bin/activate",
        "task=tasks.py@my_task": f"task={TASKS}@arithmetic",
        "tasks.py@one": f"{TASKS}@arithmetic",
        "tasks.py@two": f"{TASKS}@capitalization",
        "model=hf/local": "model=mockllm/model",
        "-M model_path=/path/to/checkpoint": f"-T adapter={exp.root}/adapter -T pace_s=0",
    }
    filled = text(name)
    for field, value in fields.items():
        filled = filled.replace(field, value)
    return filled


def test_the_eval_templates_are_monitored_once_by_sbatch_alone_and_by_submit(gpu_exp: Exp) -> None:
    exp = gpu_exp
    alone: dict[str, str] = {}
    for name in EVALS:
        exp.script("ours", f"{name}_epoch0", "", header=fill_in(exp, name, array="0-1"))
        path = exp.script("alone", f"{name}_epoch0", "", header=fill_in(exp, name, array="0"))
        done = exp.cluster.run("sbatch", "--parsable", path.name, cwd=str(path.parent))
        assert done.returncode == 0, done.stderr
        alone[name] = done.stdout.strip()
    wait_for(lambda: len(list((exp.ours / "jobs").glob("*.json"))) == len(EVALS), 30)
    done = exp.submit("--mode", "dependency", *(str(path) for path in (exp.root / "ours").rglob("*.slurm")))
    assert (done.returncode, done.stderr) == (0, "")
    assert exp.evalmon("watch", str(exp.root), *alone.values(), "--mode", "dependency").returncode == 0
    exp.wait_complete(timeout=150)
    expected = {f"{run}/{name}/epoch0" for run in ("ours", "alone") for name in EVALS if name != "inspect-array"}
    expected |= {f"ours/inspect-array/epoch0[{n}]" for n in (0, 1)} | {"alone/inspect-array/epoch0[0]"}
    evals = exp.evals()
    assert set(evals) == expected
    for name, ev in evals.items():
        assert (name, ev["state"], ev["verdict"], ev["witnesses"]["agree"]) == (name, "COMPLETED", "ok", True)
        assert ev["result"], name
        assert (name, ev["result"]["status"], ev["result"]["samples_completed"]) == (name, "success", 12)
        check_monitored_once(exp, ev["job_id"], Path(ev["output_dir"]))


def check_monitored_once(exp: Exp, job_id: str, output_dir: Path) -> None:
    """Check for one report with one command, and one row for each of the job's GPUs and ticks."""
    [attempt] = json.loads((exp.ours / "jobs" / f"{job_id}.json").read_text())["attempts"]
    assert (len(attempt["commands"]), attempt["scope"], attempt["exit_code"]) == (1, "job", 0)
    rows = list(csv.DictReader((output_dir / "gpu_metrics.csv").read_text().splitlines(), skipinitialspace=True))
    seen = [(row["uuid"], row["timestamp"]) for row in rows]
    assert len(set(seen)) == len(seen) == attempt["sampler"]["gpu_rows"] > 0


def test_the_monitoring_templates_watch_and_summarise(gpu_exp: Exp) -> None:
    exp = gpu_exp
    hook = 'eval "$(evalmon hook)"\n'
    path = exp.script("r1", "a_epoch0", hook + "sleep 3\n")
    job = exp.cluster.run("sbatch", "--parsable", path.name, cwd=str(path.parent)).stdout.strip()
    wait_for((exp.ours / "jobs" / f"{job}.json").exists, 30)
    ours = {}
    for name, option in (("sidecar", "--begin=now"), ("completion", f"--dependency=afterany:{job}")):
        script = exp.root / f"{name}.sbatch"
        script.write_text(text(name))
        done = exp.cluster.run("sbatch", "--parsable", option, str(script), str(exp.root), cwd=str(exp.root))
        assert done.returncode == 0, done.stderr
        ours[name] = done.stdout.strip()
    for job_id in ours.values():
        wait_for(lambda job_id=job_id: exp.cluster.sacct(job_id, "State") == [["COMPLETED"]], 60, exp.log)
    assert exp.transitions("r1/a/epoch0") == [("PENDING", "RUNNING"), ("RUNNING", "COMPLETED")]
    assert exp.summary()["complete"]
    assert len(exp.blocks("MONITOR_STARTED")) == len(exp.blocks("ALL_COMPLETE")) == 1


@pytest.mark.parametrize("name", names())
def test_a_template_is_valid_bash_with_one_place_to_edit(name: str) -> None:
    script = text(name)
    assert script.startswith("#!/bin/bash\n")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    if name in EVALS:
        _, between, after = script.split(f"# {'-' * 111}\n")
        assert between.count('eval "$(evalmon hook') == 1
        assert not any(field in after for field in ("MY_", "my_", "/path", "$HOME"))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("name", names())
def test_shellcheck_reports_nothing(name: str) -> None:
    done = subprocess.run(["shellcheck", "-"], input=text(name), text=True, check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "")
