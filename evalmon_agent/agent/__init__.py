"""Inside an eval job: standard library and pynvml only."""
