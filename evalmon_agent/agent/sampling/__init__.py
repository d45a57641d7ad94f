"""What the GPUs and the host did while the command ran: a process of its own beside it."""
