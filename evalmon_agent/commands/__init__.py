"""What the commands do: wiring of core and edges, one program per file."""
