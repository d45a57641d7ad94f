"""Tests that the eval programs of a job are recorded with their logs, and neither other programs nor secrets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from in_a_job import RUN, Experiment, call, environ
from watched import INSPECT, Job, cgroup_of, ran, run_in_cgroup

from as_root import needs_root
from evalmon_agent.agent.children import SharedMemory
from evalmon_agent.agent.witness.programs import JobProcesses, Process, Program
from evalmon_agent.agent.witness.witness import Witness
from evalmon_agent.words.eval_processes import INSPECT as INSPECT_PROGRAM
from faults import wait_until

FULL = pytest.mark.full
JOBS_AT_ONCE = 2


@pytest.fixture
def job(experiment: Experiment) -> Iterator[Job]:
    with cgroup_of("123") as cgroup:
        yield Job(experiment, cgroup=cgroup)


@pytest.fixture(scope="module")
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Job]]]:
    """The jobs of all tests that are marked `ran`, some at a time: each takes seconds and computes next to nothing."""
    with ThreadPoolExecutor(JOBS_AT_ONCE) as pool:
        started = {}
        for item in request.session.items:
            mark = item.get_closest_marker("ran")
            if mark is not None and item.path == request.path:
                started[item.nodeid] = pool.submit(run_in_cgroup, tmp_path_factory.mktemp("job"), *mark.args)
        yield started


@pytest.fixture
def done(request: pytest.FixtureRequest, jobs: dict[str, Future[Job]]) -> Job:
    """The job that ran the script in the mark of the test."""
    return jobs[request.node.nodeid].result()


def logs_of(program: dict[str, Any]) -> list[str]:
    return [log["path"] for log in program["wrote"]]


@needs_root
@pytest.mark.survives("S11")
def test_an_eval_is_recorded_with_its_logs_and_without_secrets(job: Job) -> None:
    before = time.time()
    script = """
        sleep 0.3
        inspect eval t.py@good -M api_key=sesame --log-dir logs
        sleep 1
    """
    attempt = job.run(script, INSPECT_LOG_DIR="/a/logs", API_KEY="sesame")
    [program] = attempt["programs"]
    assert (program["kind"], program["verb"], program["words"]) == ("inspect-ai", "eval", ["t.py@good"])
    assert program["options"] == {"log-dir": ["logs"], "model-arg": ["..."]}
    assert program["environment"] == {"INSPECT_LOG_DIR": "/a/logs"}
    assert (program["cwd"], program["known_by"]) == (str(job.directory), "command-line")
    pid = program["pid"]
    assert logs_of(program) == [f"{job.directory}/logs/{name}{pid}.eval" for name in ("", "late-")]
    assert before < program["started_at"] < program["ended_at"] < time.time()
    assert program["ended_at"] - program["started_at"] == pytest.approx(1.6, abs=1)
    [command] = attempt["commands"]
    assert (command["witness"]["by"], command["witness"]["trouble"]) == ("cgroup", None)
    assert "sesame" not in json.dumps(job.experiment.report())


PERL = "perl -e 'sleep 9' & sleep 1.5; perl -e 'sleep 2; exec @ARGV'"
# As srun's tasks before their exec, and what a setuid starter begins: /proc/PID/exe cannot be read.
UNREADABLE = """python -c '
import ctypes, os, time
ctypes.CDLL(None).prctl(4, 0)
time.sleep(1.5)
os.execvp("inspect", ["inspect", "eval", "t.py"])'"""
FIFO = "mkfifo f; (sleep 1.5; echo > f) &"
LATER = {
    "exec keeps the pid of a shell": "bash -c 'sleep 1.5; exec inspect eval t.py'",
    "in a session of its own": "setsid -f bash -c 'sleep 0.5; inspect eval t.py; true'; sleep 4",
    "under a launcher": "timeout 60 env A=b nice inspect eval t.py",
    "in another step": "(echo $BASHPID > $STEP/cgroup.procs; exec inspect eval t.py)",
    "with an environment of its own": "env -i DATA=$DATA PATH=$PATH inspect eval t.py",
    "exec of a launcher like others": f"{PERL} inspect eval t.py",
    "exec of a shell that waits for no process": f"{FIFO} bash -c 'read < f; exec inspect eval t.py'",
    "exec of what may not be looked at": UNREADABLE,
    "whatever its script is called": "cp $(type -p inspect) run.py; python run.py",
}


@needs_root
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=ran(script, SECONDS_LONG="2.5")) for how, script in LATER.items()]
)
def test_an_eval_is_recorded_however_it_was_started(done: Job, how: str) -> None:
    [program] = done.programs()
    assert program["kind"] == "inspect-ai", how
    assert logs_of(program) == [f"{done.directory}/logs/{name}{program['pid']}.eval" for name in ("", "late-")]
    assert program["ended_at"] is not None


