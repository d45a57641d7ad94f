"""The command line of scripts/bench."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench_parts import command_line, commands, local_slurm, machine, polls, table, targets, ticks
from bench_parts.contenders import Place, contenders, pythons
from bench_parts.processes import adopt_orphans
from bench_parts.tracking import Tracking


def main() -> int:
    """Run the bench that was asked for."""
    options = _parser().parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="evalmon-bench.") as scratch:
        figures = {"machine": machine.facts()} | options.measure(options, Path(scratch))
    figures["machine_after"] = machine.facts()
    print(json.dumps(figures, indent=2) if options.json else table.text(figures))
    return 0


def _sampler(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    figures: dict[str, object] = {}
    place = Place(scratch, gpus=options.gpus, is_real=options.real)
    rivals = contenders(place, are_alone=options.alone)
    _say(f"a command of no length, {options.pairs} times each, in turns")
    others = pythons(rivals[0].environment, are_alone=options.alone)
    figures["true"] = commands.measure_in_turns([*(one.around("true") for one in rivals), *others], options.pairs)
    _say(f"when the command starts, {options.pairs} times each, in turns")
    figures["start"] = commands.measure_starts(rivals, options.pairs)
    if options.seconds:
        _say(f"a command of {options.seconds} s, once each")
        figures["long"] = commands.measure_long(rivals, options.seconds)
    if options.tick_seconds:
        _say(f"the sampler alone, a tick a second for {options.tick_seconds} s")
        figures["ticks"] = ticks.measure(scratch, gpus=(0, 1, 2, 8), seconds=options.tick_seconds, is_real=options.real)
    return figures | {"targets": targets.as_rows(targets.targets(figures, seconds=options.seconds))}


def _tracking(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    scratch.chmod(0o755)  # munged runs as another user
    with local_slurm.environ(scratch, options.slurm) as environ:
        many = Tracking(scratch, environ, evals=options.evals, array=options.array, say=_say)
        return many.measure(within_s=options.within)


def _poll(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    return polls.measure(scratch, evals=options.evals, pending=options.pending)


def _commands(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    return command_line.measure(scratch, evals=options.evals, rounds=options.rounds, are_alone=options.alone)


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="What evalmon costs. Prints figures, asserts nothing.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    sampler = verbs.add_parser(
        "sampler",
        help="what runs inside a job",
        description="`evalmon run` beside `jgm run` (jobgpumonitor, in a venv of its own) and the bare "
        "command, in turns; then the sampler alone. On stand-in GPUs, unless told otherwise.",
    )
    sampler.add_argument("--pairs", type=int, default=15, help="runs of each short command (default: 15)")
    sampler.add_argument("--seconds", type=float, default=60, help="length of the long command, 0: none (default: 60)")
    sampler.add_argument("--tick-seconds", type=float, default=20, help="per number of GPUs, 0: none (default: 20)")
    sampler.add_argument("--gpus", type=int, default=2, help="stand-in GPUs beside the commands (default: 2)")
    sampler.add_argument("--real", action="store_true", help="this machine's own NVML and GPUs")
    sampler.add_argument("--alone", action="store_true", help="without jobgpumonitor: nothing is downloaded")
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
    tracking.set_defaults(measure=_tracking)
    poll = verbs.add_parser(
        "poll",
        help="a poll of 10,000 evals",
        description="Polls of one observer that lives, on fake Slurm programs: the first, some after which nothing "
        "changed, and some after which 100 and 1,000 evals more run. Takes under a minute.",
    )
    poll.add_argument("--evals", type=int, default=10_000, help="default: 10000")
    poll.add_argument("--pending", type=int, default=9000, help="array tasks that wait at first (default: 9000)")
    poll.set_defaults(measure=_poll)
    typed = verbs.add_parser(
        "commands",
        help="commands as people type them, beside reportseff",
        description="`evalmon --help`, `status` on 9,000 evals and `metrics` of 300 jobs beside reportseff (in a venv "
        "of its own), on the same fake sacct.",
    )
    typed.add_argument("--evals", type=int, default=9000, help="of `status` (default: 9000)")
    typed.add_argument("--rounds", type=int, default=5, help="runs of each command (default: 5)")
    typed.add_argument("--alone", action="store_true", help="without reportseff: nothing is downloaded")
    typed.set_defaults(measure=_commands)
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
