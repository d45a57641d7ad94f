"""Tests the memory of the largest node of each partition."""

from evalmon_agent.slurm.sinfo import parse_memory


def test_the_largest_node_counts_and_invalid_numbers_are_ignored() -> None:
    text = "main*\x1f64000\nmain*\x1f128000+\nfat\x1f1000000 \nodd\x1fN/A\n\nno separator\n"
    assert {"main": 128000 * 1024**2, "fat": 1000000 * 1024**2} == parse_memory(text)
