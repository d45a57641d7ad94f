"""The command line: options in, text out; what the commands do stands in programs/."""

from evalmon_agent.cli.commands import main as main
