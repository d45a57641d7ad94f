"""Tests that no trouble of evalmon's affects the command."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_a_job import (
    HOOK,
    PYTHON,
    RUN,
    Experiment,
    call,
    children_of,
    environ,
    needs_strace,
    session_of,
    started,
)

import as_root
import second_user
from as_root import needs_root
from faults import wait_until

# Ends with 5 a moment after it has caught SIGTERM.
CATCHES_TERM = ["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"]


def strace(*injections: str) -> list[str]:
    return ["strace", "-f", "-o", "/dev/null", *(word for what in injections for word in ("-e", f"inject={what}"))]


def strace_us_only(*injections: str) -> list[str]:
    """Detach the command as soon as it is the expected program."""
    return [*strace(*injections), "-b", "execve"]


def is_unharmed(experiment: Experiment) -> bool:
    done = experiment.run("--", "sh", "-c", "echo out; echo err >&2; exit 6")
    return (done.returncode, done.stdout, done.stderr) == (6, "out\n", "err\n")


def test_a_missing_monitor_directory_is_not_created(experiment: Experiment) -> None:
    experiment.monitor.rmdir()
    assert is_unharmed(experiment)
    assert list(experiment.directory.iterdir()) == []


@pytest.mark.survives("S2")
@pytest.mark.parametrize("which", ["monitor", "jobs"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_directory_that_others_can_write_is_refused(experiment: Experiment, which: str, mode: int) -> None:
    experiment.jobs.mkdir(mode=0o700)
    getattr(experiment, which).chmod(mode)
    assert is_unharmed(experiment)
    assert list(experiment.jobs.iterdir()) == []


def test_a_directory_that_others_can_read_is_used(experiment: Experiment) -> None:
    experiment.monitor.chmod(0o750)
    assert is_unharmed(experiment)
    assert experiment.has_report()


@pytest.mark.survives("S2")
@needs_root
@pytest.mark.parametrize("which", ["monitor", "jobs"])
def test_another_users_directory_is_refused(experiment: Experiment, which: str) -> None:
    experiment.jobs.mkdir(mode=0o700)
    with as_root.given(getattr(experiment, which)):
        assert is_unharmed(experiment)
    assert list(experiment.jobs.iterdir()) == []


@pytest.mark.survives("S2")
@needs_root
def test_another_users_settings_cause_no_report(tmp_path: Path) -> None:
    settings = tmp_path / "evalmon.yaml"
    settings.touch()
    as_root.give(settings)
    call([*RUN, "--", "true"], environ(SLURM_JOB_ID="1"), cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["evalmon.yaml"]


@pytest.mark.survives("S2")
@pytest.mark.parametrize("what", ["a file of ours", "our link", "their link", "a directory", "a link to a directory"])
def test_only_the_users_own_settings_cause_a_report(tmp_path: Path, what: str) -> None:
    experiment, mine = tmp_path / "study", tmp_path / "mine.yaml"
    experiment.mkdir()
    mine.touch()
    settings = experiment / "evalmon.yaml"
    if what == "a file of ours":
        settings.touch()
    elif what == "a directory":
        settings.mkdir()
    else:
        settings.symlink_to(tmp_path if what.endswith("directory") else mine)
    if what == "their link":
        second_user.give(settings)
    call([*RUN, "--", "true"], environ(SLURM_JOB_ID="1"), cwd=experiment)
    is_ours = what in {"a file of ours", "our link"}
    assert sorted(os.listdir(experiment)) == (["evalmon", "evalmon.yaml"] if is_ours else ["evalmon.yaml"])


@pytest.mark.survives("S1")
@pytest.mark.parametrize("which", ["monitor", "jobs"])
def test_a_symbolic_link_in_place_of_a_directory_is_refused(experiment: Experiment, which: str) -> None:
    victim = experiment.directory / "victim"
    victim.mkdir(mode=0o700)
    place = getattr(experiment, which)
    if place.exists():
        place.rmdir()
    place.symlink_to(victim)
    assert is_unharmed(experiment)
    assert list(victim.iterdir()) == []


@pytest.mark.survives("S1")
def test_a_link_fifo_or_directory_in_place_of_the_report_does_no_harm(experiment: Experiment) -> None:
    victim = experiment.directory / "victim"
    victim.write_text("untouched")
    experiment.jobs.mkdir(mode=0o700)
    place = experiment.jobs / "123.json"
    for plant in (lambda: place.symlink_to(victim), lambda: os.mkfifo(place), place.mkdir):
        plant()
        assert is_unharmed(experiment)
        assert len(experiment.report()["attempts"]) == 1
        place.unlink()
        for aside in experiment.jobs.iterdir():
            aside.rmdir() if aside.is_dir() and not aside.is_symlink() else aside.unlink()
    hard = experiment.jobs / "123.json"
    hard.hardlink_to(victim)
    assert is_unharmed(experiment)
    assert victim.read_text() == "untouched"


# For as_root.in_namespace: mounts a tmpfs with `jobs` in it, owned by the user, and changes into it.
MOUNT = 'mount -t tmpfs -o {},mode=700 none "$1"; cd "$1"; mkdir -m 700 jobs; chown -R $ME .'


@pytest.mark.survives("F2", "F22")
@needs_root
@pytest.mark.parametrize(
    "prepare",
    [
        f"{MOUNT.format('size=64k')}; ! cat /dev/zero 2>/dev/null >full",
        f"{MOUNT.format('nr_inodes=3')}; touch a",
        f"{MOUNT.format('size=64k')}; mount -o remount,ro .",
    ],
    ids=["full", "no inodes", "read-only"],
)
def test_a_full_or_read_only_file_system_does_no_harm(experiment: Experiment, prepare: str) -> None:
    command = [*RUN, "--", "sh", "-c", "echo out; exit 6"]
    then_list = ["sh", "-c", f'"$@"; s=$?; ls -A {experiment.jobs}; exit $s', "sh", *command]
    argv = as_root.in_namespace(prepare, experiment.monitor, words=then_list, environ=experiment.environ())
    done = call(argv, environ())
    assert (done.returncode, done.stdout, done.stderr) == (6, "out\n", "")


@pytest.mark.survives("F2")
@needs_root
def test_a_start_that_could_not_be_written_is_reported_with_the_end(experiment: Experiment) -> None:
    where = experiment.monitor
    command = [*RUN, "--", "sh", "-c", f"sleep 0.3; rm -f {where}/full; exit 6"]
    then_show = ["sh", "-c", f'"$@"; cat {where}/jobs/*', "sh", *command]
    prepare = f"{MOUNT.format('size=64k')}; rmdir jobs; ! cat /dev/zero 2>/dev/null >full"
    done = call(as_root.in_namespace(prepare, where, words=then_show, environ=experiment.environ()), environ())
    (attempt,) = json.loads(done.stdout)["attempts"]
    assert attempt["commands"][0]["exit_code"] == 6
    assert attempt["notes"] == ["start not reported: No space left on device"]


@pytest.mark.survives("F2", "F22")
@needs_strace
@pytest.mark.parametrize("error", ["EIO", *(pytest.param(e, marks=pytest.mark.full) for e in ("ESTALE", "ETIMEDOUT"))])
@pytest.mark.parametrize("which", ["fsync", "renameat", "fchmod", "mkdirat"])
def test_an_end_that_could_not_be_written_is_written_again(experiment: Experiment, which: str, error: str) -> None:
    """The first call of each writer fails, at the start and at the end."""
    argv = [*strace(f"{which}:error={error}:when=1"), *RUN, "--", "sh", "-c", "sleep 0.3; exit 6"]
    done = call(argv, experiment.environ())
    assert (done.returncode, done.stderr) == (6, "")
    (attempt,) = experiment.report()["attempts"]
    assert attempt["commands"][0]["exit_code"] == 6
    why = os.strerror(getattr(errno, error))
    assert [why in note for note in attempt["notes"]] == [True, True]
    assert [path.name for path in experiment.jobs.iterdir()] == ["123.json"]


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS"])
def test_an_end_that_can_never_be_written_does_not_delay_the_job(experiment: Experiment, error: str) -> None:
    before = time.monotonic()
    done = call([*strace(f"fsync:error={error}"), *RUN, "--", "sh", "-c", "exit 6"], experiment.environ())
    assert (done.returncode, done.stderr) == (6, "")
    assert time.monotonic() - before < 1.5
    assert list(experiment.jobs.iterdir()) == []


@pytest.mark.survives("F5")
@needs_strace
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EAGAIN", "EIO"])
def test_a_file_system_without_locks_is_no_problem(experiment: Experiment, error: str) -> None:
    done = call([*strace(f"flock:error={error}"), *RUN, "--", "sh", "-c", "exit 6"], experiment.environ())
    assert done.returncode == 6
    assert experiment.report()["attempts"][0]["notes"] == []


def test_a_lock_held_by_another_process_is_waited_for_only_briefly(experiment: Experiment) -> None:
    experiment.jobs.mkdir(mode=0o700)
    hold = ["flock", str(experiment.jobs), "sh", "-c", "echo held; sleep 30"]
    with started(hold, environ()) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        before = time.monotonic()
        assert is_unharmed(experiment)
        assert time.monotonic() - before < 3
    assert experiment.report()["attempts"][0]["commands"][0]["exit_code"] == 6


@pytest.fixture
def frozen(experiment: Experiment, tmp_path: Path) -> Iterator[Experiment]:
    """The experiment is on a frozen ext4: writers hang and no signal reaches them."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    where = str(experiment.monitor)
    make = ["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), where], ["chmod", "700", where]
    if not as_root.has_root or any(as_root.run(*argv, check=False).returncode for argv in make):
        pytest.skip("needs root, mkfs.ext4 and a loop device")
    try:
        as_root.give(where, user=os.geteuid(), group=os.getegid())
        experiment.jobs.mkdir(mode=0o700)
        as_root.run("fsfreeze", "-f", where)
        yield experiment
    finally:
        as_root.run("fsfreeze", "-u", where, check=False)
        wait_until(lambda: as_root.run("umount", where, check=False).returncode == 0)


@pytest.mark.survives("F22")
def test_a_hanging_file_system_delays_neither_signals_nor_the_end(frozen: Experiment) -> None:
    with started([*RUN, "--", *CATCHES_TERM], frozen.environ()) as run:
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(0.5)
        before = time.monotonic()
        run.terminate()
        assert run.stdout.read() == ""
        assert time.monotonic() - before < 1
        assert run.wait(timeout=30) == 5
        assert 1.8 < time.monotonic() - before < 4
        as_root.run("fsfreeze", "-u", frozen.monitor)
        wait_until(lambda: not session_of(run.pid))


# How the C library makes a process, and a child of posix_spawn.
SPAWN = "clone,clone3,vfork"


@pytest.mark.survives("F24")
@needs_strace
@pytest.mark.parametrize("nth", [1, 2, 3, 4, "1+"])
def test_the_command_runs_even_if_no_further_process_can_be_created(experiment: Experiment, nth: int | str) -> None:
    """No process can be created for the command, the canary, either report, or any of them."""
    command = ["sh", "-c", "echo out; exit 6"]
    done = call([*strace(f"{SPAWN}:error=EAGAIN:when={nth}"), *RUN, "--", *command], experiment.environ())
    assert (done.returncode, done.stdout, done.stderr) == (6, "out\n", "")


@needs_strace
def test_a_command_that_run_became_has_runs_mask_dispositions_and_mark(experiment: Experiment) -> None:
    argv = [*RUN, "--", "cat", "/proc/self/status", "/proc/self/environ"]
    done = call([*strace(f"{SPAWN}:error=ENOMEM:when=1"), *argv], experiment.environ())
    lines = done.stdout.splitlines()
    assert {f"SigBlk:\t{0:016x}", f"SigIgn:\t{0:016x}"} < set(lines)
    assert lines[-1].split("\0")[-2] == "EVALMON_UNMONITORED=123"


@pytest.mark.survives("F24")
@needs_strace
def test_a_command_without_a_helper_process_still_gets_each_signal(experiment: Experiment) -> None:
    argv = [*strace(f"{SPAWN}:error=EAGAIN:when=2"), *RUN, "--", *CATCHES_TERM]
    with started(argv, experiment.environ(), stderr=None) as tracer:
        assert tracer.stdout is not None
        tracer.stdout.readline()
        os.kill(children_of(tracer.pid)[0], signal.SIGTERM)
        assert tracer.wait(timeout=10) == 5


def syscalls_of_our_own(experiment: Experiment) -> list[tuple[str, int]]:
    """Each system call of `run` from its first own one on, as a name and its number among calls of that name."""
    log = experiment.directory / "trace"
    call(["strace", "-f", "-b", "execve", "-o", str(log), *RUN, "--", "true"], experiment.environ())
    lines = [re.match(r"(\d+) +(\w+)\(", line) for line in log.read_text().splitlines()]
    calls = [(match[1], match[2]) for match in lines if match]
    first = next(i for i, line in enumerate(log.read_text().splitlines()) if "~[KILL STOP RTMIN RT_1]" in line)
    main = calls[0][0]
    seen: dict[tuple[str, str], int] = {}
    sites = []
    for index, (thread, name) in enumerate(calls):
        seen[thread, name] = seen.get((thread, name), 0) + 1
        is_ours = (thread == main and index >= first) or name in {"fsync", "fchmod", "flock", "mkdirat", "renameat"}
        if is_ours and name not in {"exit_group", "execve"}:
            sites.append((name, seen[thread, name]))
    return sites


def kill_at(experiment: Experiment, name: str, nth: int) -> None:
    """Whenever `run` was killed: the command ran once or not at all, and nothing is left behind."""
    mark = experiment.directory / "mark"
    mark.unlink(missing_ok=True)
    command = ["sh", "-c", f"echo begin >>{mark}; echo end >>{mark}"]
    argv = [*strace_us_only(f"{name}:signal=KILL:when={nth}"), *RUN, "--", *command]
    with started(argv, experiment.environ(), stdout=None, stderr=None) as tracer:
        assert tracer.wait(timeout=20) in {-signal.SIGKILL, 0}
        wait_until(lambda: not session_of(tracer.pid))
    assert not mark.exists() or mark.read_text() == "begin\nend\n"
    for path in experiment.jobs.glob("*.json"):
        json.loads(path.read_text())
    assert not list(experiment.jobs.glob("*.corrupt-*"))


@needs_strace
def test_a_kill_of_run_at_every_tenth_system_call_does_no_harm(experiment: Experiment) -> None:
    sites = syscalls_of_our_own(experiment)
    assert len(sites) > 50
    for name, nth in sites[::10]:
        kill_at(experiment, name, nth)


@pytest.mark.full
@needs_strace
def test_a_kill_of_run_at_any_system_call_does_no_harm(experiment: Experiment) -> None:
    for name, nth in syscalls_of_our_own(experiment):
        kill_at(experiment, name, nth)


SHADOWS = ["json", "os", "signal", "resource", "fcntl", "stat", "time", "contextlib", "evalmon_agent", "sitecustomize"]


@pytest.mark.survives("S13")
def test_files_beside_the_script_and_python_variables_have_no_effect_on_run(
    experiment: Experiment, tmp_path: Path
) -> None:
    where = tmp_path / "where"
    where.mkdir()
    for name in SHADOWS:
        (where / f"{name}.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'a').write({name!r})\n")
    more = {"PYTHONPATH": str(where), "PYTHONHOME": "/nowhere", "PYTHONINSPECT": "1", "PYTHONVERBOSE": "1"}
    done = call([*RUN, "--", "sh", "-c", "echo $PYTHONHOME; exit 6"], experiment.environ(**more), cwd=where)
    assert (done.returncode, done.stdout, done.stderr) == (6, "/nowhere\n", "")
    assert experiment.has_report()
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no command given"),
        (["--"], "no command given"),
        (["--nmae", "x", "true"], "unrecognized arguments: --nmae"),
        (["-x", "true"], "unrecognized arguments: -x"),
        (["--name"], "argument --name: expected one argument"),
        (["--script=1", "true"], "argument --script: ignored explicit argument '1'"),
        *(
            (
                ["--sample-interval", text, "true"],
                f"argument --sample-interval: {text} is not within 1 and 86400 seconds",
            )
            for text in ("0", "0.5", "-1", "nan", "inf", "x", "1e9")
        ),
    ],
)
def test_wrong_usage_is_reported_in_one_line_with_2(words: list[str], message: str) -> None:
    done = call([*RUN, *words], environ())
    expected = f"evalmon run: {message}; see evalmon run --help\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_printed(word: str) -> None:
    done = call([*RUN, word], environ())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: evalmon run [OPTIONS] [--] CMD...\n")


