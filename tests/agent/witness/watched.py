"""Runs evals, real ones and a fast stand-in, as a job in its own cgroup like slurmstepd's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import as_root
from agent.in_a_job import RUN, Experiment

FREEZER = Path("/sys/fs/cgroup/freezer")
CGROUPS = FREEZER if FREEZER.is_dir() else Path("/sys/fs/cgroup")
INSPECT = Path(sys.executable).with_name("inspect")

# Holds open the files that inspect-ai 0.3.285 holds open, with its content; "log" is the log's path in them.
STANDIN = """
import json, os, sys, time
def main():
    if os.environ.get("AS_LM_EVAL"):
        time.sleep(float(os.environ["SECONDS_LONG"]))
        return
    time.sleep(float(os.environ.get("OPENS_AFTER_S", "0")))
    folder = os.environ["DATA"] + "/traces"
    os.makedirs(folder, exist_ok=True)
    pid = os.environ.get("TRACE_PID") or str(os.getpid())
    with open(f"{folder}/trace-{pid}.log", "w") as trace:
        def write(**entry): trace.write(json.dumps(entry) + "\\n"); trace.flush()
        write(action="Model", detail='"action": "Log Write", "detail": "/a/forged.eval"')
        time.sleep(float(os.environ.get("FIRST_LOG_AFTER_S", "0")))
        write(action="Log Write", detail=os.path.abspath(os.environ.get("LOG", f"logs/{os.getpid()}.eval")))
        if os.environ.get("FORKS"):
            for _ in range(3):
                if not os.fork(): time.sleep(2.5); os._exit(0)
        time.sleep(float(os.environ.get("SECONDS_LONG", "1.5")))
        write(action="Log Write", detail=os.path.abspath(f"logs/late-{os.getpid()}.eval"))
    os.unlink(f"{folder}/trace-{pid}.log")
main()
"""

# Three samples on the mock model, with their usage, so that no tokenizer is fetched.
TASKS = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match

def answer(messages, *_):
    output = ModelOutput.from_content("mockllm/model", "1")
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output

@task
def good():
    samples = [Sample(input=f"say {i}", target="1") for i in range(3)]
    return Task(dataset=samples, scorer=match(), model=get_model("mockllm/model", custom_outputs=answer))
"""


class Job:
    """Runs scripts as the batch script of job 123, in a directory with a stand-in `inspect` and `lm_eval` on PATH."""

    def __init__(self, experiment: Experiment, *, cgroup: Path | None) -> None:
        self.experiment = experiment
        self.directory = experiment.directory / "work"
        self._cgroup = cgroup
        programs = experiment.directory / "bin"
        programs.mkdir()
        self.directory.mkdir()
        for name in ("inspect", "lm_eval"):
            (programs / name).write_text(f"#!{sys.executable}\n{STANDIN}")
            (programs / name).chmod(0o755)
        (self.directory / "tasks.py").write_text(TASKS)
        self.environment = experiment.environ(
            DATA=str(experiment.directory / "data"),
            XDG_DATA_HOME=str(experiment.directory / "home"),
            PATH=f"{programs}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            STEP=f"{cgroup}/step_0/task_0",
        )

    def run(self, script: str, **more: str) -> dict[str, Any]:
        """The only attempt of the report; the script must succeed and print nothing on stderr."""
        done = subprocess.run(self.argv(script, **more), check=False, **self._options(more))
        assert (done.returncode, done.stderr) == (0, ""), done
        return self.attempt()

    def programs(self) -> list[dict[str, Any]]:
        """The eval programs in its report."""
        found: list[dict[str, Any]] = self.attempt()["programs"]
        return found

    def attempt(self) -> dict[str, Any]:
        [attempt] = self.experiment.report()["attempts"]
        return dict(attempt)

    def argv(self, script: str, **more: str) -> list[str]:
        text = f"cd {self.directory}\n{textwrap.dedent(script)}"
        words = [*RUN, "--output-dir", str(self.experiment.directory / "out"), "--", "bash", "-ec", text]
        if self._cgroup is None:
            return words
        task = self._cgroup / "step_batch" / "task_0"
        prepare = 'echo $$ > "$1/cgroup.procs"'
        environment = self.environment | more
        return as_root.in_namespace(prepare, task, words=words, environ=environment, unshare=())

    def _options(self, more: dict[str, str]) -> dict[str, Any]:
        options = {"capture_output": True, "text": True, "timeout": 120}
        return options if self._cgroup else {**options, "env": self.environment | more}

    def kill(self) -> None:
        """Kill the whole cgroup at once, as slurmstepd does."""
        if self._cgroup is not None:
            pids = (self._cgroup / "step_batch" / "task_0" / "cgroup.procs").read_text().split()
            as_root.run("kill", "-9", *pids, check=False)

    @contextmanager
    def running(self, script: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        """Start the same in the background."""
        environment = None if self._cgroup else self.environment | more
        with subprocess.Popen(self.argv(script, **more), env=environment, text=True) as process:
            yield process


def ran(script: str, **environment: str) -> pytest.MarkDecorator:
    """The mark of a test that looks at what is known of this script; those of one file run beside each other."""
    return pytest.mark.ran.with_args(script, environment)


def run_in_cgroup(directory: Path, script: str, environment: dict[str, str]) -> Job:
    """The job, when it is over."""
    with cgroup_of("123", directory.name) as cgroup:
        job = Job(Experiment(directory), cgroup=cgroup)
        job.run(script, **environment)
    return job


@contextmanager
def cgroup_of(job_id: str, place: str = "") -> Iterator[Path]:
    """The cgroup of a job with a batch step and an srun step; its remaining processes are killed at the end."""
    directory = CGROUPS / f"evalmon_tests_{os.getpid()}{place}" / f"job_{job_id}"
    steps = [directory / step / "task_0" for step in ("step_batch", "step_0")]
    as_root.run("mkdir", "-p", *steps)
    as_root.run("chown", "-R", f"{os.geteuid()}", directory)
    try:
        yield directory
    finally:
        for step in steps:
            pids = (step / "cgroup.procs").read_text().split()
            as_root.run("kill", "-9", *pids, check=False)
        deadline = time.monotonic() + 5
        while any((step / "cgroup.procs").read_text() for step in steps) and time.monotonic() < deadline:
            time.sleep(0.05)
        as_root.run("rmdir", *steps, *(step.parent for step in steps), directory, directory.parent)
