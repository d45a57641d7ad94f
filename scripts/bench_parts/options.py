"""The options of scripts/bench, read with Python alone: `--help` installs nothing."""

import argparse


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/bench", description="What evalmon costs. Prints figures, asserts nothing."
    )
    verbs = options.add_subparsers(dest="verb", required=True, metavar="VERB")
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
    poll = verbs.add_parser(
        "poll",
        help="a poll of 10,000 evals",
        description="Polls of one observer that lives, on fake Slurm programs: the first, some after which nothing "
        "changed, and some after which 100 and 1,000 evals more run. Takes under a minute.",
    )
    poll.add_argument("--evals", type=int, default=10_000, help="default: 10000")
    poll.add_argument("--pending", type=int, default=9000, help="array tasks that wait at first (default: 9000)")
    typed = verbs.add_parser(
        "commands",
        help="commands as people type them, beside reportseff",
        description="`evalmon --help`, `status` on 9,000 evals and `metrics` of 300 jobs beside reportseff (in a venv "
        "of its own), on the same fake sacct.",
    )
    typed.add_argument("--evals", type=int, default=9000, help="of `status` (default: 9000)")
    typed.add_argument("--rounds", type=int, default=5, help="runs of each command (default: 5)")
    typed.add_argument("--alone", action="store_true", help="without reportseff: nothing is downloaded")
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="for programs")
    return options


if __name__ == "__main__":
    parser().parse_args()
