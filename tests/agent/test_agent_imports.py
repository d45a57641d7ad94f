"""What a program inside an eval job imports: the standard library's light half, and nothing that costs."""

import sys

from in_a_job import PYTHON, call, environ

# Beside what a bare interpreter has. A new name costs every eval of every user: measure it (-X importtime) first.
BEFORE_THE_COMMAND = {
    "_stat",
    "_thread",
    "errno",
    "evalmon_agent",
    "evalmon_agent.agent",
    "evalmon_agent.agent.ancestry",
    "evalmon_agent.agent.arguments",
    "evalmon_agent.agent.canary",
    "evalmon_agent.agent.command",
    "evalmon_agent.agent.companion",
    "evalmon_agent.agent.ending",
    "evalmon_agent.agent.group",
    "evalmon_agent.agent.inherited",
    "evalmon_agent.agent.light",
    "evalmon_agent.agent.placement",
    "evalmon_agent.agent.report",
    "evalmon_agent.agent.reporter",
    "evalmon_agent.agent.run",
    "evalmon_agent.agent.signals",
    "evalmon_agent.errors",
    "resource",
    "time",
}
TOO_HEAVY = {
    "argparse",
    "asyncio",
    "click",
    "contextlib",
    "dataclasses",
    "filelock",
    "inspect",
    "json",
    "logging",
    "msgspec",
    "pathlib",
    "psutil",
    "pynvml",
    "re",
    "rich",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
    "yaml",
}


def modules_after(statement: str) -> set[str]:
    done = call([*PYTHON, "-c", f"import sys; {statement}; print(*sys.modules)"], environ())
    return set(done.stdout.split())


def test_before_the_command_runs_only_these_are_imported() -> None:
    loaded = modules_after("import evalmon_agent.__main__, evalmon_agent.agent.run") - {"evalmon_agent.__main__"}
    assert loaded - modules_after("pass") <= BEFORE_THE_COMMAND


def test_a_report_needs_the_standard_library_only() -> None:
    statement = "import evalmon_agent.__main__, evalmon_agent.agent.writer, evalmon_agent.agent.hook"
    loaded = modules_after(statement) - modules_after("pass")
    assert {name.partition(".")[0] for name in loaded} <= sys.stdlib_module_names | {"evalmon_agent"}
    assert loaded & TOO_HEAVY == set()
    assert {name for name in loaded if name.startswith("evalmon_agent.")} == {
        *(name for name in BEFORE_THE_COMMAND if name.startswith("evalmon_agent.")),
        "evalmon_agent.__main__",
        "evalmon_agent.agent.hook",
        "evalmon_agent.agent.jobs_directory",
        "evalmon_agent.agent.light_json",
        "evalmon_agent.agent.sampling",
        "evalmon_agent.agent.sampling.record",
        "evalmon_agent.agent.writer",
        "evalmon_agent.files",
        "evalmon_agent.files.replace",
    }
