"""Parts of scripts/bench: they measure and print, and assert nothing."""
