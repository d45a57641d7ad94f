"""What is submitted (also again), and under which names: plans and scripts as text. Pure."""
