"""Draws the plan of hits from a seed; the same seed gives the same plan. Pure."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# How often each kind of hit comes, relative to the others. `stop` is SIGSTOP, and SIGCONT at its end.
WEIGHTS = {
    "kill sidecar": 10,
    "stop sidecar": 8,
    "term sidecar": 3,
    "cancel sidecar": 3,
    "requeue sidecar": 4,
    "kill completion": 6,
    "stop completion": 4,
    "cancel completion": 3,
    "requeue completion": 3,
    "kill agent": 4,
    "stop agent": 5,
    "kill sampler": 5,
    "stop sampler": 4,
    "cancel eval": 5,
    "requeue eval": 6,
    "kill command": 9,
    "kill submit": 5,
    "restart slurmctld": 2,
    "restart slurmdbd": 3,
    "restart n1": 2,
    "restart n2": 2,
    "kill n1": 1,
    "kill n2": 1,
    "stop slurmctld": 3,
    "stop slurmdbd": 3,
    "stop n1": 2,
    "stop n2": 2,
    "fill disk": 6,
}
MEAN_PAUSE_S = 1.2
_CHOICES = 4
_LASTS_S = (0.2, 8.0)


@dataclass(frozen=True)
class Planned:
    """One hit to come.

    Attributes:
        pause_s: after the one before.
        what: a key of WEIGHTS; the next of these if there is nothing of the kind to hit.
        draw: in [0, 1): which of the targets that are there, and other choices.
        lasts_s: how long a stop, an outage or a full disk lasts; when a killed command dies.
    """

    pause_s: float
    what: tuple[str, ...]
    draw: float
    lasts_s: float


def hits(seed: int) -> Iterator[Planned]:
    """An endless plan of hits."""
    chance = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        what = tuple(chance.choices(kinds, weights, k=_CHOICES))
        # Most are short; a few are longer than any time-out of a poll.
        lasts_s = min(_LASTS_S[0] + chance.expovariate(1 / 2.0), _LASTS_S[1])
        yield Planned(chance.expovariate(1 / MEAN_PAUSE_S), what, chance.random(), lasts_s)
