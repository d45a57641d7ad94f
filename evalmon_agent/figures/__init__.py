"""Efficiency figures and advice. Pure."""
