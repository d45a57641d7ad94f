"""Generates eval scripts that end in every way and record their own start and end. Pure."""

import random
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

# A held job never starts; it is cancelled when the killing is over.
HELD = "held"


@dataclass(frozen=True)
class Script:
    """One eval script: `{run}/eval/{cell}/cell.slurm`. `tasks`: how many evals it is, as an array; 0: it is none."""

    run: str
    cell: str
    kind: str
    tasks: int
    text: str

    @property
    def names(self) -> list[str]:
        """The evals that evalmon must have, by the rule for names in docs/submitting.md."""
        task, _, epoch = self.cell.rpartition("_epoch")
        name = f"{self.run}/{task}/epoch{epoch}"
        return [f"{name}[{task}]" for task in range(self.tasks)] if self.tasks else [name]


def scripts(seed: int, truth_dir: str, *, has_timeout: bool) -> Iterator[Script]:
    """Endless scripts; `has_timeout`: some of them reach a limit of a minute."""
    chance = random.Random(seed + 1)
    kinds = ["ok", "ok", "status", "signal", "sleeping", "array", "requeues", HELD]
    number = 0
    while True:
        chance.shuffle(kinds)
        timeout = ["timeout"] if has_timeout and number % 16 == 0 else []
        for kind in timeout + kinds:
            yield _script(kind, number, chance, truth_dir)
            number += 1


def _script(kind: str, number: int, chance: random.Random, truth_dir: str) -> Script:
    cell = f"{kind}_epoch{number}"
    tasks = 3 if kind == "array" else 0
    path = shlex.quote(f"{truth_dir}/{cell}") + ('".$SLURM_ARRAY_TASK_ID"' if tasks else "")
    job = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if tasks else "$SLURM_JOB_ID"
    options = {"array": ["--array=0-2"], HELD: ["--hold"], "timeout": ["--time=1"]}.get(kind, ["--time=5"])
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in [*options, "--mem=100", "--open-mode=append"]),
        f'tell() {{ echo "{job} ${{SLURM_RESTART_COUNT:-0}} $1 $(date +%s.%N)" >>{path}; }}',
        "tell start",
        *_body(kind, chance),
        "",
    ]
    return Script("soak", cell, kind, tasks, "\n".join(lines))


def _body(kind: str, chance: random.Random) -> list[str]:
    pause = f"sleep {chance.uniform(0.2, 6):.1f}"
    status = chance.choice([1, 2, 3, 7, 42, 100, 127])
    signal = chance.choice([6, 9, 11, 15])
    ends = {
        "ok": [pause, *_exit("0")],
        "status": [pause, *_exit(str(status))],
        "signal": [pause, f"tell signal:{signal}", f"kill -{signal} $$"],
        "sleeping": [f"sleep {chance.uniform(15, 35):.1f}", *_exit("0")],
        "array": [pause, *_exit("$((SLURM_ARRAY_TASK_ID == 1 ? 5 : 0))")],
        # With the controller down it is not requeued, and ends as it is.
        "requeues": [pause, '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || scontrol requeue $SLURM_JOB_ID', *_exit("0", 3)],
        "timeout": ["sleep 100", *_exit("0")],
        HELD: _exit("0"),
    }
    return ends[kind]


def _exit(status: str, pause_s: int = 0) -> list[str]:
    return [*([f"sleep {pause_s}"] if pause_s else []), f"status={status}", "tell exit:$status", "exit $status"]
