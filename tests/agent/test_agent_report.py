"""Tests what `evalmon run` reports about a job."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from in_a_job import RUN, Experiment, call, children_of, environ, needs_strace, settle, started

from faults import wait_until


def test_a_job_is_reported_from_start_to_end(experiment: Experiment) -> None:
    output = experiment.directory / "out"
    more = {"EVALMON_NAME": "run/task/epoch1", "EVALMON_OUTPUT_DIR": str(output), "SLURM_JOB_END_TIME": "1790000000"}
    argv = [*RUN, "--token", "t-1", "--script", "--", "/bin/../bin/script", "sk-secret"]
    before = time.time()
    script = experiment.directory / "cell.slurm"
    script.write_text("#!/bin/sh\nsleep 0.3\nexit 3\n")
    argv[-2:] = [str(script), "sk-secret"]
    with started(argv, experiment.environ(**more)) as run:
        wait_until(experiment.has_report)
        during = experiment.report()
        assert run.wait(timeout=10) == 3
    report = experiment.report()
    (attempt,) = report["attempts"]
    (command,) = attempt["commands"]
    assert attempt.pop("sampler")["ended"] == "SIGTERM"
    assert (attempt.pop("programs", []), attempt.pop("programs_left_out", 0)) == ([], 0)
    assert command.pop("witness", {"by": "environment"})["by"] == "environment"
    assert before <= attempt["started_at"] <= attempt["ended_at"] <= time.time()
    assert 0.3 <= attempt["elapsed_s"] <= 3
    end = {"ended_at": attempt["ended_at"], "elapsed_s": attempt["elapsed_s"], "exit_code": 3, "signal": None}
    expected_command = {"program": "cell.slurm", "pid": command["pid"], "started_at": attempt["started_at"]}
    expected = {
        "schema": 1,
        "job_id": "123",
        "raw_id": 123,
        "cluster": "test",
        "name": "run/task/epoch1",
        "job_name": None,
        "uid": os.getuid(),
        "attempts": [
            {
                "restart": 0,
                "token": "t-1",
                "host": socket.gethostname(),
                "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                "node": None,
                "nodes": None,
                "started_at": attempt["started_at"],
                "time_limit_end": 1790000000,
                "output_dir": str(output),
                "interpreter": sys.executable,
                "scope": "job",
                "notes": [],
                "commands": [expected_command | end],
            }
            | end
        ],
    }
    assert report == expected
    nothing = dict.fromkeys(end)
    expected["attempts"][0] |= nothing | {"commands": [expected_command | nothing]}
    assert during == expected
    assert "secret" not in (experiment.jobs / "123.json").read_text()


def test_options_take_precedence_over_the_environment(experiment: Experiment, tmp_path: Path) -> None:
    other = Experiment(tmp_path)
    more = {"EVALMON_NAME": "a", "EVALMON_OUTPUT_DIR": "/a"}
    experiment.run("--name=b", "--output-dir", "/b", "--dir", str(other.monitor), "--", "true", **more)
    assert not experiment.jobs.exists()
    assert other.report()["name"] == "b"
    assert other.report()["attempts"][0]["output_dir"] == "/b"


def test_an_empty_option_is_ignored(experiment: Experiment) -> None:
    experiment.run("--name", "", "--output-dir=", "--dir=", "--", "true", EVALMON_NAME="a")
    assert experiment.report()["name"] == "a"


def test_a_relative_output_dir_is_relative_to_the_working_directory(experiment: Experiment, tmp_path: Path) -> None:
    call([*RUN, "--output-dir", "x", "--", "true"], experiment.environ(), cwd=tmp_path)
    assert experiment.report()["attempts"][0]["output_dir"] == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("more", "job"),
    [
        ({"SLURM_ARRAY_JOB_ID": "120", "SLURM_ARRAY_TASK_ID": "4"}, "120_4"),
        ({"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "122", "SLURM_JOB_ID_HET_GROUP_1": "123"}, "122+1"),
        ({"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "77", "SLURM_JOB_ID_HET_GROUP_1": "78"}, "123"),
        ({"SLURM_STEP_ID": "2", "SLURM_PROCID": "7"}, "123.2.7"),
        ({"SLURM_STEP_ID": "2"}, "123.2.0"),
        ({"SLURM_ARRAY_JOB_ID": "../../x", "SLURM_ARRAY_TASK_ID": "4"}, "123"),
        ({"SLURM_STEP_ID": "/etc"}, "123"),
    ],
)
def test_the_report_is_named_by_slurms_job_id(experiment: Experiment, more: dict[str, str], job: str) -> None:
    experiment.run("--", "true", **more)
    assert [path.name for path in experiment.jobs.iterdir()] == [f"{job}.json"]
    report = experiment.report(job)
    assert (report["raw_id"], report["job_id"]) == (123, job.partition(".")[0])


@pytest.mark.survives("S6", "S7")
@pytest.mark.parametrize("job", ["../123", "1;rm", "--help", "", "1_2", "\uff11\uff12\uff13", "9" * 30])
def test_an_invalid_job_id_makes_no_report(experiment: Experiment, job: str) -> None:
    done = experiment.run("--", "echo", "hello", SLURM_JOB_ID=job)
    assert done.stdout == "hello\n"
    assert not experiment.jobs.exists()


def test_a_launched_script_is_the_job_even_if_it_inherits_a_step(experiment: Experiment) -> None:
    script = experiment.directory / "s"
    script.write_text("#!/bin/sh\n")
    experiment.run("--script", "--", str(script), SLURM_STEP_ID="0", SLURM_PROCID="0")
    assert experiment.report()["attempts"][0]["scope"] == "job"


def test_the_batch_shell_itself_is_the_job(experiment: Experiment) -> None:
    script = 'SLURM_TASK_PID=$$ exec "$@"'
    call(["sh", "-c", script, "sh", *RUN, "--", "sh", "-c", "exit 4"], experiment.environ())
    (attempt,) = experiment.report()["attempts"]
    assert (attempt["scope"], attempt["exit_code"]) == ("job", 4)


def test_several_parts_of_one_script_are_commands_of_one_attempt(experiment: Experiment) -> None:
    for status in (0, 1, 2):
        experiment.run("--", "sh", "-c", f"exit {status}")
    (attempt,) = experiment.report()["attempts"]
    assert attempt["scope"] == "part"
    assert [command["exit_code"] for command in attempt["commands"]] == [0, 1, 2]
    assert (attempt["exit_code"], attempt["ended_at"], attempt["elapsed_s"]) == (None, None, None)
    assert attempt["started_at"] == attempt["commands"][0]["started_at"]


def test_parallel_parts_do_not_overwrite_each_other(experiment: Experiment) -> None:
    loop = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do "$@" $i & done; wait'
    command = [*RUN, "--", "sh", "-c", "sleep 0.0$0; exit $0"]
    call(["sh", "-c", loop, "sh", *command], experiment.environ())
    (attempt,) = experiment.report()["attempts"]
    assert sorted(command["exit_code"] for command in attempt["commands"]) == list(range(1, 13))


def test_a_requeue_is_another_attempt(experiment: Experiment) -> None:
    script = experiment.directory / "s"
    script.write_text("#!/bin/sh\nexit ${SLURM_RESTART_COUNT:-9}\n")
    for restart in ("", "1", "2"):
        experiment.run("--script", "--token", "t", "--", str(script), SLURM_RESTART_COUNT=restart)
    attempts = experiment.report()["attempts"]
    assert [attempt["restart"] for attempt in attempts] == [0, 1, 2]
    assert [attempt["exit_code"] for attempt in attempts] == [9, 1, 2]


def test_a_later_job_with_the_same_id_is_another_attempt(experiment: Experiment) -> None:
    script = experiment.directory / "s"
    script.write_text("#!/bin/sh\nexit $1\n")
    experiment.run("--script", "--", str(script), "1")
    experiment.run("--script", "--", str(script), "2")
    assert [attempt["exit_code"] for attempt in experiment.report()["attempts"]] == [1, 2]


def test_an_inherited_array_id_does_not_affect_that_tasks_report(experiment: Experiment) -> None:
    """sbatch from inside an array task passes SLURM_ARRAY_* on to a job that is in no array."""
    array = {"SLURM_ARRAY_JOB_ID": "120", "SLURM_ARRAY_TASK_ID": "4"}
    experiment.run("--", "true", SLURM_JOB_ID="124", **array)
    before = experiment.report("120_4")
    experiment.run("--", "false", **array)
    assert experiment.report("120_4") == before
    assert experiment.report("123")["attempts"][0]["commands"][0]["exit_code"] == 1


def test_names_that_are_not_utf8_are_readable_for_strict_readers(experiment: Experiment) -> None:
    experiment.run("--name", "a\udcff\n\x1b[31m", "--", "true")
    text = (experiment.jobs / "123.json").read_text(encoding="ascii")
    assert json.loads(text)["name"] == "a�\n\x1b[31m"
    assert "\\ud" not in text.lower()


def test_a_report_can_be_read_by_its_owner_only(experiment: Experiment) -> None:
    call(["sh", "-c", 'umask 0; exec "$@"', "sh", *RUN, "--", "true"], experiment.environ())
    assert experiment.jobs.stat().st_mode & 0o777 == 0o700
    assert (experiment.jobs / "123.json").stat().st_mode & 0o777 == 0o600


BROKEN = [
    b"",
    b"{",
    b"\0" * 100,
    b"[]",
    b"{}",
    b'{"schema": 1}',
    b'{"schema": 1, "attempts": {}}',
    b'{"schema": 1, "attempts": [1]}',
    b'{"schema": 1, "attempts": [{"notes": [], "commands": [1]}]}',
    b'{"schema": "1", "attempts": []}',
    b'{"schema": 1, "attempts": [], "x": NaN}',
    b'{"schema": 1, "attempts": [], "x": -1e999}',
    b"[" * 100_000,
    b"\xff\xfe",
    b" " * (5 << 20),
]


@pytest.mark.survives("F10")
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_an_invalid_report_is_set_aside(experiment: Experiment, content: bytes) -> None:
    experiment.jobs.mkdir(mode=0o700)
    (experiment.jobs / "123.json").write_bytes(content)
    experiment.run("--", "true")
    assert len(experiment.report()["attempts"]) == 1
    (aside,) = experiment.jobs.glob("123.json.corrupt-*")
    assert aside.read_bytes() == content


@pytest.mark.survives("F11")
def test_a_newer_report_is_left_as_it_is(experiment: Experiment) -> None:
    experiment.jobs.mkdir(mode=0o700)
    content = b'{"schema": 2, "attempts": []}'
    (experiment.jobs / "123.json").write_bytes(content)
    assert experiment.run("--", "sh", "-c", "exit 5").returncode == 5
    assert {path.name: path.read_bytes() for path in experiment.jobs.iterdir()} == {"123.json": content}


@pytest.mark.survives("F11")
def test_unknown_fields_are_kept(experiment: Experiment) -> None:
    experiment.run("--", "true")
    report: dict[str, Any] = experiment.report()
    report["new"] = report["attempts"][0]["new"] = report["attempts"][0]["commands"][0]["new"] = [1]
    (experiment.jobs / "123.json").write_text(json.dumps(report))
    experiment.run("--", "false")
    after = experiment.report()
    assert after["new"] == after["attempts"][0]["new"] == after["attempts"][0]["commands"][0]["new"] == [1]
    assert len(after["attempts"][0]["commands"]) == 2


def test_a_report_has_a_bounded_size(experiment: Experiment) -> None:
    experiment.run("--", "true")
    report = experiment.report()
    commands = report["attempts"][0]["commands"]
    commands[:] = [commands[0] | {"pid": number} for number in range(1000)]
    (experiment.jobs / "123.json").write_text(json.dumps(report))
    experiment.run("--", "false")
    after = experiment.report()["attempts"][0]["commands"]
    assert (len(after), after[-1]["exit_code"]) == (1000, 1)


def test_a_run_inside_a_run_of_the_same_job_is_that_runs_command(experiment: Experiment) -> None:
    inner = " ".join([*RUN, "--name", "inner", "--", "sh", "-c", "'echo $PPID; exit 7'"])
    done = experiment.run("--name", "outer", "--", "sh", "-c", f"echo $$; {inner}")
    shell, parent = done.stdout.split()
    assert (done.returncode, done.stderr, parent) == (7, "", shell)
    report = experiment.report()
    assert (report["name"], len(report["attempts"][0]["commands"])) == ("outer", 1)


def test_a_run_of_another_job_inside_a_run_reports_for_itself(experiment: Experiment) -> None:
    """As in a `salloc` inside a `run`."""
    inner = " ".join(["SLURM_JOB_ID=124", *RUN, "--", "true"])
    experiment.run("--", "sh", "-c", f"{inner}; true")
    assert [experiment.has_report(job) for job in ("123", "124")] == [True, True]


def test_the_nearest_experiment_is_used_if_none_is_named(experiment: Experiment, tmp_path: Path) -> None:
    below = experiment.directory / "run" / "eval"
    below.mkdir(parents=True)
    (tmp_path / "evalmon.yaml").touch()
    (experiment.monitor / "registry.jsonl").touch()
    job = environ(SLURM_JOB_ID="123")
    call([*RUN, "--", "true"], job, cwd=below)
    assert len(experiment.report()["attempts"][0]["commands"]) == 1
    call([*RUN, "--", "true"], job | {"SLURM_SUBMIT_DIR": str(below)}, cwd="/")
    assert len(experiment.report()["attempts"][0]["commands"]) == 2
    assert not (tmp_path / "evalmon").exists()


def test_a_settings_file_marks_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "evalmon.yaml").touch()
    done = call([*RUN, "--", "true"], environ(SLURM_JOB_ID="123"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "evalmon").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "evalmon/jobs/123.json").exists()


def test_without_an_experiment_nothing_is_created(tmp_path: Path) -> None:
    done = call([*RUN, "--", "sh", "-c", "exit 3"], environ(SLURM_JOB_ID="123"), cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "evalmon run: EVALMON_DIR is not set and no evalmon.yaml found: nothing is reported\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.survives("F1")
@needs_strace
def test_a_reader_never_sees_a_partial_report(experiment: Experiment) -> None:
    """The file is never written to: a new one is always complete on disk before it gets the name."""
    log = experiment.directory / "trace"
    trace = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=openat,write,fsync,rename,renameat,renameat2"]
    call([*trace, *RUN, "--", "true"], experiment.environ())
    calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines() if "/jobs" in line]
    kinds = [call.partition("(")[0] for call in calls if "123.json" in call or call.startswith("fsync")]
    for kind in ("write", "fsync", "rename", "fsync"):
        index = next(index for index, found in enumerate(kinds) if found.startswith(kind))
        kinds = kinds[index + 1 :]
    assert not any('"123.json", O_WRONLY' in call or '"123.json", O_RDWR' in call for call in calls)


def test_a_killed_command_is_recorded_with_its_signal(experiment: Experiment) -> None:
    with started([*RUN, "--", "sleep", "30"], experiment.environ(), stdout=None, stderr=None) as run:
        settle(experiment, run.pid)
        os.kill(children_of(run.pid)[0], signal.SIGKILL)
        assert run.wait(timeout=10) == -signal.SIGKILL
    (command,) = experiment.report()["attempts"][0]["commands"]
    assert (command["exit_code"], command["signal"]) == (None, signal.SIGKILL)


@pytest.mark.survives("S20")
def test_a_job_submitted_by_an_eval_does_not_report_as_that_eval(experiment: Experiment, tmp_path: Path) -> None:
    """It inherits the eval's variables; the experiment's directory tells which job a report belongs to."""
    (experiment.directory / "evalmon.yaml").touch()
    parents = Experiment(tmp_path)
    more = {"EVALMON_NAME": "a", "EVALMON_OUTPUT_DIR": str(tmp_path / "out"), "EVALMON_DIR": str(parents.monitor)}
    inherited = {**more, "EVALMON_JOB_ID": "122", "SLURM_SUBMIT_DIR": str(experiment.directory)}
    assert experiment.run("--", "true", **inherited).returncode == 0
    assert not parents.jobs.exists()
    report = experiment.report()
    assert (report["name"], report["attempts"][0]["output_dir"]) == (None, None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more",
    [
        {"EVALMON_JOB_ID": "123"},
        {"EVALMON_JOB_ID": "122", "SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "122"}
        | {"SLURM_JOB_ID_HET_GROUP_1": "123"},
        {"EVALMON_JOB_ID": ""},
    ],
    ids=["the same", "a part of it", "unknown"],
)
def test_a_step_of_the_evals_job_reports_as_that_eval(experiment: Experiment, more: dict[str, str]) -> None:
    experiment.run("--", "true", EVALMON_NAME="a", **more)
    [report] = experiment.jobs.glob("*.json")
    assert json.loads(report.read_text())["name"] == "a"
