"""Tests that hostile names, paths, files and environments run nothing, leak nothing and redirect nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.in_a_job import RUN, environ
from evalmon_agent.commands.submit import submit
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.monitor_jobs import script
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.tracking.registry import Intent, Submission
from experiments import STARTED, Exp, ended, record_script
from fake_slurm import FakeSlurm
from submission.test_launcher import COMMANDS, PAYLOADS
from zips import Member, zip_of

PACKAGE = Path(__file__).resolve().parents[2] / "evalmon_agent"
SECRET = "hf_canary_9876543210"
SAY = """#!/bin/sh
printf '%s\\0' "$EVALMON_DIR" "$EVALMON_NAME" "$EVALMON_OUTPUT_DIR" > "$SAID"
"""


def usable(payload: str) -> str:
    return payload.replace("/", "_").strip() or "x"


@pytest.mark.survives("S5", "S7")
@pytest.mark.parametrize("step", [3 * len(COMMANDS), pytest.param(1, marks=pytest.mark.full)])
def test_a_submission_from_a_hostile_directory_runs_the_script_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The payload is in the names of the experiment, the run, the task, the job and the interpreter."""
    # Names that are not UTF-8 are refused.
    payloads = [payload for payload in PAYLOADS[::step] if "\udcff" not in payload]
    assert len(payloads) > 180 / step
    for number, payload in enumerate(payloads):
        place = tmp_path / str(number)
        slurm = FakeSlurm(place / "slurm")
        name = usable(payload)
        root = place / name
        folder = root / name / "eval"
        folder.mkdir(parents=True)
        path = folder / f"{name}_epoch0.slurm"
        path.write_text(SAY)
        experiment = Experiment.at(str(root))
        (place / "elsewhere").mkdir()
        monkeypatch.setattr(sys, "executable", str(place / "no" / name))
        environ = {**slurm.environ, "TZ": payload.replace("\0", "")}
        report = submit(
            Session(experiment, Settings(poll_interval=1.0), Slurm(slurm.environ), environ),
            named=[str(path)],
            mode="sidecar",
            dry_run=False,
        )
        assert len(report.submitted) == 1, payload
        scripts = [
            found
            for found in Path(experiment.directory, "scripts").rglob("*")
            if found.is_file() and found.name != "settings.json"
        ]
        assert len(scripts) == 3
        for one in scripts:
            said = place / "said"
            env = {"PATH": os.environ["PATH"], "SAID": str(said)}
            subprocess.run(
                ["bash", str(one)], env=env, cwd=place / "elsewhere", capture_output=True, timeout=30, check=False
            )
            # The monitor jobs' interpreter is missing; the eval runs as it would without evalmon.
            assert said.exists() == (one.name == path.name), payload
            if said.exists():
                told = said.read_text().split("\0")
                assert told[0] == experiment.directory, payload
                said.unlink()
        assert list(place.rglob("canary*")) == [], payload
        assert os.listdir(place / "elsewhere") == []
        assert sorted(os.listdir(place)) == sorted({"slurm", name, "elsewhere"}), payload


@pytest.mark.survives("S7")
@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/../../../outside", "..", "r/\x00t"])
def test_a_name_with_parent_components_is_not_used_as_a_path(tmp_path: Path, name: str) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.experiment.ledger.append(Intent(Submission(name, str(exp.root / "x.slurm"), token="f" * 16), 1.0, "h", 1))
    exp.report("12", name, started_at=float(STARTED), ended_at=float(STARTED) + 5, exit_code=0)
    exp.slurm.show([ended("11"), ended("12")])
    before = sorted(path.name for path in tmp_path.iterdir())
    exp.observe_to_the_end()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not os.path.lexists("/outside")
    assert {path.name for path in exp.root.iterdir()} == {"evalmon"}


SHADOWS = (
    "json",
    "os",
    "signal",
    "time",
    "click",
    "msgspec",
    "yaml",
    "evalmon_agent",
    "sitecustomize",
    "usercustomize",
)


