"""The launcher, run for real: by sh, dash and bash, with hostile names, with interpreters that do not start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalmon_agent.slurm.script import read_head
from evalmon_agent.submission.launcher import Monitored, interpreter_of, render

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox sh") if shutil.which(shell.split()[0])]
NOWHERE = "/nowhere/bin/python3"
SAY_ALL = """#!/bin/sh
printf '%s\\0' "$EVALMON_DIR" "$EVALMON_NAME" "$EVALMON_OUTPUT_DIR" "$@"
"""


def monitored(directory: Path, script: str = SAY_ALL, *, head: str = "", **more: Any) -> Monitored:
    """A launcher's facts for a script that lies in `directory`."""
    snapshot = directory / "cell.slurm"
    snapshot.write_text(script)
    plain = Monitored(
        snapshot=str(snapshot),
        leading_lines=read_head("#!/bin/bash\n" + head).leading_lines,
        shebang=script.split("\n", maxsplit=1)[0],
        monitor_dir="/exp/evalmon",
        name="r/t/epoch0",
        output_dir="/exp/r/eval/t",
        is_array=False,
        token="5f3a",
        interpreter=NOWHERE,
        sample_interval_s=30.0,
    )
    return replace(plain, **more)


def launch(
    job: Monitored, *arguments: str, shell: str = "sh", text: str | None = None, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher as Slurm would: from a copy of its own, in the script's directory."""
    where = Path(job.snapshot).parent
    launcher = where / "slurm_script"
    launcher.write_bytes((render(job) if text is None else text).encode(errors="surrogateescape"))
    environment = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(
        [*shell.split(), str(launcher), *arguments],
        cwd=where,
        env=environment,
        capture_output=True,
        timeout=30,
        check=False,
    )


def said(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    assert (0, b"") == (done.returncode, done.stderr)
    return [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]]


# Hostile texts.

COMMANDS = ["touch canary", "touch canary;", "touch canary &", "exec touch canary", ": > canary"]
WRAPPERS = [
    "$({0})",
    "`{0}`",
    "; {0}",
    ";{0};",
    "& {0} &",
    "&& {0}",
    "|| {0}",
    "| {0}",
    "'; {0}; '",
    "'$({0})'",
    '"; {0}; "',
    '"$({0})"',
    '\\"; {0}; \\"',
    "\\'; {0}; \\'",
    "\n{0}\n",
    "\r\n{0}\r\n",
    "\n#SBATCH --wrap='{0}'\n{0}\n",
    "'\n{0}\n'",
    "${{x:=$({0})}}",
    "$'\\n{0}'",
    "x=$({0})",
    "~$({0})",
    "*$({0})*",
    "{{a,$({0})}}",
    "!{0}",
    "#'\n{0}",
    "\\\n{0}",
    "%s%n$({0})",
    "-c {0}",
    "--help; {0}",
    "<({0})",
    "(({0}))",
    "EOF\n{0}\nEOF",
    "\t{0}\t$({0})",
    "é$({0})日本",
    "${{IFS}}$({0})",
    "' || {0} || '",
    "$\\({0})$({0})",
    "\x1b[31m$({0})",
    "\udcff$({0})",
]
PAYLOADS = [wrapper.format(command) for wrapper in WRAPPERS for command in COMMANDS]


@pytest.mark.survives("S5")
@pytest.mark.parametrize("shell", SHELLS)
def test_two_hundred_hostile_names_and_paths_reach_the_script_as_they_are_and_run_nothing(
    tmp_path: Path, shell: str
) -> None:
    assert 200 == len(PAYLOADS)
    # Every payload in every place by the plain sh; by the others one of each kind.
    for number, payload in enumerate(PAYLOADS if shell == "sh" else PAYLOADS[:: len(COMMANDS)]):
        directory = tmp_path / f"{number}{payload.replace('/', '_')}"
        directory.mkdir()
        job = monitored(directory, monitor_dir=f"/{payload}", name=payload, output_dir=f"/out/{payload}")
        expected = [f"/{payload}", payload, f"/out/{payload}", payload, ""]
        assert expected == said(launch(job, payload, "", shell=shell)), payload
        assert ["cell.slurm", "slurm_script"] == sorted(os.listdir(directory)), payload


@pytest.mark.survives("S5")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_any_text_reaches_the_script_as_it_is(tmp_path: Path, text: str) -> None:
    job = monitored(tmp_path, monitor_dir=text, name=text, output_dir=text, token=text)
    assert [text, text, text, text] == said(launch(job, text))


@pytest.mark.survives("S5")
@pytest.mark.parametrize("payload", PAYLOADS[:: len(COMMANDS)])
def test_a_hostile_interpreter_path_and_token_run_nothing(tmp_path: Path, payload: str) -> None:
    job = monitored(tmp_path, interpreter=payload, token=payload)
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(job))
    assert ["cell.slurm", "slurm_script"] == sorted(os.listdir(tmp_path))


# What Slurm reads of it.

