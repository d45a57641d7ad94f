"""Builds the environments of Slurm's commands: for queries, for sbatch now, and for evals that are submitted later.

An eval that is submitted later gets the environment that it would have had at first. That travels in Slurm's memory
only, as one variable of the monitor jobs' environment: whole, since a node's prolog, its shell and Slurm change theirs
(TMPDIR, PATH, SLURM_*). On disk there is a digest, which tells whether one environment is the other; it leaves out what
differs from one login session to the next and means nothing to an eval.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping

from evalmon_agent.words.job_id import JobId, parse_job_id

FOR_ASKING: Mapping[str, str] = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C"}
"""Set for every query: epoch seconds, full array expressions, messages in English."""

# squeue(1), sacct(1), scontrol(1), sinfo(1), ENVIRONMENT VARIABLES: every one of these stands for an
# option that adds, drops or reshapes rows. By prefix, since each version adds some.
_SHAPING_PREFIXES = ("SACCT_", "SQUEUE_", "SINFO_", "SCONTROL_")
_SHAPING = frozenset({"SLURM_DEBUG_FLAGS", "SLURM_JSON", "SLURM_YAML", "SLURM_TOPO_LEN"})

_OF_A_JOB_PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "PMI", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND")
_OPTIONS_PREFIX = "SBATCH_"
_OF_A_JOB = frozenset(
    {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"}
)
# Set by evalmon's launcher for one eval: another one, submitted from its job, would continue from its log.
_OF_AN_EVAL = frozenset(
    {"EVALMON_DIR", "EVALMON_NAME", "EVALMON_OUTPUT_DIR", "EVALMON_JOB_ID", "EVALMON_RETRY_LOG", "EVALMON_UNMONITORED"}
)
_WHICH_CLUSTER = frozenset({"SLURM_CONF", "SLURM_CLUSTERS"})

# `sbatch --wait` would last as long as the eval.
_NEVER_SUBMITTED_WITH = frozenset({"SBATCH_WAIT"})

CARRIER = "EVALMON_SUBMIT_ENVIRONMENT"

# One string of an environment has 128 KiB (MAX_ARG_STRLEN), and Slurm keeps it for each job.
_MAX_PACKED_BYTES = 96 * 1024
_MAX_BYTES = 4 * 1024 * 1024

_OF_A_SESSION = frozenset(
    """
    _ COLUMNS DBUS_SESSION_BUS_ADDRESS DISPLAY LINES OLDPWD PPID PWD SHLVL STY TERM TERM_PROGRAM TERM_PROGRAM_VERSION
    TERM_SESSION_ID TMUX TMUX_PANE WINDOW WINDOWID XAUTHORITY COLORTERM VTE_VERSION ICEAUTHORITY SESSION_MANAGER
    KRB5CCNAME
    """.split()  # noqa: SIM905 - thirty quoted strings read worse
)
_OF_A_SESSION_PREFIXES = ("SSH_", "XDG_SESSION", "VSCODE_", "LC_TERMINAL", "BASH_FUNC_", "EVALMON_")


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for squeue, sacct, scontrol, sinfo and seff; the choice of the cluster is kept."""
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
    """The environment for sbatch. sbatch passes it on to the job, so nothing is added.

    The user's SBATCH_* hold, as they do for the user's own sbatch. Inside a job, what Slurm set for that job is taken
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
    """The environment of an eval's sbatch, the same whether the user or evalmon calls it."""
    return for_submission(environ, inside_job="SLURM_JOB_ID" in environ)


def for_monitor_jobs(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of sbatch for a monitor job, without SBATCH_*: its options are complete.

    It carries that of the evals, for those submitted later.
    """
    packed = environ.get(CARRIER) or pack(for_evals(environ))
    submitted_with = for_submission(environ, inside_job=True).items()
    kept = {name: value for name, value in submitted_with if not name.startswith(_OPTIONS_PREFIX)}
    return kept if packed is None else {**kept, CARRIER: packed}


def carried(environ: Mapping[str, str]) -> dict[str, str] | None:
    """In a monitor job: the environment of the evals that it carries; None if the site did not pass it on."""
    return unpack(environ.get(CARRIER, ""))


def pack(environ: Mapping[str, str]) -> str | None:
    """The environment as one printable text; None if it is too large for that."""
    plain = "\0".join(f"{name}={value}" for name, value in environ.items() if name != CARRIER)
    packed = base64.b85encode(zlib.compress(plain.encode(errors="surrogateescape"), 9))
    return packed.decode() if len(packed) <= _MAX_PACKED_BYTES else None


def unpack(text: str) -> dict[str, str] | None:
    """The environment that was packed; None if the text is anything else."""
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(base64.b85decode(text), _MAX_BYTES)
    except (ValueError, binascii.Error, zlib.error):
        return None
    if not inflater.eof:
        return None
    pairs = (entry.partition("=") for entry in plain.decode(errors="surrogateescape").split("\0") if entry)
    return {name: value for name, _, value in pairs}


def digest(environ: Mapping[str, str], *, salt: str) -> str:
    """`salt:hash`, the same for two environments that do not differ for an eval."""
    import hashlib  # noqa: PLC0415 (2 ms, and only what submits needs it)

    names = sorted(name for name in environ if name not in _OF_A_SESSION)
    kept = (f"{name}={environ[name]}" for name in names if not name.startswith(_OF_A_SESSION_PREFIXES))
    plain = "\0".join([salt, *kept])
    return f"{salt}:{hashlib.sha256(plain.encode(errors='surrogateescape')).hexdigest()}"


def is_same(environ: Mapping[str, str], digested: str) -> bool:
    """Whether this environment has that digest."""
    return digest(environ, salt=digested.partition(":")[0]) == digested
