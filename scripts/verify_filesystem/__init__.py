"""Parts of scripts/verify-filesystem: processes on one or two mounts, or several hosts, try what evalmon relies on."""
