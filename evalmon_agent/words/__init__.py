"""Parses and prints what every room uses: states, job ids, durations, sizes, names. Pure."""
