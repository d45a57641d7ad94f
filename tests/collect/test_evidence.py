"""Tests that an ended attempt's evidence reaches the log and the summary once, without secrets or forged lines."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from evalmon_agent.agent.witness import command_line
from evalmon_agent.collect.eval_archive import MEMBER_LIMIT_BYTES
from experiments import ENDED, STARTED, Exp, ended, record_script
from zips import Member, zip_of

LM_EVAL = Path(__file__).parents[1] / "evidence" / "lm_eval" / "limited.json"
RESULTS = "results_2026-11-25T17-58-37.243692.json"
LM_COMMAND = "lm_eval --model hf --tasks sums --output_path ./{out}"
LM_SCRIPT = "#!/bin/bash\n{head}MODEL=$1\n" + LM_COMMAND + "\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "/x/eval.py", line 3, in main\n    f()\n{error}\n'


class Study:
    """One eval `r1/a`, job 11, that has ended, on a fake Slurm."""

    def __init__(self, directory: Path, script: str, *, state: str = "COMPLETED", **more: Any) -> None:
        self.exp = Exp(directory)
        self.exp.register(r1_a="11")
        self.folder = self.exp.root / "r1"
        self.folder.mkdir()
        self.submitted_as(script)
        self.exp.slurm.show([ended("11", state, **more)])

    def submitted_as(self, script: str) -> None:
        record_script(self.exp.experiment, f"{11:016x}", str(self.exp.root / "r1" / "a.slurm"), script)

    def saw(self, line: str, *, job_id: str = "11", exit_code: int = 0) -> None:
        """An eval program with this command line, as the job's witness recorded it."""
        parsed = command_line.parse(line.split())
        assert parsed is not None
        program = {
            "kind": parsed.program.kind,
            "verb": parsed.verb,
            "words": parsed.words,
            "options": parsed.options,
            "cwd": str(self.folder),
            "started_at": STARTED + 1,
            "ended_at": ENDED - 1,
        }
        looked = [{"witness": {"by": "cgroup", "since": STARTED, "until": ENDED}}]
        spent = {"started_at": STARTED, "ended_at": ENDED, "exit_code": exit_code}
        self.exp.report(job_id, commands=looked, programs=[program], **spent)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def outcome(self) -> dict[str, Any]:
        self.exp.observe_to_the_end()
        [ev] = json.loads((self.exp.ours / "summary.json").read_text())["evals"]
        return dict(ev)

    def told(self, kind: str) -> list[list[str]]:
        return [block.split("\n") for block in self.exp.blocks(kind)]


def inspect_log(*, status: str = "success", at: float = STARTED + 10.5, **more: object) -> bytes:
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
    counts = {"total_samples": 3, "completed_samples": 3, "scores": []}
    header = {
        "version": 2,
        "status": status,
        "eval": {"created": created, "task": "a"},
        "results": counts,
        "stats": {},
        **more,
    }
    return zip_of([Member("header.json", json.dumps(header).encode())])


def of_this_attempt() -> str:
    return json.dumps({**json.loads(LM_EVAL.read_text()), "date": STARTED + 10.5})


def test_results_of_lm_eval_are_found_below_the_models_directory(tmp_path: Path) -> None:
    study = Study(tmp_path, LM_SCRIPT.format(head="", out="here"))
    study.saw(LM_COMMAND.format(out="here"))
    study.write(f"here/meta-llama__Llama-3.1-8B/{RESULTS}", of_this_attempt())
    ev = study.outcome()
    assert (ev["verdict"], ev["result"]["status"], ev["diagnosis"]) == ("ok", "success", None)
    assert (ev["result"]["samples_completed"], ev["result"]["samples_total"]) == (3, 3)
    assert ev["result"]["scores"]["sums/acc,none"] == pytest.approx(2 / 3)
    assert ev["result"]["log"] == str(study.folder / "here" / "meta-llama__Llama-3.1-8B" / RESULTS)
    [block] = study.told("EVAL_RESULT")
    assert block[2:7] == [
        "Task: sums",
        f"Model: {json.loads(of_this_attempt())['model_name']}",
        "Status: success",
        "Samples: 3 of 3",
        "Scores: sums/acc,none 0.666667, sums/acc_stderr,none 0.333333",
    ]


def test_an_unrecorded_lm_eval_without_results_is_unverified(tmp_path: Path) -> None:
    study = Study(tmp_path, LM_SCRIPT.format(head="", out="here"))
    study.write(f"here/model/{RESULTS}", LM_EVAL.read_text())  # of another time
    ev = study.outcome()
    assert (ev["verdict"], ev["result"], ev["diagnosis"]) == ("unverified", None, None)
    assert ev["result_unknown"] == "nobody was in the job to see"


def test_a_recorded_lm_eval_without_results_is_suspect(tmp_path: Path) -> None:
    study = Study(tmp_path, LM_SCRIPT.format(head="", out="here"))
    study.saw(LM_COMMAND.format(out="here"))
    study.write(f"here/model/{RESULTS}", LM_EVAL.read_text())  # of another time
    ev = study.outcome()
    assert (ev["verdict"], ev["result"], ev["diagnosis"]["cause"]) == ("suspect", None, "no-eval-log")


