"""The words everybody uses: states, ids, durations, sizes, names. Pure; imports nothing of ours but errors."""
