"""The commands as a user runs them, where a real Slurm cannot be made to answer so."""

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
from evalmon_agent.files.marker import Holder
from experiments import Exp, ended, pending, running

SECRET = "hf_canary_0123456789"
HEADER = "#!/bin/sh\n#SBATCH --time=5\n"


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    (found.root / "evalmon.yaml").write_text('{"poll_interval": 1}')
    for name in ("a", "b", "c"):
        script(found, name)
    return found


def script(exp: Exp, name: str) -> Path:
    path = exp.root / "r1" / "eval" / f"{name}_epoch0.slurm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "true\n")
    return path


def evalmon(exp: Exp, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "evalmon_agent", *words],
        check=False,
        env={**exp.slurm.environ, "HF_TOKEN": SECRET, **env},
        cwd=exp.root,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert "Traceback" not in done.stderr
    assert "/proc/self/fd" not in done.stdout + done.stderr
    return done


class TestSubmit:
    def test_what_slurm_refuses_gets_a_line_each_and_the_rest_is_registered(self, exp: Exp) -> None:
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
    def test_a_refused_completion_job_and_sidecar_are_told_and_cost_no_eval(self, exp: Exp) -> None:
        for ours in ("completion", "sidecar"):
            exp.slurm.refuse(f"evalmon-{ours}", "sbatch: error: Access/permission denied")
        done = evalmon(exp, "submit", ".")
        assert done.returncode == 1
        assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" completion job", " sidecar"]
        assert len(exp.slurm.accepted()) == 3

    def test_an_output_that_slurm_cannot_write_is_warned_of_and_submitted_all_the_same(self, exp: Exp) -> None:
        exp.slurm.answer("version", "slurm-wlm 22.05.8\n")
        path = script(exp, "a")
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

    def test_a_second_time_nothing_is_submitted(self, exp: Exp) -> None:
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
    def test_a_pattern_is_looked_for_here_and_then_in_the_experiment(self, exp: Exp, where: str) -> None:
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

    def test_what_a_pattern_fits_is_not_named_so_nobody_else_can_leave_it_there(self, exp: Exp) -> None:
        (exp.root / "r1" / "eval" / "a_epoch0.slurm").chmod(0o666)
        done = evalmon(exp, "submit", ".", "r1/eval/*.slurm")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "a_epoch0.slurm: anybody can write it" in done.stderr
        assert evalmon(exp, "submit", ".", "r1/eval/a_epoch0.slurm", "r1/eval/[bc]*").returncode == 0

    def test_when_all_are_over_the_summary_is_not_promised_for_later(self, exp: Exp) -> None:
        assert "\nsummary, once all are over: /" in evalmon(exp, "submit", ".", "--mode", "dependency").stdout
        over = Exp(exp.root.parent / "over")
        over.register(r1_a="11")
        over.slurm.show([ended("11")])
        over.observe_to_the_end()
        assert "\nsummary: /" in evalmon(over, "retry", ".").stdout

    def test_in_mode_dependency_there_is_no_sidecar(self, exp: Exp) -> None:
        assert evalmon(exp, "submit", ".", "--mode", "dependency").returncode == 0
        assert "evalmon-sidecar" not in [name for _, name in exp.slurm.accepted()]

    @pytest.mark.survives("S11")
    def test_no_secret_and_little_of_the_environment_is_in_what_is_written(self, exp: Exp) -> None:
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
    def test_an_eval_s_output_of_one_line_stays_one_line(self, exp: Exp) -> None:
        (exp.root / "r1" / "eval" / "x\nevalmon: forged_epoch0.slurm").write_text("true\n")
        done = evalmon(exp, "submit", ".")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "x\\nevalmon: forged" in done.stderr

    def test_a_name_of_arbitrary_bytes_is_refused_before_anything_is_made(self, exp: Exp) -> None:
        script(exp, "ok").with_name(os.fsdecode(b"t\xff_epoch0.slurm")).write_text(HEADER)
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
        twice = script(exp, "a").with_name("a_epoch0") / "cell.slurm"
        twice.parent.mkdir()
        twice.write_text(HEADER)
        assert "are both named r1/a/epoch0" in evalmon(exp, "submit", ".").stderr
        twice.unlink()
        assert "chmod go-w" in evalmon(exp, "submit", ".").stderr
        exp.ours.chmod(0o700)
        assert "sbatch is not on PATH" in evalmon(exp, "submit", ".").stderr
        assert os.listdir(exp.ours) == []


