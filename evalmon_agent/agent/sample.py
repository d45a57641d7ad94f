"""`evalmon sample`: runs the sampler alone, for scripts that do not run under `evalmon run`.

It ends with its parent or on a signal, so a script that starts it in the background need not wait for it.
"""

from __future__ import annotations

import os
from typing import NoReturn

from evalmon_agent.errors import BUG, UsageError, status_of

from . import arguments, signals
from .sampling import sampler
from .sampling.csv_file import SamplerStatus


def main(argv: list[str]) -> NoReturn:
    """Sample as `argv` (without `evalmon sample`) asks for; never returns."""
    status = BUG
    try:
        options = arguments.parse_sample(argv)
        if options.wants_help:
            os.write(1, arguments.SAMPLE_HELP.encode())
        else:
            _sample(os.path.abspath(options.output_dir or ""), options.sample_interval_s or sampler.DEFAULT_INTERVAL_S)
        status = 0
    except UsageError as error:
        os.write(2, f"{error}\n".encode(errors="backslashreplace"))
        status = error.exit_status
    except OSError as error:
        status = status_of(error)
        os.write(2, f"evalmon sample: {error}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(status)


def _sample(directory: str, interval_s: float) -> None:
    signals.hold_back()
    show = _Messages().show
    sampler.run(directory, interval_s=interval_s, environ=dict(os.environ), parent=os.getppid(), show=show)


class _Messages:
    """Says once on stderr what is not written and why; closes stdin and stdout at once, stderr after that."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)

    def show(self, status: SamplerStatus) -> None:
        """Print the messages as soon as there are any."""
        why_not = status.texts.get("no_gpu_file")
        is_settled = bool(why_not or status.counts["gpus"] or status.texts.get("ended"))
        if is_settled and self._stderr >= 0:
            stderr, self._stderr = self._stderr, -1
            lines = [f"no gpu_metrics.csv: {why_not}"] if why_not else []
            if status.counts["dropped_rows"]:
                lines += [f"{trouble}; tried again later" for trouble in status.troubles]
            for line in lines:
                os.write(stderr, f"evalmon sample: {line}\n".encode(errors="backslashreplace"))
            os.close(stderr)
