"""Plans the load: when the GPU should be busy. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A steady load of one half: busy for so long, then idle for so long; no part of any interval, or instants would all
# fall on the same side.
_PULSE_S = 0.173

# Lengths of the phases in sample intervals.
_IDLE, _BURSTS, _STEADY, _END = 3, 6, 4, 1

# A burst is shorter than an interval and at another place in each, so that instants miss it as often as they should.
_BURST_LENGTH, _GOLDEN = 0.3, 0.618

# Of memory: so long, all of them twice, and so large.
_PEAK_LENGTHS_S = (0.5, 1, 3, 10)
_PEAK_ROUNDS = 2
PEAK_MIB = 8192


@dataclass(frozen=True)
class Busy:
    """The GPU is, or was, busy from `start_s` to `end_s`: in the plan's seconds, or unix seconds."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Peak(Busy):
    """Memory is held from `start_s` to `end_s`."""


@dataclass(frozen=True)
class Phase:
    """A named part of the plan."""

    name: str
    start_s: float
    end_s: float


def phases(interval_s: float) -> list[Phase]:
    """Idle, bursts, steady, idle again: one after the other from second 0."""
    found, now = [], 0
    for name, length in (("idle", _IDLE), ("bursts", _BURSTS), ("steady", _STEADY), ("idle again", _END)):
        found.append(Phase(name, now * interval_s, (now + length) * interval_s))
        now += length
    return found


def plan(interval_s: float) -> list[Busy]:
    """When the GPU should be busy, in seconds from the start of the load."""
    _, bursts, steady, _ = phases(interval_s)
    return [*_bursts(bursts, interval_s), *_pulses(steady)]


def peaks_plan(interval_s: float) -> tuple[list[Busy], list[Peak]]:
    """In each interval a burst of work in its first half, and one peak of memory in its second."""
    bursts, peaks = [], []
    for number, length_s in enumerate(_PEAK_LENGTHS_S * _PEAK_ROUNDS):
        start_s = number * interval_s
        bursts.append(Busy(start_s + 0.05 * interval_s, start_s + (0.15 + 0.04 * number) * interval_s))
        peak_s = start_s + (0.45 + 0.03 * (number % 3)) * interval_s
        peaks.append(Peak(peak_s, peak_s + min(length_s, 0.35 * interval_s)))
    return bursts, peaks


def peaks_length_s(interval_s: float) -> float:
    """How long the plan with peaks takes."""
    return len(_PEAK_LENGTHS_S) * _PEAK_ROUNDS * interval_s


def busy_fraction(busy: Iterable[Busy], start_s: float, end_s: float) -> float:
    """The part of the time from `start_s` to `end_s` that is covered, 0 to 1."""
    covered = sum(max(0.0, min(one.end_s, end_s) - max(one.start_s, start_s)) for one in busy)
    return covered / (end_s - start_s)


def curve(busy: Iterable[Busy], *, idle: float, full: float) -> str:
    """The stand-in's figure that follows the plan: its level when idle and when busy."""
    steps = [f"0:{idle:g}"]
    for one in busy:
        steps += [f"{one.start_s:.3f}:{full:g}", f"{one.end_s:.3f}:{idle:g}"]
    return " ".join(steps)


def _bursts(phase: Phase, interval_s: float) -> Iterator[Busy]:
    for number in range(round((phase.end_s - phase.start_s) / interval_s)):
        shift = (number + 1) * _GOLDEN % 1 * (1 - _BURST_LENGTH)
        start_s = phase.start_s + (number + shift) * interval_s
        yield Busy(start_s, start_s + _BURST_LENGTH * interval_s)


def _pulses(phase: Phase) -> Iterator[Busy]:
    for number in range(int((phase.end_s - phase.start_s) / _PULSE_S / 2)):
        # Half a pulse in: two adjacent loads would be one.
        start_s = phase.start_s + (2 * number + 0.5) * _PULSE_S
        yield Busy(start_s, start_s + _PULSE_S)
