"""The parts of scripts/soak: evals, a killer, what really happened, and whether evalmon told exactly that."""
