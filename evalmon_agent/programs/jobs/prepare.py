"""What does a submission need on disk before it: the unchanged copy of the script, and the launcher that runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from evalmon_agent.programs.jobs.own_path import launcher_parts
from evalmon_agent.programs.jobs.register import Submission, write_script
from evalmon_agent.settings import Settings
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.submission.launcher import SNAPSHOT, Monitored, render
from evalmon_agent.submission.plan import Script


def prepare(
    experiment: Experiment,
    settings: Settings,
    token: str,
    script: Script,
    asked: Submission,
    *,
    retry_logs: Mapping[int | None, str] | None = None,
) -> str:
    """Write both, and return the launcher's path. `retry_logs`: where an eval that is run again may go on from."""
    snapshot = write_script(experiment, token, SNAPSHOT, script.content)
    launcher = render(
        Monitored(
            snapshot=snapshot,
            leading_lines=script.head.leading_lines,
            shebang=script.head.shebang or "",
            monitor_dir=experiment.directory,
            name=asked.name,
            output_dir=asked.output_dir or os.path.dirname(asked.script),
            is_array=asked.tasks is not None,
            token=token,
            interpreter=sys.executable,
            sample_interval_s=settings.sample_interval,
            retry_logs=retry_logs or {},
        )
    )
    parts = launcher_parts(experiment, asked.script, script.content)
    return write_script(experiment, token, parts, launcher.encode(errors="surrogateescape"))
