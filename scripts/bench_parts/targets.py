"""Compares figures with their targets. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

# jobgpumonitor's figures on the machine on which the targets were set: half of its CPU over 60 s, and its memory.
_LONG_CPU_S = 0.126
_LONG_PSS_MIB = 20.8
_LONG_S = 60

_TICK_MS = 1.0
_LOOKS_S_PER_HOUR = 1.0
_START_MS = 20.0

_RUNS = ("evalmon run", "evalmon run, in a job")
_RIVAL = "jgm run"


@dataclass(frozen=True)
class Target:
    """One target. `is_met`: None if it was not measured."""

    what: str
    measured: float | None
    at_most: float | None
    unit: str

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met."""
        return None if self.measured is None or self.at_most is None else self.measured <= self.at_most


def targets(figures: Mapping[str, object], *, seconds: float) -> list[Target]:
    """All targets, measured or not; `seconds` is the length of the long command."""
    return [
        *_short(figures),
        *_start(figures),
        *_long(figures, seconds),
        _tick(figures),
        _looks(figures),
        _eval_looks(figures),
    ]


def as_rows(targets: list[Target]) -> list[dict[str, object]]:
    """For JSON."""
    return [{**asdict(target), "is_met": target.is_met} for target in targets]


def _short(figures: Mapping[str, object]) -> Iterator[Target]:
    for run in _RUNS:
        for figure, what in (("wall_ms", "time"), ("cpu_ms", "CPU")):
            rival = number(figures, "true", _RIVAL, figure)
            half = None if rival is None else rival / 2
            yield Target(
                f"{run} -- true: half the {what} of {_RIVAL}", number(figures, "true", run, figure), half, "ms"
            )


def _start(figures: Mapping[str, object]) -> Iterator[Target]:
    python_ms = number(figures, "true", "python of evalmon's venv", "wall_ms")
    for run in _RUNS:
        start_ms = number(figures, "start", run, "start_ms")
        own_ms = None if start_ms is None or python_ms is None else start_ms - python_ms
        yield Target(f"{run}: the command starts", start_ms, _START_MS, "ms")
        yield Target(f"{run}: the command starts, bare Python's start taken off", own_ms, _START_MS, "ms")


def _long(figures: Mapping[str, object], seconds: float) -> Iterator[Target]:
    for run in _RUNS:
        cpu_s, pss_mib = number(figures, "long", run, "cpu_s"), number(figures, "long", run, "peak_pss_mib")
        rival_cpu_s, rival_mib = (number(figures, "long", _RIVAL, key) for key in ("cpu_s", "peak_pss_mib"))
        yield Target(f"{run}, long: half the CPU of {_RIVAL}", cpu_s, rival_cpu_s and rival_cpu_s / 2, "s")
        if seconds == _LONG_S:
            yield Target(f"{run}, {_LONG_S} s: CPU", cpu_s, _LONG_CPU_S, "s")
        yield Target(f"{run}, long: no more PSS than {_RIVAL}", pss_mib, rival_mib, "MiB")
        yield Target(f"{run}, long: PSS", pss_mib, _LONG_PSS_MIB, "MiB")


def _tick(figures: Mapping[str, object]) -> Target:
    own_ms = number(figures, "ticks", "8 GPU", "own_ms_per_tick")
    return Target("a tick with 8 GPUs, without the driver's part: CPU", own_ms, _TICK_MS, "ms")


def _looks(found: Mapping[str, object]) -> Target:
    cpu_s = number(found, "GPU looks", "1 GPU", "cpu_s_per_hour")
    return Target("a look a second, 1 GPU: CPU in an hour", cpu_s, _LOOKS_S_PER_HOUR, "s")


def _eval_looks(figures: Mapping[str, object]) -> Target:
    cpu_s = number(figures, "eval_looks", "50 processes", "cpu_s_per_hour")
    return Target("a look for evals each second, beside 50 processes: CPU in an hour", cpu_s, _LOOKS_S_PER_HOUR, "s")


def number(figures: Mapping[str, object], *keys: str) -> float | None:
    """The measured value; the median if there are several."""
    value: object = figures
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        value = value.get("median")
    return float(value) if isinstance(value, int | float) else None
