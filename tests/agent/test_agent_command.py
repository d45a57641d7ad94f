"""Tests that the command gets exactly what `evalmon run` got, and is found and started as by a shell or the kernel."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_a_job import RUN, Experiment, call, environ

import as_root
from as_root import needs_root
from evalmon_agent.words.shebang import interpreter_of

SHOW_ENVIRONMENT = ["sh", "-c", "tr '\\0' '\\n' </proc/self/environ | sort"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"EVALMON_NAME": "a/b", "EVALMON_OUTPUT_DIR": "/x"},
        {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "x", "PYTHONWARNINGS": "error"},
        {"EMPTY": "", "LINES_OF": "a\nb", "BASH_FUNC_f%%": "() { :; }", "caf\udce9": "\udcff\udcfe", "X": "=a=b"},
        {"LC_ALL": "C"},
        {"LANG": "C"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "warn"},
    ],
)
def test_the_commands_environment_is_unchanged(experiment: Experiment, more: dict[str, str]) -> None:
    given = experiment.environ(**more)
    with_us = call([*RUN, "--", *SHOW_ENVIRONMENT], given, text=False)
    assert with_us.stdout == call(SHOW_ENVIRONMENT, given, text=False).stdout
    assert with_us.stderr == b""


def test_in_the_c_locale_python_adds_nothing_to_the_environment() -> None:
    """PEP 538: Python itself then sets LC_CTYPE in its own environment."""
    assert call([*RUN, "--", "/usr/bin/env"], {"A": "b"}).stdout == "A=b\n"


def test_an_empty_environment_stays_empty() -> None:
    assert call([*RUN, "--", "/usr/bin/env"], {}).stdout == ""


def test_arguments_are_passed_unchanged(experiment: Experiment) -> None:
    words = ["", " ", "a b", "a\nb", "--", "--name", "$HOME", "*", "'", '"', "\\", "é", "\udcff"]
    program = "import os, sys; print([os.fsencode(word) for word in sys.argv[1:]])"
    done = experiment.run("--", sys.executable, "-c", program, *words)
    assert done.stdout == f"{[os.fsencode(word) for word in words]}\n"


def test_without_dashes_evalmons_options_end_at_the_first_other_word(experiment: Experiment) -> None:
    assert experiment.run("echo", "--name", "--", "x").stdout == "--name -- x\n"


def test_directory_umask_limits_and_priority_are_unchanged(experiment: Experiment, tmp_path: Path) -> None:
    show = ["sh", "-c", "pwd; umask; ulimit -a; ulimit -H -a; cat /proc/$$/oom_score_adj; nice"]
    prefix = ["sh", "-c", 'umask 037; ulimit -n 200; ulimit -c 17; nice -n 3 "$@"', "sh"]
    with_us = call([*prefix, *RUN, "--", *show], experiment.environ(), cwd=tmp_path)
    assert with_us.stdout == call([*prefix, *show], experiment.environ(), cwd=tmp_path).stdout


SHOW_FILES = [
    sys.executable,
    "-c",
    """if True:
    import os
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        print(fd, status.st_dev, status.st_ino, os.lseek(fd, 0, 1) if fd > 2 else "")
    """,
]


@pytest.mark.parametrize(
    "files", ["", "3<&0", "7</etc/passwd 9>/dev/null", "0<&-", "2>&-", "0<&- 2>&-", "0<&- 2>&- 5>&1"]
)
def test_the_command_inherits_the_open_files_and_no_others(experiment: Experiment, files: str) -> None:
    prefix = ["sh", "-c", f'exec "$@" {files}', "sh"]
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "stdout": subprocess.PIPE}
    ids = {}
    for who, argv in (("us", [*prefix, *RUN, "--", *SHOW_FILES]), ("nobody", [*prefix, *SHOW_FILES])):
        done = call(argv, experiment.environ(), capture_output=False, **options)
        ids[who] = [line.split()[0] for line in done.stdout.splitlines()]
    assert ids["us"] == ids["nobody"] != []


def test_a_closed_stdout_stays_closed(experiment: Experiment) -> None:
    script = 'exec "$@" >&-'
    program = "import os; os.fstat(1)"
    done = call(["sh", "-c", script, "sh", *RUN, "--", sys.executable, "-c", program], experiment.environ())
    assert "Bad file descriptor" in done.stderr


def test_a_lock_released_by_the_command_is_free(experiment: Experiment, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    inside = f"exec 9>&-; flock -w 5 {lock} echo free || echo held"
    script = f'exec 9>{lock}; flock 9; exec "$@"'
    assert call(["sh", "-c", script, "sh", *RUN, "--", "sh", "-c", inside], experiment.environ()).stdout == "free\n"


def test_input_and_output_pass_unchanged(experiment: Experiment) -> None:
    data = os.urandom(8 << 20)
    done = call([*RUN, "--", "sh", "-c", "tee /dev/stderr"], experiment.environ(), text=False, input=data)
    assert (done.stdout, done.stderr) == (data, data)


def test_a_writer_without_a_reader_dies_of_sigpipe(experiment: Experiment) -> None:
    script = '"$@" | head -n 1; echo "${PIPESTATUS[0]}"'
    done = call(["bash", "-c", script, "bash", *RUN, "--", "yes"], experiment.environ())
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


def test_outside_a_job_one_line_says_that_nothing_is_reported() -> None:
    done = call([*RUN, "--", "echo", "hello"], environ())
    assert done.stdout == "hello\n"
    assert done.stderr == "evalmon run: not in a Slurm job: nothing is reported\n"


def test_a_missing_command_ends_with_127(experiment: Experiment) -> None:
    for program in ("no-such-program", "/no/such/program", ""):
        done = experiment.run("--", program, "x")
        assert (done.returncode, done.stdout) == (127, "")
        assert done.stderr == f"evalmon run: {program}: No such file or directory\n"


def test_a_command_that_cannot_be_run_ends_with_126(experiment: Experiment, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for program in (plain, tmp_path):
        done = experiment.run("--", str(program))
        assert (done.returncode, done.stderr) == (126, f"evalmon run: {program}: Permission denied\n")


def test_a_file_without_an_interpreter_line_is_run_by_the_shell(experiment: Experiment, tmp_path: Path) -> None:
    script = tmp_path / "plain"
    script.write_text('echo "$0" "$@"\nexit 6\n')
    script.chmod(0o755)
    done = experiment.run("--", str(script), "a b")
    assert (done.returncode, done.stdout) == (6, f"{script} a b\n")
    found = experiment.run("--", "plain", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (found.returncode, found.stdout) == (6, f"{script}\n")


SCRIPTS = {
    "sh": '#!/bin/sh\necho "$0|$*|$#"; exit 5\n',
    "login shell": '#!/bin/bash -l\nshopt -q login_shell && echo login; echo "$0|$*"\n',
    "blanks": '#! \t/bin/bash \t -eu \t \necho "$0|$*|$-"\n',
    "env": '#!/usr/bin/env bash\necho "$0|$*"\n',
    "env -S": f"#!/usr/bin/env -S {sys.executable} -u -B\nimport sys; print(sys.argv, sys.flags.dont_write_bytecode)\n",
    "python": f"#!{sys.executable}\nimport sys; print(sys.argv)\n",
    "one argument only": "#!/bin/echo one  two\n",
    "exit by signal": "#!/bin/sh\nkill -USR1 $$\n",
}


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_script_runs_as_the_kernel_would_run_it(experiment: Experiment, tmp_path: Path, text: str) -> None:
    script = tmp_path / "my script.slurm"
    script.write_text(text)
    script.chmod(0o700)
    words = ["a b", "", "c"]
    direct = call([str(script), *words], experiment.environ())
    script.chmod(0o400)
    done = experiment.run("--script", "--", str(script), *words)
    assert (done.returncode, done.stdout, done.stderr) == (direct.returncode, direct.stdout, direct.stderr)
    assert experiment.report()["attempts"][0]["commands"][0]["program"] == "my script.slurm"


def test_a_script_without_an_interpreter_line_is_run_by_the_shell(experiment: Experiment, tmp_path: Path) -> None:
    script = tmp_path / "plain"
    script.write_text("echo plain $1\n")
    assert experiment.run("--script", "--", str(script), "x").stdout == "plain x\n"


@pytest.mark.parametrize("line", ["#!/bin/bash\r", "#!/no/such/shell", "#!bash"])
def test_a_script_whose_interpreter_is_missing_ends_with_127(experiment: Experiment, tmp_path: Path, line: str) -> None:
    script = tmp_path / "script"
    script.write_bytes(f"{line}\necho hello\n".encode())
    done = experiment.run("--script", "--", str(script))
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == f"evalmon run: {script}: {os.strerror(errno.ENOENT)}\n"


def test_a_missing_script_ends_with_127(experiment: Experiment, tmp_path: Path) -> None:
    assert experiment.run("--script", "--", str(tmp_path / "none")).returncode == 127


@as_root.not_as_root
def test_an_unreadable_script_ends_with_126(experiment: Experiment, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0)
    assert experiment.run("--script", "--", str(script)).returncode == 126


@pytest.mark.survives("S13")
@needs_root
def test_a_script_on_a_noexec_file_system_runs(experiment: Experiment, tmp_path: Path) -> None:
    script = tmp_path / "s"
    mount = 'mount -t tmpfs -o noexec none "$1"; cd "$1"; printf \'#!/bin/sh\\nexit 8\\n\' >s; chmod 755 s'
    words = [*RUN, "--script", "--", str(script)]
    argv = as_root.in_namespace(mount, tmp_path, words=words, environ=experiment.environ())
    assert call(argv, environ()).returncode == 8


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"#!/bin/sh", ["/bin/sh"]),
        (b"#!/bin/sh -e  x \n", ["/bin/sh", "-e  x"]),
        (b"#!\t/bin/sh\t-e\n-x", ["/bin/sh", "-e"]),
        (b"#!/bin/sh\0-e\n", ["/bin/sh"]),
        (b"#!/bin/\xff\n", ["/bin/\udcff"]),
        (b"#!/bin/sh\r\n", ["/bin/sh\r"]),
        (b"#!" + b"/" * 254, []),
        (b"#!/a " + b"b" * 251, ["/a", "b" * 251]),
        (b"#!\n/bin/sh", []),
        (b"#!  ", []),
        (b" #!/bin/sh", []),
        (b"\x7fELF", []),
        (b"", []),
    ],
)
def test_the_interpreter_line_is_parsed_as_by_the_kernel(start: bytes, expected: list[str]) -> None:
    assert interpreter_of(start) == expected
