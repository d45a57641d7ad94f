"""Edges to the file system: one file per danger (replace, append, lock)."""