HEAD = """#SBATCH --job-name="a b"   # my job
#SBATCH -p gpu --time=5
# a comment with 'an odd quote and $(touch canary) \\
#
   # indented

#SBATCH --output=%x-%j.out
"""


def test_slurm_reads_the_same_options_as_of_the_users_script(tmp_path: Path) -> None:
    job = monitored(tmp_path, head=HEAD)
    mine, users = read_head(render(job)), read_head("#!/bin/bash\n" + HEAD + "echo x\n#SBATCH --mem=1\n")
    assert dict(users.options) == dict(mine.options)
    assert list(users.leading_lines) == list(mine.leading_lines[: len(users.leading_lines)])
    assert HEAD in render(job)


@pytest.mark.survives("S5")
@pytest.mark.parametrize("payload", PAYLOADS[:: len(COMMANDS)])
def test_no_name_or_path_adds_an_option(tmp_path: Path, payload: str) -> None:
    texts = {"monitor_dir": payload, "name": payload, "output_dir": payload, "snapshot": f"/{payload}/cell.slurm"}
    job = replace(monitored(tmp_path, head=HEAD), **texts)
    assert dict(read_head("#!/bin/bash\n" + HEAD).options) == dict(read_head(render(job)).options)


def test_bytes_that_are_no_utf8_stay_as_they_are(tmp_path: Path) -> None:
    head = b"#SBATCH --comment=\xff\xfe\n"
    job = monitored(tmp_path, head=head.decode(errors="surrogateescape"))
    assert head in render(job).encode(errors="surrogateescape")


def test_what_is_blank_to_sbatch_and_a_command_to_a_shell_is_left_out(tmp_path: Path) -> None:
    job = monitored(tmp_path, head="#SBATCH --mem=1\n\f\n\v\t\n\r\f# x\n#SBATCH --time=5\n")
    assert {"mem": "1", "time": "5"} == dict(read_head(render(job)).options)
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(job))


# An interpreter that does not start, and one that does.

FAKES = {
    "is not there": None,
    "is a directory": "",
    "may not be executed": "#!/bin/sh\nexit 0\n",
    "exits with 1": "#!/bin/sh\nexit 1\n",
    "dies of a signal": "#!/bin/sh\nkill -9 $$\n",
    "is garbage": "\x7fELF\0\0\0",
    "writes and fails": "#!/bin/sh\necho out; echo err >&2; cat >&2; exit 1\n",
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("fault", FAKES)
def test_where_our_interpreter_does_not_start_the_script_runs_as_if_we_were_not_there(
    tmp_path: Path, fault: str, shell: str
) -> None:
    fake, content = tmp_path / "python", FAKES[fault]
    if content == "":
        fake.mkdir()
    elif content is not None:
        fake.write_text(content)
        fake.chmod(0o600 if fault == "may not be executed" else 0o700)
    job = monitored(tmp_path, interpreter=str(fake))
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t", "a b", "", "*"] == said(
        launch(job, "a b", "", "*", shell=shell)
    )


def test_an_interpreter_that_hangs_delays_the_script_and_no_more(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 60\n")
    fake.chmod(0o700)
    job = monitored(tmp_path, interpreter=str(fake))
    assert "timeout -k 1 20" in render(job)
    quick = render(job).replace("timeout -k 1 20", "timeout -k 0.2 0.2")
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(job, text=quick))


def test_a_node_without_timeout_is_no_hindrance(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "printf").symlink_to(str(shutil.which("printf")))
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o700)
    job = monitored(tmp_path, interpreter=str(fake))
    done = launch(job, shell=str(shutil.which("sh")), PATH=str(tools))
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(done)


def test_an_interpreter_that_starts_gets_the_script_and_its_arguments(tmp_path: Path) -> None:
    fake = tmp_path / "py thon"
    fake.write_text('#!/bin/sh\n[ "$3" = -c ] || printf \'%s\\0\' "$@"\n')
    fake.chmod(0o700)
    job = monitored(tmp_path, interpreter=str(fake), sample_interval_s=2.5)
    started = [
        "-E",
        "-P",
        "-m",
        "evalmon_agent",
        "run",
        "--token",
        "5f3a",
        "--sample-interval",
        "2.5",
        "--script",
        "--",
    ]
    assert [*started, job.snapshot, "a b", "", "*"] == said(launch(job, "a b", "", "*"))


@pytest.mark.parametrize("shell", SHELLS)
def test_our_own_interpreter_runs_it_and_ends_as_it_ended(tmp_path: Path, shell: str) -> None:
    job = monitored(tmp_path, SAY_ALL + "exit 7\n", interpreter=sys.executable)
    done = launch(job, "a b", "", "*", shell=shell)
    assert (7, b"/exp/evalmon\0r/t/epoch0\0/exp/r/eval/t\0a b\0\0*\0") == (done.returncode, done.stdout)


