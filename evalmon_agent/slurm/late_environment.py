"""Which environment does an eval get that is submitted later: the one that it would have had at first. Pure.

It travels in Slurm's memory only, as one variable of our own jobs' environment: whole, since a node's prolog, its
shell and Slurm change theirs (TMPDIR, PATH, SLURM_*). On disk there is a digest, which tells whether one is the
other. A digest leaves out what differs from one login session to the next and means nothing to an eval.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping

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


def pack(environ: Mapping[str, str]) -> str | None:
    """The environment as one printable text; None if it is too large for that."""
    plain = "\0".join(f"{name}={value}" for name, value in environ.items() if name != CARRIER)
    packed = base64.b85encode(zlib.compress(plain.encode(errors="surrogateescape"), 9))
    return packed.decode() if len(packed) <= _MAX_PACKED_BYTES else None


def unpack(text: str) -> dict[str, str] | None:
    """What was packed; None for anything else."""
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
    """`salt:hash`; two environments have the same one if an eval cannot tell them apart."""
    told = sorted(item for item in environ.items() if not _is_of_a_session(item[0]))
    plain = "\0".join([salt, *(f"{name}={value}" for name, value in told)])
    return f"{salt}:{hashlib.sha256(plain.encode(errors='surrogateescape')).hexdigest()}"


def is_same(environ: Mapping[str, str], digested: str) -> bool:
    """Whether this is the environment of that digest."""
    return digest(environ, salt=digested.partition(":")[0]) == digested


def _is_of_a_session(name: str) -> bool:
    return name in _OF_A_SESSION or name.startswith(_OF_A_SESSION_PREFIXES)
