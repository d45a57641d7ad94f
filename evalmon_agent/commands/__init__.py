"""The commands, each in the file of its name: its options, what it does, and what it prints."""
