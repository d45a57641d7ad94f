"""Tests that each check of `evalmon doctor` reports the problem with advice and changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import as_root
import evalmon_agent
import faults
from evalmon_agent.checks.finding import Finding
from evalmon_agent.commands.doctor import doctor, exit_status
from evalmon_agent.files.lock import Holder
from evalmon_agent.slurm.client import Slurm
from experiments import Exp, ended, running
from fake_slurm import US

CHECKS = ["settings", "directory", "file system", "lock", "clock", "records", "interpreter", "programs", "version"]
CHECKS += ["controller", "accounting", "seff", "partitions"]


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    found.register(r1_a="11")
    found.slurm.show([running("11")])
    found.observer().observe_once(at_least_s=0)
    return found


def findings(exp: Exp, check: str, *, experiment: bool = True) -> list[Finding]:
    slurm = Slurm(exp.slurm.environ)
    found = doctor(exp.experiment if experiment else None, slurm, environ=exp.slurm.environ)
    return [one for one in found if one.check == check]


def finding(exp: Exp, check: str) -> Finding:
    found = findings(exp, check)
    assert len(found) == 1, found
    return found[0]


def evalmon(exp: Exp, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return exp.evalmon("doctor", *words, cwd="/", env=env)


def tree(exp: Exp) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in exp.root.rglob("*") if path.is_file()}


class TestTheCommand:
    def test_doctor_checks_everything_and_changes_nothing(self, exp: Exp) -> None:
        before = tree(exp)
        done = evalmon(exp, str(exp.root))
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert {line.split()[0] for line in lines} <= {"ok", "warning"}
        assert [name for name in CHECKS if not any(line[9:].startswith(name) for line in lines)] == []
        assert tree(exp) == before

    def test_json_output_has_the_same_findings(self, exp: Exp) -> None:
        rows = json.loads(evalmon(exp, str(exp.root), "--json").stdout)
        assert {frozenset(row) for row in rows} == {frozenset({"check", "level", "line", "advice"})}
        assert list(dict.fromkeys(row["check"] for row in rows)) == CHECKS

    def test_without_an_experiment_the_cluster_is_checked(self, exp: Exp) -> None:
        rows = json.loads(evalmon(exp, "--json").stdout)
        assert list(dict.fromkeys(row["check"] for row in rows)) == CHECKS[6:]

    def test_a_missing_experiment_is_wrong_usage(self, exp: Exp) -> None:
        done = evalmon(exp, str(exp.root / "gone"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)

    def test_the_exit_status_is_that_of_the_first_problem_that_a_command_would_meet(self, exp: Exp) -> None:
        exp.slurm.remove("sbatch")
        assert evalmon(exp, str(exp.root)).returncode == 69
        exp.ours.chmod(0o770)
        assert evalmon(exp, str(exp.root)).returncode == 2
        (exp.root / "evalmon.yaml").write_text("poll_intervall: 1")
        done = evalmon(exp, str(exp.root))
        assert done.returncode == 78
        problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
        assert len(problems) == 3

    @pytest.mark.survives("S4")
    def test_outside_text_stays_on_its_line(self, exp: Exp) -> None:
        exp.slurm.fail("squeue", "\x1b[31mslurm_load_jobs error\x1b[0m: \u202eUnable to contact slurm controller")
        done = evalmon(exp, str(exp.root))
        assert done.returncode == 69
        assert "squeue gives no answer: \\x1b[31mslurm_load_jobs error\\x1b[0m: \\u202eUnable" in done.stdout
        assert not set("\x1b\u202e") & set(done.stdout)

    def test_a_problem_without_a_status_of_its_own_ends_with_1(self) -> None:
        assert exit_status([Finding("x", "warning", "")]) == 0
        assert exit_status([Finding("x", "problem", ""), Finding("y", "ok", "", exit_status=69)]) == 1


class TestTheExperiment:
    def test_a_directory_that_does_not_exist_yet_is_ok(self, tmp_path: Path) -> None:
        found = finding(Exp(tmp_path), "directory")
        assert (found.level, found.line.endswith("does not exist yet and can be created")) == ("ok", True)

    def test_a_private_directory_is_ok(self, exp: Exp) -> None:
        assert finding(exp, "directory").line.endswith("can be written by you only (mode 0700)")

    @pytest.mark.survives("S2")
    def test_a_directory_that_others_can_write_is_reported_with_the_chmod(self, exp: Exp) -> None:
        exp.ours.chmod(0o707)
        found = finding(exp, "directory")
        assert (found.level, found.exit_status, found.advice) == ("problem", 2, f"run: chmod go-w {exp.ours}")

    @pytest.mark.survives("S2")
    @as_root.needs_root
    def test_another_users_directory_is_reported(self, exp: Exp) -> None:
        with as_root.given(exp.ours):
            assert finding(exp.anew(), "directory").line.startswith(f"{exp.ours} belongs to nobody")

    def test_invalid_settings_are_reported_and_the_other_checks_run(self, exp: Exp) -> None:
        (exp.root / "evalmon.yaml").write_text("poll_interval: soon")
        found = finding(exp, "settings")
        assert (found.level, found.exit_status) == ("problem", 78)
        assert "poll_interval must be a number" in found.line
        assert finding(exp, "controller").level == "ok"

    @pytest.mark.survives("F5")
    def test_the_kind_of_lock_and_its_reason_are_reported(self, exp: Exp) -> None:
        assert finding(exp, "lock").line.startswith("flock, chosen on ")
        (exp.ours / "lock.json").write_text('{"kind":"soft","filesystem":"gpfs","host":"n1","why":"because"}')
        assert finding(exp, "lock").line == "soft, chosen on n1: because"
        (exp.ours / "lock.json").unlink()
        assert finding(exp, "lock").line.startswith("flock would be used: ")

    @pytest.mark.survives("F5")
    def test_a_host_whose_lock_other_hosts_do_not_see_is_reported(self, exp: Exp) -> None:
        (exp.ours / "lock.json").write_text('{"kind":"flock","filesystem":"nfs4","host":"n1"}')
        found = finding(exp, "lock")
        assert (found.level, found.exit_status) == ("problem", 75)
        assert found.advice.startswith("run evalmon on n1, or once no monitor runs remove ")

    @pytest.mark.survives("F5")
    @faults.needs_strace
    def test_without_any_working_lock_another_file_system_is_advised(self, exp: Exp) -> None:
        (exp.ours / "lock.json").unlink()

        def work() -> None:
            found = finding(exp, "lock")
            assert found.line.endswith("flock is refused here; but its marker cannot be made: there are no hard links")
            assert (found.level, found.exit_status) == ("problem", 75)
            assert found.advice == "use another file system for the experiment"

        refused = ("-e", "inject=flock:error=ENOSYS", "-e", "inject=link,linkat:error=EPERM")
        assert faults.under(work, "-e", "trace=flock,link,linkat", *refused) == 0

    @as_root.needs_root
    def test_the_file_systems_type_and_options_are_reported(self, tmp_path: Path) -> None:
        with as_root.mounted(tmp_path / "mount", "-t", "ramfs", "none") as place:
            exp = Exp(place)
            assert finding(exp, "file system").line.startswith(f"ramfs mounted at {place} (")
            assert finding(exp, "lock").line.startswith("flock would be used: ramfs is of one machine")

    @pytest.mark.survives("F6")
    def test_a_lock_held_on_another_host_is_reported(self, exp: Exp) -> None:
        (exp.ours / "lock.json").write_text('{"kind":"soft","filesystem":"gpfs","host":"n1"}')
        (exp.ours / "state.json.lock").write_bytes(Holder(5, "n7", 1).text)
        found = findings(exp, "lock")[1]
        assert (found.level, found.line) == ("warning", "held just now by process 5 on n7")

    @as_root.needs_root
    def test_a_read_only_file_system_is_reported_and_nothing_raised(self, tmp_path: Path) -> None:
        with as_root.mounted(tmp_path / "mount", "-t", "tmpfs", "none") as place:
            exp = Exp(place)
            as_root.run("mount", "-o", "remount,ro", place)
            found = finding(exp, "directory")
            assert (found.level, "you cannot write there" in found.line) == ("problem", True)
            assert findings(exp, "clock") == []

    @as_root.needs_root
    def test_a_full_file_system_is_reported_and_nothing_raised(self, tmp_path: Path) -> None:
        with faults.small_disk(tmp_path / "disk", kib=128) as place:
            exp = Exp(place)
            subprocess.run(["cp", "/dev/zero", place / "ballast"], stderr=subprocess.DEVNULL, check=False)
            found = finding(exp, "clock")
            assert (found.level, "No space left" in found.line) == ("problem", True)

    @pytest.mark.survives("F12")
    def test_unreadable_files_are_counted(self, exp: Exp) -> None:
        assert finding(exp, "records").level == "ok"
        with (exp.ours / "registry.jsonl").open("a") as file:
            file.write('{"kind":"inte')
        (exp.ours / "jobs" / "12.json").write_text('{"schema":1,"job_')
        (exp.ours / "state.json").write_text("{")
        exp.observer().record()
        lines = [one.line for one in findings(exp, "records")]
        assert lines[0] == f"1 line of {exp.ours}/registry.jsonl cannot be read"
        assert lines[1] == f"1 in {exp.ours}/jobs cannot be used: 12.json"
        assert lines[2].startswith("a state was set aside 1 time: state.json.corrupt-")

    @pytest.mark.survives("F11")
    def test_a_state_of_a_newer_evalmon_is_reported(self, exp: Exp) -> None:
        path = exp.ours / "state.json"
        path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2'))
        before = path.read_bytes()
        found = finding(exp, "records")
        assert (found.exit_status, "newer evalmon" in found.line) == (78, True)
        assert path.read_bytes() == before

    @pytest.mark.survives("F9")
    @pytest.mark.parametrize(
        ("ahead_s", "level", "says"),
        [(-400, "warning", "s ahead of"), (400, "warning", "s behind"), (5000, "problem", "s behind")],
    )
    def test_a_difference_from_the_file_servers_clock_is_reported(
        self, exp: Exp, tmp_path: Path, ahead_s: int, level: str, says: str
    ) -> None:
        library = another_clock(tmp_path, ahead_s)
        rows = json.loads(evalmon(exp, str(exp.root), "--json", LD_PRELOAD=str(library)).stdout)
        [row] = [row for row in rows if row["check"] == "clock"]
        assert row["level"] == level
        apart = re.search(r"is (\d+\.\d) (s \w+(?: of)?) this host's", row["line"])
        assert apart
        assert apart[2] == says
        assert abs(ahead_s) == pytest.approx(float(apart[1]), abs=1)


class TestTheCluster:
    @pytest.mark.parametrize(("name", "level"), [("squeue", "problem"), ("sacct", "warning"), ("scancel", "warning")])
    def test_a_missing_program_is_reported(self, exp: Exp, name: str, level: str) -> None:
        exp.slurm.remove(name)
        found = finding(exp, "programs")
        assert (found.level, name in found.line) == (level, True)
        assert found.exit_status == (69 if level == "problem" else 1)

    def test_an_old_slurm_is_reported(self, exp: Exp) -> None:
        exp.slurm.answer("version", "slurm 17.11.2\n")
        assert finding(exp, "version").level == "warning"

    def test_disabled_accounting_is_reported_with_its_consequences(self, exp: Exp) -> None:
        exp.slurm.fail("sacct", "Slurm accounting storage is disabled")
        exp.slurm.answer("scontrol", "AccountingStorageType = accounting_storage/none\nMinJobAge = 30 sec\n")
        found = findings(exp, "accounting")
        assert [one.line for one in found] == ["off", "ended jobs leave squeue after 30 s (MinJobAge)"]
        assert found[0].advice.startswith("a job's end is then what squeue and the job itself say")

    def test_accounting_that_does_not_answer_is_not_called_disabled(self, exp: Exp) -> None:
        exp.slurm.fail("sacct", "sacct: error: Problem talking to the database: Connection refused")
        found = finding(exp, "accounting")
        assert (found.level, "Problem talking to the database" in found.line) == ("warning", True)

    def test_a_controller_that_does_not_answer_is_one_problem_and_nothing_more_is_asked(self, exp: Exp) -> None:
        exp.slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
        found = finding(exp, "controller")
        assert (found.level, found.exit_status) == ("problem", 69)
        assert findings(exp, "accounting") == []

    def test_a_seff_that_cannot_run_is_reported(self, exp: Exp) -> None:
        exp.slurm.fail("seff", "Can't locate Slurmdb.pm in @INC (you may need to install it)", rc=2)
        assert finding(exp, "seff").line.startswith("cannot run: Can't locate Slurmdb.pm in @INC")
        exp.slurm.remove("seff")
        assert finding(exp, "seff").line == "not installed; the figures come from sacct"

    def test_partitions_are_listed_and_compared_with_the_monitor_jobs(self, exp: Exp) -> None:
        rows = [("main*", "1-00:00:00", "NO", "n/a"), ("whole", "10:00", "EXCLUSIVE", "n/a")]
        exp.slurm.answer("sinfo", "".join(US.join(row) + "\n" for row in rows))
        assert finding(exp, "partitions").line == "main (default) 1-00:00:00, whole, whole nodes 00:10:00"
        settings = {"sidecar": {"partition": "whole"}, "completion": {"partition": "nowhere"}}
        (exp.root / "evalmon.yaml").write_text(json.dumps(settings))
        assert finding(exp, "sidecar.time").line == "1-00:00:00 is cut to the partition's limit, 10 minutes"
        assert "whole node" in finding(exp, "sidecar.partition").line
        found = finding(exp, "completion.partition")
        assert (found.level, found.advice) == ("problem", "set completion.partition to one of: main, whole")

    def test_an_experiment_that_is_over_gives_the_same_findings_as_a_running_one(self, exp: Exp) -> None:
        exp.slurm.show([ended("11")])
        exp.observe_to_the_end()
        assert [one for one in findings(exp, "records") if one.level != "ok"] == []


def another_clock(directory: Path, ahead_s: int) -> Path:
    """A library that sets a process's clock ahead by so many seconds, but not the file system's."""
    source, library = directory / "clock.c", directory / "clock.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *at) {\n"
        "  int rc = (int)syscall(SYS_clock_gettime, id, at);\n"
        f"  if (rc == 0 && id == CLOCK_REALTIME) at->tv_sec += {ahead_s};\n"
        "  return rc;\n}\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def test_an_interpreter_that_finds_evalmon_by_pythonpath_only_is_reported(exp: Exp) -> None:
    bare = Path(sys.executable).resolve()
    found_by = [str(Path(module.__file__ or "").parents[1]) for module in (evalmon_agent, msgspec)]
    environ = {**exp.slurm.environ, "PYTHONPATH": ":".join(found_by)}
    argv = [str(bare), "-m", "evalmon_agent", "doctor"]
    said = subprocess.run(argv, env=environ, cwd="/", capture_output=True, text=True, timeout=60, check=False).stdout
    assert f"in jobs {bare} does not find evalmon and all that it needs" in " ".join(said.split())
    assert "does not find evalmon" not in evalmon(exp).stdout
