"""The summary people read: from state to summary.json and summary.md. Pure."""
