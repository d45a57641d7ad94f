"""Tests the launcher, run by bash: hostile names, unusual environments, interpreters that do not start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import evalmon_agent
import second_user
from evalmon_agent.slurm.sbatch import read_head
from evalmon_agent.submission.launcher import program_of, render, script_in
from evalmon_agent.submission.plan import Prepared, Script
from evalmon_agent.tracking.registry import Submission

NOWHERE = "/nowhere/bin/python3"
SAY_ALL = """#!/bin/sh
printf '%s\\0' "$EVALMON_DIR" "$EVALMON_NAME" "$EVALMON_OUTPUT_DIR"
"""

SAY_ALL_IN_PYTHON = """import os
names = ("EVALMON_DIR", "EVALMON_NAME", "EVALMON_OUTPUT_DIR", "EVALMON_RETRY_LOG")
print(*(os.environ.get(name, "") for name in names), sep="\\0", end="\\0")
"""


@dataclass(frozen=True)
class Launcher:
    """An eval, and the arguments with which its launcher is rendered."""

    prepared: Prepared
    rendered_with: dict[str, Any]

    @property
    def text(self) -> bytes:
        return render(self.prepared, **self.rendered_with)


def launcher(
    script: str | bytes = SAY_ALL,
    *,
    head: str = "",
    path: str = "/exp/r/eval/cell.slurm",
    name: str = "r/t/epoch0",
    output_dir: str = "/exp/r/eval/t",
    token: str = "5f3a",
    is_array: bool = False,
    retry_logs: dict[int | None, str] | None = None,
    **more: Any,
) -> Launcher:
    """`script` with the comments of `head` above it."""
    content = script if isinstance(script, bytes) else script.encode(errors="surrogateescape")
    shebang = content.decode(errors="surrogateescape").split("\n", maxsplit=1)[0]
    read = replace(read_head("#!/bin/bash\n" + head), shebang=shebang)
    submission = Submission(name, path, output_dir, (0,) if is_array else None, token=token)
    plain = {
        "monitor_dir": "/exp/evalmon",
        "experiment_id": "",
        "interpreter": NOWHERE,
        "package_parent": str(Path(evalmon_agent.__file__).parents[1]),
        "sample_interval_s": 30.0,
    }
    return Launcher(Prepared(Script(path, content, read), submission, retry_logs or {}), plain | more)


def launch(
    job: Launcher, spool: Path, *, text: bytes | None = None, name: str = "slurm_script", **environ: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher as Slurm does: as a file of the job's user, in a private directory."""
    file = spool / name
    file.write_bytes(job.text if text is None else text)
    file.chmod(0o700)
    env = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run([str(file)], cwd=spool, env=env, capture_output=True, timeout=30, check=False)


OUTSIDE = b"evalmon run: not in a Slurm job: nothing is reported\n"


def said(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    assert (0, b"") == (done.returncode, done.stderr.replace(OUTSIDE, b""))
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
def test_two_hundred_hostile_names_and_paths_reach_the_script_unchanged_and_run_nothing(tmp_path: Path) -> None:
    assert 200 == len(PAYLOADS)
    for number, payload in enumerate(PAYLOADS):
        spool = tmp_path / f"{number}{payload.replace('/', '_')}"
        spool.mkdir()
        texts = {"monitor_dir": f"/{payload}", "name": payload, "output_dir": f"/out/{payload}", "path": payload}
        assert [f"/{payload}", payload, f"/out/{payload}"] == said(launch(launcher(**texts), spool)), payload
        assert ["slurm_script"] == os.listdir(spool), payload


@pytest.mark.survives("S5")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_any_text_reaches_the_script_unchanged(tmp_path: Path, text: str) -> None:
    job = launcher(monitor_dir=text, name=text, output_dir=text, token=text, path=text)
    assert [text, text, text] == said(launch(job, tmp_path))


@pytest.mark.survives("S5")
@pytest.mark.parametrize("payload", PAYLOADS[:: len(COMMANDS)])
def test_a_hostile_interpreter_path_and_token_run_nothing(tmp_path: Path, payload: str) -> None:
    job = launcher(interpreter=payload, token=payload)
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(job, tmp_path))
    assert ["slurm_script"] == os.listdir(tmp_path)


