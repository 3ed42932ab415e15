"""Findings: facts about the host, and what in them keeps containers from being reached."""
