"""Writes what sbatch gets for an eval, the launcher, which carries the script; reads it again later."""

from __future__ import annotations

import os
import sys

import evalmon_agent
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.jobs.register import BatchJob
from evalmon_agent.settings import Settings
from evalmon_agent.submission.launcher import Monitored, render
from evalmon_agent.submission.plan import Prepared
from evalmon_agent.tracking.registry import Submission


def prepare(experiment: Experiment, settings: Settings, new: Prepared) -> BatchJob:
    """Write the launcher."""
    launcher, submission = launcher_for(experiment, settings, new), new.submission
    parts = scripts.launcher_parts(experiment, submission.script, new.script.content)
    return _batch_job(scripts.write(experiment, submission.token, parts, launcher), launcher, submission)


def launcher_for(experiment: Experiment, settings: Settings, new: Prepared) -> bytes:
    """The launcher's text."""
    script, submission = new.script, new.submission
    return render(
        Monitored(
            script=script.content,
            path=submission.script,
            leading_lines=script.head.leading_lines,
            shebang=script.head.shebang or "",
            monitor_dir=experiment.directory,
            name=submission.name,
            output_dir=submission.output_dir or os.path.dirname(submission.script),
            is_array=submission.tasks is not None,
            token=submission.token,
            experiment_id=experiment.id or "",
            interpreter=sys.executable,
            package_parent=os.path.dirname(os.path.dirname(evalmon_agent.__file__)),
            sample_interval_s=settings.sample_interval,
            retry_logs=new.retry_logs,
        )
    )


def prepared(experiment: Experiment, submission: Submission) -> BatchJob | None:
    """What `prepare` wrote earlier; None if it is gone."""
    launcher = scripts.read_launcher(experiment, submission.token, submission.script)
    path = shown(scripts.launcher_of(experiment, submission.token, submission.script))
    return None if launcher is None else _batch_job(path, launcher, submission)


def _batch_job(path: str, launcher: bytes, submission: Submission) -> BatchJob:
    return BatchJob(
        submission.token, path, launcher, cwd=os.path.dirname(submission.script), options=submission.options
    )
