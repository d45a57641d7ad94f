"""Tests that a batch script with `eval "$(evalmon hook)"` in it monitors itself."""

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from in_a_job import HOOK, PYTHON, Experiment, call, environ, needs_strace

import evalmon_agent

LINE = f'eval "$({shlex.join(HOOK)} $OPTIONS)"'

BODY = f"""
#SBATCH --time=5
{LINE}
echo "0=$0" "args=$*" "n=$#" "pid=$$" "parent=$PPID"
exit 6
"""


def batch(experiment: Experiment, script: Path, *words: str, **more: str) -> tuple[int, str, str]:
    """Run the script as slurmd does: the batch shell is SLURM_TASK_PID."""
    script.chmod(0o700)
    start = 'export SLURM_TASK_PID=$$; exec "$@"'
    environment = experiment.environ(OPTIONS="", **more) if "OPTIONS" not in more else experiment.environ(**more)
    done = call(["sh", "-c", start, "sh", str(script), *words], environment)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def script(tmp_path: Path) -> Path:
    directory = tmp_path / "it's a 'place'"
    directory.mkdir()
    return directory / "slurm script"


@pytest.mark.parametrize(
    "head",
    [
        "#!/bin/sh",
        "#!/bin/bash",
        "#!/bin/bash -l",
        "#!/bin/dash",
        "#!/usr/bin/env bash",
        "#!/bin/sh\nset -eu",
        "#!/bin/bash -e\nset -euo pipefail",
        "#!/bin/bash\nset -euo pipefail; exec 3>&1",
        "#!/bin/bash\nshopt -s execfail; trap 'echo left' EXIT",
    ],
)
def test_the_script_is_run_once_under_a_monitor(experiment: Experiment, script: Path, head: str) -> None:
    script.write_text(head + BODY)
    status, out, err = batch(experiment, script, "a b", "", "c")
    (attempt,) = experiment.report()["attempts"]
    (command,) = attempt["commands"]
    assert (status, attempt["exit_code"], attempt["scope"]) == (6, 6, "job")
    assert command["program"] == script.name
    expected = f"0={script} args=a b  c n=3 pid={command['pid']}"
    assert out.splitlines()[0].startswith(expected)
    assert err == ""


def test_options_are_passed_on(experiment: Experiment, script: Path) -> None:
    text = BODY.replace("$OPTIONS", '--name "it\'s \\$x `true`" --output-dir=/o\\ p')
    script.write_text("#!/bin/sh" + text)
    assert batch(experiment, script)[0] == 6
    report = experiment.report()
    assert report["name"] == "it's $x "
    assert report["attempts"][0]["output_dir"] == "/o p"


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_outside_a_job_the_script_runs_unmonitored(script: Path, shell: str) -> None:
    script.write_text("#!/bin/sh\nset -eu" + BODY)
    done = call([shell, str(script), "x"], environ(OPTIONS=""))
    assert done.returncode == 6
    assert done.stdout.startswith(f"0={script} args=x")
    assert done.stderr == "evalmon hook: not in a Slurm job: nothing is monitored\n"


