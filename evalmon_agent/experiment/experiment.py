"""Opens an experiment's directory once, knows the paths of its files, and checks whether this user may write there."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from contextlib import suppress

import msgspec

from evalmon_agent.errors import NoPermissionError, ReplacedError, UsageError
from evalmon_agent.experiment import versioned
from evalmon_agent.experiment.ledger import Ledger
from evalmon_agent.files import trusted
from evalmon_agent.files.lock import publish
from evalmon_agent.files.permissions import user_name
from evalmon_agent.files.pinned import Pinned, nowhere
from evalmon_agent.files.private import opened
from evalmon_agent.files.trusted import ForeignError

MONITOR_DIR = "evalmon"
_PARTS = ("jobs", "scripts")
_LOCKS = ("lock.json", "state.json.lock")
_IDENTITY = "experiment.json"
_SCHEMA = 1
_ID_BYTES = 16


class Identity(msgspec.Struct, frozen=True):
    """The experiment's id, and the path and inode of the EXP for which the first command made it.

    It shows that one directory of this user has replaced another: the jobs are given the id, and a command compares the
    path. The id is not a secret.
    """

    id: str
    root: str
    inode: int
    schema: int = _SCHEMA

    def is_of(self, root: str, inode: int) -> bool:
        """Whether this is the directory that it was made for, even if that was moved as a whole or restored."""
        return self.root == root or self.inode == inode


_decoder = msgspec.json.Decoder(Identity)


class _Path:
    """The path, for I/O, of a file below EXP/evalmon, or of EXP/evalmon itself."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __get__(self, experiment: Experiment, kind: type[Experiment]) -> str:
        return experiment.path_of(self._name)


