"""Samples GPUs and host while the command runs, in a process of its own."""
