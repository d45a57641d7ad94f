"""What an attempt left behind, read from its files."""
