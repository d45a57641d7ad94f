"""Edges to the file system: one file for each danger (replace, append, lock)."""
