"""Whether a process above us is already an evalmon `run` for the same job: then its report covers us."""

import os

# A bound, should the table change under our feet; real chains end at slurmstepd after a few steps.
_STEPS = 64


def runs_below_another(job_id: str | None) -> bool:
    """Walk up the parents as long as they are ours to read.

    Args:
        job_id: SLURM_JOB_ID; a `run` of another job (salloc below a `run`, say) does not count.

    Raises:
        OSError: /proc does not tell.
    """
    pid = _parent_of(os.getpid())
    for _ in range(_STEPS):
        if pid <= 1:
            return False
        try:
            words = _read(pid, "cmdline").split(b"\0")
            if is_run(words) and _job_id_of(pid) == job_id:
                return True
            if words[0].startswith(b"slurmstepd"):
                return False
            pid = _parent_of(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False  # ended meanwhile, or another user's (sudo): nothing of ours beyond
    return False


def is_run(words: list[bytes]) -> bool:
    """Whether this command line is `python -m evalmon_agent run ...` or `python .../evalmon run ...`."""
    if b"python" not in os.path.basename(words[0]):
        return False
    rest = words[1:]
    while rest and rest[0].startswith(b"-") and rest[0] != b"-m":
        rest = rest[2:] if rest[0] in {b"-X", b"-W"} else rest[1:]
    if rest[:1] == [b"-m"]:
        return rest[1:3] == [b"evalmon_agent", b"run"]
    return [os.path.basename(word) for word in rest[:1]] == [b"evalmon"] and rest[1:2] == [b"run"]


def _job_id_of(pid: int) -> str | None:
    for entry in _read(pid, "environ").split(b"\0"):
        if entry.startswith(b"SLURM_JOB_ID="):
            return os.fsdecode(entry.partition(b"=")[2])
    return None


def _parent_of(pid: int) -> int:
    # The command's name, in parentheses, may hold anything; the state and the parent follow it (proc(5)).
    return int(_read(pid, "stat").rpartition(b")")[2].split()[1])


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()
