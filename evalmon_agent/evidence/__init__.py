"""What an eval left behind: pure readers of its CSV and logs."""
