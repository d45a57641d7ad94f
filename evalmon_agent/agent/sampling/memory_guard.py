"""When must we leave because the job needs the memory? Pure.

A process of ours that the kernel kills makes a good eval OUT_OF_MEMORY, and so does one of the eval's that had to give
way to us. So the sampler goes before it comes to that: it is the only one of us that can be spared.
"""

from __future__ import annotations

KEEP_FREE_BYTES = 64 * 1024 * 1024
EVERY_S = 5.0


def why_leave(headroom_bytes: int | None) -> str:
    """The reason to leave; "" if there is none. `headroom_bytes` is as CgroupUsage gives it."""
    if headroom_bytes is None or headroom_bytes >= KEEP_FREE_BYTES:
        return ""
    free_mib, least_mib = max(headroom_bytes, 0) >> 20, KEEP_FREE_BYTES >> 20
    return f"the job has {free_mib} MiB of memory left, less than {least_mib}: left it to the eval"
