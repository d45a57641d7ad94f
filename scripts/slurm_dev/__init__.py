"""Parts of `scripts/slurm-dev`: a real Slurm of two nodes on one machine, in its own directory."""
