"""osctld: routed network interfaces for Linux system containers."""
