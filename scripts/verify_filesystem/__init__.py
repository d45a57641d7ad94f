"""Processes on one or two mounts, or on several hosts, try what evalmon relies on; what went wrong is counted."""
