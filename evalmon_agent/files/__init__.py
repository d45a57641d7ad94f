"""Reads and writes files safely: replaces, appends, locks, and checks owners and links."""
