"""Sends notifications, in a process of its own."""
