"""Slurm's commands: for each the argv (pure) and the parse (pure); `commands` alone runs them."""
