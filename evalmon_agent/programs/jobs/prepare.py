"""What sbatch gets for an eval: the launcher, which carries the script; written before, and read again later."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import evalmon_agent
from evalmon_agent.files.pinned import shown
from evalmon_agent.programs.jobs.register import BatchJob, Submission
from evalmon_agent.settings import Settings
from evalmon_agent.store import scripts
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.submission.launcher import Monitored, render
from evalmon_agent.submission.plan import Script


def prepare(
    experiment: Experiment,
    settings: Settings,
    token: str,
    script: Script,
    asked: Submission,
    *,
    retry_logs: Mapping[int | None, str] | None = None,
) -> BatchJob:
    """Write the launcher. `retry_logs`: where an eval that is run again may go on from."""
    launcher = launcher_for(experiment, settings, token, script, asked, retry_logs=retry_logs)
    parts = scripts.launcher_parts(experiment, asked.script, script.content)
    return _batch_job(token, scripts.write(experiment, token, parts, launcher), launcher, asked)


def launcher_for(
    experiment: Experiment,
    settings: Settings,
    token: str,
    script: Script,
    asked: Submission,
    *,
    retry_logs: Mapping[int | None, str] | None = None,
) -> bytes:
    """The launcher's text."""
    return render(
        Monitored(
            script=script.content,
            path=asked.script,
            leading_lines=script.head.leading_lines,
            shebang=script.head.shebang or "",
            monitor_dir=experiment.directory,
            name=asked.name,
            output_dir=asked.output_dir or os.path.dirname(asked.script),
            is_array=asked.tasks is not None,
            token=token,
            experiment_id=experiment.id or "",
            interpreter=sys.executable,
            package_parent=os.path.dirname(os.path.dirname(evalmon_agent.__file__)),
            sample_interval_s=settings.sample_interval,
            retry_logs=retry_logs or {},
        )
    )


def prepared(experiment: Experiment, token: str, asked: Submission) -> BatchJob | None:
    """What `prepare` wrote earlier; None if it is gone."""
    launcher = scripts.read_launcher(experiment, token, asked.script)
    path = shown(scripts.launcher_of(experiment, token, asked.script))
    return None if launcher is None else _batch_job(token, path, launcher, asked)


def _batch_job(token: str, path: str, launcher: bytes, asked: Submission) -> BatchJob:
    return BatchJob(token, path, launcher, cwd=os.path.dirname(asked.script), options=asked.options)
