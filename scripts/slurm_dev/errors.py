"""Defines the only error: a message for the user at the terminal."""


class SlurmDevError(Exception):
    """Something without which `slurm-dev` cannot continue; the message says what, and what to do."""