@needs_root
@ran("date +%s.%N >before; bash -c 'sleep 3; exec inspect eval t.py'")
def test_a_late_exec_keeps_the_processs_start_time(done: Job) -> None:
    [program] = done.programs()
    assert program["started_at"] > float((done.directory / "before").read_text()) + 1.5


@needs_root
@ran("inspect eval t.py; sleep 3", FORKS="1")
def test_forked_workers_belong_to_their_program_even_after_its_end(done: Job) -> None:
    [program] = done.programs()
    assert program["processes"] == 4
    assert program["ended_at"] - program["started_at"] > 2.4


@needs_root
@ran(
    "for rank in 0 1 2; do RANK=$rank lm_eval --tasks a & done; wait",
    AS_LM_EVAL="1",
    SECONDS_LONG="2.5",
)
def test_ranks_are_one_program(done: Job) -> None:
    [program] = done.programs()
    assert (program["processes"], program["options"]) == (3, {"tasks": ["a"]})


@needs_root
@ran("lm_eval --tasks a & lm_eval --tasks a & wait", AS_LM_EVAL="1", SECONDS_LONG="2")
def test_equal_commands_without_ranks_are_two_programs(done: Job) -> None:
    assert [program["processes"] for program in done.programs()] == [1, 1]


NO_EVALS = """
    mkfifo eval
    grep inspect eval &
    cp $(type -p inspect) other.py
    (exec -a inspect sleep 1.5) &
    python -c 'import time; time.sleep(1.5)' inspect eval &
    inspect list tasks &
    inspect eval --help &
    TRACE_PID=1 python other.py &
    sleep 2.5
    : >eval
"""


@needs_root
@ran(NO_EVALS)
def test_other_programs_are_not_recorded(done: Job) -> None:
    assert done.programs() == []


@needs_root
@ran("sleep 1.3; inspect eval t.py; sleep 1", SECONDS_LONG="0.02")
def test_an_eval_that_ends_between_two_checks_is_not_recorded(done: Job) -> None:
    """Only the end of the process shows that it ran, so nothing is claimed about it."""
    assert len(done.programs()) <= 1


@needs_root
@ran(
    "sleep 0.5; cp $(type -p inspect) run.py; python run.py; sleep 2",
    FIRST_LOG_AFTER_S="1.7",
    SECONDS_LONG="0",
)
def test_a_log_named_after_the_last_check_is_recorded_though_nothing_else_showed_an_eval(done: Job) -> None:
    [program] = done.programs()
    assert logs_of(program) == [f"{done.directory}/logs/{name}{program['pid']}.eval" for name in ("", "late-")]


@needs_root
@ran(
    "cp $(type -p inspect) run.py; for _ in 1 2 3; do inspect eval t.py; sleep 0.3; python run.py; sleep 0.3; done",
    OPENS_AFTER_S="1.1",
    SECONDS_LONG="0.6",
)
def test_a_file_that_a_young_eval_has_open_for_less_than_a_second_is_held(done: Job) -> None:
    names = [logs_of(program) for program in done.programs()]
    pids = [program["pid"] for program in done.programs()]
    assert names == [[f"{done.directory}/logs/{name}{pid}.eval" for name in ("", "late-")] for pid in pids]
    assert len(names) == 6


@needs_root
@ran("perl -e 'sleep 4; exec @ARGV' inspect eval t.py", OPENS_AFTER_S="1.2", SECONDS_LONG="1.6")
def test_an_eval_that_a_launcher_becomes_late_is_checked_as_often_as_a_new_one(done: Job) -> None:
    """Its trace file is open from 1.2 to 2.8 s after the exec, and it is known by its command line before that."""
    [program] = done.programs()
    assert logs_of(program) == [f"{done.directory}/logs/{name}{program['pid']}.eval" for name in ("", "late-")]


@needs_root
def test_recorded_programs_are_reported_before_a_kill(job: Job) -> None:
    with job.running("inspect eval t.py", SECONDS_LONG="30") as process:
        wait_until(lambda: job.experiment.has_report() and job.attempt().get("programs"), within_s=15)
        attempt = job.attempt()
        assert attempt["ended_at"] is None
        assert len(logs_of(attempt["programs"][0])) == 1
        job.kill()
        process.wait()
    assert job.attempt()["programs"] == attempt["programs"]


HOLDS_NOTHING = """
    inspect eval t.py
    sleep 0.1
    ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c "$DATA/.*trace-.*(deleted)" >held || true
"""


@needs_root
@ran(HOLDS_NOTHING)
def test_the_trace_file_is_closed_at_once(done: Job) -> None:
    """If it stayed open, NFS would keep the directory that a script removes."""
    [program] = done.programs()
    assert len(logs_of(program)) == 2
    assert (done.directory / "held").read_text() == "0\n"


IN_A_MOUNT_NAMESPACE = (
    "mkdir real mnt; unshare -rm bash -c '{} && cd mnt && mkdir logs && touch logs/$$.eval && "
    "exec inspect eval t.py --log-dir logs'"
)
MOUNTS = {True: "mount --bind real mnt", False: "mount -t tmpfs none mnt"}


