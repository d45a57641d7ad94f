"""The checks of `evalmon doctor`, whose answers are findings."""
