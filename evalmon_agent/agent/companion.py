"""Starts the sampler beside the command, ends it after that, and keeps what it has to say.

It is a fork of this process: 1 ms, where a second interpreter takes 30. Whatever becomes of it,
`run` only ever waits for it at the end, and not long.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import NoReturn

from .arguments import Arguments
from .sampling.record import Page, Record
from .witness.board import Board

_END_WITHIN_S = 0.5


class Companion:
    """The sampler's process."""

    def __init__(self, asked: Arguments, *, is_in_job: bool) -> None:
        """Nothing is started yet."""
        self._asked = asked
        self._is_in_job = is_in_job
        self._why_not = ""
        self._pid = 0
        self._our_end = -1
        self._page: Page | None = None
        self._board: Board | None = None
        self._requests = 0

    def start(self) -> None:
        """Fork it, if there is a place for its files; never raises."""
        # Outside of a job, an EVALMON_OUTPUT_DIR is somebody else's.
        directory = self._asked.output_dir or (os.environ.get("EVALMON_OUTPUT_DIR") if self._is_in_job else None)
        if not directory:
            self._why_not = "neither --output-dir nor EVALMON_OUTPUT_DIR says where to"
        elif self._is_in_job and os.environ.get("SLURM_LOCALID", "0") != "0":
            self._why_not = "the first task of this step on this node does that"
        else:
            try:
                self._fork(os.path.abspath(directory))
            except Exception as error:  # noqa: BLE001 (nothing of the sampler's may disturb the rest of us)
                self._why_not = f"{type(error).__name__}: {error}"

    def finish(self) -> None:
        """End it, within half a second; what it has said is there afterwards."""
        if not self._pid:
            return
        deadline = time.monotonic() + _END_WITHIN_S
        os.kill(self._pid, signal.SIGTERM)
        self.look()
        while self._pid and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
            self.look()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def said(self) -> bytes:
        """Its record, for record.parse; or why there is none."""
        said = self._page.content() if self._page is not None else b""
        if self._why_not:
            said += f"{'ended' if said else 'not_sampled'} {self._why_not}\n".encode()
        return said

    def evals_seen(self) -> bytes:
        """The eval programs that it saw, as JSON; empty if it has not said anything."""
        return self._board.get() if self._board is not None else b""

    def asks_for_report(self) -> bool:
        """Whether what it saw since the last such question is worth a report at once."""
        before = self._requests
        self._requests = self._board.requests if self._board is not None else 0
        return before != self._requests

    def look(self) -> None:
        """Note whether it has ended since the last look."""
        if not self._pid:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self._pid = 0
            if os.WIFSIGNALED(status):
                is_told = os.WTERMSIG(status) == signal.SIGTERM
                self._why_not = "it was over too soon" if is_told else f"killed by signal {os.WTERMSIG(status)}"

    def _fork(self, directory: str) -> None:
        self._page = Page()
        self._board = Board() if self._is_in_job else None
        parent_pipe, self._our_end = os.pipe()
        run = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            self._live(directory, parent_pipe, run)
        os.close(parent_pipe)

    def _live(self, directory: str, parent_pipe: int, run: int) -> NoReturn:
        """The sampler's life, in its own process."""
        try:
            # Told to end before there is anything to lose, it just dies.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            import gc  # noqa: PLC0415 (only here)

            gc.freeze()  # what we share with `run` stays shared
            _keep_only(parent_pipe)
            from .sampling import sampler  # noqa: PLC0415 (only here)
            from .witness.witness import Witness  # noqa: PLC0415 (only here)

            environ = dict(os.environ)
            # Its parent takes SIGCHLD as a child's news, and passes it on to nobody.
            wake_run = partial(_wake, run)
            sampler.live(
                directory,
                interval_s=self._asked.sample_interval_s or sampler.DEFAULT_INTERVAL_S,
                environ=environ,
                root=run,
                parent_pipe=parent_pipe,
                show=self._show,
                script=self._asked.command[0] if self._asked.is_script else None,
                witness=Witness(environ, self._board, wake_run=wake_run) if self._board is not None else None,
            )
        finally:
            os._exit(0)

    def _show(self, record: Record) -> None:
        if self._page is not None:
            self._page.show(record)


def _wake(run: int) -> None:
    if os.getppid() == run:
        os.kill(run, signal.SIGCHLD)


def _keep_only(parent_pipe: int) -> None:
    """Nothing of `run`'s but the standard three, which lead nowhere, and our own pipe."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            if descriptor > 2 and descriptor != parent_pipe:
                os.close(descriptor)
        except OSError:
            pass  # the listing's own
