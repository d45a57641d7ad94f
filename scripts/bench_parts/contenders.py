"""Lists what is compared: the bare command, evalmon and jobgpumonitor, each in its own environment."""

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from nvml_standin.build import build
from nvml_standin.world import World

ROOT = Path(__file__).resolve().parents[2]
EVALMON = ROOT / ".venv/bin/evalmon"

# Variables that show a contender that it is inside a job, or change its behaviour.
_FOREIGN = ("SLURM_", "EVALMON_", "JGM_", "CUDA_", "NVIDIA_", "PYTHON", "VIRTUAL_ENV")

# Without any monitor: the seven columns by nvidia-smi beside the command, until it ends.
_BESIDE_NVIDIA_SMI = """
fields=timestamp,utilization.gpu,utilization.memory,memory.used,memory.total,power.draw,temperature.gpu
nvidia-smi --query-gpu="$fields" --format=csv -l 30 >"$HOME/nvidia-smi.csv" &
"$@"
status=$?
kill $!
exit $status
"""


@dataclass(frozen=True)
class Contender:
    """`words` go before the command, or are the whole command; `status` is its exit status."""

    name: str
    words: list[str]
    environment: dict[str, str] = field(repr=False)
    status: int = 0

    def around(self, *command: str) -> "Contender":
        """The same with a command."""
        return Contender(self.name, [*self.words, *command], self.environment)


class Place:
    """Where everything is written, and the GPUs."""

    def __init__(self, scratch: Path, *, gpus: int, is_real: bool, driver_cpu: Path | None = None) -> None:
        """`driver_cpu`: the file in which the stand-in adds up the costs of its calls."""
        self.scratch = scratch
        self.gpus = gpus
        self.is_real = is_real
        self.driver_cpu = driver_cpu

    def environment(self, name: str) -> dict[str, str]:
        """A home directory for each contender, and the stand-in where there is no GPU."""
        home = self.scratch / name.replace(" ", "-")
        home.mkdir(parents=True, exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        base = {**clean, "HOME": str(home), "JGM_DIR": str(home / "jgm")}
        if self.is_real:
            return base
        world = World(home, build(self.scratch / "library"), gpus=self.gpus)
        world.frozen, world.cpu = True, self.driver_cpu
        world.write()
        return world.environment(base)


def contenders(place: Place, *, are_alone: bool) -> list[Contender]:
    """In the order in which they take their turns; `are_alone`: without jobgpumonitor."""
    inside = place.environment("evalmon in a job")
    experiment = Path(inside["HOME"]) / "evalmon"
    (experiment / "jobs").mkdir(parents=True)
    devices = ",".join(str(index) for index in range(place.gpus))
    inside |= {"SLURM_JOB_ID": "4242", "SLURM_TASK_PID": "1", "EVALMON_DIR": str(experiment)}
    inside |= {"EVALMON_NAME": "bench", "CUDA_VISIBLE_DEVICES": devices, "SLURM_GPUS_ON_NODE": str(place.gpus)}
    run = [str(EVALMON), "run", "--output-dir"]
    outside = place.environment("evalmon")
    contestants = [
        Contender("bare", [], place.environment("bare")),
        Contender("evalmon run", [*run, f"{outside['HOME']}/output", "--"], outside),
        Contender("evalmon run, in a job", [*run, f"{inside['HOME']}/output", "--"], inside),
    ]
    if place.is_real:
        contestants.append(
            Contender("nvidia-smi -l 30", ["sh", "-c", _BESIDE_NVIDIA_SMI, "sh"], place.environment("smi"))
        )
    if not are_alone:
        contestants.append(Contender("jgm run", [str(_jgm_bin() / "jgm"), "run", "--"], place.environment("jgm")))
    return contestants


def pythons(environment: dict[str, str], *, are_alone: bool) -> list[Contender]:
    """How a bare Python starts: a .pth file slows every start in its environment."""
    contestants = [Contender("python of evalmon's venv", [str(ROOT / ".venv/bin/python"), "-c", ""], environment)]
    if not are_alone:
        contestants.append(Contender("python of jgm's venv", [str(_jgm_bin() / "python"), "-c", ""], environment))
    return contestants


def rival_bin(program: str, *packages: str) -> Path:
    """The directory of a rival's program, in its own venv, since a .pth file of jobgpumonitor's slows a whole venv."""
    venv = ROOT / f".venv-bench-{program}"
    if not (venv / "bin" / program).exists():
        print(f"bench: making {venv.name} with {' '.join(packages)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
    return venv / "bin"


def _jgm_bin() -> Path:
    return rival_bin("jgm", "jobgpumonitor", f"nvidia-ml-py=={importlib.metadata.version('nvidia-ml-py')}", "psutil")
