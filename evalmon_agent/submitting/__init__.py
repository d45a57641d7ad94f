"""Evals into Slurm: at once or as there is room, with the jobs that accompany them."""
