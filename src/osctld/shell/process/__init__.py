"""Processes: those that hold namespaces, programs that are run, and what none of them may inherit."""
