"""File system access: one file for each danger (replace, append, lock)."""
