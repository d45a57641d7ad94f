"""What happened to each eval: the pure fold of facts into state and events, and the log's blocks as text."""
