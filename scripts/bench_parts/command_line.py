"""Measures evalmon's commands on thousands of evals, compared with reportseff, with the same fake sacct for both."""

import shutil
import subprocess
import sys
from pathlib import Path

from bench_parts.commands import measure_in_turns
from bench_parts.contenders import EVALMON, Contender, rival_bin
from bench_parts.synthetic import Synthetic, sacct_of
from bench_parts.targets import Target, as_rows, number

_FINISHED = 300
_IS_ACTIVE = 3  # the exit status of `status` while evals are active
_AT_MOST_MS = 500.0


def measure(scratch: Path, *, evals: int, rounds: int, are_alone: bool) -> dict[str, object]:
    """Each command `rounds` times; `are_alone`: without reportseff."""
    synthetic = Synthetic(scratch, evals)
    synthetic.show(0)
    synthetic.slurm.remove("seff")  # reportseff asks only sacct
    poll = [sys.executable, "-m", "bench_parts.one_poll", str(synthetic.experiment), "1"]
    subprocess.run(poll, env=synthetic.python_environ, check=True, stdout=subprocess.DEVNULL)
    few = synthetic.environ_with(sacct_of(scratch / "few", synthetic.ids[:_FINISHED]))
    many = synthetic.environ_with(sacct_of(scratch / "many", synthetic.ids))
    evalmon, experiment = str(EVALMON), str(synthetic.experiment)
    status = [evalmon, "status", experiment]
    in_terminal = [str(shutil.which("script")), "-qec", " ".join(status), "/dev/null"]
    commands = [
        Contender("evalmon --help", [evalmon, "--help"], few),
        Contender(f"evalmon status, {evals} evals, terminal", in_terminal, many, status=_IS_ACTIVE),
        Contender(f"evalmon status, {evals} evals, file", status, many, status=_IS_ACTIVE),
        Contender(f"evalmon status --json, {evals} evals", [*status, "--json"], many, status=_IS_ACTIVE),
        Contender(f"evalmon metrics, {_FINISHED} jobs", [evalmon, "metrics", *synthetic.ids[:_FINISHED]], few),
    ]
    if not are_alone:
        reportseff = str(rival_bin("reportseff", "reportseff") / "reportseff")
        commands += [
            Contender("reportseff --help", [reportseff, "--help"], few),
            Contender(f"reportseff, {_FINISHED} jobs", [reportseff, *synthetic.ids[:_FINISHED]], few),
            Contender(f"reportseff, {evals} jobs", [reportseff, *synthetic.ids], many),
        ]
    figures: dict[str, object] = {"commands": measure_in_turns(commands, rounds)}
    return figures | {"targets": as_rows(_targets(figures, evals))}


def _targets(figures: dict[str, object], evals: int) -> list[Target]:
    status = [f"evalmon status, {evals} evals, {where}" for where in ("terminal", "file")]
    status.append(f"evalmon status --json, {evals} evals")
    beside = [("evalmon --help", "reportseff --help"), *((name, f"reportseff, {evals} jobs") for name in status)]
    beside.append((f"evalmon metrics, {_FINISHED} jobs", f"reportseff, {_FINISHED} jobs"))
    wall_ms = {name: number(figures, "commands", name, "wall_ms") for pair in beside for name in pair}
    targets = [Target(f"{name}: no slower than {rival}", wall_ms[name], wall_ms[rival], "ms") for name, rival in beside]
    return targets + [Target(f"{name}: time", wall_ms[name], _AT_MOST_MS, "ms") for name in (status[0], status[2])]
