"""Runs scripts/verify-filesystem."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict

from evalmon_agent.errors import EvalmonError
from evalmon_agent.experiment.experiment_lock import mount_at, would_choose
from verify_filesystem import abilities, creating, locking, replacing
from verify_filesystem.finding import Finding
from verify_filesystem.meeting import Meeting, MeetingError
from verify_filesystem.options import parser

_USAGE = 2
_SEEN_WITHIN_S = 60.0


def main() -> int:
    """0: sound; 1: something is not, or the hosts did not meet; 2: wrong usage."""
    options = parser().parse_args()
    if options.hosts > 1 and options.meet is None:
        options.meet = _step() or parser().error(
            "--hosts needs --meet NAME, the same on all of them, outside of a Slurm step"
        )
    mounts = [os.path.realpath(path) for path in (options.dir, options.dir2) if path is not None]
    for mount in mounts:
        if not os.path.isdir(mount) or not os.access(mount, os.W_OK | os.X_OK):
            print(f"verify-filesystem: {mount}: not a directory that you can write to", file=sys.stderr)
            return _USAGE
    if len(mounts) > 1 and not _is_one(*mounts):
        print(f"verify-filesystem: {mounts[0]} and {mounts[1]} are not one directory", file=sys.stderr)
        return _USAGE
    try:
        return _verify(mounts, options)
    except (MeetingError, EvalmonError, OSError) as error:
        print(f"verify-filesystem: {error}", file=sys.stderr)
        return 1


def _verify(mounts: list[str], options: argparse.Namespace) -> int:
    choices = [would_choose(mount) for mount in mounts]
    kind = options.kind or choices[0].kind
    meeting = Meeting(mounts, f"evalmon-verify.{options.meet or os.urandom(4).hex()}", hosts=options.hosts)
    sizes = {"processes": options.processes, "rounds": options.rounds}
    try:
        found = [finding for place in meeting.places for finding in abilities.verify(place)]
        found += locking.verify(meeting, kind, **sizes)
        found += replacing.verify(meeting, **sizes)
        found += creating.verify(meeting, **sizes)
        meeting.leave()
    except BaseException:
        meeting.abandon()
        raise
    is_sound = all(finding.is_sound is not False for finding in found)
    facts = [
        {"directory": mount, "mount": _mount(mount), "host": choice.host, "lock": choice.kind, "why": choice.why}
        for mount, choice in zip(mounts, choices, strict=True)
    ]
    if options.json:
        print(json.dumps({"sound": is_sound, "tried": kind, "mounts": facts, "findings": [asdict(f) for f in found]}))
    elif meeting.is_first:
        print(_text(facts, found, kind=kind, is_sound=is_sound, hosts=len(meeting.parties)))
    else:
        print(f"verify-filesystem: {'sound' if is_sound else 'UNSOUND'}; {meeting.parties[0]} says what was found")
    return 0 if is_sound else 1


def _step() -> str | None:
    """The Slurm step that all tasks of one srun share."""
    job, step = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "STEP_ID"))
    return f"{job}.{step}" if job and step else None


def _text(facts: list[dict[str, str | None]], found: list[Finding], *, kind: str, is_sound: bool, hosts: int) -> str:
    lines = [f"{one['directory']} on {one['host']}: {one['mount']}" for one in facts]
    lines += [f"evalmon would lock it by {one['lock']}: {one['why']}" for one in facts[:1]]
    others = {one["lock"] for one in facts[1:]} - {facts[0]["lock"]}
    lines += [
        f"and by {lock} where only the other mount is: the kind of the first command is obeyed" for lock in others
    ]
    lines += ["", *dict.fromkeys(finding.line for finding in found), ""]
    where = f"between {hosts} hosts" if hosts > 1 else "between two mounts" if len(facts) > 1 else "on one mount"
    verdict = "holds" if is_sound else "DOES NOT HOLD"
    return "\n".join([*lines, f"What evalmon relies on {verdict} here, tried with {kind} {where}."])


def _mount(directory: str) -> str:
    mount = mount_at(directory)
    if mount is None:
        return "it is unknown how it is mounted"
    return f"{mount.fstype} mounted at {mount.point} ({','.join(sorted(mount.options))})"


def _is_one(mount: str, other: str) -> bool:
    """Whether a file created through one mount exists in the other."""
    name = f".evalmon-verify.{os.urandom(8).hex()}"
    path = os.path.join(mount, name)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        deadline = time.monotonic() + (_SEEN_WITHIN_S if os.listdir(other) else 0.0)
        while not os.path.lexists(os.path.join(other, name)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True
    finally:
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main())