class Experiment:
    """The directory EXP (absolute, links resolved) and evalmon's files below it.

    EXP/evalmon is opened when first needed and stays the same for the process's whole life, even if others
    rename it. `root` and `directory` are paths for people and other processes; all others are for I/O, and go through
    the descriptor (`files.pinned`).
    """

    by_descriptor = _Path()
    registry = _Path("registry.jsonl")
    jobs = _Path("jobs")
    """The jobs' own reports."""
    scripts = _Path("scripts")
    """What was submitted."""
    state = _Path("state.json")
    observer = _Path("observer.json")
    lock = _Path("state.json.lock")
    lock_choice = _Path("lock.json")
    """Which kind of lock this experiment uses."""
    log = _Path("monitor.log")
    notifications = _Path("notifications.jsonl")
    summary_json = _Path("summary.json")
    summary_md = _Path("summary.md")
    metrics = _Path("evalmon.prom")
    report_html = _Path("report.html")

    def __init__(self, root: str, above: Pinned) -> None:
        """Nothing below EXP is opened yet. `above`: EXP, open."""
        self.root = root
        self._above = above
        self._expected_id: str | None = None
        self._identity: Identity | None = None
        self._held: Pinned | None = None
        self._ledger = Ledger("")

    @classmethod
    def at(cls, path: str) -> Experiment:
        """The experiment at `path`; UsageError if that is not a directory, or another user's link leads there."""
        root = os.path.realpath(path)
        # An empty path means a variable that was not set, not the working directory.
        if not path or not os.path.isdir(root):
            what = "not a directory" if path and os.path.lexists(root) else "no such directory"
            raise UsageError(f"{path or repr(path)}: {what}; give the experiment's directory")
        if not is_utf8(root):
            raise UsageError(f"{root}: a path that is not UTF-8 cannot be recorded; rename it")
        above = Pinned(root, only_to_search=True)
        _refuse_foreign_links(path, above)
        return cls(root, above)

    def expect(self, experiment_id: str | None) -> None:
        """Accept only the experiment with this id (None: with this path); call it before anything else."""
        self._expected_id = experiment_id

    @property
    def directory(self) -> str:
        """EXP/evalmon, the only directory that evalmon writes to; this path is for people and other processes."""
        return os.path.join(self.root, MONITOR_DIR)

    def path_of(self, name: str) -> str:
        """The path, for I/O, of a file below EXP/evalmon; "" means EXP/evalmon itself."""
        held = self._open()
        above = nowhere(self.directory) if held is None else held.io
        return os.path.join(above, name) if name else above

    @property
    def id(self) -> str | None:
        """The experiment's id; None before it is prepared, and for an experiment of an older evalmon."""
        held = self._open()
        if self._identity is None and held is not None:
            self._identity = _identity_in(held)
        return None if self._identity is None else self._identity.id

    @property
    def settings(self) -> str:
        """EXP/evalmon.yaml."""
        return os.path.join(self.root, "evalmon.yaml")

    @property
    def ledger(self) -> Ledger:
        """The records of registry.jsonl."""
        self._ledger.path = self.registry  # another path once the directory exists
        return self._ledger

    def kept_settings(self, token: str) -> str:
        """The path of the settings with which a monitor job was submitted."""
        return os.path.join(self.scripts, os.path.basename(token), "settings.json")

    def relative(self, path: str) -> str:
        """`path` relative to EXP if it lies below it, otherwise unchanged."""
        inside = path == self.root or path.startswith(self.root + os.sep)
        return os.path.relpath(path, self.root) if inside else path

    def is_monitored(self) -> bool:
        """Whether anything was ever registered here."""
        return os.path.exists(self.registry) or os.path.isdir(self.jobs)

    def require_monitored(self) -> None:
        """UsageError unless something was registered here, or a job reported itself."""
        if os.path.isdir(self.directory) and not os.access(self.directory, os.R_OK | os.X_OK):
            raise self.unreadable()
        if not self.is_monitored():
            raise UsageError(f"{self.root}: nothing is monitored here; start with: evalmon submit {self.root}")

    def unreadable(self) -> NoPermissionError:
        """The error that this user may not read what is here, with what its owner can do."""
        return NoPermissionError(
            f"{self.directory}: you cannot read it; its owner can set group_readable: true in {self.settings} and "
            f"run: evalmon report {shlex.quote(self.root)}"
        )

    def prepare(self, *, group_readable: bool) -> None:
        """Make EXP/evalmon and its directories, or refuse them (UsageError) if others could write there."""
        place = self.directory
        try:
            if self._open() is None:
                with suppress(FileExistsError):
                    os.mkdir(MONITOR_DIR, 0o700, dir_fd=self._above.descriptor)
            held = self._opened()
            for name in _PARTS:
                place = os.path.join(self.directory, name)
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=held.descriptor)
            self.set_modes(group_readable=group_readable)
        except OSError as error:
            raise UsageError(f"{place}: cannot be created ({error.strerror}); make EXP writable for you") from None
        if self.id is None:
            # `publish` keeps the first if somebody else has made one meanwhile.
            made = Identity(os.urandom(_ID_BYTES).hex(), self.root, self._above.inode)
            publish(self.path_of(_IDENTITY), msgspec.json.encode(made) + b"\n")

    def set_modes(self, *, group_readable: bool) -> None:
        """Let the group read EXP/evalmon and the files in it, or nobody, whatever was set before.

        Left as they are: the locks, which whoever may read them could hold, and what the directories in it contain.

        Raises:
            UsageError: a directory is not one, or others could write there.
            OSError: a mode cannot be set.
        """
        held = self._opened()
        for name in _PARTS:
            with suppress(FileNotFoundError):
                _set_mode_of(os.path.join(self.directory, name), held, group_readable=group_readable)
        _set_mode(self.directory, held.descriptor, group_readable=group_readable)
        for name in os.listdir(held.descriptor):
            if not name.startswith((".", *_LOCKS)):
                _set_mode_of_file(name, held, 0o640 if group_readable else 0o600)

    def check(self) -> None:
        """UsageError if others can write to EXP/evalmon, or if this user cannot create it or write to it."""
        self.check_owner()
        held = self._open()
        place, path = (self.root, self.root) if held is None else (held.path, held.io)
        if not os.access(path, os.W_OK | os.X_OK):
            raise UsageError(f"{place}: you cannot write there; make it writable for you, or use another experiment")

    def check_owner(self) -> None:
        """UsageError if anybody but this user can write to EXP/evalmon."""
        held = self._open()
        if held is None:
            return
        _refuse_shared(self.directory, held.status)
        for name in _PARTS:
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=held.descriptor, follow_symlinks=False)
                _refuse_shared(os.path.join(self.directory, name), status)

    def check_place(self) -> None:
        """Check that the directory at EXP/evalmon is still the one that this process opened.

        Raises:
            ReplacedError: it is another one; nothing in it is read.
            OSError: there is none, perhaps only for now (an unmounted file system).
        """
        held = self._opened()
        there = os.lstat(self.directory)
        if not held.is_same(there):
            self._continue_in(held, there)

    @property
    def owner(self) -> int | None:
        """The owner of EXP/evalmon; None if there is none."""
        with suppress(UsageError, PermissionError):
            held = self._open()
            return None if held is None else held.owner
        return os.lstat(self.directory).st_uid

    @property
    def is_ours(self) -> bool:
        """Whether EXP/evalmon belongs to this user; others may read it if its owner allows that."""
        return self.owner in {None, os.geteuid()}

    @property
    def may_be_written(self) -> bool:
        """Whether EXP/evalmon belongs to this user and lies on a file system that can be written to."""
        return self.is_ours and os.access(self.by_descriptor, os.W_OK | os.X_OK)

    def _opened(self) -> Pinned:
        held = self._open()
        if held is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.directory)
        return held

    def _open(self) -> Pinned | None:
        """EXP/evalmon, opened once; None if there is none yet."""
        if self._held is not None:
            return self._held
        try:
            opened = Pinned(self.directory, below=self._above)
        except FileNotFoundError:
            return None
        except (NotADirectoryError, PermissionError):
            if self._expected_id is not None:
                raise self._replaced() from None
            _refuse_shared(self.directory, os.lstat(self.directory))
            raise
        who = _identity_in(opened)
        if self._expected_id is not None and (who is None or who.id != self._expected_id):
            raise self._replaced()
        if self._expected_id is None and who is not None and not who.is_of(self.root, self._above.inode):
            raise self._misplaced(who)
        self._held, self._identity = opened, who
        return opened

    def _continue_in(self, held: Pinned, there: os.stat_result) -> None:
        """Continue with the directory at the path if it is the same one after all.

        A file system that was mounted anew may have another number. Only what a file server has forgotten (ESTALE) may
        also have got another inode: a copy of the experiment bears its id as well.
        """
        may_be = there.st_uid == held.owner and (there.st_ino == held.inode or held.is_stale)
        if not may_be or not stat.S_ISDIR(there.st_mode):
            raise self._replaced()
        anew, identity = Pinned(self.directory), self._identity or _identity_in(held)
        if anew.owner != held.owner or _identity_in(anew) != identity or anew.status.st_mode & 0o022:
            raise self._replaced()
        held.become(anew)

    def _replaced(self) -> ReplacedError:
        there = os.lstat(self.directory)
        if there.st_uid != os.geteuid():
            what = f"it now belongs to {user_name(there.st_uid)}"
        else:
            what = f"it is now another {'directory' if stat.S_ISDIR(there.st_mode) else 'file or link'} of yours"
        return ReplacedError(
            f"{self.directory} was moved or replaced; {what}, and nothing was done there; move the right directory back"
        )

    def _misplaced(self, who: Identity) -> ReplacedError:
        return ReplacedError(
            f"{self.directory} was made for {who.root} and moved here, and nothing was done there; move the right one "
            f"back (if it is a copy that you made: rm {shlex.quote(os.path.join(self.directory, _IDENTITY))})"
        )


