"""Asks seff about a finished job: the argv, its report as a record, and whether to believe it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalmon_agent.words import durations, sizes
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.sizes import count
from evalmon_agent.words.states import TERMINAL, parse_state

_KEYS = frozenset(
    {
        "Job ID",
        "Array Job ID",
        "Cluster",
        "User/Group",
        "State",
        "Nodes",
        "Cores",
        "Cores per node",
        "CPU Utilized",
        "CPU Efficiency",
        "Job Wall-clock time",
        "Memory Utilized",
        "Memory Efficiency",
        # Of sites: nn_seff (NeSI) and an epilog (York).
        "Job Wall-time",
        "Mem Efficiency",
        "Requested wall clock time",
    }
)
_SAME_AS = {
    "Wall-clock time": "Job Wall-clock time",
    "Wall clock time": "Job Wall-clock time",
    "Actual wall clock time": "Job Wall-clock time",
}
"""What sites that rewrite seff's report call its lines."""
_BORDER = " \t#|*"
_STATE = re.compile(r"([A-Za-z_]+)(?:[^(]*\(exit code (\d{1,9})\))?", re.ASCII)
_SHARE = re.compile(r"(?:(\d{1,9}(?:\.\d{1,9})?)%)?\s*(.*?)\s*\bof\s+(.*)", re.ASCII)
_SIZE = re.compile(r"\d[\d.]* [KMGTPE]B", re.ASCII)

# Princeton's jobstats, installed in seff's place on some clusters, has lines that look like seff's.
_OTHER_TOOL = "Slurm Job Statistics"

_NO_DATA = re.compile(r"Job not found|not available", re.IGNORECASE)
_BROKEN = re.compile(
    r"Can't locate \S+ in @INC|Can't load '|BEGIN failed|Compilation failed|syntax error at"
    r"|bad interpreter|perl.{0,200}(?:No such file|not found|cannot open)"
    r"|symbol lookup error|error while loading shared libraries"
)
_NO_SUCH_COMMAND = (126, 127)

# From here on, neither CPU time nor memory says that the figures are not stored yet.
MEASURED_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class SeffReport:
    """The values in a report; None for a missing one.

    Seconds and bytes, base 1024. `cores` is the job's total. `exit_code` is seff's, which loses signals.
    """

    job_id: str | None = None
    array_job_id: str | None = None
    cluster: str | None = None
    user: str | None = None
    group: str | None = None
    state: str | None = None
    exit_code: int | None = None
    nodes: int | None = None
    cores: int | None = None
    cpu_utilized_s: float | None = None
    cpu_efficiency_pct: float | None = None
    core_walltime_s: float | None = None
    wall_clock_s: float | None = None
    time_limit_s: float | None = None
    mem_utilized_bytes: int | None = None
    mem_efficiency_pct: float | None = None
    mem_requested_bytes: int | None = None


def argv(job_id: JobId) -> list[str]:
    """The argv for one report; for an array of one task, since seff shows only one. Run it with `environment.clean`."""
    return ["seff", job_id]


def parse(stdout: str) -> SeffReport | None:
    """The first report in the text, its lines in any order, noise between them; None if it has none."""
    fields = _fields(stdout)
    if not fields:
        return None
    state = _STATE.match(fields.get("State", ""))
    user, _, group = fields.get("User/Group", "").partition("/")
    cpu_pct, cpu_part, core_walltime = _share(fields.get("CPU Efficiency", ""))
    mem_pct, mem_part, mem_whole = _share(fields.get("Memory Efficiency") or fields.get("Mem Efficiency", ""))
    _, wall_part, limit = _share(fields.get("Job Wall-time", ""))
    wall_clock_s = _seconds(fields.get("Job Wall-clock time", wall_part))
    core_walltime_s = _seconds(core_walltime)
    return SeffReport(
        job_id=fields.get("Job ID"),
        array_job_id=fields.get("Array Job ID"),
        cluster=fields.get("Cluster"),
        user=user or None,
        group=group or None,
        state=state[1] if state else None,
        exit_code=int(state[2]) if state and state[2] else None,
        nodes=count(fields.get("Nodes", "")),
        cores=_cores(fields, core_walltime_s=core_walltime_s, wall_clock_s=wall_clock_s),
        cpu_utilized_s=_seconds(fields.get("CPU Utilized", cpu_part)),
        cpu_efficiency_pct=cpu_pct,
        core_walltime_s=core_walltime_s,
        wall_clock_s=wall_clock_s,
        time_limit_s=_seconds(fields.get("Requested wall clock time", limit)),
        mem_utilized_bytes=_bytes(fields.get("Memory Utilized", mem_part)),
        mem_efficiency_pct=mem_pct,
        mem_requested_bytes=_bytes(mem_whole),
    )


def parse_ended(stdout: str) -> SeffReport | None:
    """The report if it has the figures of a job that has certainly ended; of a seff that ended well.

    If it is None: wait, ask once more, then take sacct's. Right after the end, seff says RUNNING, or zeros with
    exit status 0.
    """
    report = parse(stdout)
    if report is None or _NO_DATA.search(stdout) or parse_state(report.state or "") not in TERMINAL:
        return None
    if report.wall_clock_s is None and report.cpu_efficiency_pct is None:
        return None
    measured = report.cpu_utilized_s or report.mem_utilized_bytes
    return report if measured or (report.wall_clock_s or 0) < MEASURED_AFTER_S else None


def is_broken(returncode: int, stdout: str, stderr: str) -> bool:
    """Whether seff cannot run here (no Perl, or no Slurm modules for it); it then counts as not installed."""
    if returncode == 0 or parse(stdout) is not None:
        return False
    return returncode in _NO_SUCH_COMMAND or bool(_BROKEN.search(stdout) or _BROKEN.search(stderr))


def _fields(stdout: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in stdout.splitlines():
        key, colon, value = line.strip(_BORDER).partition(":")
        key = _SAME_AS.get(key.strip(), key.strip())
        if line.strip() == _OTHER_TOOL:
            return {}
        if key == "Job ID" and key in fields:
            break
        if colon and key in _KEYS and value.strip():
            fields.setdefault(key, value.strip())
    return fields


def _share(text: str) -> tuple[float | None, str, str]:
    """`4.32% of 15-13:31:28 core-walltime`, nn_seff's `68.9%  6.89 GB of 10.00 GB`: percent, part, whole."""
    match = _SHARE.match(text)
    if match is None:
        return None, "", ""
    return None if match[1] is None else float(match[1]), match[2], match[3]


def _seconds(text: str) -> float | None:
    words = text.split(maxsplit=1)
    return durations.parse(words[0]) if words else None


def _bytes(text: str) -> int | None:
    match = _SIZE.match(text)
    return sizes.parse_seff(match[0]) if match else None


def _cores(fields: dict[str, str], *, core_walltime_s: float | None, wall_clock_s: float | None) -> int | None:
    """`Cores per node` is rounded down, so the total comes from the times where they say it."""
    cores = count(fields.get("Cores", ""))
    if cores is not None:
        return cores
    if core_walltime_s and wall_clock_s:
        return round(core_walltime_s / wall_clock_s)
    nodes, per_node = count(fields.get("Nodes", "")), count(fields.get("Cores per node", ""))
    return None if nodes is None or per_node is None else nodes * per_node