@pytest.mark.survives("S13")
def test_monitor_jobs_ignore_files_in_their_surroundings(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    (exp.root / "evalmon.yaml").write_text('{"poll_interval": 0.2, "seff_retry_delay": 0}')
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    for name in SHADOWS:
        (exp.root / f"{name}.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'a').write({name!r})\n")
    ours = {"token": "t", "experiment_id": exp.experiment.id, "environ": exp.slurm.environ}
    text = script("sidecar", str(exp.root), interpreter=sys.executable, **ours)
    env = {"PYTHONPATH": str(exp.root), "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "x", "PYTHONINSPECT": "1"}
    done = subprocess.run(["sh", "-c", text], env=env, cwd=exp.root, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert not (tmp_path / "loaded").exists()


@pytest.mark.survives("S11")
def test_secrets_of_the_command_or_environment_are_in_no_file(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    folder = exp.root / "out"
    secrets = {"HF_TOKEN": SECRET, "OPENAI_API_KEY": SECRET, "WANDB_API_KEY": SECRET}
    inside = {"SLURM_JOB_ID": "11", "EVALMON_DIR": str(exp.ours), "EVALMON_OUTPUT_DIR": str(folder)}
    command = ["sh", "-c", "sleep 0.2; exit 3", f"--token={SECRET}", f"https://user:{SECRET}@host/"]
    done = subprocess.run([*RUN, "--", *command], env=environ(**secrets, **inside), timeout=60, check=False)
    assert done.returncode == 3
    assert (exp.ours / "jobs" / "11.json").exists()
    exp.slurm.show([ended("11", "FAILED", exit_code="3:0")])
    for words in (("report", str(exp.root)), ("status", str(exp.root), "--json"), ("doctor", str(exp.root))):
        said = subprocess.run(
            [sys.executable, "-m", "evalmon_agent", *words],
            env={**exp.slurm.environ, **secrets},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert SECRET.encode() not in said.stdout + said.stderr
    written = [path for path in exp.root.rglob("*") if path.is_file()]
    assert len(written) > 6
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.survives("S9")
def test_the_package_never_unpickles_or_evaluates_data() -> None:
    banned = {"pickle", "cPickle", "shelve", "marshal", "dill", "cloudpickle", "jsonpickle", "runpy", "code"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not banned.intersection(name.split(".")[0] for name in names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path


def with_inspect_script(exp: Exp) -> Path:
    """An eval that ran inspect, and the directory of its logs."""
    exp.register(r1_a="11")
    [entry] = exp.experiment.ledger.entries()
    record_script(exp.experiment, entry.token, entry.submission.script, "#!/bin/sh\ninspect eval task.py\n")
    exp.report("11", "r1/a", started_at=float(STARTED), output_dir=str(exp.root / "r1"))
    exp.slurm.show([ended("11")])
    (exp.root / "r1" / "logs").mkdir(parents=True)
    return exp.root / "r1"


@pytest.mark.survives("S8", "S10")
def test_a_summary_is_written_quickly_without_hostile_evidence(tmp_path: Path) -> None:
    """A log that is a bomb, a Slurm log and metrics of 10 GB without a newline, a FIFO and a link among them."""
    exp = Exp(tmp_path)
    folder = with_inspect_script(exp)
    bomb = zip_of([Member("header.json", bytes(64 << 20), method=0)])
    (folder / "logs" / "bomb.eval").write_bytes(bomb)
    os.mkfifo(folder / "logs" / "fifo.eval")
    (folder / "logs" / "link.eval").symlink_to("/dev/zero")
    for name in ("slurm-11.out", "gpu_metrics.csv"):
        with (folder / name).open("wb") as file:
            file.truncate(10 << 30)
    began = time.process_time()
    exp.observe_to_the_end()
    assert time.process_time() - began < 2
    summary = json.loads((exp.ours / "summary.json").read_text())
    [ev] = summary["evals"]
    assert (summary["complete"], ev["state"], ev["verdict"], ev["gpu"]) == (True, "COMPLETED", "unverified", None)
    assert ev["result"] is None or ev["result"]["status"] != "success"
