"""The parts of scripts/bench: it measures and prints, and asserts nothing."""
