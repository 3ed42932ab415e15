"""Kernels kept as they are wanted: each container's, the host's, and what brings both back when they drift.

containers, host  one container's kernel objects, and those of the host for all; each sends plans by `plan_sender`
reconciler        notifications and checks: which container has to be checked, and when
ports             what it needs from outside
"""
