"""Sees which eval programs run in the job and which logs they write, for the job's report."""