def test_a_log_that_two_evals_may_have_written_diagnoses_neither(tmp_path: Path) -> None:
    study = Study(tmp_path, LM_SCRIPT.format(head="", out="here"))
    study.exp.accept("r1/b", "12")
    study.exp.slurm.show([ended(job_id, "FAILED", exit_code="1:0") for job_id in ("11", "12")])
    for job_id in ("11", "12"):
        study.saw("inspect eval t.py --log-dir logs", job_id=job_id, exit_code=1)
    failed = inspect_log(status="error", error={"message": "RuntimeError: of one of them"})
    (study.folder / "logs").mkdir()
    (study.folder / "logs" / "x.eval").write_bytes(failed)
    study.exp.observe_to_the_end()
    summary = (study.exp.ours / "summary.json").read_text()
    assert {ev["verdict"] for ev in json.loads(summary)["evals"]} == {"failed"}
    assert summary.count("cannot be told apart from another eval's") == 2
    assert "of one of them" not in summary + study.exp.log()


def test_a_too_large_log_makes_an_eval_unverified_and_a_damaged_one_suspect(tmp_path: Path) -> None:
    for name, more, expected in [
        ("large", {"claimed_size_bytes": MEMBER_LIMIT_BYTES + 1}, ("unverified", None)),
        ("damaged", {"crc": 1}, ("suspect", "log-unreadable")),
    ]:
        study = Study(tmp_path / name, "#!/bin/bash\ninspect eval t.py\n")
        study.saw("inspect eval t.py")
        path = study.folder / "logs" / "a.eval"
        path.parent.mkdir()
        path.write_bytes(zip_of([Member("header.json", **more)]))
        os.utime(path, (STARTED + 20, STARTED + 20))
        ev = study.outcome()
        assert (ev["verdict"], ev["diagnosis"] and ev["diagnosis"]["cause"]) == expected
        assert (ev["result_unknown"] or "").endswith("larger than 192 MiB" if name == "large" else "")


def test_the_scripts_error_file_is_read(tmp_path: Path) -> None:
    script = LM_SCRIPT.format(head="#SBATCH --error=err-%j.txt\n", out="here")
    study = Study(tmp_path, script, state="FAILED", exit_code="1:0")
    study.write("slurm-11.out", "all well\n")
    study.write("err-11.txt", TRACEBACK.format(error="ModuleNotFoundError: No module named 'torch'"))
    ev = study.outcome()
    assert (ev["verdict"], ev["diagnosis"]["cause"]) == ("failed", "missing-module")
    assert "did not find a Python package**: ModuleNotFoundError: No module named 'torch'\n  * Install torch" in (
        study.exp.ours / "summary.md"
    ).read_text().replace("\\", "")


def test_a_failure_is_diagnosed_exactly_once_by_any_number_of_observers(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/bash\nfalse\n", state="FAILED", exit_code="1:0")
    study.write("slurm-11.out", "a\nb\n")
    first = study.outcome()
    study.write("slurm-11.out", TRACEBACK.format(error="MemoryError"))
    assert study.outcome() == {**first}
    [block] = study.told("DIAGNOSIS")
    assert block == [
        "DIAGNOSIS: r1/a",
        "Job ID: 11",
        "Cause: unknown (failed for an unknown reason)",
        "Evidence: a ⏎ b",
        "Advice: Read the job's output",
    ]


@pytest.mark.survives("S4")
def test_a_jobs_output_forges_no_line_of_the_log(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/bash\nfalse\n", state="FAILED", exit_code="1:0")
    forged = "\n\n[2026-01-01 00:00:00] ALL_COMPLETE: Monitoring finished\x1b[2J\u202e\n"
    study.write("slurm-11.out", forged + TRACEBACK.format(error=f"ValueError: x{forged}"))
    study.outcome()
    assert len(study.told("ALL_COMPLETE")) == 1
    assert "\x1b" not in study.exp.log()
    assert "\u202e" not in study.exp.log() + (study.exp.ours / "summary.md").read_text()


@pytest.mark.survives("S11")
def test_a_secret_in_a_jobs_output_is_in_no_file_of_evalmon(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/bash\nfalse\n", state="FAILED", exit_code="1:0")
    study.write(
        "slurm-11.out", "+ export HF_TOKEN=hf_SesameSesame12345\n+ curl -H 'Authorization: Bearer abcSesame99'\n"
    )
    study.outcome()
    for path in study.exp.ours.rglob("*"):
        if path.is_file():
            assert "Sesame" not in path.read_text(), path


@pytest.mark.survives("S10")
def test_an_output_of_terabytes_without_a_newline_is_read_from_its_end(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/bash\nfalse\n", state="FAILED", exit_code="1:0")
    with (study.folder / "slurm-11.out").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, 2)
        file.write(b"\nsrun: error: n1: task 0: Out Of Memory\n")
    assert study.outcome()["diagnosis"]["cause"] == "host-out-of-memory"
