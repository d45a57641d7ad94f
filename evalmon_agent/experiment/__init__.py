"""The experiment's own files, each with its reader and its one writer."""
