"""Tests commands as a user runs them, with answers that a real Slurm cannot be made to give."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import faults
from evalmon_agent.files.lock import Holder
from experiments import Exp, ended, pending, running

SECRET = "hf_canary_0123456789"
HEADER = "#!/bin/sh\n#SBATCH --time=5\n"


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    (found.root / "evalmon.yaml").write_text('{"poll_interval": 1}')
    for name in ("a", "b", "c"):
        found.write_script(name)
    return found


def evalmon(exp: Exp, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return exp.evalmon(*words, env={"HF_TOKEN": SECRET, **env})


class TestSubmit:
    def test_refused_scripts_get_a_line_each_and_the_others_are_registered(self, exp: Exp) -> None:
        words = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (\x1b[31mlimit\x1b[0m)"
        exp.slurm.refuse("a_epoch0.slurm", words)
        exp.slurm.refuse("c_epoch0.slurm", "sbatch: error: AssocMaxCpuPerJobLimit\nsbatch: error: ask your PI")
        done = evalmon(exp, "submit", ".")
        assert done.returncode == 1
        shown = words.replace("\x1b", "\\x1b")
        folder = exp.root / "r1" / "eval"
        other = "sbatch: error: AssocMaxCpuPerJobLimit sbatch: error: ask your PI"
        assert done.stderr.splitlines() == [
            f"evalmon: {folder}/a_epoch0.slurm: Slurm refused it: {shown}",
            f"evalmon: {folder}/c_epoch0.slurm: Slurm refused it: {other}",
        ]
        assert set(exp.state()["evals"]) == {"r1/b/epoch0"}
        (exp.slurm.directory / "refused" / "a_epoch0.slurm").unlink()
        done = evalmon(exp, "submit", ".", "--json")
        assert done.returncode == 1
        report = json.loads(done.stdout)
        assert [one["name"] for one in report["submitted"]] == ["r1/a/epoch0"]
        assert [one["name"] for one in report["skipped"]] == ["r1/b/epoch0"]
        assert [one["error"] for one in report["refused"]] == [
            "sbatch: error: AssocMaxCpuPerJobLimit\nsbatch: error: ask your PI"
        ]

    @pytest.mark.survives("F20")
    def test_refused_monitor_jobs_are_reported_and_no_eval_is_lost(self, exp: Exp) -> None:
        for ours in ("completion", "sidecar"):
            exp.slurm.refuse(f"evalmon-{ours}", "sbatch: error: Access/permission denied")
        done = evalmon(exp, "submit", ".")
        assert done.returncode == 1
        assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" completion job", " sidecar"]
        assert len(exp.slurm.accepted()) == 3

    def test_an_output_path_that_slurm_cannot_write_causes_a_warning_only(self, exp: Exp) -> None:
        exp.slurm.answer("version", "slurm-wlm 22.05.8\n")
        path = exp.write_script("a")
        path.write_text("#!/bin/sh\n#SBATCH --output=logs/%j.out\ntrue\n")
        told = (
            f"{path}: the output goes to {path.parent}/logs (No such file or directory), so Slurm cannot start the job"
        )
        for words in (["--dry-run"], []):
            done = evalmon(exp, "submit", ".", "--json", *words)
            [warning] = json.loads(done.stdout)["warnings"]
            assert (done.returncode, warning.startswith(told)) == (0, True), warning
            assert done.stderr == f"evalmon: warning: {warning}\n"
        assert len(exp.slurm.accepted()) == 5

    def test_a_second_submit_submits_nothing(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        before = exp.slurm.accepted()
        done = evalmon(exp, "submit", ".")
        assert done.returncode == 0
        assert done.stdout.splitlines()[:5] == [
            *(f"skipped r1/{n}/epoch0  job {1001 + i}: already registered (PENDING)" for i, n in enumerate("abc")),
            "completion job: already queued (1004)",
            "sidecar: already queued (1005)",
        ]
        assert exp.slurm.accepted() == before

    @pytest.mark.parametrize("where", ["in the experiment", "beside it", "elsewhere"])
    def test_a_pattern_is_matched_in_the_working_directory_and_then_in_the_experiment(
        self, exp: Exp, where: str
    ) -> None:
        places = {"in the experiment": exp.root, "beside it": exp.root.parent, "elsewhere": Path("/")}
        words = {"beside it": f"{exp.root.name}/r1/eval/[ab]_*.slurm"}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "evalmon_agent", "submit", str(exp.root)),
                words.get(where, "r1/eval/[ab]_*.slurm"),
                "r1/eval/c_epoch0.slurm" if where != "beside it" else f"{exp.root.name}/r1/eval/c_epoch0.slurm",
            ],
            env={**exp.slurm.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            cwd=places[where],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(exp.state()["evals"]) == ["r1/a/epoch0", "r1/b/epoch0", "r1/c/epoch0"]

    def test_a_pattern_does_not_override_the_refusal_of_a_script_that_others_can_write(self, exp: Exp) -> None:
        (exp.root / "r1" / "eval" / "a_epoch0.slurm").chmod(0o666)
        done = evalmon(exp, "submit", ".", "r1/eval/*.slurm")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "a_epoch0.slurm: anybody can write it" in done.stderr
        assert evalmon(exp, "submit", ".", "r1/eval/a_epoch0.slurm", "r1/eval/[bc]*").returncode == 0

    def test_no_summary_is_announced_when_all_evals_are_over(self, exp: Exp) -> None:
        assert "\nsummary, once all are over: /" in evalmon(exp, "submit", ".", "--mode", "dependency").stdout
        over = Exp(exp.root.parent / "over")
        over.register(r1_a="11")
        over.slurm.show([ended("11")])
        over.observe_to_the_end()
        assert "\nsummary: /" in evalmon(over, "retry", ".").stdout

    def test_dependency_mode_starts_no_sidecar(self, exp: Exp) -> None:
        assert evalmon(exp, "submit", ".", "--mode", "dependency").returncode == 0
        assert "evalmon-sidecar" not in [name for _, name in exp.slurm.accepted()]

    @pytest.mark.survives("S11")
    def test_written_files_hold_no_secret_and_little_of_the_environment(self, exp: Exp) -> None:
        assert evalmon(exp, "submit", ".", TZ="UTC", OPENAI_API_KEY=SECRET).returncode == 0
        environ = {**exp.slurm.environ, "HF_TOKEN": SECRET}
        subprocess.run([sys.executable, "-m", "evalmon_agent", "report", "."], env=environ, cwd=exp.root, check=False)
        for path in exp.root.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), path
        for ours in exp.ours.glob("scripts/*/evalmon-*"):
            exported = [line.split("=")[0] for line in ours.read_text().splitlines() if line.startswith("export")]
            assert exported == ["export PATH", "export EVALMON_ALLOW_FAST_POLLING", "export TZ"]

    @pytest.mark.survives("S4")
    def test_the_output_path_of_an_eval_is_printed_on_one_line(self, exp: Exp) -> None:
        (exp.root / "r1" / "eval" / "x\nevalmon: forged_epoch0.slurm").write_text("true\n")
        done = evalmon(exp, "submit", ".")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "x\\nevalmon: forged" in done.stderr

    def test_a_name_that_is_not_utf8_is_refused_before_anything_is_created(self, exp: Exp) -> None:
        exp.write_script("ok").with_name(os.fsdecode(b"t\xff_epoch0.slurm")).write_text(HEADER)
        outside = exp.root.parent / "outside.slurm"
        outside.write_bytes(b"#!/bin/sh\n#SBATCH --job-name=\xff\n")
        for words in ((".",), (".", str(outside))):
            done = evalmon(exp, "submit", *words)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "not UTF-8" in done.stderr
        assert not exp.ours.exists()
        assert exp.slurm.accepted() == []

    def test_scripts_are_checked_before_permissions_and_those_before_slurm(self, exp: Exp) -> None:
        exp.ours.mkdir()
        exp.ours.chmod(0o777)
        exp.slurm.remove("sbatch")
        twice = exp.write_script("a").with_name("a_epoch0") / "cell.slurm"
        twice.parent.mkdir()
        twice.write_text(HEADER)
        assert "are both named r1/a/epoch0" in evalmon(exp, "submit", ".").stderr
        twice.unlink()
        assert "chmod go-w" in evalmon(exp, "submit", ".").stderr
        exp.ours.chmod(0o700)
        assert "sbatch is not on PATH" in evalmon(exp, "submit", ".").stderr
        assert os.listdir(exp.ours) == []


class TestLocked:
    def test_the_holder_of_the_lock_is_reported_after_a_while_and_readers_still_read(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        (exp.ours / "lock.json").write_text(json.dumps({"kind": "soft", "filesystem": "x", "host": "h", "schema": 1}))
        exp.slurm.show([running("11")])
        exp.observer().observe_once(at_least_s=0)
        (exp.ours / "state.json.lock").write_bytes(Holder(4711, "another-node", 1).text)
        began = time.monotonic()
        done = evalmon(exp, "status", ".", "--json")
        assert done.returncode == 3
        assert json.loads(done.stdout)["evals"][0]["state"] == "RUNNING"
        assert time.monotonic() - began < 15

    @pytest.mark.full
    def test_writers_end_with_75(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        (exp.ours / "lock.json").write_text(json.dumps({"kind": "soft", "filesystem": "x", "host": "h", "schema": 1}))
        (exp.ours / "state.json.lock").write_bytes(Holder(4711, "another-node", 1).text)
        done = evalmon(exp, "report", ".")
        assert done.returncode == 75
        held = f"{exp.ours}/state.json.lock is held by process 4711 on another-node for more than 30 s; try again"
        assert done.stderr == f"evalmon: {held}, or remove it if that process is gone for good\n"


class TestNewerState:
    @pytest.mark.survives("F11")
    def test_every_command_ends_with_78_and_leaves_the_newer_state_alone(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        path = exp.ours / "state.json"
        path.write_text('{"schema": 2, "evals": []}')
        for command in ("status", "report", "submit", "stop", "complete"):
            done = evalmon(exp, command, ".")
            assert (done.returncode, done.stderr.count("\n")) == (78, 1), command
            assert "written by a newer evalmon; upgrade this one" in done.stderr
            assert path.read_text() == '{"schema": 2, "evals": []}'


class TestStatus:
    def test_the_exit_status_shows_how_the_experiment_stands(self, exp: Exp) -> None:
        exp.register(r1_a="11", r1_b="12")
        for jobs, status in (
            ([pending("11"), running("12")], 3),
            ([ended("11"), running("12")], 3),
            ([ended("11"), ended("12", "FAILED")], 1),
        ):
            exp.slurm.show(jobs)
            exp.observer().observe_once(at_least_s=0)
            assert evalmon(exp, "status", ".").returncode == status
            assert evalmon(exp, "report", ".").returncode == status

    def test_slurm_is_asked_only_if_no_observer_did_recently(self, exp: Exp) -> None:
        (exp.root / "evalmon.yaml").write_text("poll_interval: 60\n")
        exp.register(r1_a="11")
        exp.slurm.show([running("11")])
        for _ in range(2):
            evalmon(exp, "status", ".")
        assert len(exp.slurm.calls("squeue")) == 1

    def test_without_slurm_status_shows_what_the_files_have(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.slurm.show([running("11")])
        exp.observer().observe_once(at_least_s=0)
        done = evalmon(exp, "status", ".", "--json", PATH="/nonexistent")
        assert (done.returncode, json.loads(done.stdout)["counts"]) == (3, {"RUNNING": 1})

    def test_watch_mode_ends_with_the_evals_or_an_interrupt(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.slurm.show([running("11")])
        with subprocess.Popen(
            [sys.executable, "-m", "evalmon_agent", "status", ".", "--watch"],
            env=exp.slurm.environ,
            cwd=exp.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            faults.wait_until(lambda: "RUNNING" in exp.log())
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
        said = "evalmon: interrupted: evals keep running; evalmon status --watch shows them again"
        assert (process.returncode, err.strip()) == (130, said)

    def test_a_closed_output_pipe_is_no_error(self, exp: Exp) -> None:
        exp.register(**{f"r1_e{n}": str(n) for n in range(100, 400)})
        exp.slurm.show([])
        exp.observer().observe_once(at_least_s=0)
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m evalmon_agent status . | head -c 10 >/dev/null"],
            env={**exp.slurm.environ, "PATH": os.environ["PATH"]},
            cwd=exp.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""

    def test_output_that_cannot_be_written_is_a_one_line_error(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "evalmon_agent", "status", "."],
                env=exp.slurm.environ,
                cwd=exp.root,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        said = "evalmon: No space left on device; free some space, then run it again\n"
        assert (done.returncode, done.stderr) == (74, said)


class TestMetrics:
    def figures(self, exp: Exp, *ids: str) -> tuple[int, list[dict[str, object]]]:
        done = evalmon(exp, "metrics", "--json", *ids)
        return done.returncode, json.loads(done.stdout)

    def test_seffs_figures_are_shown_where_it_has_them(self, exp: Exp) -> None:
        exp.slurm.show([ended("11")])
        exp.slurm.measure(ended("11"))
        status, (one,) = self.figures(exp, "11")
        assert (status, one["job_id"], one["state"], one["source"]) == (0, "11", "COMPLETED", "seff")
        assert one["cpu_efficiency_pct"] == 12.5

    @pytest.mark.parametrize("how", ["no data", "broken", "absent", "running in it", "failed"])
    def test_accountings_figures_are_shown_where_seff_has_none(self, exp: Exp, how: str) -> None:
        exp.slurm.show([ended("11")])
        if how == "broken":
            exp.slurm.fail("seff", "Can't locate Slurmdb.pm in @INC", rc=2)
        elif how == "absent":
            exp.slurm.remove("seff")
        elif how == "running in it":
            exp.slurm.measure(ended("11", "RUNNING"))
        elif how == "failed":
            exp.slurm.measure(ended("11"))
            exp.slurm.after("seff", "exit 2\n")
        status, (one,) = self.figures(exp, "11")
        assert (status, one["source"], one["elapsed_s"]) == (0, "sacct", 292.0)

    def test_an_unknown_job_is_reported_and_counts_as_an_error(self, exp: Exp) -> None:
        exp.slurm.show([ended("11")])
        done = evalmon(exp, "metrics", "11", "12")
        assert (done.returncode, done.stderr) == (1, "evalmon: 12: no such job in Slurm's accounting\n")
        assert "unknown" in done.stdout

    def test_a_job_in_an_unknown_state_of_a_later_slurm_is_shown(self, exp: Exp) -> None:
        exp.slurm.show([ended("11", "PETRIFIED")])
        status, (one,) = self.figures(exp, "11")
        assert (status, one["state"], one["elapsed_s"]) == (0, None, 292.0)

    def test_out_of_memory_below_the_limit_is_explained_by_sampling(self, exp: Exp) -> None:
        exp.slurm.show([ended("11", "OUT_OF_MEMORY"), ended("12")])
        done = evalmon(exp, "metrics", "11", "12")
        [note] = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
        assert note.startswith("note: 11: the memory figure (38% of the request) is sampled and missed the peak")

    def test_an_array_id_means_all_its_tasks(self, exp: Exp) -> None:
        exp.slurm.show([ended("11_0"), ended("11_1", "FAILED")])
        status, found = self.figures(exp, "11")
        assert (status, [one["job_id"] for one in found]) == (0, ["11_0", "11_1"])

    def test_without_sacct_or_its_answer_metrics_ends_with_69(self, exp: Exp) -> None:
        exp.slurm.fail("sacct", "sacct: error: Problem talking to the database: Connection refused")
        done = evalmon(exp, "metrics", "11")
        assert (done.returncode, done.stdout) == (69, "")
        assert "Problem talking to the database" in done.stderr
        exp.slurm.remove("sacct")
        assert evalmon(exp, "metrics", "11").returncode == 69


class TestStop:
    def test_stop_cancels_the_monitor_jobs_and_no_eval(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        done = evalmon(exp, "stop", ".")
        assert (done.returncode, done.stderr) == (0, "")
        assert exp.slurm.calls("scancel") == ["scancel -Q 1004 1005"]
        assert "Reason: evalmon stop\nJobs ended: 1004 1005" in exp.blocks("MONITOR_STOPPED")[0]

    def test_stop_reports_only_monitor_jobs_that_were_not_over(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        (exp.slurm.directory / "queue" / "1004").unlink()
        assert evalmon(exp, "stop", ".").stdout == "Stopped monitoring (cancelled job 1005). Evals keep running.\n"
        (exp.slurm.directory / "queue" / "1005").unlink()
        assert "no monitor job was left" in evalmon(exp, "stop", ".").stdout

    @pytest.mark.survives("F18")
    def test_a_later_job_with_a_monitor_jobs_id_is_not_cancelled(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        for job_id in ("1004", "1005"):
            (exp.slurm.directory / "queue" / job_id).unlink()
        exp.slurm.show([running("1004", command="/home/me/other.sh"), running("1005_7", command="/home/me/array.sh")])
        assert "no monitor job was left" in evalmon(exp, "stop", ".").stdout
        assert exp.slurm.calls("scancel") == []

    def test_without_scancel_stop_ends_with_69(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.slurm.remove("scancel")
        assert evalmon(exp, "stop", ".").returncode == 69


def test_an_empty_argument_is_not_the_working_directory(exp: Exp) -> None:
    done = evalmon(exp, "submit", "")
    assert (done.returncode, done.stdout) == (2, "")
    assert exp.slurm.calls() == []


@pytest.mark.survives("F19")
def test_on_partitions_of_whole_nodes_no_sidecar_is_started_and_that_is_reported(exp: Exp) -> None:
    exp.slurm.answer("scontrol", "SelectType              = select/linear\n")
    done = evalmon(exp, "submit", ".")
    assert "gives whole nodes; a sidecar would take one" in done.stderr
    assert "evalmon-sidecar" not in [name for _, name in exp.slurm.accepted()]
    assert "evalmon-completion" in [name for _, name in exp.slurm.accepted()]


@pytest.mark.parametrize("body", ["complete", "sidecar"])
def test_invalid_settings_cost_running_monitor_jobs_only_a_log_block(exp: Exp, body: str) -> None:
    settings = {"poll_interval": 1, "seff_retry_delay": 0, "notify": [f"mailtos://me:{SECRET}@example.org"]}
    (exp.root / "evalmon.yaml").write_text(json.dumps(settings))
    evalmon(exp, "submit", ".")
    tokens = {entry.submission.what: entry.token for entry in exp.experiment.ledger.entries()}
    token = tokens["completion" if body == "complete" else body]
    kept = Path(exp.experiment.kept_settings(token)).read_text()
    assert json.loads(kept)["poll_interval"] == 1
    assert SECRET not in kept
    (exp.root / "evalmon.yaml").write_text("poll_intervall: 60\n")
    jobs = [ended(job_id, command=path, submitted=at) for job_id, path, at in launched(exp)]
    exp.slurm.show(jobs)
    for job in jobs:
        exp.slurm.measure(job)
    for row in (exp.slurm.directory / "queue").iterdir():
        row.unlink()
    done = evalmon(exp, body, ".", "--token", token)
    assert (done.returncode, done.stderr) == (0, "")
    [block] = exp.blocks("MONITOR_CONFIG")
    assert block.startswith("MONITOR_CONFIG: settings not applied\nError: ")
    assert "poll_intervall: no such setting" in block
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def launched(exp: Exp) -> list[tuple[str, str, int]]:
    """(job id, path of the submitted script, submit time) of each eval in the fake Slurm."""
    rows = [path.read_text().split("\x1f") for path in (exp.slurm.directory / "queue").iterdir()]
    return [(row[0].removeprefix("\x1e"), row[-2], int(row[2])) for row in rows if row[-2].endswith("_epoch0.slurm")]
