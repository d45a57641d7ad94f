"""Efficiency figures of an attempt that ended. Pure."""