@pytest.mark.parametrize("where", ["on a login node", "in an interactive job"])
def test_on_a_terminal_the_hook_prints_the_line_to_paste(where: str) -> None:
    ours, theirs = pty.openpty()
    more = {"SLURM_JOB_ID": "7"} if where == "in an interactive job" else {}
    words = [*HOOK, "--name", "a b"]
    try:
        done = subprocess.run(words, env=environ(**more), stdout=theirs, stderr=subprocess.PIPE, text=True, check=True)
        printed = os.read(ours, 1000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert printed == "eval \"$(evalmon hook --name 'a b')\"\r\n"
    assert done.stderr == "evalmon hook: put this line right below the #SBATCH lines of your script:\n"


def test_a_script_other_than_the_batch_script_runs_unmonitored(experiment: Experiment, script: Path) -> None:
    script.write_text("set -eu" + BODY)
    done = call(["bash", str(script)], experiment.environ(OPTIONS="", SLURM_TASK_PID="1"))
    assert done.returncode == 6
    assert done.stderr == "evalmon hook: not the batch script itself: nothing is monitored\n"
    assert not experiment.has_report()


def test_in_a_step_the_script_runs_unmonitored(experiment: Experiment, script: Path) -> None:
    script.write_text("#!/bin/sh\n" + BODY)
    status, _, err = batch(experiment, script, SLURM_STEP_ID="0")
    assert (status, err) == (6, "")
    assert not experiment.has_report()


@pytest.mark.parametrize("options", ["--nmae x", "surplus", "--name"])
def test_a_wrong_option_is_reported_and_the_script_runs(experiment: Experiment, script: Path, options: str) -> None:
    script.write_text("#!/bin/sh\nset -eu" + BODY)
    status, out, err = batch(experiment, script, OPTIONS=options)
    assert (status, out[:2], err.count("\n")) == (6, "0=", 1)
    assert err.startswith("evalmon hook: ")


def test_without_evalmon_the_script_runs(experiment: Experiment, script: Path) -> None:
    script.write_text("#!/bin/sh\nset -eu\n" + 'eval "$(/no/such/evalmon hook)"\nexit 6\n')
    assert batch(experiment, script)[0] == 6


def test_the_script_runs_if_the_interpreter_does_not_find_evalmon(experiment: Experiment, script: Path) -> None:
    """For example if it is found by PYTHONPATH only, which -E ignores."""
    source = Path(__file__).resolve().parents[2]
    bare = [str(Path(sys.executable).resolve()), "-S", "-c", f"import sys; sys.path.insert(0, {str(source)!r})"]
    bare[-1] += "; sys.executable = '/bin/false'; from evalmon_agent.agent.hook import main; main([])"
    script.write_text(f'#!/bin/sh\nset -eu\neval "$({shlex.join(bare)})"\nexit 6\n')
    status, _, err = batch(experiment, script)
    assert (status, err) == (6, "evalmon hook: /bin/false -E -P does not find evalmon: nothing is monitored\n")


@needs_strace
def test_a_hook_in_a_command_that_run_became_does_not_start_again(experiment: Experiment, script: Path) -> None:
    script.write_text("#!/bin/bash" + BODY)
    script.chmod(0o700)
    run = [*PYTHON, "-m", "evalmon_agent", "run", "--script", "--", str(script)]
    start = 'export SLURM_TASK_PID=$$; exec "$@"'
    argv = ["strace", "-o", "/dev/null", "-e", "trace=clone3,vfork", "-e", "inject=clone3,vfork:error=EAGAIN"]
    done = call(["sh", "-c", start, "sh", *argv, *run], experiment.environ(OPTIONS=""))
    assert done.returncode == 6
    assert done.stdout.count("0=") == 1


def test_the_printed_hook_is_one_line(experiment: Experiment) -> None:
    done = call([*HOOK, "--name=-a'b"], experiment.environ(SLURM_TASK_PID="5"))
    assert done.stdout.count("\n") == 1
    program = Path(evalmon_agent.__file__).with_name("__main__.py")
    words = shlex.join([sys.executable, "-E", "-P", str(program), "run", "--name=-a'b", "--script", "--"])
    assert f"""exec {words} "$0" "$@";""" in done.stdout


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_printed(word: str) -> None:
    done = call([*HOOK, word], environ())
    assert (done.returncode, done.stderr) == (0, "")
    assert 'eval "$(evalmon hook)"' in done.stdout


def test_the_hook_does_not_read_its_input(experiment: Experiment) -> None:
    reader, writer = os.pipe()
    try:
        assert call(HOOK, experiment.environ(), stdin=reader, timeout=20).returncode == 0
    finally:
        os.close(reader)
        os.close(writer)