@pytest.mark.parametrize("interpreter", [NOWHERE, sys.executable])
def test_nothing_of_ours_but_three_variables_is_in_the_scripts_environment(tmp_path: Path, interpreter: str) -> None:
    plain = tmp_path / "plain.sh"
    plain.write_text("#!/bin/sh\nexec env -0\n")
    usual = {"PATH": os.environ["PATH"], "MINE": "a\nb", "evalmon_limit": "the user's own"}
    before = subprocess.run(["sh", str(plain)], env=usual, cwd=tmp_path, capture_output=True, check=True).stdout
    after = launch(monitored(tmp_path, plain.read_text(), interpreter=interpreter), **usual).stdout
    ours = {"EVALMON_DIR=/exp/evalmon", "EVALMON_NAME=r/t/epoch0", "EVALMON_OUTPUT_DIR=/exp/r/eval/t"}
    theirs = {entry for entry in before.decode().split("\0") if not entry.startswith("evalmon_limit=")}
    assert theirs | ours == set(after.decode().split("\0"))


# Arrays, interpreters, syntax.


SAY_LOG = "#!/bin/sh\nprintf '%s\\0' \"${EVALMON_RETRY_LOG-none}\"\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_an_eval_that_is_run_again_finds_its_log_whatever_its_name(tmp_path: Path, shell: str) -> None:
    log = "/exp/it's $(touch canary)/l.eval"
    assert [log] == said(launch(monitored(tmp_path, SAY_LOG, retry_logs={None: log}), shell=shell))
    tasks = monitored(tmp_path, SAY_LOG, is_array=True, retry_logs={3: log, 12: "/other.eval"})
    found = [said(launch(tasks, shell=shell, SLURM_ARRAY_TASK_ID=task)) for task in ("3", "12", "1")]
    assert [[log], ["/other.eval"], ["none"]] == found
    assert ["none"] == said(launch(monitored(tmp_path, SAY_LOG), shell=shell))
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.parametrize("name", ["r/t/epoch0", 'it\'s $(touch canary) "x"'])
def test_each_task_of_an_array_has_a_name_and_a_directory_of_its_own(tmp_path: Path, name: str) -> None:
    job = monitored(tmp_path, name=name, output_dir=f"/out/{name}", is_array=True)
    expected = ["/exp/evalmon", f"{name}[17]", f"/out/{name}/17"]
    assert expected == said(launch(job, SLURM_ARRAY_TASK_ID="17"))


@pytest.mark.parametrize(
    ("shebang", "expected"),
    [
        ("#!/bin/bash", ["/bin/bash"]),
        ("#! /bin/bash -eu  ", ["/bin/bash", "-eu"]),
        ("#!\t/bin/sh\t-e x ", ["/bin/sh", "-e x"]),
        ("#!/usr/bin/env python3", ["/usr/bin/env", "python3"]),
        ("#!/bin/sh\0-e", ["/bin/sh"]),
        ("#!bash", ["./bash"]),
        ("#!", ["/bin/sh"]),
        ("#!   ", ["/bin/sh"]),
    ],
)
def test_the_first_line_is_read_as_the_kernel_reads_it(shebang: str, expected: list[str]) -> None:
    assert expected == interpreter_of(shebang)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("#!/bin/bash -e\nfalse\nprintf reached\n", (1, b"")),
        (f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:], end='')\n", (0, b"['a b', '']")),
        ('#!/usr/bin/env bash\nprintf %s "$0"\n', (0, None)),
        ("#!/bin/cat\nx\n", (0, b"#!/bin/cat\nx\n")),
    ],
)
def test_a_script_that_we_cannot_watch_runs_by_its_own_first_line(
    tmp_path: Path, script: str, expected: tuple[int, bytes | None]
) -> None:
    job = monitored(tmp_path, script)
    arguments = [] if "cat" in script else ["a b", ""]
    done = launch(job, *arguments)
    assert (expected[0], job.snapshot.encode() if expected[1] is None else expected[1]) == (
        done.returncode,
        done.stdout,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_its_syntax_is_every_shells(tmp_path: Path, shell: str) -> None:
    text = render(monitored(tmp_path, head=HEAD, is_array=True, name="it's"))
    subprocess.run([*shell.split(), "-n"], input=text.encode(), check=True, capture_output=True, timeout=10)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    text = render(monitored(tmp_path, is_array=True))
    # SC2086: $evalmon_limit is meant to be several words, or none.
    command = ["shellcheck", "--shell=sh", "--exclude=SC2086", "-"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=30, check=False)
    assert (b"", 0) == (done.stdout, done.returncode)


@pytest.mark.parametrize("line", ["#SBATCH --wait", "#SBATCH -W", "#SBATCH  --wait  # till it is over"])
def test_an_sbatch_that_would_wait_for_the_job_does_not(tmp_path: Path, line: str) -> None:
    kept = ["#SBATCH --wait-all-nodes=1", "#SBATCH --time=5"]
    text = render(monitored(tmp_path, head="\n".join([line, *kept])))
    assert [f"#{line}", *kept] == text.splitlines()[1:4]
    assert "wait" not in read_head(text).options
