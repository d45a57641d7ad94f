"""Parts of scripts/soak: evals, a killer, what really happened, and whether evalmon reported exactly that."""
