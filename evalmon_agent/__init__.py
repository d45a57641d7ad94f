"""evalmon: the monitor for Slurm evaluation jobs."""

__version__ = "0.1.0"