class TestLocked:
    def test_who_holds_the_lock_is_told_after_a_while_and_readers_read(self, exp: Exp) -> None:
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
    def test_every_command_ends_with_78_and_leaves_it_as_it_is(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        path = exp.ours / "state.json"
        path.write_text('{"schema": 2, "evals": []}')
        for command in ("status", "report", "submit", "stop", "complete"):
            done = evalmon(exp, command, ".")
            assert (done.returncode, done.stderr.count("\n")) == (78, 1), command
            assert "written by a newer evalmon; upgrade this one" in done.stderr
            assert path.read_text() == '{"schema": 2, "evals": []}'


class TestStatus:
    def test_its_exit_status_says_how_it_stands(self, exp: Exp) -> None:
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

    def test_it_asks_slurm_only_if_nobody_else_did_of_late(self, exp: Exp) -> None:
        (exp.root / "evalmon.yaml").write_text("poll_interval: 60\n")
        exp.register(r1_a="11")
        exp.slurm.show([running("11")])
        for _ in range(2):
            evalmon(exp, "status", ".")
        assert len(exp.slurm.calls("squeue")) == 1

    def test_without_slurm_it_says_what_the_files_say(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.slurm.show([running("11")])
        exp.observer().observe_once(at_least_s=0)
        done = evalmon(exp, "status", ".", "--json", PATH="/nonexistent")
        assert (done.returncode, json.loads(done.stdout)["counts"]) == (3, {"RUNNING": 1})

    def test_watching_ends_with_the_evals_or_with_an_interrupt(self, exp: Exp) -> None:
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

    def test_a_reader_that_went_away_is_no_error(self, exp: Exp) -> None:
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

    def test_an_answer_that_cannot_be_printed_is_an_error_in_one_line(self, exp: Exp) -> None:
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

    def test_seff_s_figures_where_it_has_them(self, exp: Exp) -> None:
        exp.slurm.show([ended("11")])
        exp.slurm.measure(ended("11"))
        status, (one,) = self.figures(exp, "11")
        assert (status, one["job_id"], one["state"], one["source"]) == (0, "11", "COMPLETED", "seff")
        assert one["cpu_efficiency_pct"] == 12.5

    @pytest.mark.parametrize("how", ["no data", "broken", "absent", "running in it"])
    def test_accounting_s_where_seff_has_none(self, exp: Exp, how: str) -> None:
        exp.slurm.show([ended("11")])
        if how == "broken":
            exp.slurm.fail("seff", "Can't locate Slurmdb.pm in @INC", rc=2)
        elif how == "absent":
            exp.slurm.remove("seff")
        elif how == "running in it":
            exp.slurm.measure(ended("11", "RUNNING"))
        status, (one,) = self.figures(exp, "11")
        assert (status, one["source"], one["elapsed_s"]) == (0, "sacct", 292.0)

    def test_a_job_that_nobody_knows_is_told_and_counts(self, exp: Exp) -> None:
        exp.slurm.show([ended("11")])
        done = evalmon(exp, "metrics", "11", "12")
        assert (done.returncode, done.stderr) == (1, "evalmon: 12: no such job in Slurm's accounting\n")
        assert "unknown" in done.stdout

    def test_a_job_in_a_state_of_a_later_slurm_is_known(self, exp: Exp) -> None:
        exp.slurm.show([ended("11", "PETRIFIED")])
        status, (one,) = self.figures(exp, "11")
        assert (status, one["state"], one["elapsed_s"]) == (0, None, 292.0)

    def test_memory_that_ran_out_below_the_limit_is_said_to_be_sampled(self, exp: Exp) -> None:
        exp.slurm.show([ended("11", "OUT_OF_MEMORY"), ended("12")])
        done = evalmon(exp, "metrics", "11", "12")
        [note] = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
        assert note.startswith("note: 11: the memory figure (38% of the request) is sampled and missed the peak")

    def test_an_array_is_all_its_tasks(self, exp: Exp) -> None:
        exp.slurm.show([ended("11_0"), ended("11_1", "FAILED")])
        status, found = self.figures(exp, "11")
        assert (status, [one["job_id"] for one in found]) == (0, ["11_0", "11_1"])

    def test_without_sacct_or_an_answer_it_ends_with_69(self, exp: Exp) -> None:
        exp.slurm.fail("sacct", "sacct: error: Problem talking to the database: Connection refused")
        done = evalmon(exp, "metrics", "11")
        assert (done.returncode, done.stdout) == (69, "")
        assert "Problem talking to the database" in done.stderr
        exp.slurm.remove("sacct")
        assert evalmon(exp, "metrics", "11").returncode == 69


class TestStop:
    def test_it_ends_our_jobs_and_no_eval(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        done = evalmon(exp, "stop", ".")
        assert (done.returncode, done.stderr) == (0, "")
        assert exp.slurm.calls("scancel") == ["scancel -Q 1004 1005"]
        assert "Reason: evalmon stop\nJobs ended: 1004 1005" in exp.blocks("MONITOR_STOPPED")[0]

    def test_of_our_jobs_it_tells_those_that_were_not_over(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        (exp.slurm.directory / "queue" / "1004").unlink()
        assert evalmon(exp, "stop", ".").stdout == "Stopped monitoring (cancelled job 1005). Evals keep running.\n"
        (exp.slurm.directory / "queue" / "1005").unlink()
        assert "no monitor job was left" in evalmon(exp, "stop", ".").stdout

    @pytest.mark.survives("F18")
    def test_a_later_job_with_the_id_of_one_of_ours_is_left_alone(self, exp: Exp) -> None:
        evalmon(exp, "submit", ".")
        for job_id in ("1004", "1005"):
            (exp.slurm.directory / "queue" / job_id).unlink()
        exp.slurm.show([running("1004", command="/home/me/other.sh"), running("1005_7", command="/home/me/array.sh")])
        assert "no monitor job was left" in evalmon(exp, "stop", ".").stdout
        assert exp.slurm.calls("scancel") == []

    def test_without_scancel_it_ends_with_69(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.slurm.remove("scancel")
        assert evalmon(exp, "stop", ".").returncode == 69


def test_an_unset_variable_is_not_the_working_directory(exp: Exp) -> None:
    done = evalmon(exp, "submit", "")
    assert (done.returncode, done.stdout) == (2, "")
    assert exp.slurm.calls() == []


@pytest.mark.survives("F19")
def test_where_every_job_takes_whole_nodes_there_is_no_sidecar_and_that_is_said(exp: Exp) -> None:
    exp.slurm.answer("scontrol", "SelectType              = select/linear\n")
    done = evalmon(exp, "submit", ".")
    assert "gives whole nodes; a sidecar would take one" in done.stderr
    assert "evalmon-sidecar" not in [name for _, name in exp.slurm.accepted()]
    assert "evalmon-completion" in [name for _, name in exp.slurm.accepted()]


@pytest.mark.parametrize("body", ["complete", "sidecar"])
def test_a_bad_edit_of_the_settings_costs_our_jobs_nothing_but_a_block(exp: Exp, body: str) -> None:
    settings = {"poll_interval": 1, "seff_retry_delay": 0, "notify": [f"mailtos://me:{SECRET}@example.org"]}
    (exp.root / "evalmon.yaml").write_text(json.dumps(settings))
    evalmon(exp, "submit", ".")
    tokens = {entry.submission.what: entry.token for entry in exp.experiment.ledger.entries()}
    token = tokens["completion" if body == "complete" else body]
    kept = Path(exp.experiment.kept_settings(token)).read_text()
    assert json.loads(kept)["poll_interval"] == 1
    assert SECRET not in kept
    (exp.root / "evalmon.yaml").write_text("poll_intervall: 60\n")
    exp.slurm.show([ended(job_id, command=path, submitted=at) for job_id, path, at in launched(exp)])
    for row in (exp.slurm.directory / "queue").iterdir():
        row.unlink()
    done = evalmon(exp, body, ".", "--token", token)
    assert (done.returncode, done.stderr) == (0, "")
    [block] = exp.blocks("MONITOR_CONFIG")
    assert block.startswith("MONITOR_CONFIG: settings not applied\nError: ")
    assert "poll_intervall: no such setting" in block
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def launched(exp: Exp) -> list[tuple[str, str, int]]:
    """(job id, the path of what was submitted, its Submit) of each eval that the fake Slurm has."""
    rows = [path.read_text().split("\x1f") for path in (exp.slurm.directory / "queue").iterdir()]
    return [(row[0].removeprefix("\x1e"), row[-2], int(row[2])) for row in rows if row[-2].endswith("_epoch0.slurm")]
