"""Submits evals to Slurm, at once or as there is room, with the sidecar and the completion job."""
