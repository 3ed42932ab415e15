"""One file per network tool."""
