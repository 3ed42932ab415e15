"""osctld: routed interfaces for Linux system containers."""

__version__ = "0.1.0"
