"""Says why an eval failed. Pure."""