@needs_root
@pytest.mark.parametrize(
    "is_same_file_system",
    [
        pytest.param(is_same, marks=ran(IN_A_MOUNT_NAMESPACE.format(mount), SECONDS_LONG="2.5"))
        for is_same, mount in MOUNTS.items()
    ],
)
def test_paths_of_a_mount_namespace_are_translated_or_unknown(done: Job, is_same_file_system: bool) -> None:
    [program] = done.programs()
    known = f"{done.directory}/real" if is_same_file_system else None
    assert program["cwd"] == known
    assert program["wrote"][0]["path"] == (known and f"{known}/logs/{program['pid']}.eval")
    assert program["wrote"][0]["name"] == f"{program['pid']}.eval"


@needs_root
@ran("unshare -rpf --mount-proc inspect eval t.py", SECONDS_LONG="2")
def test_in_a_pid_namespace_the_processs_own_pid_counts(done: Job) -> None:
    [program] = done.programs()
    assert program["is_in_pid_namespace"]
    assert program["wrote"][0]["name"] == "1.eval"


@FULL
def test_without_a_cgroup_a_process_is_recognised_by_the_job_id_in_its_environment(experiment: Experiment) -> None:
    job = Job(experiment, cgroup=None)
    attempt = job.run("setsid -f inspect eval t.py; sleep 13", SECONDS_LONG="12")
    [program] = attempt["programs"]
    assert logs_of(program)[0].endswith(f"/logs/{program['pid']}.eval")
    assert attempt["commands"][0]["witness"]["by"] == "environment"


def test_outside_a_job_there_is_no_witness(experiment: Experiment, tmp_path: Path) -> None:
    done = call([*RUN, "--output-dir", str(tmp_path / "out"), "--", "true"], environ())
    assert "nothing is reported" in done.stderr
    assert not experiment.jobs.exists()


API = """
from inspect_ai import eval
from tasks import good
eval(good(), display="none")
"""
REAL = {
    "the shortest": f"{INSPECT} eval tasks.py@good --display none --log-dir logs/$(date +%F)",
    "as a module, later": "sleep 2; python -m inspect_ai eval tasks.py@good --display none --no-log-realtime",
    "by the Python API": f"python -c '{API}'",
}


@needs_root
@pytest.mark.parametrize("script", REAL.values(), ids=REAL)
def test_a_real_eval_is_recorded_with_its_log(job: Job, script: str) -> None:
    attempt = job.run(script)
    [program] = attempt["programs"]
    [log] = job.directory.rglob("*.eval")
    assert logs_of(program) == [str(log)], attempt
    assert program["wrote"][0]["known_by"] in (["line"], ["line", "name"])


@FULL
@needs_root
@pytest.mark.parametrize("prefix", ["unshare -rpf --mount-proc", "unshare -rm", "setsid -w"])
def test_a_real_eval_in_a_namespace_is_recorded(job: Job, prefix: str) -> None:
    [program] = job.run(f"{prefix} {INSPECT} eval tasks.py@good --display none")["programs"]
    [log] = job.directory.rglob("*.eval")
    assert [entry["name"] for entry in program["wrote"]] == [log.name]


@FULL
@needs_root
def test_a_detached_eval_counts_for_its_launcher(job: Job) -> None:
    until_it_logs = "until compgen -G 'logs/*.eval' >found; do sleep 0.2; done; sleep 3"
    [program] = job.run(f"{INSPECT} eval tasks.py@good --detach >launched; {until_it_logs}")["programs"]
    [log] = job.directory.rglob("*.eval")
    assert logs_of(program) == [str(log)]
    assert program["processes"] >= 2


@needs_root
def test_a_killed_sampler_leaves_the_recorded_programs(job: Job) -> None:
    script = """
        inspect eval t.py &
        sleep 1.6
        for pid in $(cat /proc/$PPID/task/$PPID/children); do [ $pid = $$ ] || kill -9 $pid; done
        wait
    """
    [program] = job.run(script, SECONDS_LONG="4")["programs"]
    assert program["ended_at"] is None


def test_programs_beyond_the_limit_are_counted_once() -> None:
    shared = SharedMemory()
    witness = Witness(JobProcesses("cgroup", 1.0, list), shared, wake_run=lambda: None)
    for pid in range(8):
        process = Process(pid=pid, parent=1, start_ticks=0, started_at=0)
        cwd = "/" + "x" * 50_000
        program = Program(
            first=process, table=INSPECT_PROGRAM, command_line=None, started_at=0, directory=cwd, environment={}
        )
        witness._programs.append(program)
    for _ in range(2):
        witness._put()
        report = json.loads(shared.get())
        assert [program["pid"] for program in report["programs"]] == [0, 1, 2, 3, 4]
        assert report["witness"]["left_out"] == 3
