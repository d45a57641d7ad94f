"""What is submitted and under which names: plans and scripts as text. Pure."""
