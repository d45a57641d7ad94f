"""Inside an eval job: standard library, pynvml and psutil only."""
