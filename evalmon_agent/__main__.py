"""The door: `run`, `hook` and `sample` work inside eval jobs, so they start before anything heavy is imported."""

import sys


def main() -> None:
    """Dispatch on the first word; all but the in-job programs belong to the command line interface."""
    # ruff: noqa: PLC0415 (each program imports only what it needs)
    program = sys.argv[1] if len(sys.argv) > 1 else ""
    if program == "run":
        from evalmon_agent.agent.run import main as run

        run(sys.argv[2:])
    elif program == "hook":
        from evalmon_agent.agent.hook import main as hook

        hook(sys.argv[2:])
    elif program == "sample":
        from evalmon_agent.agent.sample import main as sample

        sample(sys.argv[2:])
    else:
        from evalmon_agent.cli import main as cli

        cli()


if __name__ == "__main__":
    # Jobs run this file by its path: there is no PYTHONPATH in them by which evalmon may have been found before.
    sys.path.append(__file__.rpartition("/evalmon_agent/")[0])
    main()
