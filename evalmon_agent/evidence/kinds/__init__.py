"""The kinds of evals whose logs are read, one file each (CONTRIBUTING says how to add one). Pure."""
