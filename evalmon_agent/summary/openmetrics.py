"""Writes a summary's figures as OpenMetrics text, which is Prometheus text as well: all of them are gauges. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from evalmon_agent.summary.records import Summary
from evalmon_agent.words.states import State

Samples = list[tuple[Mapping[str, str], float | None]]


def figures(summary: Summary) -> str:
    """The figures of the experiment; those that are unknown are left out. Not a whole text yet: see `with_poll`."""
    cost = summary.cost
    experiment = {"experiment": summary.experiment}
    states = [({**experiment, "state": str(state)}, summary.counts.get(str(state), 0)) for state in State]
    verdicts = [({**experiment, "verdict": verdict}, number) for verdict, number in summary.verdicts.items()]
    families = [
        _family("evalmon_evals", "Evals by verdict.", [*verdicts]),
        _family("evalmon_eval_states", "Evals by the state of their job, without dropped ones.", [*states]),
        _family(
            "evalmon_complete", "1 once all evals are over and summarised, else 0.", [(experiment, summary.complete)]
        ),
        _family("evalmon_gpu_hours", "GPU-hours of all attempts.", [(experiment, cost.gpu_hours)], unit="hours"),
        _family(
            "evalmon_failures_gpu_hours",
            "GPU-hours of attempts without a result to use.",
            [(experiment, cost.gpu_hours_of_failures)],
            unit="hours",
        ),
        _family("evalmon_cpu_hours", "CPU-hours of all attempts.", [(experiment, cost.cpu_hours)], unit="hours"),
        _family("evalmon_energy_joules", "Energy of all attempts.", [(experiment, cost.energy_j)], unit="joules"),
        _family(
            "evalmon_money",
            "What the GPU-hours cost by gpu_hour_price.",
            [({**experiment, "currency": cost.currency or ""}, cost.money)],
        ),
    ]
    return "".join(families)


def with_poll(figures: str, experiment: str, polled_at: float | None) -> str:
    """The whole text, with when Slurm was last asked (epoch seconds): its age is `time()` less that."""
    polled = _family(
        "evalmon_last_poll_timestamp_seconds",
        "When Slurm was last asked about the evals, in Unix time.",
        [({"experiment": experiment}, polled_at)],
        unit="seconds",
    )
    return f"{figures}{polled}# EOF\n"


def _family(name: str, help_text: str, samples: Samples, *, unit: str = "") -> str:
    lines = [f"{name}{{{_labels(labels)}}} {float(value)!r}" for labels, value in samples if value is not None]
    if not lines:
        return ""
    head = [f"# TYPE {name} gauge", *([f"# UNIT {name} {unit}"] if unit else []), f"# HELP {name} {help_text}"]
    return "".join(f"{line}\n" for line in (*head, *lines))


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