# The script: byte for byte as submitted, in the place that Slurm gives it.

SCRIPTS = {
    "no newline at its end": b"#!/bin/true\nend",
    "newlines at its end": b"#!/bin/true\n:\n\n\n",
    "no UTF-8, and control characters": b"#!/bin/true\n \xff\xc3\n\x01\x7f\x01\x01\r\x1b\xe2\x82",
    "lines like the launcher's": b"#!/bin/true\n# The script, sha256 0\n}\nexit 0\n",
    "quotes and backslashes": b"#!/bin/true\n \\ '\\n' \"$x\" `:` %s %% ~\n",
    "large": b"#!/bin/true\n" + b"0123456789abcdef\n" * 200_000,
}


@pytest.mark.parametrize("interpreter", [NOWHERE, sys.executable])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_the_script_replaces_the_launcher_byte_for_byte(tmp_path: Path, script: bytes, interpreter: str) -> None:
    job = launcher(script, interpreter=interpreter)
    assert script_in(job.text) == script
    assert launch(job, tmp_path).returncode == 0
    assert ((tmp_path / "slurm_script").read_bytes(), os.listdir(tmp_path)) == (script, ["slurm_script"])


def test_a_changed_launcher_or_another_file_contains_no_script() -> None:
    text = launcher().text
    assert [script_in(b""), script_in(SAY_ALL.encode()), script_in(text + b"x")] == [None, None, None]


SAY_WHERE = "#!/bin/sh\nprintf '%s\\0' \"$0\"\n"


@pytest.mark.survives("S17")
def test_a_file_that_is_not_slurms_or_cannot_be_written_is_unchanged(tmp_path: Path) -> None:
    """For example a launcher from `scontrol write batch_script`, run by hand."""
    job = launcher(SAY_WHERE)
    [where] = said(launch(job, tmp_path, name="slurm-7.sh"))
    assert ((tmp_path / "slurm-7.sh").read_bytes(), Path(where).read_text()) == (job.text, SAY_WHERE)
    shutil.rmtree(Path(where).parent)


@pytest.mark.survives("S17")
def test_the_script_is_then_not_written_to_tmpdir(tmp_path: Path) -> None:
    for temporary in (tmp_path, tmp_path / "missing"):
        [where] = said(launch(launcher(SAY_WHERE), tmp_path, name="slurm-7.sh", TMPDIR=str(temporary)))
        assert Path(where).parents[1] == Path("/tmp")
        shutil.rmtree(Path(where).parent)


# The options that Slurm reads.

HEAD = """#SBATCH --job-name="a b"   # my job
#SBATCH -p gpu --time=5
# a comment with 'an odd quote and $(touch canary) \\
#
   # indented

#SBATCH --output=%x-%j.out
"""


def rendered(script: str = SAY_ALL, **more: Any) -> str:
    return launcher(script, **more).text.decode(errors="surrogateescape")


def test_slurm_reads_the_same_options_as_from_the_users_script() -> None:
    text = rendered(head=HEAD)
    mine, users = read_head(text), read_head("#!/bin/bash\n" + HEAD + "echo x\n#SBATCH --mem=1\n")
    assert dict(users.options) == dict(mine.options)
    assert list(users.leading_lines) == list(mine.leading_lines[: len(users.leading_lines)])
    assert HEAD in text


@pytest.mark.survives("S5")
@pytest.mark.parametrize("payload", PAYLOADS[:: len(COMMANDS)])
def test_no_name_or_path_adds_an_option(payload: str) -> None:
    texts = {"monitor_dir": payload, "name": payload, "output_dir": payload, "path": f"/{payload}/cell.slurm"}
    text = rendered(head=HEAD, **texts)
    assert dict(read_head("#!/bin/bash\n" + HEAD).options) == dict(read_head(text).options)


