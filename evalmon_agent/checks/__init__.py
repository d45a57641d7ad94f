"""What `evalmon doctor` looks at: one file for each question, whose answers are findings."""
