"""One job into Slurm, once: its script, its launcher, its record; which jobs are there."""
