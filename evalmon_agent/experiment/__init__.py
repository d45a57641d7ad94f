"""The experiment's own files, each with its reader and writer."""
