"""Where is everything, and may we write there: the paths of one experiment and who owns them."""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass

from evalmon_agent.errors import UsageError

MONITOR_DIR = "evalmon"


@dataclass(frozen=True, slots=True)
class Experiment:
    """The directory EXP (absolute, links resolved) and our files below it."""

    root: str

    @classmethod
    def at(cls, path: str) -> Experiment:
        """The experiment at `path`; UsageError if that is no directory."""
        root = os.path.realpath(path)
        # An empty path is a variable that was not set, and not the working directory.
        if not path or not os.path.isdir(root):
            what = "not a directory" if path and os.path.lexists(root) else "no such directory"
            raise UsageError(f"{path or repr(path)}: {what}; give the experiment's directory")
        if not is_utf8(root):
            raise UsageError(f"{root}: a path that is not UTF-8 cannot be kept on record; rename it")
        return cls(root)

    def _ours(self, *parts: str) -> str:
        return os.path.join(self.root, MONITOR_DIR, *parts)

    @property
    def directory(self) -> str:
        """EXP/evalmon, the only place that we write to."""
        return self._ours()

    @property
    def settings(self) -> str:
        """EXP/evalmon.yaml."""
        return os.path.join(self.root, "evalmon.yaml")

    @property
    def registry(self) -> str:
        """registry.jsonl."""
        return self._ours("registry.jsonl")

    @property
    def jobs(self) -> str:
        """The jobs' own reports."""
        return self._ours("jobs")

    @property
    def scripts(self) -> str:
        """What was submitted."""
        return self._ours("scripts")

    @property
    def state(self) -> str:
        """state.json."""
        return self._ours("state.json")

    @property
    def observer(self) -> str:
        """observer.json."""
        return self._ours("observer.json")

    @property
    def lock(self) -> str:
        """The lock itself."""
        return self._ours("state.json.lock")

    @property
    def lock_choice(self) -> str:
        """lock.json: which kind of lock this experiment uses."""
        return self._ours("lock.json")

    @property
    def log(self) -> str:
        """monitor.log."""
        return self._ours("monitor.log")

    @property
    def summary_json(self) -> str:
        """summary.json."""
        return self._ours("summary.json")

    @property
    def summary_md(self) -> str:
        """summary.md."""
        return self._ours("summary.md")

    def kept_settings(self, token: str) -> str:
        """The settings with which a job of ours was submitted."""
        return os.path.join(self.scripts, os.path.basename(token), "settings.json")

    def relative(self, path: str) -> str:
        """`path` as seen from EXP, where it lies below it; otherwise as it is."""
        inside = path == self.root or path.startswith(self.root + os.sep)
        return os.path.relpath(path, self.root) if inside else path

    def is_monitored(self) -> bool:
        """Whether something was ever registered here."""
        return os.path.exists(self.registry) or os.path.isdir(self.jobs)

    def require_monitored(self) -> None:
        """UsageError unless something was registered here, or a job reported itself."""
        if os.path.isdir(self.directory) and not os.access(self.directory, os.R_OK | os.X_OK):
            raise UsageError(
                f"{self.directory}: you may not read it; its owner can set group_readable: true and submit again"
            )
        if not self.is_monitored():
            raise UsageError(f"{self.root}: nothing is monitored here; start with: evalmon submit {self.root}")

    def prepare(self, *, group_readable: bool) -> None:
        """Make EXP/evalmon and its directories, or refuse them (UsageError) if others could write there."""
        mode = 0o750 if group_readable else 0o700
        for path in (self.directory, self.jobs, self.scripts):
            try:
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700)
                _set_mode(path, mode)
            except OSError as error:
                raise UsageError(f"{path}: cannot be made ({error.strerror}); make EXP writable for you") from None

    def check(self) -> None:
        """UsageError if EXP/evalmon is not ours alone to write, or cannot be made or written."""
        self.check_owner()
        place = self.directory if os.path.lexists(self.directory) else self.root
        if not os.access(place, os.W_OK | os.X_OK):
            raise UsageError(f"{place}: you cannot write there; make it writable for you, or use another experiment")

    def check_owner(self) -> None:
        """UsageError if EXP/evalmon is not ours alone to write."""
        for path in (self.directory, self.jobs, self.scripts):
            if os.path.lexists(path):
                check_private(path)

    @property
    def owner(self) -> int | None:
        """Whose EXP/evalmon is; None if there is none."""
        try:
            return os.lstat(self.directory).st_uid
        except OSError:
            return None

    @property
    def is_ours(self) -> bool:
        """Whether EXP/evalmon is this user's (others may read there if its owner lets them)."""
        return self.owner in {None, os.geteuid()}


def is_utf8(text: str) -> bool:
    """Whether the text can stand in our files; a name of arbitrary bytes comes as surrogates, which JSON has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_private(path: str) -> os.stat_result:
    """UsageError unless `path` is a real directory of ours that nobody else can write to."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: not a directory (a link, perhaps); remove it, evalmon makes its own")
    if found.st_uid != os.geteuid():
        raise UsageError(f"{path}: belongs to user {found.st_uid}; use an experiment directory of your own")
    if found.st_mode & 0o022:
        raise UsageError(f"{path}: others can write there; run: chmod go-w {shlex.quote(path)}")
    return found


def _set_mode(path: str, mode: int) -> None:
    """Give a private directory exactly this mode; by its descriptor, so never to what a link points at."""
    if stat.S_IMODE(check_private(path).st_mode) == mode:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
