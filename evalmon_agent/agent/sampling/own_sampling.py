"""Does the batch script sample its GPUs itself, into the very file that we would write?

Many did before us: `nvidia-smi --query-gpu=... -l 30 > gpu_metrics.csv &`. By its text, since what appends to the file
later cannot be seen beforehand.
"""

from __future__ import annotations

_BYTES = 1 << 20
_WORDS = (b"nvidia-smi", b"gpu_metrics.csv")


def is_in(script: str) -> bool:
    """Whether this script seems to; False for one that cannot be read."""
    try:
        with open(script, "rb", buffering=0) as file:
            text = file.read(_BYTES) or b""
    except OSError:
        return False
    return is_in_text(text)


def is_in_text(text: bytes) -> bool:
    """The same of its text; comments do not count."""
    code = b"\n".join(line for line in text.split(b"\n") if not line.lstrip().startswith(b"#"))
    return all(word in code for word in _WORDS)
