"""The command line: the group of all commands, the options and the output that several of them share."""

from evalmon_agent.cli.group import main as main