def test_bytes_that_are_not_utf8_are_unchanged() -> None:
    head = b"#SBATCH --comment=\xff\xfe\n"
    assert head in launcher(head=head.decode(errors="surrogateescape")).text


def test_a_line_that_sbatch_skips_and_a_shell_would_run_is_left_out(tmp_path: Path) -> None:
    head = "#SBATCH --mem=1\n\f\n\v\t\n\r\f# x\n#SBATCH --time=5\n"
    assert {"mem": "1", "time": "5"} == dict(read_head(rendered(head=head)).options)
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(launcher(head=head), tmp_path))


# Interpreters that start, and that do not.

FAKES = {
    "is not there": None,
    "is a directory": "",
    "may not be executed": "#!/bin/sh\nexit 0\n",
    "exits with 1": "#!/bin/sh\nexit 1\n",
    "dies of a signal": "#!/bin/sh\nkill -9 $$\n",
    "starts without its site only": '#!/bin/sh\ncase "$*" in *" -S "*) exit 0 ;; esac\nexit 1\n',
    "is garbage": "\x7fELF\0\0\0",
    "writes and fails": "#!/bin/sh\necho out; echo err >&2; cat >&2; exit 1\n",
}


@pytest.mark.parametrize("fault", FAKES)
def test_without_a_working_interpreter_the_script_runs_as_without_evalmon(tmp_path: Path, fault: str) -> None:
    fake, content = tmp_path / "python", FAKES[fault]
    if content == "":
        fake.mkdir()
    elif content is not None:
        fake.write_text(content)
        fake.chmod(0o600 if fault == "may not be executed" else 0o700)
    job = launcher(interpreter=str(fake))
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(job, tmp_path))


