"""How a `run` above us, and slurmstepd, are told from their command lines."""

import pytest

from evalmon_agent.agent.ancestry import is_run, step_of


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/venv/bin/python -E -P -m evalmon_agent run -- script", True),
        ("python3.12 -m evalmon_agent run x", True),
        ("/usr/bin/python3 -X dev -W error -m evalmon_agent run x", True),
        ("/venv/bin/python /venv/bin/evalmon run -- x", True),
        ("/venv/bin/python -E -P /venv/lib/evalmon_agent/__main__.py run -- x", True),
        ("/usr/bin/python3 -sP /usr/bin/evalmon run x", True),
        ("/venv/bin/python -E -P -m evalmon_agent hook", False),
        ("/venv/bin/python -m evalmon_agent", False),
        ("/venv/bin/python -m evalmon_agent status run", False),
        ("timeout 10 evalmon run -- x", False),
        ("bash /home/me/evalmon run", False),
        ("srun /venv/bin/python -m evalmon_agent run x", False),
        ("/venv/bin/python script.py evalmon run", False),
        ("/venv/bin/python -c evalmon run", False),
        ("python", False),
        ("python -m", False),
        ("python -X", False),
        ("", False),
    ],
)
def test_only_a_python_that_runs_evalmon_run_is_a_run(line: str, *, expected: bool) -> None:
    assert is_run([word.encode() for word in line.split(" ")]) is expected


@pytest.mark.parametrize(
    ("title", "job", "expected"),
    [
        (b"slurmstepd: [123.batch]", "123", "batch"),
        (b"slurmstepd: [123.0] ", "123", "0"),
        (b"slurmstepd: [123.interactive]", "123", "interactive"),
        (b"slurmstepd: [124.batch]", "123", None),
        (b"slurmstepd: [123]", "123", None),
        (b"slurmstepd: [", "123", None),
        (b"slurmstepd: [\xff.batch]", "123", None),
        (b"slurmstepd: [123.batch]", None, None),
    ],
)
def test_the_step_stands_in_slurmstepds_title(title: bytes, job: str | None, expected: str | None) -> None:
    assert step_of(title, job) == expected
