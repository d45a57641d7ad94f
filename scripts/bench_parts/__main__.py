"""The command line of scripts/bench."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench_parts import commands, local_slurm, machine, table, targets, ticks
from bench_parts.contenders import Place, contenders, pythons
from bench_parts.processes import adopt_orphans
from bench_parts.tracking import Tracking


def main() -> int:
    """Run the bench that was asked for."""
    asked = _parser().parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="evalmon-bench.") as scratch:
        found = asked.measure(asked, Path(scratch))
    print(json.dumps(found, indent=2) if asked.json else table.text(found))
    return 0


def _sampler(asked: argparse.Namespace, scratch: Path) -> dict[str, object]:
    found: dict[str, object] = {"machine": machine.facts()}
    place = Place(scratch, gpus=asked.gpus, is_real=asked.real)
    rivals = contenders(place, are_alone=asked.alone)
    _say(f"a command of no length, {asked.pairs} times each, in turns")
    found["true"] = commands.measure_in_turns(rivals, pythons(are_alone=asked.alone), asked.pairs)
    _say(f"when the command starts, {asked.pairs} times each, in turns")
    found["start"] = commands.measure_starts(rivals, asked.pairs)
    if asked.seconds:
        _say(f"a command of {asked.seconds} s, once each")
        found["long"] = commands.measure_long(rivals, asked.seconds)
    if asked.tick_seconds:
        _say(f"the sampler alone, a tick a second for {asked.tick_seconds} s")
        found["ticks"] = ticks.measure(scratch, gpus=(0, 1, 2, 8), seconds=asked.tick_seconds, is_real=asked.real)
    found["targets"] = targets.as_rows(targets.targets(found, seconds=asked.seconds))
    found["machine_after"] = machine.facts()
    return found


def _tracking(asked: argparse.Namespace, scratch: Path) -> dict[str, object]:
    scratch.chmod(0o755)  # munged runs as another user
    found: dict[str, object] = {"machine": machine.facts()}
    with local_slurm.environ(scratch, asked.slurm) as environ:
        many = Tracking(scratch, environ, evals=asked.evals, array=asked.array, say=_say)
        found |= many.measure(within_s=asked.within)
    found["machine_after"] = machine.facts()
    return found


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="What evalmon costs. Prints figures, asserts nothing.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    sampler = verbs.add_parser(
        "sampler",
        help="what runs inside a job",
        description="`evalmon run` beside `jgm run` (jobgpumonitor, in a venv of its own, .venv-bench) and the bare "
        "command, in turns; then the sampler alone. On stand-in GPUs, unless told otherwise.",
    )
    sampler.add_argument("--pairs", type=int, default=15, help="runs of each short command (default: 15)")
    sampler.add_argument("--seconds", type=float, default=60, help="length of the long command, 0: none (default: 60)")
    sampler.add_argument("--tick-seconds", type=float, default=20, help="per number of GPUs, 0: none (default: 20)")
    sampler.add_argument("--gpus", type=int, default=2, help="stand-in GPUs beside the commands (default: 2)")
    sampler.add_argument("--real", action="store_true", help="this machine's own NVML and GPUs")
    sampler.add_argument("--alone", action="store_true", help="without jobgpumonitor: nothing is downloaded")
    sampler.add_argument("--json", action="store_true", help="for programs")
    sampler.set_defaults(measure=_sampler)
    tracking = verbs.add_parser(
        "tracking",
        help="thousands of evals in one experiment",
        description="Submits arrays of `true` to a local Slurm and one eval that stays, and measures the sidecar's "
        "polls while all wait, while they run, and when all but one are over.",
    )
    tracking.add_argument("--evals", type=int, default=5000, help="default: 5000")
    tracking.add_argument("--array", type=int, default=1000, help="tasks in one array (default: 1000)")
    tracking.add_argument("--within", type=float, default=2400, metavar="SECONDS", help="default: 2400")
    tracking.add_argument("--slurm", metavar="DIR", help="a Slurm of scripts/slurm-dev that runs (default: its own)")
    tracking.add_argument("--json", action="store_true", help="for programs")
    tracking.set_defaults(measure=_tracking)
    return parser


if __name__ == "__main__":
    sys.exit(main())
