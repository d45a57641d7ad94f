"""Entry point: starts `run`, `hook` and `sample`, which work inside eval jobs, before anything heavy is imported."""

import sys


def main() -> None:
    """Dispatch on the first word: to a program inside jobs, otherwise to the command line interface."""
    # ruff: noqa: PLC0415 (each program imports only what it needs)
    words = sys.argv[2:] if sys.argv[1:2] == ["--debug"] else sys.argv[1:]
    program = words.pop(0) if words else ""
    if program == "probe":
        return  # the launcher asks whether this interpreter starts
    if program == "run":
        try:
            from evalmon_agent.agent.run import main as run
        except Exception:
            # In the middle of an upgrade, for example: the command runs anyway.
            _run_alone(words)
            raise
        run(words)
        return
    try:
        if program == "hook":
            from evalmon_agent.agent.hook import main as hook

            hook(words)
        elif program == "sample":
            from evalmon_agent.agent.sampling.sampler import main as sample

            sample(words)
        else:
            from evalmon_agent.cli import main as cli

            cli()
    except KeyboardInterrupt:  # while it still imports; the commands have words of their own
        sys.stderr.write("evalmon: interrupted\n")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 (in the middle of an upgrade, for example)
        _say_and_exit(error)


def _say_and_exit(error: Exception) -> None:
    """Exit 70: 1 would say that an eval did not succeed."""
    if "--debug" in sys.argv[1:]:
        import traceback

        traceback.print_exc()
    text = f"{type(error).__name__}: {error}".replace("\n", " ")
    advice = "reinstall evalmon, or run it again with evalmon --debug and report that"
    sys.stderr.write(f"evalmon: {text}; {advice}\n")
    sys.exit(70)


def _run_alone(argv: list[str]) -> None:
    """Become the command of `run`, unmonitored; returns if no command follows a `--`."""
    import os
    import signal

    options, words = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    if not words:
        return
    if "--script" in options:
        with open(words[0], "rb") as file:
            line = file.readline(256)
        # As the kernel does: the program, and all that follows as one argument.
        interpreter = line[2:].split(None, 1) if line.startswith(b"#!") else [b"/bin/sh"]
        words[:0] = [os.fsdecode(word.strip()) for word in interpreter]
    # Set by the launcher only; and the owner of that log has not been checked.
    ours = ("EVALMON_ENVIRON_", "EVALMON_RETRY_LOG") if "EVALMON_ENVIRON_0" in os.environ else ("EVALMON_ENVIRON_",)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(words[0], words, environ)  # noqa: S606 - an argv, no shell


if __name__ == "__main__":
    # Jobs run this file by its path: there is no PYTHONPATH in them by which evalmon may have been found before.
    sys.path.append(__file__.rpartition("/evalmon_agent/")[0])
    main()
