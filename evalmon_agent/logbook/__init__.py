"""The blocks of monitor.log: written and read back as text. Pure."""
