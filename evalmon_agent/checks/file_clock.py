"""Do this host's clock and the file server's agree?"""

from __future__ import annotations

import os
import time

from evalmon_agent.checks.filesystem import probe_place
from evalmon_agent.checks.finding import Finding, ok, problem, warning
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.replace import OLD_AFTER_S

_CHECK = "clock"
_AGREE_S = 5.0


def check(experiment: Experiment) -> list[Finding]:
    """A fresh file's time beside ours. `now` of two hosts is never subtracted elsewhere; here that is the question."""
    _, place = probe_place(experiment)
    if not os.access(place, os.W_OK | os.X_OK):
        return []
    apart_s = _apart_s(place)
    line = f"the file server's is {abs(apart_s):.1f} s {'ahead of' if apart_s > 0 else 'behind'} this host's"
    advice = "have this host's clock set (NTP); stamps of files and in the log are off by as much"
    if abs(apart_s) >= OLD_AFTER_S:
        return [problem(_CHECK, line, f"{advice}, and what is new may be taken for old")]
    if abs(apart_s) >= _AGREE_S:
        return [warning(_CHECK, line, advice)]
    return [ok(_CHECK, f"the file server's and this host's agree within {_AGREE_S:.0f} s")]


def _apart_s(place: str) -> float:
    path = os.path.join(place, f".evalmon-doctor.{os.urandom(8).hex()}.tmp")
    before = time.time()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"?")
        os.fsync(descriptor)
        written = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        os.unlink(path)
    # A slow write is no wrong clock.
    return min(written - before, 0.0) or max(written - time.time(), 0.0)