def test_a_hanging_interpreter_delays_the_script_only_briefly(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 60\n")
    fake.chmod(0o700)
    text = launcher(interpreter=str(fake)).text
    assert b" -k 1 20'" in text
    quick = text.replace(b" -k 1 20'", b" -k 0.2 0.2'")
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t"] == said(launch(launcher(), tmp_path, text=quick))


@pytest.mark.survives("S19")
def test_programs_first_on_path_or_in_the_working_directory_are_not_run(tmp_path: Path) -> None:
    for name in ("sed", "env", "mktemp", "timeout", "printf", "bash"):
        (tmp_path / name).write_text("#!/bin/sh\ntouch canary\n")
        (tmp_path / name).chmod(0o755)
    done = launch(launcher(SAY_WHERE, interpreter=sys.executable), tmp_path, PATH=f":{tmp_path}:.")
    assert (done.returncode, (tmp_path / "canary").exists()) == (0, False)


def test_a_working_interpreter_runs_the_script(tmp_path: Path) -> None:
    fake = tmp_path / "py thon"
    fake.write_text('#!/bin/sh\n[ "$4" = probe ] || printf \'%s\\0\' "$@"\n')
    fake.chmod(0o700)
    job = launcher(interpreter=str(fake), sample_interval_s=2.5, experiment_id="ab12")
    options = ["--token", "5f3a", "--experiment-id", "ab12", "--sample-interval", "2.5", "--script", "--"]
    program = str(Path(evalmon_agent.__file__).with_name("__main__.py"))
    started = ["-E", "-P", program, "run", *options, str(tmp_path / "slurm_script")]
    assert started == said(launch(job, tmp_path))


@pytest.mark.parametrize("script", [SAY_ALL, f"#!{sys.executable} -EP\n" + SAY_ALL_IN_PYTHON])
def test_the_script_runs_alone_if_evalmon_cannot_be_imported(tmp_path: Path, script: str) -> None:
    """As during an upgrade."""
    shutil.copytree(Path(evalmon_agent.__file__).parent, tmp_path / "lib" / "evalmon_agent")
    (tmp_path / "lib" / "evalmon_agent" / "agent" / "run.py").write_text("import nowhere\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without the one that is installed
    python.chmod(0o700)
    log = tmp_path / "l.eval"
    log.touch()
    job = launcher(script, interpreter=str(python), package_parent=str(tmp_path / "lib"), retry_logs={None: str(log)})
    done = launch(job, tmp_path)
    assert ["/exp/evalmon", "r/t/epoch0", "/exp/r/eval/t", ""] == [*said(done), *[""] * (script == SAY_ALL)]


def test_the_script_runs_under_evalmon_and_ends_with_its_own_status(tmp_path: Path) -> None:
    done = launch(launcher(SAY_ALL + "exit 7\n", interpreter=sys.executable), tmp_path)
    assert (7, b"/exp/evalmon\0r/t/epoch0\0/exp/r/eval/t\0") == (done.returncode, done.stdout)


def test_an_evalmon_found_by_pythonpath_only_runs_the_script(tmp_path: Path) -> None:
    """As modules of a cluster have it; in jobs PYTHONPATH is not looked at."""
    bare = Path(sys.executable).resolve()
    library = tmp_path / "library"
    shutil.copytree(Path(evalmon_agent.__file__).parent, library / "evalmon_agent")
    spool = tmp_path / "spool"
    spool.mkdir()
    done = launch(launcher(SAY_ALL + "exit 7\n", interpreter=str(bare), package_parent=str(library)), spool)
    assert (done.returncode, done.stderr) == (7, OUTSIDE)


ODD = {
    "BASH_FUNC_module%%": "() {  eval `modulecmd bash $*`\n}",
    "BASH_FUNC_old()": "() { :\n}",
    "my.dot": "1",
    "my-dash": "a\nb=c",
    "empty": "",
    "BASH_ENV": "/exp/canary.sh",
    "ENV": "/exp/canary.sh",
    "SHELLOPTS": "xtrace:braceexpand",
    "BASHOPTS": "extdebug",
    "PS4": "$(touch canary)",
    "IFS": "x",
    "POSIXLY_CORRECT": "1",
    "SHLVL": "3",
    "_": "/usr/bin/sbatch",
    "OLDPWD": "/gone",
    "PWD": "/elsewhere",
    "LC_CTYPE": "C",
    "evalmon_script": "the user's own",
    "EVALMON_RETRY_LOG": "/an/earlier/one",
}


def environments(directory: Path, interpreter: str, environ: dict[str, str]) -> list[list[bytes]]:
    """The script's environment without and with evalmon."""
    say = f"#!{sys.executable} -EP\nimport sys\nsys.stdout.write(open('/proc/self/environ').read())\n"
    plain = directory / "plain"
    plain.write_text(say)
    plain.chmod(0o700)
    usual = {"PATH": os.environ["PATH"], **environ}
    before = subprocess.run([str(plain)], env=usual, cwd=directory, capture_output=True, check=True).stdout
    done = launch(launcher(say, interpreter=interpreter), directory, **environ)
    return [before.split(b"\0")[:-1], done.stdout.split(b"\0")[:-1]]


OURS = [
    b"EVALMON_DIR=/exp/evalmon",
    b"EVALMON_NAME=r/t/epoch0",
    b"EVALMON_OUTPUT_DIR=/exp/r/eval/t",
    b"EVALMON_JOB_ID=",
]


def test_the_environment_is_sbatchs_byte_for_byte_except_four_variables(tmp_path: Path) -> None:
    before, after = environments(tmp_path, sys.executable, ODD)
    assert (after, (tmp_path / "canary").exists()) == (before + OURS, False)


def test_without_evalmon_the_environment_is_what_bash_passes_on(tmp_path: Path) -> None:
    users = {name: ODD[name] for name in ("BASH_FUNC_module%%", "my.dot", "my-dash", "empty", "SHLVL")}
    before, after = environments(tmp_path, NOWHERE, {**users, "PWD": str(tmp_path)})
    assert {entry for entry in after if not entry.startswith(b"_=")} == {*before, *OURS}


# Arrays, interpreters, syntax.


SAY_LOG = "#!/bin/sh\nprintf '%s\\0' \"${EVALMON_RETRY_LOG-none}\"\n"


def test_a_retried_eval_finds_its_log_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "it's $(touch canary)"
    folder.mkdir()
    logs = [str(folder / "l.eval"), str(tmp_path / "other.eval")]
    for log in logs:
        Path(log).touch()
    more = {"interpreter": sys.executable}
    assert logs[:1] == said(launch(launcher(SAY_LOG, retry_logs={None: logs[0]}, **more), tmp_path))
    tasks = launcher(SAY_LOG, is_array=True, retry_logs={3: logs[0], 12: logs[1]}, **more)
    found = [said(launch(tasks, tmp_path, SLURM_ARRAY_TASK_ID=task)) for task in ("3", "12", "1")]
    assert [logs[:1], logs[1:], ["none"]] == found
    assert ["none"] == said(launch(launcher(SAY_LOG, **more), tmp_path))
    assert ["mine"] == said(launch(launcher(SAY_LOG, **more), tmp_path, EVALMON_RETRY_LOG="mine"))
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.survives("S18")
@pytest.mark.parametrize("what", ["gone", "another user's", "behind another user's link", "not looked at"])
def test_no_eval_continues_from_another_users_log(tmp_path: Path, what: str) -> None:
    log = tmp_path / "logs" / "l.eval"
    log.parent.mkdir()
    if what != "gone":
        log.touch()
    if what == "another user's":
        second_user.give(log)
    if what == "behind another user's link":
        log.parent.rename(tmp_path / "theirs")
        log.parent.symlink_to("theirs")
        second_user.give(log.parent)
    interpreter = NOWHERE if what == "not looked at" else sys.executable
    assert ["none"] == said(launch(launcher(SAY_LOG, retry_logs={None: str(log)}, interpreter=interpreter), tmp_path))


@pytest.mark.parametrize("name", ["r/t/epoch0", 'it\'s $(touch canary) "x"'])
def test_each_task_of_an_array_has_its_own_name_and_directory(tmp_path: Path, name: str) -> None:
    job = launcher(name=name, output_dir=f"/out/{name}", is_array=True)
    expected = ["/exp/evalmon", f"{name}[17]", f"/out/{name}/17"]
    assert expected == said(launch(job, tmp_path, SLURM_ARRAY_TASK_ID="17"))


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
def test_the_interpreter_line_is_parsed_as_by_the_kernel(shebang: str, expected: list[str]) -> None:
    assert expected == program_of(shebang)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("#!/bin/bash -e\nfalse\nprintf reached\n", (1, b"")),
        (f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:], end='')\n", (0, b"[]")),
        ("#!/bin/cat\nx\n", (0, b"#!/bin/cat\nx\n")),
    ],
)
def test_a_script_that_cannot_be_monitored_runs_by_its_own_first_line(
    tmp_path: Path, script: str, expected: tuple[int, bytes]
) -> None:
    done = launch(launcher(script), tmp_path)
    assert expected == (done.returncode, done.stdout)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    text = launcher("#!/bin/sh\n", is_array=True, head=HEAD, name="it's").text
    done = subprocess.run(["shellcheck", "--shell=bash", "-"], input=text, capture_output=True, timeout=30, check=False)
    assert (b"", 0) == (done.stdout, done.returncode)


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("#SBATCH --wait", "#SBATCH"),
        ("#SBATCH -W", "#SBATCH"),
        ("#SBATCH  --wait  # till it is over", "#SBATCH # till it is over"),
        ("#SBATCH --wait --time=9", "#SBATCH --time=9"),
        ("#SBATCH --time=9 -W --mem=1", "#SBATCH --time=9 --mem=1"),
    ],
)
def test_sbatch_does_not_wait_for_the_job(line: str, left: str) -> None:
    kept = ["#SBATCH --wait-all-nodes=1", "#SBATCH --time=5"]
    text = rendered(head="\n".join([line, *kept]))
    assert [left, *kept] == text.splitlines()[1:4]
    assert "wait" not in read_head(text).options
