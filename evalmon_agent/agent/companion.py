"""The sampler as `run` sees it: started beside the command, ended after it, and what it has to say.

A fork of this process, which has loaded nothing yet: 1 ms, where a second interpreter takes 10. Whatever becomes of it,
`run` only ever waits for it at the end, and not long.
"""

import gc
import os
import time

from .light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .sampling.record import Page, Record

_END_WITHIN_S = 0.5


class Companion:
    """The sampler's process; `why_not` says why there is none."""

    def __init__(self) -> None:
        self.why_not = ""
        self._pid = 0
        self._life = -1
        self._page: Page | None = None

    def start(self, directory: str | None, *, interval_s: float | None) -> None:
        """Fork it; never raises.

        Args:
            directory: absolute; None: there is no place for the files, so nothing is sampled.
            interval_s: None: the default.
        """
        if directory is None:
            self.why_not = "neither --output-dir nor EVALMON_OUTPUT_DIR says where to"
        elif os.environ.get("SLURM_JOB_ID") and os.environ.get("SLURM_LOCALID", "0") != "0":
            self.why_not = "the first task of this step on this node does that"
        else:
            try:
                self._fork(directory, interval_s)
            except Exception as error:  # noqa: BLE001 (nothing of the sampler's may disturb the rest of us)
                self.why_not = f"{type(error).__name__}: {error}"

    def finish(self) -> None:
        """End it, within half a second; what it has said is there afterwards."""
        if not self._pid:
            return
        deadline = time.monotonic() + _END_WITHIN_S
        os.kill(self._pid, signal.SIGTERM)
        while not self._has_ended() and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def said(self) -> bytes:
        """Its record, as it stands; for record.parse."""
        return self._page.content() if self._page is not None else b""

    def _has_ended(self) -> bool:
        if self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                if os.WIFSIGNALED(status) and not self.said():
                    is_told = os.WTERMSIG(status) == signal.SIGTERM
                    self.why_not = "it was over too soon" if is_told else f"killed by signal {os.WTERMSIG(status)}"
        return not self._pid

    def _fork(self, directory: str, interval_s: float | None) -> None:
        from .sampling.record import Page  # noqa: PLC0415 (only where something is sampled)

        self._page = Page()
        life, self._life = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            self._live(directory, interval_s, life)
        os.close(life)

    def _live(self, directory: str, interval_s: float | None, life: int) -> "NoReturn":
        """The sampler's life, in its own process."""
        try:
            # Told to end before there is anything to lose, it just dies.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            gc.freeze()  # what we share with `run` stays shared
            _keep_only(life)
            from .sampling import sampler  # noqa: PLC0415 (only here)

            sampler.live(
                directory,
                interval_s=interval_s or sampler.DEFAULT_INTERVAL_S,
                environ=dict(os.environ),
                root=os.getppid(),
                life=life,
                show=self._show,
            )
        finally:
            os._exit(0)

    def _show(self, record: "Record") -> None:
        if self._page is not None:
            self._page.show(record)


def _keep_only(life: int) -> None:
    """Nothing of `run`'s but the standard three, which lead nowhere, and our own pipe."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            if descriptor > 2 and descriptor != life:
                os.close(descriptor)
        except OSError:
            pass  # the listing's own
