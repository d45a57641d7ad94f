"""Tests that commands are imported one by one, and that `--help` shows their own descriptions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import evalmon_agent.commands
from evalmon_agent.cli.group import COMMANDS, EXAMPLES, IN_JOBS, main

HEAVY = ("filelock", "msgspec", "psutil", "rich", "yaml", "zstandard", "evalmon_agent.commands")
LOADED = f"""
import sys
from evalmon_agent.__main__ import main
try:
    main()
finally:
    print("loaded:", *[name for name in {HEAVY} if name in sys.modules])
"""


def loaded(*words: str, **environ: str) -> list[str]:
    argv = [sys.executable, "-c", LOADED, *words]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environ}, check=False)
    return done.stdout.rpartition("loaded:")[2].split()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_has_each_commands_own_description(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == COMMANDS[name]


def test_every_command_is_in_the_list() -> None:
    folder = Path(evalmon_agent.commands.__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if "@click.command(" in path.read_text()}
    assert modules == set(COMMANDS)


def test_help_lists_all_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "evalmon_agent", "--help"], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())
    assert all(f" {name} {text}" in words for name, text in {**COMMANDS, **IN_JOBS}.items())


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_of_a_command_ends_with_an_example(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.epilog == f"Example: {EXAMPLES[name]}"
    assert EXAMPLES[name].startswith(f"evalmon {name} ")


def test_help_and_completion_import_no_command_and_no_heavy_module() -> None:
    assert loaded("--help") == []
    completion = {"_EVALMON_COMPLETE": "bash_complete", "COMP_WORDS": "evalmon s", "COMP_CWORD": "1"}
    assert loaded(**completion) == []


def test_printing_a_template_imports_no_heavy_module() -> None:
    assert loaded("template") == ["evalmon_agent.commands"]


def test_the_shell_completes_commands_and_their_options() -> None:
    def completed(words: str) -> list[str]:
        environ = {"_EVALMON_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        program = Path(sys.executable).with_name("evalmon")
        done = subprocess.run([program], capture_output=True, text=True, env={**os.environ, **environ}, check=True)
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completed("evalmon st") == ["stop", "status"]
    assert completed("evalmon --de") == ["--debug"]
    assert completed("evalmon submit --dr") == ["--dry-run"]
    assert completed("evalmon template inspect-e") == ["inspect-eval"]


def test_an_unknown_command_is_wrong_usage() -> None:
    argv = [sys.executable, "-m", "evalmon_agent", "submitt"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("evalmon: No such command 'submitt'")


def test_debug_is_accepted_before_an_in_job_program() -> None:
    argv = [sys.executable, "-m", "evalmon_agent", "--debug"]
    done = subprocess.run([*argv, "run", "--", "sh", "-c", "exit 7"], capture_output=True, check=False)
    assert done.returncode == 7
    plain = subprocess.run([*argv[:-1], "hook"], capture_output=True, check=True)
    assert subprocess.run([*argv, "hook"], capture_output=True, check=True).stdout == plain.stdout