def _refuse_foreign_links(path: str, experiment: Pinned) -> None:
    """Another user's link in place of EXP could lead to any directory of this user."""
    try:
        descriptor = trusted.open_directory(path, owner=os.geteuid())
    except ForeignError as error:
        whose = user_name(error.uid)
        raise UsageError(
            f"{path}: {error.filename} is a link of {whose}, which leads to {experiment.path}; if that is the right "
            "experiment, name it by that path"
        ) from None
    try:
        if not experiment.is_same(os.fstat(descriptor)):
            raise UsageError(f"{path}: somebody replaced it just now; look at it, and try again")
    finally:
        os.close(descriptor)


def is_utf8(text: str) -> bool:
    """Whether JSON can hold the text; a name of arbitrary bytes comes as surrogates, which it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identity_in(held: Pinned) -> Identity | None:
    """The identity; None before it was made, and for another user's experiment, which is only read."""
    if held.owner != os.geteuid():
        return None
    return versioned.read(os.path.join(held.io, _IDENTITY), _decoder, schema=_SCHEMA)


def _no_directory(path: str) -> UsageError:
    return UsageError(f"{path}: not a directory (a link, perhaps); remove it; evalmon creates its own")


def _refuse_shared(path: str, status: os.stat_result) -> None:
    """UsageError unless this is a real directory of this user that nobody else can write to."""
    if not stat.S_ISDIR(status.st_mode):
        raise _no_directory(path)
    if status.st_uid != os.geteuid():
        raise UsageError(f"{path}: belongs to user {status.st_uid}; use an experiment directory of your own")
    if status.st_mode & 0o022:
        raise UsageError(f"{path}: others can write there; run: chmod go-w {shlex.quote(path)}")


def _set_mode_of(path: str, above: Pinned, *, group_readable: bool) -> None:
    try:
        opened = Pinned(path, below=above)
    except NotADirectoryError:
        raise _no_directory(path) from None
    _set_mode(path, opened.descriptor, group_readable=group_readable)


def _set_mode(path: str, descriptor: int, *, group_readable: bool) -> None:
    """Give a private directory exactly its mode. A group that is not this process's own is passed on to its files."""
    status = os.fstat(descriptor)
    _refuse_shared(path, status)
    passed_on = stat.S_ISGID if status.st_gid != os.getegid() else 0
    mode = 0o750 | passed_on if group_readable else 0o700
    if stat.S_IMODE(status.st_mode) != mode:
        os.fchmod(descriptor, mode)


def _set_mode_of_file(name: str, above: Pinned, mode: int) -> None:
    """Give a file of this user its mode and, where the group is to read it, the directory's group."""
    with suppress(OSError), opened(name, dir_fd=above.descriptor) as (descriptor, status):
        # It may be gone meanwhile, or a link.
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 1:
            return
        if mode & stat.S_IRGRP and status.st_gid != above.status.st_gid:
            os.fchown(descriptor, -1, above.status.st_gid)
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(descriptor, mode)
