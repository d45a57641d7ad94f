"""Defines the one error: a message for the person at the terminal."""


class SlurmDevError(Exception):
    """Something that `slurm-dev` cannot go on without; the message says what and what to do."""
