"""Which environment do Slurm's commands get, so that the user's settings change nothing of what we read."""

from __future__ import annotations

from collections.abc import Mapping

from evalmon_agent.slurm.late_environment import CARRIER, pack, unpack
from evalmon_agent.words.job_id import JobId, parse_job_id

FOR_ASKING: Mapping[str, str] = {
    "SLURM_TIME_FORMAT": "%s",
    "SLURM_BITSTR_LEN": "0",
    "LC_ALL": "C",
}
"""Set for every question: epoch seconds, array expressions uncut, messages in English."""

# squeue(1), sacct(1), scontrol(1), sinfo(1), ENVIRONMENT VARIABLES: every one of these stands for an
# option that adds, drops or reshapes rows. By prefix, since each version adds some.
_SHAPING_PREFIXES = ("SACCT_", "SQUEUE_", "SINFO_", "SCONTROL_")
_SHAPING = frozenset(
    {
        "SLURM_DEBUG_FLAGS",
        "SLURM_JSON",
        "SLURM_YAML",
        "SLURM_TOPO_LEN",
    }
)

_OF_A_JOB_PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "PMI", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND")
_OPTIONS_PREFIX = "SBATCH_"
_OF_A_JOB = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "ZE_AFFINITY_MASK",
    }
)
# What evalmon's launcher says to one eval: another one, submitted from its job, would go on from its log.
_OF_AN_EVAL = frozenset(
    {"EVALMON_DIR", "EVALMON_NAME", "EVALMON_OUTPUT_DIR", "EVALMON_JOB_ID", "EVALMON_RETRY_LOG", "EVALMON_UNMONITORED"}
)
_WHICH_CLUSTER = frozenset({"SLURM_CONF", "SLURM_CLUSTERS"})

# `sbatch --wait` would last as long as the eval.
_NEVER_SUBMITTED_WITH = frozenset({"SBATCH_WAIT"})


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment to ask squeue, sacct, scontrol, sinfo and seff with; which cluster is asked stays."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _SHAPING and name != CARRIER and not name.startswith(_SHAPING_PREFIXES)
    }
    return {**kept, **FOR_ASKING}


def own_job_id(environ: Mapping[str, str]) -> JobId | None:
    """The job that this process runs in; None outside of one."""
    return parse_job_id(environ.get("SLURM_JOB_ID", ""))


def for_submission(environ: Mapping[str, str], *, inside_job: bool) -> dict[str, str]:
    """The environment for sbatch, which hands it on to the job: hence nothing is added.

    The user's SBATCH_* hold, as they do for the user's own sbatch. Inside a job, what Slurm said to that job is taken
    out: it would bind the new job to the old one's memory, CPUs and GPUs.
    """
    kept = {name: value for name, value in environ.items() if name not in _NEVER_SUBMITTED_WITH}
    if not inside_job:
        return kept
    return {
        name: value
        for name, value in kept.items()
        if name in _WHICH_CLUSTER
        or not (name in _OF_A_JOB or name in _OF_AN_EVAL or name.startswith(_OF_A_JOB_PREFIXES))
    }


def for_evals(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that an eval's sbatch gets, called by hand or by a command of ours."""
    return for_submission(environ, inside_job="SLURM_JOB_ID" in environ)


def for_our_jobs(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of sbatch for one of evalmon's jobs: its options say all that it needs, so without SBATCH_*.

    It carries that of the evals, for those submitted later.
    """
    packed = environ.get(CARRIER) or pack(for_evals(environ))
    submitted_with = for_submission(environ, inside_job=True).items()
    kept = {name: value for name, value in submitted_with if not name.startswith(_OPTIONS_PREFIX)}
    return kept if packed is None else {**kept, CARRIER: packed}


def carried(environ: Mapping[str, str]) -> dict[str, str] | None:
    """In a job of ours: the evals' environment that it carries; None where a site let it not through."""
    return unpack(environ.get(CARRIER, ""))
