"""Runs scripts/bench."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench_parts import command_line, commands, eval_looks, local_slurm, machine, polls, table, targets, ticks
from bench_parts.contenders import Place, contenders, pythons
from bench_parts.options import parser
from bench_parts.processes import adopt_orphans
from bench_parts.tracking import Tracking


def main() -> int:
    """Run the bench that was chosen."""
    options = parser().parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="evalmon-bench.") as scratch:
        figures = {"machine": machine.facts()} | _MEASURES[options.verb](options, Path(scratch))
    figures["machine_after"] = machine.facts()
    print(json.dumps(figures, indent=2) if options.json else table.text(figures))
    return 0


def _sampler(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    figures: dict[str, object] = {}
    place = Place(scratch, gpus=options.gpus, is_real=options.real)
    rivals = contenders(place, are_alone=options.alone)
    _say(f"a command of no length, {options.pairs} times each, in turns")
    others = pythons(rivals[0].environment, are_alone=options.alone)
    figures["true"] = commands.measure_in_turns([*(rival.around("true") for rival in rivals), *others], options.pairs)
    _say(f"when the command starts, {options.pairs} times each, in turns")
    figures["start"] = commands.measure_starts(rivals, options.pairs)
    if options.seconds:
        _say(f"a command of {options.seconds} s, once each")
        figures["long"] = commands.measure_long(rivals, options.seconds)
    if options.tick_seconds:
        _say(f"the sampler alone, a tick a second for {options.tick_seconds} s")
        figures["ticks"] = ticks.measure(scratch, gpus=(0, 1, 2, 8), seconds=options.tick_seconds, is_real=options.real)
        _say(f"the sampler alone between two ticks, for {options.tick_seconds} s")
        figures["GPU looks"] = ticks.gpu_looks(
            scratch, gpus=(0, 1, 2, 8), seconds=options.tick_seconds, is_real=options.real
        )
        _say(f"looks for evals, one a second for {options.tick_seconds} s")
        figures["eval_looks"] = eval_looks.measure(processes=(5, 50), seconds=options.tick_seconds)
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


_MEASURES = {"sampler": _sampler, "tracking": _tracking, "poll": _poll, "commands": _commands}

if __name__ == "__main__":
    sys.exit(main())