def test_a_sample_interval_is_accepted(experiment: Experiment) -> None:
    assert experiment.run("--sample-interval", "1.5", "--", "true").returncode == 0


def test_run_works_by_the_name_that_the_shell_finds(experiment: Experiment) -> None:
    console_script = Path(sys.executable).with_name("evalmon")
    if not console_script.exists():
        pytest.skip("evalmon is not installed beside this Python")
    inner = shlex.join([str(console_script), "run", "--", "sh", "-c", "exit 6"])
    done = call([str(console_script), "run", "--", "sh", "-c", f"{inner}"], experiment.environ())
    assert done.returncode == 6
    assert len(experiment.report()["attempts"][0]["commands"]) == 1


def test_a_signal_during_the_last_report_does_not_change_the_end(experiment: Experiment) -> None:
    script = "for i in 1 2 3 4 5 6; do kill -TERM $PPID; done; exit 6"
    with started([*RUN, "--", "sh", "-c", script], experiment.environ(), stdout=None, stderr=subprocess.DEVNULL) as run:
        assert run.wait(timeout=10) in {6, -signal.SIGTERM}


@pytest.mark.survives("F24")
@pytest.mark.parametrize("files", range(5, 12))
def test_with_few_file_descriptors_the_command_runs_and_gets_signals(experiment: Experiment, files: int) -> None:
    if call(limited(files, [*PYTHON, "-c", "import evalmon_agent.agent.run"]), environ()).returncode:
        pytest.skip("Python itself does not start; evalmon's launcher then does without us")
    with started(limited(files, [*RUN, "--", *CATCHES_TERM]), experiment.environ()) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.terminate()
        assert run.wait(timeout=10) == 5


def limited(files: int, argv: list[str]) -> list[str]:
    return ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *argv]


@pytest.mark.survives("S4")
def test_a_name_with_a_line_break_is_printed_on_one_line(experiment: Experiment) -> None:
    done = experiment.run("--", "no\nsuch\x1b[31m\udcff")
    assert done.stderr == "evalmon run: no\\nsuch\\x1b[31m\\udcff: No such file or directory\n"


@pytest.mark.survives("S1")
def test_a_trailing_slash_does_not_make_a_symbolic_link_followed(experiment: Experiment, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(victim)
    assert experiment.run("--", "true", EVALMON_DIR=f"{link}/").returncode == 0
    assert list(victim.iterdir()) == []


@needs_root
def test_without_proc_the_command_runs_unmonitored(experiment: Experiment) -> None:
    def hidden(*words: str) -> subprocess.CompletedProcess[str]:
        argv = as_root.in_namespace("mount -t tmpfs none /proc", words=words, environ=experiment.environ())
        return call(argv, environ())

    done = hidden(*RUN, "--", "sh", "-c", "echo out; exit 6")
    assert (done.returncode, done.stdout, done.stderr) == (6, "out\n", "")
    assert hidden(*HOOK).stdout == ":\n"
